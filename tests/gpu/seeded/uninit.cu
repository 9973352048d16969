/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/uninit.cu: reads shared memory that nobody wrote; must be reported. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_uninit(float *p)
{
	CUDA_SHARED(float, row, 64);

	if (threadIdx.x != 5)
		row[threadIdx.x] = 1.0f;
	__syncthreads();
	p[threadIdx.x] = row[threadIdx.x];
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_uninit, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
