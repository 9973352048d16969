/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/fill_control.h: whether fills of a device's slots pay, found out while they go on.
 *
 * What they bring is the hits over those of the residents that were there when a window of tokens began, had
 * nobody moved; what they cost is their share of link and memory. The model of a layer's time
 * (policy/layer_time.h) makes one number of both: how much shorter a layer was. Where that is less than
 * FILL_GAIN after a window, fills stop for a while, twice as long each time up to a bound, and are tried
 * again then or when a prompt is over. Free slots are tried like all others. Pure; memory is taken by init;
 * one thread, but for the counters.
 */
#ifndef SLUICE_POLICY_FILL_CONTROL_H
#define SLUICE_POLICY_FILL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/layer_time.h"

#define FILL_WINDOW	64    /* decoded tokens */
#define FILL_GAIN	0.005 /* of a layer's time */
#define FILL_PAUSE	256   /* tokens: the first pause, and the longest */
#define FILL_PAUSE_MOST 4096

/* Does expert @id lie in a slot now? */
typedef bool (*fill_resident_fn)(void *ctx, uint32_t id);

struct fill_control {
	uint32_t n;	 /* experts */
	uint8_t *frozen; /* residents when the window began */
	bool on, begun;
	uint32_t tokens, steps; /* of the window; off: tokens that the pause lasts yet */
	uint32_t pause;
	/* of distinct experts of layers and steps */
	double bytes, hit_bytes, frozen_bytes, fill_bytes;
	double gain; /* of the last window: 0.1: the layer would take 1.1 times as long without */
	bool judged; /* there was one */
	uint64_t stops; /* times that it was turned off */
};

/* 0 or -ENOMEM. */
int fill_control_init(struct fill_control *c, uint32_t n_experts);
void fill_control_fini(struct fill_control *c);

/* An expert of @bytes was used by a step that decodes; @hit: it lay in a slot. */
void fill_control_used(struct fill_control *c, uint32_t id, double bytes, bool hit);

/*
 * A step of @n_tokens comes (0: nothing is computed), @layers of it have experts; since the last call
 * @fill_bytes were begun. At the end of a window the model decides by @rates. Returns whether fills may go on.
 */
bool fill_control_step(struct fill_control *c, uint32_t n_tokens, uint32_t layers,
		       uint64_t fill_bytes, const struct layer_rates *rates,
		       fill_resident_fn resident, void *ctx);

/* A prompt is over: what it changed is worth a trial. */
void fill_control_prompt(struct fill_control *c);

#endif
