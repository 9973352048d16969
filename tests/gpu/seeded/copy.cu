/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/copy.cu: reads a cp.async before it is waited for; must be reported. */
#include "kernels/cuda/launch.h"

#include "kernels/cuda/ptx.h"

static __global__ void seeded_copy(float *p)
{
	CUDA_SHARED(float, row, 64);

	ptx_cp_async_4(row + threadIdx.x, p + threadIdx.x);
	ptx_cp_async_commit();
	p[threadIdx.x] = row[threadIdx.x];
	ptx_cp_async_wait<0>();
}

int main(void)
{
	float *p;

	if (cudaMalloc(&p, 64 * sizeof(float)) || cudaMemset(p, 0, 64 * sizeof(float)))
		return 2;
	CUDA_LAUNCH(seeded_copy, 1, 64, 0, NULL, p);
	if (CUDA_LAUNCHED())
		return 2;
	cudaFree(p);
	return 0;
}
