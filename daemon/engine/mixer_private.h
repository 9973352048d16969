/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/mixer_private.h: the buffers of attention.c and deltanet.c. Nobody else includes it.
 *
 * One block of floats serves both mixers, since a layer has one or the other. Every buffer is
 * written and read by the team between barriers; per-thread buffers belong to their tid.
 */
#ifndef SLUICE_ENGINE_MIXER_PRIVATE_H
#define SLUICE_ENGINE_MIXER_PRIVATE_H

#include <stdatomic.h>

#include "engine/mixer.h"
#include "engine/rope.h"

/*
 * Attention over a long context is cut at multiples of SEGMENT absolute positions; each part is
 * computed on its own and the parts are merged in order. The cut is what decode divides between
 * threads, and since it is always made, the bits do not depend on how many there are.
 */
#define SEGMENT	       512
#define SEGMENT_BLOCKS (SEGMENT / KV_BLOCK)
#define TILE_ROWS      64 /* query rows that a thread takes through the blocks together */

/* The state of an online softmax for some rows: see struct attend_args. */
struct partial {
	float *m, *l, *acc;
};

struct attention_buffers {
	float *q;     /* [token][head]{ query, gate where gated }: output of wq */
	float *k, *v; /* [token][KV head][head_dim] */
	float *query; /* [KV head][token][head of the group][head_dim]: normed, rotated, scaled */
	struct partial total;  /* in the same order */
	struct partial *slots; /* n_slots, each for the rows of one group */
	struct partial *tiles; /* per thread, TILE_ROWS rows */
	float *cosine, *sine;  /* [token][half] */
	uint32_t *angle_of;    /* position + 1 that the angles of a column are for; 0: none */
};

struct delta_buffers {
	float *u;	     /* [token][Cd]: output of ssm_qkv */
	float *c;	     /* [token][Cd]: after convolution; q and k normed */
	float *z;	     /* [token][Vd] */
	float *o;	     /* [token][Vd] */
	float *beta, *decay; /* [token][Hv]; first the projections, then the factors */
	float *kq;	     /* [token][Hk] */
	float *zeros;	     /* [Cd] */
};

struct mixer_scratch {
	const struct cpu_ops *ops;
	uint32_t max_tokens;
	unsigned n_threads;
	struct rope rope;
	struct actbuf in[ACT_NR]; /* the input in each form that the model's weights take */
	struct actbuf out;	  /* the input of the last projection */
	uint32_t n_slots;
	_Atomic uint32_t next_task; /* set to 0 before a barrier, taken from after it */
	struct attention_buffers attention;
	struct delta_buffers delta;
	void *memory; /* of all buffers */
};

/*
 * SPMD. Puts the layer's input into the form @kind, unless @kind has been asked for before in this
 * layer: *done has a bit per form. A barrier is due before the form is used.
 */
void mixer_input(const struct mixer_args *a, unsigned tid, enum act_kind kind, unsigned *done);

/*
 * SPMD. Gives every (column, piece) of an n-wide matrix to one thread, which makes the piece's
 * floats with @make and puts them into the form of @w in scratch->out; then, after a barrier,
 * y = w * that. Pieces are cut at multiples of @unit.
 */
void mixer_output(const struct mixer_args *a, unsigned tid, const struct wmat *w, size_t unit,
		  float *(*make)(const struct mixer_args *a, unsigned tid, size_t column,
				 size_t first, size_t end));

#endif
