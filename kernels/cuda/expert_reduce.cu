/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/expert_reduce.cu: partial results of a token's experts added in the router's order.
 *
 * One thread a value, ranks one after the other by fused multiply-adds: the bits do not depend on
 * who computed a partial or when. Bound by reading the partials once.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

#define REDUCE_THREADS 256
#define REDUCE_TOKENS  65535 /* of a launch: the grid's second dimension */

static __global__ void reduce_kernel(const float *partial, const float *mapped,
				     const uint32_t *place, const float *weights, size_t first,
				     unsigned k, size_t d, bool add, float *y)
{
	const size_t i = blockIdx.x * (size_t)REDUCE_THREADS + threadIdx.x;
	const size_t t = first + blockIdx.y;
	float sum;

	if (i >= d)
		return;
	sum = add ? y[t * d + i] : 0.0f;
	for (unsigned r = 0; r < k; r++) {
		const uint32_t at = place ? place[t * k + r] : (uint32_t)(t * k + r);
		const bool far = mapped && at >= CUDA_MAPPED;

		if (place && at == UINT32_MAX)
			continue;
		sum = fmaf(weights[t * k + r],
			   far ? mapped[(size_t)(at - CUDA_MAPPED) * d + i]
			       : partial[(size_t)at * d + i],
			   sum);
	}
	y[t * d + i] = sum;
}

static int reduce(cuda_stream stream, const float *partial, const float *mapped,
		  const uint32_t *place, const float *weights, size_t tokens, unsigned k, size_t d,
		  bool add, float *y)
{
	if (!tokens || !d)
		return 0;
	if (!partial || !weights || !y || !k || d > 0x7fffffff || tokens > 0x7fffffff / k)
		return -EINVAL;
	for (size_t first = 0; first < tokens; first += REDUCE_TOKENS) {
		const size_t n = tokens - first < REDUCE_TOKENS ? tokens - first : REDUCE_TOKENS;
		const dim3 grid((unsigned)((d + REDUCE_THREADS - 1) / REDUCE_THREADS), (unsigned)n);

		CUDA_LAUNCH(reduce_kernel, grid, REDUCE_THREADS, 0, stream, partial, mapped, place,
			    weights, first, k, d, add, y);
	}
	return CUDA_LAUNCHED();
}

extern "C" int cuda_expert_reduce(cuda_stream stream, const float *partial, const uint32_t *place,
				  const float *weights, size_t tokens, unsigned k, size_t d,
				  bool add, float *y)
{
	return reduce(stream, partial, NULL, place, weights, tokens, k, d, add, y);
}

extern "C" int cuda_expert_reduce_two(cuda_stream stream, const float *partial, const float *mapped,
				      const uint32_t *place, const float *weights, size_t tokens,
				      unsigned k, size_t d, bool add, float *y)
{
	if (tokens && d && (!mapped || !place))
		return -EINVAL;
	return reduce(stream, partial, mapped, place, weights, tokens, k, d, add, y);
}
