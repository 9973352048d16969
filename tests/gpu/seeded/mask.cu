/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/mask.cu: a shuffle names lanes that never come; must be reported. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_mask(float *p)
{
	if (threadIdx.x % 32 < 16)
		p[threadIdx.x] = __shfl_xor_sync(0xffffffffu, p[threadIdx.x], 1);
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_mask, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
