/* SPDX-License-Identifier: MIT */
/*
 * Description: ranges of addresses and pieces of memory: a piece keeps its bytes wherever it is mapped, kernels
 * read and write it there, and what the driver refuses is refused (the fake runtime's is the same as a GPU's).
 */
#include "kernels/cuda/launch.h"
#include "tests/gpu/values.h"

#include <cuda.h>

static __global__ void fill_kernel(uint32_t *x, size_t n, uint32_t from)
{
	const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;

	if (i < n)
		x[i] = from + (uint32_t)i;
}

/* The driver's function of that name: asked of the runtime, nothing is linked. */
template <class F> static F *driver(const char *name)
{
	enum cudaDriverEntryPointQueryResult status;
	void *p = NULL;

	values_cuda(cudaGetDriverEntryPointByVersion(name, &p, 13000, cudaEnableDefault, &status),
		    name);
	if (status != cudaDriverEntryPointSuccess || !p) {
		fprintf(stderr, "the driver has no %s\n", name);
		exit(1);
	}
	return (F *)p;
}

#define DRIVER(name) driver<decltype(name)>(#name)

int main(void)
{
	const auto granularity = DRIVER(cuMemGetAllocationGranularity);
	const auto reserve = DRIVER(cuMemAddressReserve);
	const auto unreserve = DRIVER(cuMemAddressFree);
	const auto create = DRIVER(cuMemCreate);
	const auto release = DRIVER(cuMemRelease);
	const auto map = DRIVER(cuMemMap);
	const auto unmap = DRIVER(cuMemUnmap);
	const auto access = DRIVER(cuMemSetAccess);
	CUmemAllocationProp prop = {};
	CUmemAccessDesc desc = {};
	CUmemGenericAllocationHandle a, b;
	CUdeviceptr range;
	size_t piece = 0, before, after, total;

	values_cuda(cudaSetDevice(0), "device");
	values_cuda(cudaFree(NULL), "context");
	prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	desc.location = prop.location;
	desc.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	check_equal("granularity", 0,
		    granularity(&piece, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED), 0);
	check_equal("whole pages", 0, piece && piece % 4096 == 0, 1);
	check_equal("range", 0, reserve(&range, 4 * piece, 0, 0, 0), 0);
	values_cuda(cudaMemGetInfo(&before, &total), "memory");
	check_equal("a", 0, create(&a, piece, &prop, 0), 0);
	check_equal("b", 0, create(&b, piece, &prop, 0), 0);
	check_equal("map a", 0, map(range, piece, 0, a, 0), 0);
	check_equal("map b", 0, map(range + piece, piece, 0, b, 0), 0);
	check_equal("over it", 0, map(range, piece, 0, b, 0) != CUDA_SUCCESS, 1);
	check_equal("access", 0, access(range, 2 * piece, &desc, 1), 0);
	values_cuda(cudaMemGetInfo(&after, &total), "memory");
	check_equal("counted", 0, before - after >= 2 * piece, 1);

	/* across both, then a moved behind b */
	const size_t n = 2 * piece / 4, half = n / 2;
	std::vector<uint32_t> got(half);

	CUDA_LAUNCH(fill_kernel, (unsigned)((n + 255) / 256), 256, 0, NULL,
		    (uint32_t *)(uintptr_t)range, n, 7u);
	check_equal("launch", 0, CUDA_LAUNCHED(), 0);
	values_cuda(cudaDeviceSynchronize(), "fill");
	check_equal("unmap a", 0, unmap(range, piece), 0);
	check_equal("map a", 0, map(range + 2 * piece, piece, 0, a, 0), 0);
	check_equal("access", 0, access(range + 2 * piece, piece, &desc, 1), 0);
	values_cuda(cudaMemcpy(got.data(), (void *)(uintptr_t)(range + 2 * piece), piece,
			       cudaMemcpyDeviceToHost),
		    "a");
	for (size_t i = 0; i < half; i += 997)
		check_equal("a moved", i, got[i], 7 + (long long)i);
	values_cuda(cudaMemcpy(got.data(), (void *)(uintptr_t)(range + piece), piece,
			       cudaMemcpyDeviceToHost),
		    "b");
	for (size_t i = 0; i < half; i += 997)
		check_equal("b stayed", i, got[i], 7 + (long long)(half + i));

	check_equal("unmap b", 0, unmap(range + piece, piece), 0);
	check_equal("unmap a", 0, unmap(range + 2 * piece, piece), 0);
	check_equal("release a", 0, release(a), 0);
	check_equal("release b", 0, release(b), 0);
	check_equal("range", 0, unreserve(range, 4 * piece), 0);
	values_cuda(cudaMemGetInfo(&after, &total), "memory");
	check_equal("given back", 0, after >= before, 1);
	return values_report("memory");
}
