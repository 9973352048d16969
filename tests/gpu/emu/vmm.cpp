/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/vmm.cpp: device memory whose addresses and bytes are two things, as the driver has it: ranges
 * of addresses without memory (cuMemAddressReserve), pieces of memory without addresses (cuMemCreate), and the
 * one in the other (cuMemMap, cuMemSetAccess).
 *
 * A piece is a file in memory; a range is address space that nobody may touch. So who uses a piece after
 * cuMemUnmap, or before cuMemSetAccess, gets a fault of the processor at once, which is told by kernel, address
 * and what lies there ("unmapped memory"), and a piece keeps its bytes when it is mapped elsewhere. New pieces
 * hold NaN bytes. Pieces count as memory of the device until they are released and unmapped, like what cudaMalloc
 * gives. SLUICE_EMU_VRAM=BYTES bounds both; SLUICE_EMU_TAKEN=FILE holds the number of bytes of it that another
 * process has, and is read again whenever that matters. Sizes that are not multiples of the granularity, pieces mapped over
 * others, ranges freed while something is mapped, and unmapping of a part are CUDA_ERROR_INVALID_VALUE.
 * SLUICE_EMU_FAIL knows the names. One lock, the runtime's; any thread.
 */
#include "emu.h"
#include "runtime.h"

#include <cuda.h>
#include <map>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * A GPU's is 2 MiB; models for tests are small, and a page of the processor is the least that can be given and
 * taken. SLUICE_EMU_GRANULARITY=BYTES: another.
 */
static size_t granularity(void)
{
	const char *text = getenv("SLUICE_EMU_GRANULARITY");

	return text ? strtoull(text, NULL, 10) : 4096;
}

struct piece {
	int fd;
	size_t size;
	bool released;
	unsigned mapped; /* how often */
};

struct mapping {
	size_t size;
	CUmemGenericAllocationHandle handle;
};

static std::map<CUdeviceptr, size_t> ranges;
static std::map<CUmemGenericAllocationHandle, struct piece> pieces;
static std::map<CUdeviceptr, struct mapping> mappings;
static CUmemGenericAllocationHandle next_handle = 1;

#define ENTER(name)                                                          \
	const std::lock_guard<std::recursive_mutex> guard(emu_runtime_lock); \
	const cudaError_t entered = emu_runtime_enter(name);                 \
	if (entered != cudaSuccess)                                          \
	return (CUresult)entered

/*
 * A fault at an address of a range: what the program did is said by name. Another one is not this file's. The
 * maps are read as they are: whoever holds the lock is the program, which ends here.
 */
static struct sigaction before_us;

static void on_fault(int, siginfo_t *info, void *)
{
	const CUdeviceptr at = (CUdeviceptr)(uintptr_t)info->si_addr;
	auto r = ranges.upper_bound(at);
	auto m = mappings.upper_bound(at);
	size_t offset;

	if (r == ranges.begin() || (--r, at - r->first >= r->second)) {
		sigaction(SIGSEGV, &before_us, NULL); /* it comes again, for whom it concerns */
		return;
	}
	offset = (size_t)(at - r->first);
	if (m != mappings.begin() && (--m, at - m->first < m->second.size))
		emu_fail("unmapped memory", "byte %zu of a range is used before cuMemSetAccess",
			 offset);
	emu_fail("unmapped memory",
		 "byte %zu of a range of %zu is used, and nothing is mapped there", offset,
		 r->second);
}

static void watch_faults(void)
{
	static bool watching;
	struct sigaction a = {};

	if (watching)
		return;
	a.sa_sigaction = on_fault;
	a.sa_flags = SA_SIGINFO;
	sigaction(SIGSEGV, &a, &before_us);
	watching = true;
}

/* ---- how much memory there is ---- */

static size_t device_bytes; /* taken */

/* UINT64_MAX: no bound. */
static uint64_t all_bytes(void)
{
	static const char *text = getenv("SLUICE_EMU_VRAM");

	return text ? strtoull(text, NULL, 10) : UINT64_MAX;
}

size_t emu_memory_all(void)
{
	return all_bytes() == UINT64_MAX ? (size_t)24 << 30 : (size_t)all_bytes();
}

/* What another process has of it. */
static uint64_t taken_by_others(void)
{
	const char *name = getenv("SLUICE_EMU_TAKEN");
	FILE *f = name ? fopen(name, "r") : NULL;
	unsigned long long n = 0;

	if (f && fscanf(f, "%llu", &n) != 1)
		n = 0;
	if (f)
		fclose(f);
	return n;
}

/* Bytes that can be had now of @all. */
static uint64_t free_of(uint64_t all)
{
	const uint64_t others = taken_by_others();

	all -= others < all ? others : all;
	return all > device_bytes ? all - device_bytes : 0;
}

bool emu_memory_take(size_t bytes)
{
	if (bytes > free_of(all_bytes()))
		return false;
	device_bytes += bytes;
	return true;
}

void emu_memory_give(size_t bytes)
{
	device_bytes -= bytes;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
	const std::lock_guard<std::recursive_mutex> guard(emu_runtime_lock);
	const cudaError_t e = emu_runtime_enter("cudaMemGetInfo");

	if (e != cudaSuccess)
		return e;
	*total = emu_memory_all();
	*free_bytes = free_of(*total);
	return cudaSuccess;
}

/* ---- ranges and pieces ---- */

static bool whole(size_t n)
{
	return n && n % granularity() == 0;
}

/* The range that holds [@at, @at + @size). */
static bool in_range(CUdeviceptr at, size_t size)
{
	auto r = ranges.upper_bound(at);

	return r != ranges.begin() && (--r, at - r->first <= r->second) &&
	       size <= r->second - (at - r->first);
}

