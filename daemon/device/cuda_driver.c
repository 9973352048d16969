/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/cuda_driver.c: the driver's own calls: a range of addresses, and blocks of memory that are put
 * behind it and taken away. They are asked of the runtime by name: no library of the driver's is linked. Engine
 * thread.
 */
#include "device/cuda_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define DRIVER_VERSION 13000

static struct {
	CUresult (*granularity)(size_t *, const CUmemAllocationProp *,
				CUmemAllocationGranularity_flags);
	CUresult (*reserve)(CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long);
	CUresult (*unreserve)(CUdeviceptr, size_t);
	CUresult (*create)(CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *,
			   unsigned long long);
	CUresult (*release)(CUmemGenericAllocationHandle);
	CUresult (*map)(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle,
			unsigned long long);
	CUresult (*unmap)(CUdeviceptr, size_t);
	CUresult (*access)(CUdeviceptr, size_t, const CUmemAccessDesc *, size_t);
} driver;

static int told(CUresult e, const char *what, struct err *err)
{
	if (e == CUDA_SUCCESS)
		return 0;
	return err_set(err, e == CUDA_ERROR_OUT_OF_MEMORY ? -ENOMEM : -EIO,
		       "the device's memory: %s: error %d of the driver", what, (int)e);
}

static int find_call(const char *name, void *ret, struct err *err)
{
	enum cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
	void *p = NULL;
	int rc = cuda_said(cudaGetDriverEntryPointByVersion(name, &p, DRIVER_VERSION,
							    cudaEnableDefault, &status),
			   name, err);

	if (!rc && (status != cudaDriverEntryPointSuccess || !p))
		rc = err_set(err, -ENOTSUP, "the driver has no %s", name);
	if (!rc)
		memcpy(ret, &p, sizeof(p));
	return rc;
}

int cuda_find_driver(struct cuda_device *d, struct err *err)
{
	const struct {
		const char *name;
		void *to;
	} calls[] = {
		{ "cuMemGetAllocationGranularity", &driver.granularity },
		{ "cuMemAddressReserve", &driver.reserve },
		{ "cuMemAddressFree", &driver.unreserve },
		{ "cuMemCreate", &driver.create },
		{ "cuMemRelease", &driver.release },
		{ "cuMemMap", &driver.map },
		{ "cuMemUnmap", &driver.unmap },
		{ "cuMemSetAccess", &driver.access },
	};
	struct cuda_memory *m = d->memory = calloc(1, sizeof(*m));
	size_t least = 0;
	int rc = m ? 0 : err_set(err, -ENOMEM, "no memory for the device");

	for (size_t i = 0; i < ARRAY_LEN(calls) && !rc; i++)
		rc = find_call(calls[i].name, calls[i].to, err);
	if (rc)
		return rc;
	m->prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	m->prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	m->prop.location.id = d->number;
	rc = told(driver.granularity(&least, &m->prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
		  "its granularity", err);
	d->base.c.block_least = least;
	return rc;
}

static CUdeviceptr address(const struct cuda_memory *m, uint32_t block)
{
	return m->range + block * m->blocks.block_bytes;
}

static int take_block(void *ctx, struct err *err)
{
	struct cuda_memory *m = ctx;
	CUmemGenericAllocationHandle h;
	int rc;

	rc = told(driver.create(&h, m->blocks.block_bytes, &m->prop, 0), "a block", err);
	if (!rc)
		m->spare[m->blocks.spare] = h;
	return rc;
}

static void drop_block(void *ctx)
{
	struct cuda_memory *m = ctx;

	driver.release(m->spare[m->blocks.spare - 1]);
}

static int map_block(void *ctx, uint32_t at, struct err *err)
{
	struct cuda_memory *m = ctx;
	const CUmemAccessDesc desc = { .location = m->prop.location,
				       .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
	const size_t bytes = m->blocks.block_bytes;
	const CUmemGenericAllocationHandle h = m->spare[m->blocks.spare - 1];
	int rc = told(driver.map(address(m, at), bytes, 0, h, 0), "mapping a block", err);

	if (rc)
		return rc == -ENOMEM ? -EIO : rc;
	rc = told(driver.access(address(m, at), bytes, &desc, 1), "access to a block", err);
	if (rc) {
		driver.unmap(address(m, at), bytes);
		return -EIO;
	}
	m->at[at] = h;
	return 0;
}

static int unmap_block(void *ctx, uint32_t at, struct err *err)
{
	struct cuda_memory *m = ctx;
	int rc =
		told(driver.unmap(address(m, at), m->blocks.block_bytes), "unmapping a block", err);

	if (rc)
		return -EIO;
	m->spare[m->blocks.spare] = m->at[at];
	return 0;
}

const struct blocks_ops cuda_block_ops = { take_block, drop_block, map_block, unmap_block };

int cuda_range_take(struct cuda_memory *m, struct err *err)
{
	return told(driver.reserve(&m->range, m->blocks.n * m->blocks.block_bytes, 0, 0, 0),
		    "a range of addresses", err);
}

void cuda_range_free(struct cuda_memory *m)
{
	for (uint32_t i = 0; i < m->blocks.n; i++)
		if (m->blocks.mapped[i]) {
			driver.unmap(address(m, i), m->blocks.block_bytes);
			driver.release(m->at[i]);
		}
	while (m->blocks.spare)
		driver.release(m->spare[--m->blocks.spare]);
	if (m->range)
		driver.unreserve(m->range, m->blocks.n * m->blocks.block_bytes);
}
