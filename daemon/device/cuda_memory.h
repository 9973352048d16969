/* SPDX-License-Identifier: MIT */
/* daemon/device/cuda_memory.h: memory of blocks, for cuda_memory.c and cuda_driver.c. Engine thread. */
#ifndef SLUICE_DEVICE_CUDA_MEMORY_H
#define SLUICE_DEVICE_CUDA_MEMORY_H

#include <cuda.h>
#include <stdbool.h>
#include <stdint.h>

#include "device/cuda.h"

/* What a sequence has. */
struct cuda_place {
	uint32_t n_pages;
	bool state;
};

struct cuda_memory {
	struct blocks blocks;
	CUdeviceptr range;
	CUmemGenericAllocationHandle *spare; /* a stack of blocks.spare */
	CUmemGenericAllocationHandle *at;    /* by block of the range, where mapped */
	CUmemAllocationProp prop;
	uint64_t fixed_bytes; /* of the budget, beside blocks */
	uint64_t first_blocks;
	uint64_t margin; /* that others are left */
	bool measured;	 /* ... is known */

	struct cuda_place *places;
	bool *page_used;
	uint32_t *chosen; /* pages of the sequence that asks: [d->pages] */
	bool *counted;	  /* [blocks.n] */
	uint32_t *pages;  /* [n_seq][d->pages] as the kernels read them; pinned */
	bool pages_changed;
};

/* A range for all blocks of m->blocks: 0, or -errno and a sentence. */
int cuda_range_take(struct cuda_memory *m, struct err *err);
/* All that is mapped or spare, and the range, go back; of a memory that was not whole too. */
void cuda_range_free(struct cuda_memory *m);

/* What blocks.h asks of the driver; the context is a struct cuda_memory. */
extern const struct blocks_ops cuda_block_ops;

#endif
