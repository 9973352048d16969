/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gemm.cuh: what the tiled products of int8 and of float weights share: a tile's place.
 *
 * A block owns 64 rows of one expert (a dense product is one expert) and walks over tiles of 64 columns.
 * Eight warps: four groups of 16 rows by two of 32 columns. Included by gemm_*.cu after launch.h.
 */
#ifndef SLUICE_KERNELS_CUDA_GEMM_CUH
#define SLUICE_KERNELS_CUDA_GEMM_CUH

#include "kernels/cuda/ops.h"
#include "kernels/quant.h"

#define TILE	     64
#define TILE_THREADS 256
#define TILE_NCOLS   4 /* groups of 8 columns of a warp */

struct gemm_args {
	const void *w;		    /* dense */
	const void *const *experts; /* grouped */
	const uint32_t *offsets, *gather;
	size_t row_bytes, n, rows, cols;
	const void *x;
	float *y;
	size_t ldy;
	bool add;
};

/* The weights of this block's expert and its columns; false: nothing to do. */
static __device__ __forceinline__ bool gemm_range(const struct gemm_args &a, const uint8_t **w,
						  size_t *begin, size_t *end)
{
	*w = (const uint8_t *)(a.experts ? a.experts[blockIdx.y] : a.w);
	*begin = a.offsets ? a.offsets[blockIdx.y] : 0;
	*end = a.offsets ? a.offsets[blockIdx.y + 1] : a.cols;
	return *w != NULL;
}

/* The row of x that column c takes. */
static __device__ __forceinline__ size_t gemm_source(const struct gemm_args &a, size_t c)
{
	return a.gather ? a.gather[c] : c;
}

static __device__ __forceinline__ void gemm_store(const struct gemm_args &a, size_t row, size_t col,
						  size_t end, float v)
{
	float *y = a.y + col * a.ldy + row;

	if (row < a.rows && col < end)
		*y = a.add ? *y + v : v;
}

/* Launchers of the two kinds, by format; -ENOTSUP where it is not theirs. */
int gemm_int8_launch(cuda_stream stream, uint32_t type, const struct gemm_args &a, dim3 grid);
int gemm_float_launch(cuda_stream stream, uint32_t type, const struct gemm_args &a, dim3 grid);

#endif
