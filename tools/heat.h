/* SPDX-License-Identifier: MIT */
/*
 * tools/heat.h: how often each expert of each layer was used, and a map of it in characters. Pure.
 */
#ifndef SLUICE_TOOLS_HEAT_H
#define SLUICE_TOOLS_HEAT_H

#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct heat_layer {
	uint32_t layer;
	uint32_t *uses; /* [n_expert] */
};

struct heat {
	uint32_t n_expert, n_expert_used, n_layers;
	struct heat_layer *layers;
};

/* The daemon's JSON (GET /experts), untrusted. 0, or -EINVAL, -ENOMEM and a sentence. heat_done() frees. */
int heat_parse(const char *text, size_t n, struct heat *ret, struct err *err);
void heat_done(struct heat *h);

/*
 * A line for each layer: its uses, the share of them that the busiest tenth of its experts has, and a
 * character for each group of experts, from ' ' (never used) to '@' (the busiest group of the layer).
 * Lines of at most @columns characters (at least 40).
 */
void heat_draw(const struct heat *h, unsigned columns, FILE *out);

/* The share of all uses of a layer that its busiest tenth of experts (at least one) has; 0: no uses. */
double heat_top_share(const struct heat *h, const struct heat_layer *l);

#endif
