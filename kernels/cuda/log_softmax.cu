/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/log_softmax.cu: logits to log-probabilities, or the logarithm of their sum alone.
 *
 * A block of 1024 threads a row: one pass for the largest, one for the sum of exp, one to write; a row
 * of 248320 floats stays in the second cache between passes. Sums of a thread in order of the row, then
 * block_sum: at most n / 1024 + 10 roundings beside expf's 2 ulp.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define SOFTMAX_THREADS 1024

static __global__ void __launch_bounds__(SOFTMAX_THREADS)
	log_softmax_kernel(const float *logits, size_t ld, size_t n, float *out, float *lse)
{
	CUDA_SHARED(float, shared, WARPS_MAX);
	const float *x = logits + blockIdx.x * ld;
	float largest = -INFINITY, sum = 0.0f, log_sum;

#pragma unroll 4 /* loads in flight: one multiprocessor has to fetch it all */
	for (size_t i = threadIdx.x; i < n; i += SOFTMAX_THREADS)
		largest = fmaxf(largest, x[i]);
	largest = block_max(largest, shared);
#pragma unroll 4
	for (size_t i = threadIdx.x; i < n; i += SOFTMAX_THREADS)
		sum += expf(x[i] - largest);
	log_sum = largest + logf(block_sum(sum, shared));
	if (lse && threadIdx.x == 0)
		lse[blockIdx.x] = log_sum;
	for (size_t i = threadIdx.x; out && i < n; i += SOFTMAX_THREADS)
		out[blockIdx.x * ld + i] = x[i] - log_sum;
}

extern "C" int cuda_log_softmax(cuda_stream stream, const float *logits, size_t ld, size_t n,
				size_t rows, float *out, float *lse)
{
	if (!rows)
		return 0;
	if (!logits || !n || ld < n || (!out && !lse) || rows > 0x7fffffff)
		return -EINVAL;
	CUDA_LAUNCH(log_softmax_kernel, (unsigned)rows, SOFTMAX_THREADS, 0, stream, logits, ld, n,
		    out, lse);
	return CUDA_LAUNCHED();
}
