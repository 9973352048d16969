/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/early_exit.cu: a thread leaves before a __syncthreads of the others; must be reported. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_early_exit(float *p)
{
	if (threadIdx.x == 63)
		return;
	__syncthreads();
	p[threadIdx.x] = 1.0f;
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_early_exit, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
