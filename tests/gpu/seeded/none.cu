/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/none.cu: no fault: must end with 0 in every flavour. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_none(float *p)
{
	CUDA_SHARED(float, row, 64);

	row[threadIdx.x] = p[threadIdx.x];
	__syncwarp();
	p[threadIdx.x] += row[threadIdx.x ^ 1];
	__syncthreads();
	p[threadIdx.x] += row[threadIdx.x ^ 32];
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_none, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
