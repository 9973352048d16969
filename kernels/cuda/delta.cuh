/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/delta.cuh: what the launchers and kernels of gated DeltaNet share: shapes, runs of
 * a batch, and which key head a value head reads.
 *
 * Owns no memory. Included by delta_*.cu after launch.h; checks run on the host, the rest on both.
 */
#ifndef SLUICE_KERNELS_CUDA_DELTA_CUH
#define SLUICE_KERNELS_CUDA_DELTA_CUH

#include "kernels/cuda/ops.h"

#include <errno.h>

#define DELTA_HEADS_MAX 65535 /* a grid's second and third side */

static __device__ __host__ __forceinline__ size_t delta_channels(const struct cuda_delta_shape &s)
{
	return (2 * s.k_heads + s.v_heads) * s.dim;
}

/* The key head that value head @v reads. */
static __device__ __forceinline__ unsigned delta_key_head(const struct cuda_delta_shape &s,
							  unsigned v)
{
	const unsigned k_heads = (unsigned)s.k_heads;

	return s.grouped ? v / ((unsigned)s.v_heads / k_heads) : v % k_heads;
}

/* 0, or -EINVAL for a shape that no layer has */
static inline int delta_check_shape(const struct cuda_delta_shape *s)
{
	if (!s || (s->dim != 64 && s->dim != 128))
		return -EINVAL;
	if (s->k_heads == 0 || s->v_heads == 0 || s->v_heads > DELTA_HEADS_MAX)
		return -EINVAL;
	return s->v_heads % s->k_heads ? -EINVAL : 0;
}

/* 0, or -EINVAL; a batch of no tokens is right, and launches nothing */
static inline int delta_check_batch(const struct cuda_delta_batch *b)
{
	if (!b || b->sequences > DELTA_HEADS_MAX || b->tokens > INT32_MAX / 2)
		return -EINVAL;
	if (b->tokens == 0)
		return 0;
	if (b->sequences == 0 || b->max_run == 0 || b->max_run > b->tokens)
		return -EINVAL;
	return b->start && b->slot ? 0 : -EINVAL;
}

/* Floats from a row of states of @own floats to the next; 0: the batch's stride does not hold them. */
static inline size_t delta_stride(const struct cuda_delta_batch *b, size_t own)
{
	if (b->stride == 0)
		return own;
	return b->stride >= own && b->stride % 4 == 0 ? b->stride : 0;
}

/* ... of S. */
static inline size_t delta_state_stride(const struct cuda_delta *d)
{
	return delta_stride(&d->batch, d->shape.v_heads * d->shape.dim * d->shape.dim);
}

#endif
