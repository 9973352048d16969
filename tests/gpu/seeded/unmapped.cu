/* SPDX-License-Identifier: MIT */
/* tests/gpu/seeded/unmapped.cu: writes to a piece of memory that was taken out of its range; the shim must tell. */
#include "kernels/cuda/launch.h"

#include <cuda.h>

static __global__ void seeded_unmapped(float *p)
{
	p[threadIdx.x] = 1.0f;
}

template <class F> static F *driver(const char *name)
{
	enum cudaDriverEntryPointQueryResult status;
	void *p = NULL;

	if (cudaGetDriverEntryPointByVersion(name, &p, 13000, cudaEnableDefault, &status) || !p)
		exit(2);
	return (F *)p;
}

#define DRIVER(name) driver<decltype(name)>(#name)

int main(void)
{
	CUmemAllocationProp prop = {};
	CUmemAccessDesc desc = {};
	CUmemGenericAllocationHandle a;
	CUdeviceptr range;
	size_t piece;

	prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	desc.location = prop.location;
	desc.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	if (DRIVER(cuMemGetAllocationGranularity)(&piece, &prop,
						  CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) ||
	    DRIVER(cuMemAddressReserve)(&range, 2 * piece, 0, 0, 0) ||
	    DRIVER(cuMemCreate)(&a, piece, &prop, 0) || DRIVER(cuMemMap)(range, piece, 0, a, 0) ||
	    DRIVER(cuMemSetAccess)(range, piece, &desc, 1))
		return 2;
	CUDA_LAUNCH(seeded_unmapped, 1, 64, 0, NULL, (float *)(uintptr_t)range);
	if (CUDA_LAUNCHED() || cudaDeviceSynchronize() || DRIVER(cuMemUnmap)(range, piece))
		return 2;
	CUDA_LAUNCH(seeded_unmapped, 1, 64, 0, NULL, (float *)(uintptr_t)range);
	return cudaDeviceSynchronize() ? 2 : 0;
}
