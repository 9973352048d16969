/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/argmax.cu: the index of the largest logit of each row.
 *
 * A block a row, 1024 threads that read neighbouring floats: a vocabulary of 248320 is 1 MB and 243
 * loads a thread. Comparisons only, so nothing is rounded; equal values go to the lower index at
 * every level, NaN is turned to -inf on the way in (a row without numbers gives index 0).
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define ARGMAX_THREADS 1024

static __global__ void argmax_kernel(const float *logits, size_t ld, uint32_t n, uint32_t *ids)
{
	CUDA_SHARED(float, values, WARPS_MAX);
	CUDA_SHARED(uint32_t, indices, WARPS_MAX);
	const float *row = logits + blockIdx.x * ld;
	const uint32_t lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
	float best = -INFINITY;
	uint32_t index = UINT32_MAX;

#pragma unroll 4 /* loads in flight: one multiprocessor has to fetch it all */
	for (uint32_t i = threadIdx.x; i < n; i += ARGMAX_THREADS) {
		const float v = isnan(row[i]) ? -INFINITY : row[i];

		if (v > best || index == UINT32_MAX) {
			best = v;
			index = i;
		}
	}
	warp_argmax(&best, &index);
	if (lane == 0) {
		values[warp] = best;
		indices[warp] = index;
	}
	__syncthreads();
	if (warp != 0)
		return;
	best = values[lane];
	index = indices[lane];
	warp_argmax(&best, &index);
	if (lane == 0)
		ids[blockIdx.x] = index;
}

int cuda_argmax(cuda_stream stream, const float *logits, size_t ld, size_t n, size_t rows,
		uint32_t *ids)
{
	if (n == 0 || n > INT32_MAX || ld < n || rows > INT32_MAX)
		return -EINVAL;
	if (rows == 0)
		return 0;
	if (!logits || !ids)
		return -EINVAL;
	CUDA_LAUNCH(argmax_kernel, (unsigned)rows, ARGMAX_THREADS, 0, stream, logits, ld,
		    (uint32_t)n, ids);
	return CUDA_LAUNCHED();
}
