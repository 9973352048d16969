/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/glu_mul.cu: act(gate) * up of whole rows, with an int8 form for the down product.
 *
 * One warp 256 values, two times four a lane (act.cuh): the row is read once and written once. The bits
 * are those of the law of activations (law.cuh), as the group kernels have them.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/law.cuh"

#define GLU_THREADS 256

static __global__ void glu_kernel(enum cuda_glu kind, const float *gate, const float *up, size_t ld,
				  size_t n, size_t rows, float *out, struct cuda_act act)
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
		float four[4] = { 0.0f, 0.0f, 0.0f, 0.0f };

#pragma unroll
		for (int k = 0; k < 4; k++) {
			if (i + k >= n)
				break;
			four[k] = law_glu(kind, gate[row * ld + i + k], up[row * ld + i + k]);
			if (out)
				out[row * n + i + k] = four[k];
		}
		v[h] = make_float4(four[0], four[1], four[2], four[3]);
	}
	if (act.rows)
		act_store(act.form, act_row_at(act.rows, n, row), n, first, v, true);
}

extern "C" int cuda_glu_mul(cuda_stream stream, enum cuda_glu kind, const float *gate,
			    const float *up, size_t ld, size_t n, size_t rows, float *out,
			    struct cuda_act act)
{
	const size_t warps = rows * ((n + ACT_WARP - 1) / ACT_WARP);
	const size_t per_block = GLU_THREADS / WARP_SIZE;

	if (!rows)
		return 0;
	if (!gate || !up || (!out && !act.rows) || !n || ld < n || kind > CUDA_GLU_GELU ||
	    (act.rows && !cuda_act_fits(act.form, n)) || warps / per_block >= 0x7fffffff)
		return -EINVAL;
	CUDA_LAUNCH(glu_kernel, (unsigned)((warps + per_block - 1) / per_block), GLU_THREADS, 0,
		    stream, kind, gate, up, ld, n, rows, out, act);
	return CUDA_LAUNCHED();
}
