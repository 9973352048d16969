/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gemm_float.cu: tiled products of F16, BF16 and F32 weights, for prefill.
 *
 * Halves: steps of 64 weights through shared memory, mma.sync with f32 accumulation (rows of 128 bytes,
 * 144 apart). F32 (rare: rewritten test files) by fused multiply-adds on the same tiles of 32 weights.
 * The order of the additions depends on n alone.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/warp.cuh"

#define STEP   64
#define STRIDE 72 /* halves of a tile's row */

/* Halves [k0, k0 + 64) of 64 rows, zeros outside; rows are aligned to 2 bytes only. */
static __device__ __forceinline__ void load_halves(uint16_t (*to)[STRIDE], const uint8_t *from,
						   size_t row_bytes, size_t k0, size_t n, bool on)
{
	const int r = threadIdx.x / 4, first = threadIdx.x % 4 * 16;

	(void)row_bytes;
	for (int i = 0; i < 16; i++) {
		const size_t k = k0 + first + i;

		to[r][first + i] = on && k < n ? ((const uint16_t *)from)[k] : (uint16_t)0;
	}
}

template <int TYPE>
static __global__ void __launch_bounds__(TILE_THREADS) gemm_half_kernel(const struct gemm_args a)
{
	CUDA_SHARED(uint16_t, ws, TILE * STRIDE);
	CUDA_SHARED(uint16_t, xs, TILE * STRIDE);
	uint16_t(*const wt)[STRIDE] = (uint16_t(*)[STRIDE])ws;
	uint16_t(*const xt)[STRIDE] = (uint16_t(*)[STRIDE])xs;
	const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
	const int g = lane / 4, row = warp % 4 * 16, col = warp / 4 * 32;
	const size_t row0 = blockIdx.x * (size_t)TILE, mine = threadIdx.x / 4;
	const uint8_t *w;
	size_t begin, end;

	if (!gemm_range(a, &w, &begin, &end))
		return;
	for (size_t col0 = begin + blockIdx.z * (size_t)TILE; col0 < end;
	     col0 += gridDim.z * (size_t)TILE) {
		const bool row_on = row0 + mine < a.rows, col_on = col0 + mine < end;
		const uint8_t *from_w = row_on ? w + (row0 + mine) * a.row_bytes : w;
		const uint8_t *from_x =
			(const uint8_t *)a.x + (col_on ? gemm_source(a, col0 + mine) * a.n * 2 : 0);
		float acc[TILE_NCOLS][4] = {};

		for (size_t k0 = 0; k0 < a.n; k0 += STEP) {
			__syncthreads();
			load_halves(wt, from_w, a.row_bytes, k0, a.n, row_on);
			load_halves(xt, from_x, 0, k0, a.n, col_on);
			__syncthreads();
			for (int k = lane % 4 * 2; k < STEP; k += 16) {
				const uint32_t m[4] = {
					*(const uint32_t *)&wt[row + g][k],
					*(const uint32_t *)&wt[row + g + 8][k],
					*(const uint32_t *)&wt[row + g][k + 8],
					*(const uint32_t *)&wt[row + g + 8][k + 8]
				};

				for (int i = 0; i < TILE_NCOLS; i++) {
					const uint16_t *c = xt[col + 8 * i + g];
					const uint32_t b[2] = { *(const uint32_t *)&c[k],
								*(const uint32_t *)&c[k + 8] };

					if (TYPE == QUANT_F16)
						ptx_mma_f16(acc[i], m, b);
					else
						ptx_mma_bf16(acc[i], m, b);
				}
			}
		}
		for (int i = 0; i < TILE_NCOLS; i++)
			for (int e = 0; e < 4; e++)
				gemm_store(a, row0 + row + g + e / 2 * 8,
					   col0 + col + 8 * i + lane % 4 * 2 + e % 2, end,
					   acc[i][e]);
	}
}

#define STEP_F32   32
#define STRIDE_F32 33

static __global__ void __launch_bounds__(TILE_THREADS) gemm_f32_kernel(const struct gemm_args a)
{
	CUDA_SHARED(float, wt, TILE *STRIDE_F32);
	CUDA_SHARED(float, xt, TILE *STRIDE_F32);
	const int tr = threadIdx.x % 16,
		  tc = threadIdx.x / 16; /* rows tr + 16 i, columns tc + 16 j */
	const size_t row0 = blockIdx.x * (size_t)TILE, mine = threadIdx.x / 4;
	const int first = threadIdx.x % 4 * 8;
	const uint8_t *w;
	size_t begin, end;

	if (!gemm_range(a, &w, &begin, &end))
		return;
	for (size_t col0 = begin + blockIdx.z * (size_t)TILE; col0 < end;
	     col0 += gridDim.z * (size_t)TILE) {
		const bool row_on = row0 + mine < a.rows, col_on = col0 + mine < end;
		const float *from_w =
			(const float *)(w + (row_on ? (row0 + mine) * a.row_bytes : 0));
		const float *from_x =
			(const float *)a.x + (col_on ? gemm_source(a, col0 + mine) * a.n : 0);
		float acc[4][4] = {};

		for (size_t k0 = 0; k0 < a.n; k0 += STEP_F32) {
			__syncthreads();
			for (int i = first; i < first + 8; i++) {
				const bool in = k0 + i < a.n;

				wt[mine * STRIDE_F32 + i] = row_on && in ? from_w[k0 + i] : 0.0f;
				xt[mine * STRIDE_F32 + i] = col_on && in ? from_x[k0 + i] : 0.0f;
			}
			__syncthreads();
			for (int k = 0; k < STEP_F32; k++)
				for (int i = 0; i < 4; i++)
					for (int j = 0; j < 4; j++)
						acc[i][j] = fmaf(wt[(tr + 16 * i) * STRIDE_F32 + k],
								 xt[(tc + 16 * j) * STRIDE_F32 + k],
								 acc[i][j]);
		}
		for (int i = 0; i < 4; i++)
			for (int j = 0; j < 4; j++)
				gemm_store(a, row0 + tr + 16 * i, col0 + tc + 16 * j, end,
					   acc[i][j]);
	}
}

int gemm_float_launch(cuda_stream stream, uint32_t type, const struct gemm_args &a, dim3 grid)
{
	if (type == QUANT_F16)
		CUDA_LAUNCH((gemm_half_kernel<QUANT_F16>), grid, TILE_THREADS, 0, stream, a);
	else if (type == QUANT_BF16)
		CUDA_LAUNCH((gemm_half_kernel<QUANT_BF16>), grid, TILE_THREADS, 0, stream, a);
	else if (type == QUANT_F32)
		CUDA_LAUNCH(gemm_f32_kernel, grid, TILE_THREADS, 0, stream, a);
	else
		return -ENOTSUP;
	return CUDA_LAUNCHED();
}
