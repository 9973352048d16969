/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/arena.h: the one owner of big host memory.
 *
 * One contiguous range of addresses for the expert slots (and another for dense weights), taken
 * whole before the daemon says ready: hugetlb pages through a memfd where the pool has them, else
 * private anonymous memory with THP, else 4 KiB pages. Pages are made present in the background by
 * arena_prefault_start(), in the order in which slots are handed out, so that first touches do not
 * fall into the token path; touching a page earlier than that is legal and only slower.
 * Never faults with SIGBUS later: hugetlb space is allocated (fallocate) at creation or not used.
 */
#ifndef SLUICE_STORE_ARENA_H
#define SLUICE_STORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum arena_pages { ARENA_HUGETLB, ARENA_THP, ARENA_4K, ARENA_PAGES_NR };

struct arena;

struct arena_config {
	uint64_t bytes;	       /* rounded up to the page size that is got */
	enum arena_pages best; /* do not try anything better than this (tests); 0 = try all */
	bool interleave; /* spread over the NUMA nodes with memory (more than one node only) */
	unsigned prefault_threads; /* 0: one per two cores, at most 4 */
};

/*
 * Reserves the range. 0 or -errno (-ENOMEM with a sentence). Falling back to smaller pages is no
 * error: arena_fallback() says why in a sentence, or is empty.
 */
int arena_create(const struct arena_config *config, struct arena **ret, struct err *err);
void arena_destroy(struct arena *a); /* stops the prefault threads; NULL is fine */

void *arena_base(const struct arena *a);
uint64_t arena_bytes(const struct arena *a);
enum arena_pages arena_pages(const struct arena *a);
const char *arena_pages_name(enum arena_pages pages); /* "hugetlb", "thp", "4k" */
uint64_t arena_page_bytes(const struct arena *a);
const char *arena_fallback(const struct arena *a);

/* Starts / waits for / asks about the background prefault. Progress is monotonic. */
int arena_prefault_start(struct arena *a);
void arena_prefault_wait(struct arena *a);
uint64_t arena_prefaulted_bytes(const struct arena *a);

#endif
