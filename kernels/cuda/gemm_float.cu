/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gemm_float.cu: tiled products of F16, BF16 and F32 weights, for prefill.
 *
 * Halves: steps of 32 weights, three buffers filled by cp.async two steps ahead (rows that are not
 * 16-aligned go through registers), mma.sync with f32 accumulation; 48 KiB, two blocks an SM. F32
 * (rare: rewritten test files) by fused multiply-adds on tiles of 64 x 64. The order of the additions
 * depends on n alone. Dense products only: those of experts follow the law (gemm_float_experts.cu).
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/gemm.cuh"

#define STEP   32 /* halves */
#define STAGES 3

/* Half a row of a tile: halves [k0 + 16 h, k0 + 16 h + 16) of @from, zeros from n on or where not @on. */
static __device__ __forceinline__ void load_half_row(uint8_t *tile, const uint16_t *from, size_t k0,
						     size_t n, bool on, bool wide)
{
	const int r = threadIdx.x / 2, h = threadIdx.x % 2;

#pragma unroll
	for (int p = 0; p < 2; p++) {
		const size_t k = k0 + 16 * h + 8 * p;
		const size_t left = on && k < n ? n - k : 0;
		uint8_t *to = tile_piece(tile, r, 2 * h + p);

		if (wide) { /* the same for the whole block */
			ptx_cp_async_16(to, from + (left ? k : 0),
					left >= 8 ? 16 : 2 * (uint32_t)left);
		} else {
			uint32_t v[4];

#pragma unroll
			for (int i = 0; i < 4; i++) {
				v[i] = (size_t)(2 * i) < left ? from[k + 2 * i] : 0u;
				v[i] |= (size_t)(2 * i + 1) < left
						? (uint32_t)from[k + 2 * i + 1] << 16
						: 0u;
			}
			*(uint4 *)to = make_uint4(v[0], v[1], v[2], v[3]);
		}
	}
}

template <int TYPE>
static __device__ __forceinline__ void multiply(uint8_t *wt, uint8_t *xt, int groups,
						float acc[TILE_GROUPS][4])
{
	const int row = threadIdx.x / WARP_SIZE * 16;

#pragma unroll
	for (int k = 0; k < 2; k++) {
		uint32_t w[4], x[4];

		tile_rows(w, wt, row, k);
#pragma unroll
		for (int i = 0; i < TILE_GROUPS; i++) {
			if (i >= groups)
				break;
			if (i % 2 == 0)
				tile_cols(x, xt, 8 * i, k);
			if (TYPE == QUANT_F16)
				ptx_mma_f16(acc[i], w, x + i % 2 * 2);
			else
				ptx_mma_bf16(acc[i], w, x + i % 2 * 2);
		}
	}
}

/* One tile of columns, [col0, end) of the expert's. */
template <int TYPE>
static __device__ __forceinline__ void tile_product(uint8_t *tiles, const struct gemm_args &a,
						    const uint8_t *w, size_t row0, size_t col0,
						    size_t end)
{
	const size_t steps = (a.n + STEP - 1) / STEP, mine = threadIdx.x / 2;
	const bool row_on = row0 + mine < a.rows, col_on = col0 + mine < end;
	const bool wide = aligned16(w, a.row_bytes) && aligned16(a.x, 2 * a.n);
	const uint16_t *from_w = (const uint16_t *)(w + (row_on ? (row0 + mine) * a.row_bytes : 0));
	const uint16_t *from_x =
		(const uint16_t *)a.x + (col_on ? gemm_source(a, col0 + mine) * a.n : 0);
	const int groups = gemm_groups<TILE_GROUPS>(col0, end);
	float acc[TILE_GROUPS][4] = {};

	for (size_t step = 0; step < steps + STAGES - 1; step++) {
		if (step >= STAGES - 1) {
			ptx_cp_async_wait<STAGES - 2>();
			__syncthreads(); /* the step is there, and the buffer of the last one is read */
		}
		if (step < steps) {
			uint8_t *to = tiles + step % STAGES * 2 * TILE_SIZE;

			load_half_row(to, from_w, step * STEP, a.n, row_on, wide);
			load_half_row(to + TILE_SIZE, from_x, step * STEP, a.n, col_on, wide);
		}
		ptx_cp_async_commit();
		if (step >= STAGES - 1) {
			uint8_t *now = tiles + (step - (STAGES - 1)) % STAGES * 2 * TILE_SIZE;

			multiply<TYPE>(now, now + TILE_SIZE, groups, acc);
		}
	}
	tile_store<TILE_GROUPS>(a, row0, col0, end, acc);
	__syncthreads();
}

template <int TYPE>
static __global__ void __launch_bounds__(TILE_THREADS, 2) gemm_half_kernel(const struct gemm_args a)
{
	CUDA_SHARED(uint8_t, tiles, STAGES * 2 * TILE_SIZE);
	const uint8_t *w;
	size_t begin, end;

	if (!gemm_range(a, &w, &begin, &end))
		return;
	for (size_t col0 = begin + blockIdx.z * (size_t)TILE; col0 < end;
	     col0 += gridDim.z * (size_t)TILE)
		tile_product<TYPE>(tiles, a, w, blockIdx.x * (size_t)TILE, col0, end);
}

#define STEP_F32   32
#define STRIDE_F32 33

static __global__ void __launch_bounds__(TILE_THREADS) gemm_f32_kernel(const struct gemm_args a)
{
	CUDA_SHARED(float, wt, TILE_F32 *STRIDE_F32);
	CUDA_SHARED(float, xt, TILE_F32 *STRIDE_F32);
	const int tr = threadIdx.x % 16,
		  tc = threadIdx.x / 16; /* rows tr + 16 i, columns tc + 16 j */
	const size_t row0 = blockIdx.x * (size_t)TILE_F32, mine = threadIdx.x / 4;
	const int first = threadIdx.x % 4 * 8;
	const uint8_t *w;
	size_t begin, end;

	if (!gemm_range(a, &w, &begin, &end))
		return;
	for (size_t col0 = begin + blockIdx.z * (size_t)TILE_F32; col0 < end;
	     col0 += gridDim.z * (size_t)TILE_F32) {
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
