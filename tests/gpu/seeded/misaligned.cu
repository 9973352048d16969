/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/misaligned.cu: a float4 load at 4 bytes; UndefinedBehaviorSanitizer must tell. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_misaligned(float *p)
{
	if (threadIdx.x == 0)
		p[0] = (*(const float4 *)(p + 1)).x;
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_misaligned, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
