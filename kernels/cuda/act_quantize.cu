/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/act_quantize.cu: float rows to the int8 forms that integer products read.
 *
 * One warp 256 values (act.cuh): two loads of 16 bytes a lane, eight lanes a scale of Q8_0, the warp
 * one of Q8_K. Bound by the launch for decode and by memory for prefill.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/act.cuh"

#define QUANTIZE_THREADS 256

static __global__ void quantize_kernel(enum cuda_input form, const float *x, size_t ldx, size_t n,
				       size_t rows, void *act)
{
	const size_t warps = (n + ACT_WARP - 1) / ACT_WARP; /* of a row */
	const size_t warp = (blockIdx.x * (size_t)blockDim.x + threadIdx.x) / WARP_SIZE;
	const size_t row = warp / warps, first = warp % warps * ACT_WARP;
	float4 v[2];

	if (row >= rows) /* the same for the whole warp */
		return;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		const size_t i = first + 128 * h + threadIdx.x % WARP_SIZE * 4;
		const float *p = x + row * ldx + i; /* rows are 4-aligned only */

		v[h] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		if (i < n)
			v[h] = make_float4(p[0], p[1], p[2], p[3]);
	}
	act_store(form, act_row_at(act, n, row), n, first, v, true);
}

extern "C" int cuda_act_quantize(cuda_stream stream, enum cuda_input form, const float *x,
				 size_t ldx, size_t n, size_t rows, void *act)
{
	const size_t warps = rows * ((n + ACT_WARP - 1) / ACT_WARP);
	const size_t per_block = QUANTIZE_THREADS / WARP_SIZE;

	if (!rows)
		return 0;
	if (!x || !act || !cuda_act_fits(form, n) || ldx < n || warps / per_block >= 0x7fffffff)
		return -EINVAL;
	CUDA_LAUNCH(quantize_kernel, (unsigned)((warps + per_block - 1) / per_block),
		    QUANTIZE_THREADS, 0, stream, form, x, ldx, n, rows, act);
	return CUDA_LAUNCHED();
}
