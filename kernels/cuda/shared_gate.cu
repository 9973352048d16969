/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/shared_gate.cu: the shared expert's result, weighted by its scalar gate, added.
 *
 * A block a token: the dot product in a fixed order, one sigmoid, one pass over the row.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/gate.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/warp.cuh"

#define SHARED_THREADS 256

static __global__ void __launch_bounds__(SHARED_THREADS)
	shared_gate_kernel(const float *x, const float *w, const float *s, size_t d, float *y)
{
	CUDA_SHARED(float, shared, WARPS_MAX);
	const size_t row = blockIdx.x * d;
	float sum = 0.0f, gate = 1.0f;

	if (w) { /* the same for all threads */
		for (size_t i = threadIdx.x; i < d; i += SHARED_THREADS)
			sum = fmaf(w[i], x[row + i], sum);
		gate = gate_sigmoid(block_sum(sum, shared));
	}
	for (size_t i = threadIdx.x; i < d; i += SHARED_THREADS)
		y[row + i] = fmaf(gate, s[row + i], y[row + i]);
}

extern "C" int cuda_shared_gate(cuda_stream stream, const float *x, const float *w, const float *s,
				size_t tokens, size_t d, float *y)
{
	if (!tokens || !d)
		return 0;
	if (!s || !y || (w && !x) || tokens > 0x7fffffff)
		return -EINVAL;
	CUDA_LAUNCH(shared_gate_kernel, (unsigned)tokens, SHARED_THREADS, 0, stream, x, w, s, d, y);
	return CUDA_LAUNCHED();
}
