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
	_Atomic uint32_t *done; /* counts of struct groups: pieces of the hidden values */
};

/* The three matrices of a layer; @gate may be absent. */
struct triple {
	struct triple_buffers *buffers;
	enum role gate, up, down;
};

/* @width: the widest that it will be used for. */
void triple_carve(struct triple_buffers *t, struct carver *kept, struct carver *shared,
		  const struct block_config *config, size_t width);

/* In a unit: token @token's input in the forms that gate and up take. */
void triple_input(const struct block_args *a, const struct triple *t, size_t token, unsigned *done);

/*
 * SPMD. The hidden values of all tokens, and the same in the form that down takes; a barrier is due. With many tokens
 * there is one inside.
 */
void triple_hidden(const struct block_args *a, const struct triple *t, unsigned tid);

/* SPMD. Column t of the result at y + t * ldy; @end: groups of its rows, NULL: none. No barrier. */
void triple_down(const struct block_args *a, const struct triple *t, const struct groups *end,
		 float *y, size_t ldy, unsigned tid);

#endif
