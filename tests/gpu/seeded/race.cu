/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/race.cu: one warp reads what the other wrote, without a barrier; must be reported. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_race(float *p)
{
	CUDA_SHARED(float, row, 64);

	row[threadIdx.x] = 0.0f;
	__syncthreads();
	row[threadIdx.x] = p[threadIdx.x];
	p[threadIdx.x] = row[threadIdx.x ^ 32];
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_race, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
