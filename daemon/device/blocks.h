/* SPDX-License-Identifier: MIT */
/*
 * daemon/device/blocks.h: who has the memory of a device: what sequences remember, or slots of experts.
 *
 * One range of addresses holds regions, each an array of items of one size: pages of keys and values, recurrent
 * states, and the slots of each class. Addresses are for all items that there may ever be; memory is put behind
 * them in blocks of one size, and a block can lie behind any of them. Items of sequences have memory while they
 * are held; slots have it from the first on, as many as there is memory for. A sequence that needs a block gets
 * one that is spare or may still be taken; where there is none, one of the slots' is unmapped, by the caller,
 * who knows when nobody reads them any more. What sequences give back goes to slots after a rest, so that the
 * next sequence finds it. A smaller limit is reached by giving up blocks while everything runs: spare ones, then
 * slots'; sequences keep what they hold.
 *
 * Pure but for the calls of blocks_ops; time and what the driver says are handed in. Called by cuda.c and
 * cuda_memory.c. Engine thread; blocks_slots() and blocks_held(): any.
 */
#ifndef SLUICE_DEVICE_BLOCKS_H
#define SLUICE_DEVICE_BLOCKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define BLOCKS_NONE    UINT32_MAX
#define BLOCKS_REST_NS 1000000000ull /* before slots take what a sequence gave back */
#define BLOCKS_POLL_NS 1000000000ull /* between two questions how much memory others leave */

/* What puts memory behind addresses. Each 0, or -ENOMEM (take alone) or -EIO and a sentence. */
struct blocks_ops {
	int (*take)(void *ctx, struct err *err); /* one more block of memory: spare */
	void (*drop)(void *ctx);		 /* a spare one is the driver's again */
	/* a spare one behind the addresses of block @at of the range, and spare again */
	int (*map)(void *ctx, uint32_t at, struct err *err);
	int (*unmap)(void *ctx, uint32_t at, struct err *err);
};

struct blocks_region {
	uint64_t item_bytes; /* 0: an empty region */
	uint32_t items;
	bool slots;

	uint32_t first, n; /* blocks of the range: blocks_init() says them */
	_Atomic uint32_t n_mapped;
};

struct blocks {
	uint64_t block_bytes;
	uint32_t n_regions, n; /* n: blocks of the range */
	struct blocks_region *regions;
	const struct blocks_ops *ops;
	void *ctx;
	bool *mapped;
	uint32_t *users; /* items held that lie in the block */

	uint32_t kept;	 /* blocks that slots leave to sequences */
	uint32_t most;	 /* that may be held */
	uint32_t others; /* ... because others want memory too */
	_Atomic uint32_t held;
	uint32_t spare, of_slots;
	uint64_t freed_ns, polled_ns; /* 0: never */
};

/*
 * Lays @n_regions one after the other (@regions is copied, its first three fields are read) in blocks of
 * @block_bytes. No memory is taken: the limit is 0. 0, or -ENOMEM or -EOVERFLOW.
 */
int blocks_init(struct blocks *b, uint64_t block_bytes, const struct blocks_region *regions,
		uint32_t n_regions, uint32_t kept, const struct blocks_ops *ops, void *ctx);
/* Frees the books; what is mapped is the caller's to end. A zeroed struct is fine. */
void blocks_fini(struct blocks *b);

/* Bytes from the range's start to @item of @region. */
uint64_t blocks_at(const struct blocks *b, uint32_t region, uint32_t item);

/* Blocks that @items of @item_bytes take, from the start of a region. */
uint64_t blocks_for(uint64_t block_bytes, uint64_t item_bytes, uint64_t items);

/* At start: the blocks that slots leave to sequences are taken, as far as the limit goes. 0 or -EIO and a sentence. */
int blocks_keep(struct blocks *b, struct err *err);

/* ---- sequences ---- */

/* Blocks that may be held. */
uint32_t blocks_most(const struct blocks *b);
/* Blocks that could be mapped now without taking one of the slots'. */
uint32_t blocks_room(const struct blocks *b);
/* Blocks of slots. */
uint32_t blocks_of_slots(const struct blocks *b);
/* Blocks that sequences could have beside those that they hold, with no slot left. */
uint32_t blocks_left(const struct blocks *b);

/*
 * @item has memory until blocks_let(), once for each call. 0; -ENOSPC: there are too few blocks, nothing has
 * changed, blocks_victim() may help; -EIO and a sentence.
 */
int blocks_hold(struct blocks *b, uint32_t region, uint32_t item, struct err *err);
void blocks_let(struct blocks *b, uint32_t region, uint32_t item, uint64_t now_ns);
/*
 * Blocks of @item that have no memory: what a blocks_hold() of it would map. Those marked in @counted [n], where it
 * is given, are not counted again; blocks_count() marks those of @item there, so that several items are counted
 * together.
 */
uint32_t blocks_lacks(const struct blocks *b, uint32_t region, uint32_t item, const bool *counted);
uint32_t blocks_count(const struct blocks *b, uint32_t region, uint32_t item, bool *counted);
/* Blocks that @item lies in, with memory or without; 0 in an empty region. */
uint32_t blocks_take(const struct blocks *b, uint32_t region, uint32_t item);

/* ---- slots ---- */

/* Slots of @region with memory: the first so many. */
uint32_t blocks_slots(const struct blocks *b, uint32_t region);
/*
 * Whose last block is missed least: a region of slots, and how many slots it would have without; BLOCKS_NONE:
 * no slots have memory.
 */
uint32_t blocks_victim(const struct blocks *b, uint32_t *ret_slots);
/* That block is spare; nobody reads or fills the slots in it any more. 0 or -EIO and a sentence. */
int blocks_shrink(struct blocks *b, uint32_t region, struct err *err);
/*
 * Gives a spare block, or one that may still be taken, to slots. The region, which has more of them now or is
 * nearer to it; BLOCKS_NONE: there is none to give, or not yet.
 */
uint32_t blocks_grow(struct blocks *b, uint64_t now_ns);

/* ---- limits ---- */

/* At most @n blocks are to be held, from now on. */
void blocks_limit(struct blocks *b, uint32_t n);
/*
 * Gives spare blocks back to the driver as far as more are held than may be; how many slots or sequences have
 * that are still too many, what slots leave to sequences counted.
 */
uint32_t blocks_trim(struct blocks *b);
/* Is it time to ask how much memory is free? Once true, not again before BLOCKS_POLL_NS. */
bool blocks_poll(struct blocks *b, uint64_t now_ns);
/*
 * The driver has @free_bytes for others, of which @margin are to stay: blocks are given up until they are
 * there, and taken again, up to the limit, where two more would leave them, or the last.
 */
void blocks_told(struct blocks *b, uint64_t free_bytes, uint64_t margin);

uint32_t blocks_held(const struct blocks *b);

#endif
