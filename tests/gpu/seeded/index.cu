/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/index.cu: writes one float behind the end of its array; AddressSanitizer must tell. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_index(float *p)
{
	p[threadIdx.x + 1] = 1.0f;
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_index, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
