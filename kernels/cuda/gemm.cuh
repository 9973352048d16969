/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gemm.cuh: what the tiled products on tensor cores share: tiles, their places, fragments.
 *
 * A block owns 128 rows of one expert (a dense product is one expert) and walks over tiles of 128 columns
 * (integers: 64).
 * Each of its eight warps takes 16 rows of all columns: fragments of the columns are read by every
 * warp, but a tile that is half empty (an expert with 40 tokens) costs half, eight columns at a
 * time. A step is 64 bytes of a row, of weights and of activations: 64 int8 or 32 halves. The four pieces
 * of 16 bytes of a tile's row are permuted by a xor, so that ldmatrix meets each bank once.
 * Included by gemm_*.cu after launch.h and ptx.h.
 */
#ifndef SLUICE_KERNELS_CUDA_GEMM_CUH
#define SLUICE_KERNELS_CUDA_GEMM_CUH

#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"
#include "kernels/quant.h"

#define TILE	     128 /* rows, and columns */
#define TILE_BYTES   64	 /* of a row and step */
#define TILE_SIZE    (TILE * TILE_BYTES)
#define TILE_GROUPS  (TILE / 8) /* groups of eight columns */
#define TILE_THREADS 256
#define TILE_INT8    64 /* columns of the products of integers */
#define TILE_F32     64 /* rows and columns of the product of floats */

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

/* Groups of eight columns that tile [col0, end) has, at most @GROUPS. */
template <int GROUPS> static __device__ __forceinline__ int gemm_groups(size_t col0, size_t end)
{
	return end - col0 >= 8 * GROUPS ? GROUPS : (int)(end - col0 + 7) / 8;
}

/* Where piece @piece of row @row of a tile lies. */
static __device__ __forceinline__ uint8_t *tile_piece(uint8_t *tile, int row, int piece)
{
	return tile + row * TILE_BYTES + ((piece ^ (row >> 1 & 3)) << 4);
}

/* Operand a of this warp's 16 rows, bytes [32 k, 32 k + 32) of the step. */
static __device__ __forceinline__ void tile_rows(uint32_t a[4], uint8_t *tile, int row, int k)
{
	const int lane = threadIdx.x % WARP_SIZE, i = lane / 8;

	ptx_ldmatrix_x4(a, tile_piece(tile, row + i % 2 * 8 + lane % 8, 2 * k + i / 2));
}

/* Operands b of columns [col, col + 8) and [col + 8, col + 16). */
static __device__ __forceinline__ void tile_cols(uint32_t b[4], uint8_t *tile, int col, int k)
{
	const int lane = threadIdx.x % WARP_SIZE, i = lane / 8;

	ptx_ldmatrix_x4(b, tile_piece(tile, col + i / 2 * 8 + lane % 8, 2 * k + i % 2));
}

/* The sums of this warp's rows to their places. */
template <int GROUPS>
static __device__ __forceinline__ void tile_store(const struct gemm_args &a, size_t row0,
						  size_t col0, size_t end,
						  const float acc[GROUPS][4])
{
	const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
	const size_t row = row0 + 16 * warp + lane / 4, first = col0 + lane % 4 * 2;
	const int cols = first >= end		    ? 0
			 : end - first > 8 * GROUPS ? 8 * GROUPS
						    : (int)(end - first);
	float *y = a.y + first * a.ldy + row;

#pragma unroll
	for (int i = 0; i < GROUPS; i++, y += 8 * a.ldy)
#pragma unroll
		for (int e = 0; e < 4; e++) {
			float *to = y + e % 2 * a.ldy + e / 2 * 8;

			if (8 * i + e % 2 < cols && row + e / 2 * 8 < a.rows)
				*to = a.add ? *to + acc[i][e] : acc[i][e];
		}
}

/* Launchers of the kinds, by format; -ENOTSUP where it is not theirs. */
int gemm_int8_launch(cuda_stream stream, uint32_t type, const struct gemm_args &a, dim3 grid);
int gemm_float_launch(cuda_stream stream, uint32_t type, const struct gemm_args &a, dim3 grid);
int gemm_float_experts_launch(cuda_stream stream, uint32_t type, const struct gemm_args &a,
			      dim3 grid);

#endif
