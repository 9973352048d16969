/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/mixer.h: the two token mixers, gated attention and gated DeltaNet.
 *
 * Formulas: docs/models.md 2.4 (gated attention, rope, gated DeltaNet); sources named there.
 * Both are SPMD: every thread of the team calls with the same arguments and its own tid; they use
 * team_barrier() inside and leave without one (the caller has the next).
 *
 * Same bits however the tokens are cut into steps and whoever else is in the batch: per token,
 * attention walks KV blocks in absolute order and reads the step's own tokens back from the cache
 * at its precision; DeltaNet runs the recurrence token by token per V head.
 */
#ifndef SLUICE_ENGINE_MIXER_H
#define SLUICE_ENGINE_MIXER_H

#include "engine/batch.h"
#include "engine/linear.h"
#include "engine/seq.h"
#include "kernels/cpu/fops.h"
#include "model/model.h"

struct mixer_scratch; /* buffers for max_tokens columns, shared by both mixers */

int mixer_scratch_create(const struct model *m, const struct cpu_ops *ops, uint32_t max_tokens,
			 unsigned n_threads, struct mixer_scratch **ret, struct err *err);
void mixer_scratch_destroy(struct mixer_scratch *s); /* NULL is fine */

struct mixer_args {
	const struct model *model;
	const struct layer *layer;
	uint32_t layer_index; /* 0 .. n_layers - 1 */
	const struct layer_weights *weights;
	const struct batch *batch;
	const float *x; /* [n_tokens][n_embd] normed input */
	float *y;	/* [n_tokens][n_embd] result, written whole */
	const struct cpu_ops *ops;
	const struct float_ops *fops;
	struct team *team;
	struct lane *lanes; /* one per thread */
	struct mixer_scratch *scratch;
};

void attention_forward(const struct mixer_args *a, unsigned tid);
void deltanet_forward(const struct mixer_args *a, unsigned tid);

#endif
