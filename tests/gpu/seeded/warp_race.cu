/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/warp_race.cu: lanes exchange through shared memory without __syncwarp; must be reported. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_warp_race(float *p)
{
	CUDA_SHARED(float, row, 64);

	row[threadIdx.x] = p[threadIdx.x];
	p[threadIdx.x] = __shfl_xor_sync(0xffffffffu, p[threadIdx.x], 1); /* orders nothing */
	p[threadIdx.x] += row[threadIdx.x ^ 1];
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_warp_race, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
