/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/barrier.cu: half of the block waits at another __syncthreads; must be reported. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_barrier(float *p)
{
	if (threadIdx.x < 32)
		__syncthreads();
	else
		__syncthreads();
	p[threadIdx.x] = 1.0f;
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_barrier, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
