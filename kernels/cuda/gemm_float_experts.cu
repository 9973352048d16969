/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gemm_float_experts.cu: products of experts in F32, F16 and BF16 with any number of columns.
 *
 * Sixteen sums of fused multiply-adds a value (kernels/quant.h) are nothing that tensor cores give, so
 * a warp takes a row times eight columns at a time, as decode does (rows.cuh), and weights come from the
 * caches for all columns but the first. Files with experts in floats are small or rare.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/gemm.cuh"

#define EXPERT_WARPS (TILE_THREADS / WARP_SIZE)
#define EXPERT_COLS  8

template <int TYPE, bool WIDE>
static __device__ __forceinline__ void expert_tile(const struct gemm_args &a, const uint8_t *w,
						   size_t col0, size_t end)
{
	const int cols = end - col0 < EXPERT_COLS ? (int)(end - col0) : EXPERT_COLS;
	const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;

	for (size_t r = warp; r < TILE; r += EXPERT_WARPS) {
		const size_t row = blockIdx.x * (size_t)TILE + r;
		const uint8_t *rows[1] = { w + row * a.row_bytes };
		float v;

		if (row >= a.rows) /* the same for the whole warp */
			return;
		v = float_dots<TYPE, WIDE, 1, EXPERT_COLS>(rows, a.n, (const float *)a.x,
							   a.gather ? a.gather + col0 : NULL, col0,
							   cols);
		if (lane < cols)
			a.y[(col0 + lane) * a.ldy + row] = v;
	}
}

template <int TYPE>
static __global__ void __launch_bounds__(TILE_THREADS) expert_kernel(const struct gemm_args a)
{
	const uint8_t *w;
	size_t begin, end;

	if (!gemm_range(a, &w, &begin, &end))
		return;
	const bool wide = TYPE != QUANT_F32 && aligned16(w, a.row_bytes);

	for (size_t col0 = begin + blockIdx.z * (size_t)EXPERT_COLS; col0 < end;
	     col0 += gridDim.z * (size_t)EXPERT_COLS) {
		if (wide) /* the same for the whole block */
			expert_tile<TYPE, true>(a, w, col0, end);
		else
			expert_tile<TYPE, false>(a, w, col0, end);
	}
}

int gemm_float_experts_launch(cuda_stream stream, uint32_t type, const struct gemm_args &a,
			      dim3 grid)
{
	if (type == QUANT_F16)
		CUDA_LAUNCH(expert_kernel<QUANT_F16>, grid, TILE_THREADS, 0, stream, a);
	else if (type == QUANT_BF16)
		CUDA_LAUNCH(expert_kernel<QUANT_BF16>, grid, TILE_THREADS, 0, stream, a);
	else if (type == QUANT_F32)
		CUDA_LAUNCH(expert_kernel<QUANT_F32>, grid, TILE_THREADS, 0, stream, a);
	else
		return -ENOTSUP;
	return CUDA_LAUNCHED();
}
