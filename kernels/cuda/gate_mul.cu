/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/gate_mul.cu: attention's output times the sigmoid of its gate (after prefill; decode
 * does it while it combines).
 *
 * One value a thread, neighbouring threads on neighbouring values of both arrays: bound by memory,
 * and far too short to tune. The gate of a head lies beside its query in the projection, so its rows
 * have strides of their own. Accuracy: expf within 2^-22, one division, one product.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/gate.cuh"

#include <errno.h>

#define GATE_THREADS 256

static __global__ void gate_mul_kernel(float *x, const float *gate, size_t ldg, size_t g_step,
				       size_t count, size_t row, size_t dim)
{
	const size_t i = (size_t)blockIdx.x * GATE_THREADS + threadIdx.x;
	const size_t in_row = i % row;

	if (i < count)
		x[i] *= gate_sigmoid(gate[i / row * ldg + in_row / dim * g_step + in_row % dim]);
}

int cuda_gate_mul(cuda_stream stream, float *x, const float *gate, size_t ldg, size_t g_step,
		  size_t tokens, size_t heads, size_t dim)
{
	size_t count, blocks;

	if (tokens == 0 || heads == 0)
		return 0;
	if (!x || !gate || dim == 0 || g_step < dim || ldg < (heads - 1) * g_step + dim)
		return -EINVAL;
	if (dim > 65536 || heads > 65536 || tokens > INT32_MAX)
		return -EINVAL;
	count = tokens * heads * dim;
	blocks = (count + GATE_THREADS - 1) / GATE_THREADS;
	if (blocks > INT32_MAX)
		return -EINVAL;
	CUDA_LAUNCH(gate_mul_kernel, (unsigned)blocks, GATE_THREADS, 0, stream, x, gate, ldg,
		    g_step, count, heads * dim, dim);
	return CUDA_LAUNCHED();
}
