/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/shared_index.cu: reads behind the end of a shared array; UndefinedBehaviorSanitizer must tell. */
#include "kernels/cuda/launch.h"

static __global__ void seeded_shared_index(float *p)
{
	CUDA_SHARED(float, row, 64);

	row[threadIdx.x] = 1.0f;
	__syncthreads();
	p[threadIdx.x] = row[threadIdx.x + 1];
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_shared_index, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