/* Whether something is mapped in [@at, @at + @size). */
static bool has_mapping(CUdeviceptr at, size_t size)
{
	auto m = mappings.lower_bound(at + size);

	return m != mappings.begin() && (--m, m->first + m->second.size > at);
}

static void forget_unused(CUmemGenericAllocationHandle handle)
{
	const struct piece &p = pieces[handle];

	if (!p.released || p.mapped)
		return;
	close(p.fd);
	emu_memory_give(p.size);
	pieces.erase(handle);
}

CUresult cuMemGetAllocationGranularity(size_t *ret, const CUmemAllocationProp *prop,
				       CUmemAllocationGranularity_flags)
{
	ENTER("cuMemGetAllocationGranularity");
	if (!ret || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE || prop->location.id)
		return CUDA_ERROR_INVALID_VALUE;
	*ret = granularity();
	return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t, CUdeviceptr,
			     unsigned long long flags)
{
	ENTER("cuMemAddressReserve");
	void *p;

	if (!whole(size) || flags)
		return CUDA_ERROR_INVALID_VALUE;
	p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	watch_faults();
	*ptr = (CUdeviceptr)(uintptr_t)p;
	ranges[*ptr] = size;
	return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr ptr, size_t size)
{
	ENTER("cuMemAddressFree");
	if (!ranges.count(ptr) || ranges[ptr] != size || has_mapping(ptr, size))
		return CUDA_ERROR_INVALID_VALUE;
	munmap((void *)(uintptr_t)ptr, size);
	ranges.erase(ptr);
	return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	ENTER("cuMemCreate");
	struct piece p = { -1, size, false, 0 };
	void *at;

	if (!whole(size) || flags || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_INVALID_VALUE;
	if (!emu_memory_take(size))
		return CUDA_ERROR_OUT_OF_MEMORY;
	p.fd = memfd_create("emu piece", MFD_CLOEXEC);
	at = p.fd >= 0 && !ftruncate(p.fd, (off_t)size)
		     ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0)
		     : MAP_FAILED;
	if (at == MAP_FAILED) {
		if (p.fd >= 0)
			close(p.fd);
		emu_memory_give(size);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	memset(at, 0xff, size);
	munmap(at, size);
	*handle = next_handle++;
	pieces[*handle] = p;
	return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	ENTER("cuMemRelease");
	if (!pieces.count(handle) || pieces[handle].released)
		return CUDA_ERROR_INVALID_VALUE;
	pieces[handle].released = true;
	forget_unused(handle);
	return CUDA_SUCCESS;
}

/* Nobody may touch it until cuMemSetAccess. */
CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
		  unsigned long long flags)
{
	ENTER("cuMemMap");
	const auto p = pieces.find(handle);

	if (!whole(size) || offset || flags || p == pieces.end() || p->second.released ||
	    size != p->second.size || !in_range(ptr, size) || has_mapping(ptr, size))
		return CUDA_ERROR_INVALID_VALUE;
	if (mmap((void *)(uintptr_t)ptr, size, PROT_NONE, MAP_SHARED | MAP_FIXED, p->second.fd,
		 0) == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	mappings[ptr] = { size, handle };
	p->second.mapped++;
	return CUDA_SUCCESS;
}

/* Does not wait for the device: what still uses the addresses faults. */
CUresult cuMemUnmap(CUdeviceptr ptr, size_t size)
{
	ENTER("cuMemUnmap");
	CUmemGenericAllocationHandle handle;

	if (!mappings.count(ptr) || mappings[ptr].size != size)
		return CUDA_ERROR_INVALID_VALUE;
	handle = mappings[ptr].handle;
	mmap((void *)(uintptr_t)ptr, size, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	mappings.erase(ptr);
	pieces[handle].mapped--;
	forget_unused(handle);
	return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc, size_t count)
{
	ENTER("cuMemSetAccess");
	size_t at = 0;

	if (!whole(size) || count != 1 || desc->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
		return CUDA_ERROR_INVALID_VALUE;
	for (; at < size && mappings.count(ptr + at); at += mappings[ptr + at].size)
		;
	if (at != size) /* whole mappings side by side */
		return CUDA_ERROR_INVALID_VALUE;
	if (mprotect((void *)(uintptr_t)ptr, size, PROT_READ | PROT_WRITE))
		return CUDA_ERROR_UNKNOWN;
	return CUDA_SUCCESS;
}

/* ---- by name ---- */

static const struct {
	const char *name;
	void *call;
} calls[] = {
	{ "cuMemGetAllocationGranularity", (void *)cuMemGetAllocationGranularity },
	{ "cuMemAddressReserve", (void *)cuMemAddressReserve },
	{ "cuMemAddressFree", (void *)cuMemAddressFree },
	{ "cuMemCreate", (void *)cuMemCreate },
	{ "cuMemRelease", (void *)cuMemRelease },
	{ "cuMemMap", (void *)cuMemMap },
	{ "cuMemUnmap", (void *)cuMemUnmap },
	{ "cuMemSetAccess", (void *)cuMemSetAccess },
};

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **ret, unsigned,
					     unsigned long long,
					     enum cudaDriverEntryPointQueryResult *status)
{
	const std::lock_guard<std::recursive_mutex> guard(emu_runtime_lock);
	const cudaError_t e = emu_runtime_enter("cudaGetDriverEntryPointByVersion");

	if (e != cudaSuccess)
		return e;
	*ret = NULL;
	for (const auto &c : calls)
		if (!strcmp(c.name, symbol))
			*ret = c.call;
	if (status)
		*status = *ret ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
	return cudaSuccess;
}
