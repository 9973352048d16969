/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/deltanet.h: what deltanet.c (order of work, and what makes the inputs of the recurrence) and
 * deltanet_recur.c (the recurrence, and drafts, which leave no trace in it) share.
 */
#ifndef SLUICE_ENGINE_DELTANET_H
#define SLUICE_ENGINE_DELTANET_H

#include "engine/block/block.h"

struct delta_buffers {
	uint32_t max_tokens;
	unsigned n_threads;
	struct actbuf out;   /* the input of the last projection */
	float *u;	     /* [token][Cd]: output of SSM_QKV */
	float *c;	     /* [token][Cd]: after convolution; q and k normed */
	float *z;	     /* [token][Vd] */
	float *o;	     /* [token][Vd] */
	float *beta, *decay; /* [token][Hv]; first the projections, then the factors */
	float *kq;	     /* [token][Hk] */
	float *zeros;	     /* [Cd] */
	float *strips; /* [thread][D][32]: a strip beyond the drafts, and outputs of a replay */
	/* counts of struct groups: [2 Hk + Hv] heads of u; [Hk] of them q and k; [Hv] gates; [Hv] of o */
	_Atomic uint32_t *convolved, *paired, *beta_done, *decay_done, *recurred;
};

static inline struct delta_buffers *delta_buffers(const struct block_args *a)
{
	return a->buffers;
}

struct delta_sizes {
	size_t dim, k_heads, v_heads, k_all, v_all, channels;
};

static inline struct delta_sizes delta_sizes(const struct model *m)
{
	struct delta_sizes s = { .dim = m->ssm_head_dim,
				 .k_heads = m->ssm_k_heads,
				 .v_heads = m->ssm_v_heads };

	s.k_all = s.k_heads * s.dim;
	s.v_all = s.v_heads * s.dim;
	s.channels = 2 * s.k_all + s.v_all;
	return s;
}

/*
 * Of a sequence: the window of the convolution [kernel - 1][Cd], oldest first, then S
 * [Hv][D / 32][D][32], a head as kernels/cpu/fops.h wants it (struct delta_args).
 */
static inline size_t delta_window_floats(const struct model *m)
{
	return (m->ssm_conv_kernel - 1) * delta_sizes(m).channels;
}

/* Of a thread: a strip, and what a replay would put out. */
static inline size_t delta_strip_room(const struct model *m)
{
	return (size_t)(m->ssm_head_dim + DRAFT_MAX) * DELTA_LANES;
}

/*
 * What is kept of a draft: u [Cd], c without q [Kd + Vd], decay and beta [Hv]. In the run's store
 * DRAFT_MAX of them for each layer with the block, in the order of layers.
 */
struct delta_draft {
	float *u, *kv, *decay, *beta;
};

/* The same as a number of floats; see struct block_ops. */
size_t delta_draft_floats(const struct model *m);

/* The kept draft @i of a run; with the others of the layer delta_draft_floats() apart. */
struct delta_draft delta_draft(const struct block_args *a, const struct batch_run *run, uint32_t i);

/*
 * SPMD. All strips of S through all tokens of each run; @g: of strips, which are there with the last token; NULL:
 * nobody waits for them.
 */
void delta_recur(const struct block_args *a, unsigned tid, const struct groups *g);

/* SPMD. What the drafts' replay needs, once nobody reads the last run's any more. */
void delta_keep_drafts(const struct block_args *a, unsigned tid);

#endif
