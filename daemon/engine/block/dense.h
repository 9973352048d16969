/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/dense.h: down(f(gate x) * up x), or down(f(up x)) where there is no gate, for all
 * tokens by the whole team: what dense.c does for dense layers and moe.c for shared experts.
 */
#ifndef SLUICE_ENGINE_DENSE_H
#define SLUICE_ENGINE_DENSE_H

#include "engine/block/block.h"

struct triple_buffers {	  /* gate: the hidden values in the end, also without a gate */
	float *gate, *up; /* [max_tokens][widest] */
	struct actbuf hidden;
};

/* @width: the widest that it will be used for. */
void triple_carve(struct triple_buffers *t, struct carver *c, const struct block_config *config,
		  size_t width);

/* SPMD. Puts the input into the forms that gate and up take; a barrier is due before triple_run. */
void triple_input(const struct block_args *a, unsigned tid, enum role gate, enum role up,
		  unsigned *done);

/* SPMD. Column t of the result at y + t * ldy. Contains barriers, ends without one. */
void triple_run(const struct block_args *a, struct triple_buffers *t, enum role gate, enum role up,
		enum role down, float *y, size_t ldy, unsigned tid);

#endif
