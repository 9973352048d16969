/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/silu_mul.cu: silu(gate) * up of whole rows, with the int8 form for the down product.
 *
 * One warp a stretch of 128 values, four a lane (act.cuh): the row is read once and written once.
 * Accuracy: expf, one division and two products: 6 * 2^-24 relative.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/swiglu.cuh"

#define SILU_THREADS 256

static __global__ void silu_kernel(const float *gate, const float *up, size_t ld, size_t n,
				   size_t rows, float *out, void *act)
{
	const size_t warps = (n + 127) / 128; /* of a row */
	const size_t warp = (blockIdx.x * (size_t)blockDim.x + threadIdx.x) / WARP_SIZE;
	const size_t row = warp / warps;
	const size_t i = warp % warps * 128 + threadIdx.x % WARP_SIZE * 4;
	float v[4] = { 0.0f, 0.0f, 0.0f, 0.0f };

	for (size_t k = 0; k < 4 && row < rows; k++) {
		if (i + k >= n)
			break;
		v[k] = swiglu(gate[row * ld + i + k], up[row * ld + i + k]);
		if (out)
			out[row * n + i + k] = v[k];
	}
	if (act)
		act_store4(act_row_at(act, n, row < rows ? row : 0), i,
			   make_float4(v[0], v[1], v[2], v[3]), row < rows && i < n);
}

extern "C" int cuda_silu_mul(cuda_stream stream, const float *gate, const float *up, size_t ld,
			     size_t n, size_t rows, float *out, void *act)
{
	const size_t warps = rows * ((n + 127) / 128);
	const size_t per_block = SILU_THREADS / WARP_SIZE;

	if (!rows)
		return 0;
	if (!gate || !up || (!out && !act) || !n || (act && n % 32) || ld < n ||
	    warps / per_block >= 0x7fffffff)
		return -EINVAL;
	CUDA_LAUNCH(silu_kernel, (unsigned)((warps + per_block - 1) / per_block), SILU_THREADS, 0,
		    stream, gate, up, ld, n, rows, out, act);
	return CUDA_LAUNCHED();
}
