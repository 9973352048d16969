/* SPDX-License-Identifier: MIT */
/* A seeded fault: a thread of the host reads memory that a kernel writes, without having waited for it. */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

#include <thread>

static __global__ void seeded_host_race(float *x)
{
	x[threadIdx.x] = 1.0f;
}

int main(void)
{
	float sum = 0.0f;
	void *p;

	if (cudaHostAlloc(&p, 64 * sizeof(float), cudaHostAllocMapped))
		return 2;
	float *const x = (float *)p;

	std::thread reader([x, &sum] {
		for (int i = 0; i < 64; i++)
			sum += x[i];
	});
	CUDA_LAUNCH(seeded_host_race, 1, 64, 0, NULL, x);
	reader.join();
	cudaFreeHost(p);
	return CUDA_LAUNCHED() ? 2 : 0;
}
