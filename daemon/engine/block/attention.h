/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/attention.h: the buffers of attention and what its files share: heads.c
 * prepares queries, keys and values, attend.c goes through the cache, attention.c is the order of
 * work, latent.c that of latent attention. Nobody else includes it.
 *
 * Every buffer is written and read by the team between barriers; per-thread buffers belong to
 * their tid.
 */
#ifndef SLUICE_ENGINE_ATTENTION_H
#define SLUICE_ENGINE_ATTENTION_H

#include "engine/block/block.h"
#include "engine/rope.h"

/*
 * Attention over a long context is cut at multiples of SEGMENT absolute positions; each part is
 * computed on its own and the parts are merged in order. The cut is what decode divides between
 * threads, and since it is always made, the bits do not depend on how many there are.
 */
#define SEGMENT	       512
#define SEGMENT_BLOCKS (SEGMENT / KV_BLOCK)
#define TILE_ROWS      128 /* query rows that a thread takes through the blocks together */
#define ROPES_MAX      2   /* kinds of rotation in one model */

/* The state of an online softmax for some rows: see struct attend_args. */
struct partial {
	float *m, *l, *acc;
};

/* Cosines and sines of each column's position for one kind of rotation. */
struct angles {
	struct rope_spec spec;
	double *frequency;
	float *cosine, *sine; /* [token][half] */
	uint32_t *of;	      /* position + 1 that the angles of a column are for; 0: none */
};

struct attention_buffers {
	struct actbuf out; /* the input of the last projection */
	uint32_t max_tokens;
	unsigned n_threads;
	float *q;     /* [token][head]{ query, gate where gated }: output of WQ */
	float *k, *v; /* [token][KV head][head_dim or value_dim] */
	float *query; /* [KV head][token][head of the group][head_dim]: normed, rotated, scaled */
	struct partial total; /* in the same order */
	uint32_t n_slots;
	struct partial *slots; /* n_slots, each for the rows of one group */
	struct partial *tiles; /* per thread, TILE_ROWS rows */
	struct angles angles[ROPES_MAX];
	_Atomic uint32_t *q_done, *k_done, *v_done; /* counts of struct groups: heads of each */
};

static inline struct attention_buffers *attention_buffers(const struct block_args *a)
{
	return a->buffers;
}

/* Query rows of a KV head. */
static inline uint32_t group_of(const struct block_args *a)
{
	return a->layer->attention.n_head / a->layer->attention.n_head_kv;
}

/* First row of (KV head, column) in the query and in the totals. */
static inline size_t row_of(const struct block_args *a, uint32_t head, size_t column)
{
	return ((size_t)head * a->batch->n_tokens + column) * group_of(a);
}

static inline const struct batch_run *run_of(const struct batch *b, uint32_t column)
{
	const struct batch_run *run = b->runs;

	while (column - run->first >= run->count)
		run++;
	return run;
}

/* attention.c: see struct block_ops. */
int attention_remembers(const struct model *m, const struct layer *l, enum kv_type type,
			struct kv_need *ret, struct err *err);
/* attention.c: lays the buffers out for the layers of @kind; see struct block_ops. */
void attention_carve(const struct block_config *c, enum block_kind kind,
		     struct attention_buffers *b, struct carver *kept, struct carver *shared);

/* attention.c: what acc of a row is divided by: l, with a sink one more term without a value. */
float attention_divisor(const struct block_args *a, size_t row, size_t head);

/* heads.c: rotates a head (its first n_rot values) for its column. */
void heads_turn(const struct block_args *a, size_t column, float *x);

/* heads.c: the angles of a layer's rotation. */
struct angles *heads_angles_of(struct attention_buffers *b, const struct rope_spec *spec);

/* heads.c, in a unit. Cosines and sines of a column's position; kept from layer to layer of a step. */
void heads_angles(const struct block_args *a, size_t column);
/* Norms over whole rows of Q and K, for layers that have them; a barrier before and after. */
void heads_norm_rows(const struct block_args *a, unsigned tid);
/* In a unit: norm, rotation and scale of a head's query; norm, rotation and cache of a KV head. */
void heads_query(const struct block_args *a, size_t column, uint32_t head);
void heads_key(const struct block_args *a, unsigned tid, size_t column, uint32_t head);
void heads_value(const struct block_args *a, unsigned tid, size_t column, uint32_t head);
/* SPMD. All three for every (token, head). */
void heads_prepare(const struct block_args *a, unsigned tid);

/*
 * attend.c, SPMD. Every query over the cache, into the totals; where those of a column's KV head are there,
 * @finish goes on from them in the same unit. NULL: nothing is to be done.
 */
void attend(const struct block_args *a, unsigned tid,
	    void (*finish)(const struct block_args *a, unsigned tid, size_t column, uint32_t head));

#endif
