/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/act_quantize.cu: float rows to the int8 form that all integer products read.
 *
 * One warp a block of 128 values: four values a lane in one 16-byte load, eight lanes for a scale,
 * four for a sum (act.cuh). Bound by the launch for decode and by memory for prefill.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/act.cuh"

#define QUANTIZE_THREADS 256

static __global__ void quantize_kernel(const float *x, size_t ldx, size_t n, size_t rows, void *act)
{
	const size_t warps = (n + 127) / 128; /* of a row */
	const size_t warp = (blockIdx.x * (size_t)blockDim.x + threadIdx.x) / WARP_SIZE;
	const size_t row = warp / warps;
	const size_t i = warp % warps * 128 + threadIdx.x % WARP_SIZE * 4;
	const bool on = row < rows && i < n;
	float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);

	if (on) {
		const float *p = x + row * ldx + i; /* rows are 4-aligned only */

		v = make_float4(p[0], p[1], p[2], p[3]);
	}
	act_store4(act_row_at(act, n, row < rows ? row : 0), i, v, on);
}

extern "C" int cuda_act_quantize(cuda_stream stream, const float *x, size_t ldx, size_t n,
				 size_t rows, void *act)
{
	const size_t warps = rows * ((n + 127) / 128);
	const size_t per_block = QUANTIZE_THREADS / WARP_SIZE;

	if (!rows)
		return 0;
	if (!x || !act || !n || n % 32 || ldx < n || warps / per_block >= 0x7fffffff)
		return -EINVAL;
	CUDA_LAUNCH(quantize_kernel, (unsigned)((warps + per_block - 1) / per_block),
		    QUANTIZE_THREADS, 0, stream, x, ldx, n, rows, act);
	return CUDA_LAUNCHED();
}
