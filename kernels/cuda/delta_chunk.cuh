/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/delta_chunk.cuh: what the two phases of chunked DeltaNet share: where chunks lie in
 * the batch and in the scratch, and the exponent of a decay between two tokens.
 *
 * Scratch, all float, for chunk slot n (start[s] / 64 + s + chunk: runs never share one, and there
 * are at most tokens / 64 + sequences):
 *   per key head:   kk [64][64] = k_i . k_m, qk [64][64] = q_i . k_m
 *   per value head: t [64][64] = (I + A)^-1, A_im = beta_i kk_im e^(G_i - G_m) for m < i
 *                   g [2][64]: G, the inclusive sum of the logarithms of decay, as high + low part
 * G is kept in two floats since it reaches thousands where gates are nearly shut, while what
 * counts is the small difference between two tokens behind such a place.
 */
#ifndef SLUICE_KERNELS_CUDA_DELTA_CHUNK_CUH
#define SLUICE_KERNELS_CUDA_DELTA_CHUNK_CUH

#include "kernels/cuda/delta.cuh"

#define CHUNK	    64
#define CHUNK_TILE  (CHUNK * CHUNK)	     /* floats */
#define CHUNK_KEYS  (2 * CHUNK_TILE)	     /* of a key head */
#define CHUNK_VALUE (CHUNK_TILE + 2 * CHUNK) /* of a value head */

/* Where the chunk of a block lies. */
struct chunk_place {
	size_t slot;  /* in the scratch */
	size_t first; /* row of its first token */
	uint32_t n;   /* its tokens; 0: the run has no such chunk */
};

static __device__ __forceinline__ struct chunk_place chunk_at(const struct cuda_delta_batch &b,
							      uint32_t sequence, uint32_t chunk)
{
	const uint32_t start = b.start[sequence], run = b.start[sequence + 1] - start;
	struct chunk_place p;

	p.slot = start / CHUNK + sequence + chunk;
	p.first = (size_t)start + (size_t)chunk * CHUNK;
	p.n = run <= chunk * CHUNK ? 0 : run - chunk * CHUNK;
	if (p.n > CHUNK)
		p.n = CHUNK;
	return p;
}

static __host__ __device__ __forceinline__ size_t chunk_slots(size_t sequences, size_t tokens)
{
	return tokens / CHUNK + sequences;
}

/* Floats of a chunk slot. */
static __host__ __device__ __forceinline__ size_t chunk_stride(const struct cuda_delta_shape &s)
{
	return s.k_heads * CHUNK_KEYS + s.v_heads * CHUNK_VALUE;
}

static __device__ __forceinline__ float *chunk_keys(const struct cuda_delta &a, size_t slot,
						    unsigned k_head)
{
	return (float *)a.scratch + slot * chunk_stride(a.shape) + (size_t)k_head * CHUNK_KEYS;
}

static __device__ __forceinline__ float *chunk_values(const struct cuda_delta &a, size_t slot,
						      unsigned v_head)
{
	return (float *)a.scratch + slot * chunk_stride(a.shape) + a.shape.k_heads * CHUNK_KEYS +
	       (size_t)v_head * CHUNK_VALUE;
}

/* e^(G_i - G_m) for m <= i, where the difference is not positive */
static __device__ __forceinline__ float chunk_decay(const float *high, const float *low, int i,
						    int m)
{
	return expf((high[i] - high[m]) + (low[i] - low[m]));
}

static __device__ __forceinline__ void chunk_fma4(float4 *sum, float4 x, float a)
{
	sum->x = fmaf(x.x, a, sum->x);
	sum->y = fmaf(x.y, a, sum->y);
	sum->z = fmaf(x.z, a, sum->z);
	sum->w = fmaf(x.w, a, sum->w);
}

/* launchers of the phases; the batch is checked and not empty */
int chunk_solve_launch(cuda_stream stream, const struct cuda_delta &d);

#endif
