/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/arena.h: the one owner of big host memory.
 *
 * One contiguous range of addresses for the expert slots (and another for dense weights), taken
 * whole before the daemon says ready: hugetlb pages through a memfd where the pool has them, else
 * private anonymous memory with THP, else 4 KiB pages. Pages are made present in the background by
 * arena_prefault_start(), in the order in which slots are handed out, so that first touches do not
 * fall into the token path; touching a page earlier than that is legal and only slower.
 * Memory that is kept is a sealed memfd: it lives on, with its bytes, where somebody else holds it, and a
 * process after this one takes it over (store/warm.h).
 * Never faults with SIGBUS later: hugetlb pages are reserved at creation, all of them or none, and
 * allocated there and then where a control group could refuse a reserved page.
 * Who calls what: one thread creates, starts, waits and destroys; the rest is constant or atomic.
 */
#ifndef SLUICE_STORE_ARENA_H
#define SLUICE_STORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum arena_pages { ARENA_HUGETLB, ARENA_THP, ARENA_4K, ARENA_PAGES_NR };

/* Whose memory it is: this process's alone; kept where that costs no speed; kept in any case. */
enum arena_keep { ARENA_OWN, ARENA_KEEP_IF_FAST, ARENA_KEEP };

struct arena;

struct arena_config {
	uint64_t bytes;	       /* rounded up to a multiple of 2 MiB */
	enum arena_pages best; /* do not try anything better than this (tests); 0 = try all */
	bool interleave; /* spread over the NUMA nodes with memory (more than one node only) */
	unsigned prefault_threads; /* 0: one per two cores, at most 4 */
	enum arena_keep keep;
};

/*
 * Reserves the range. 0 or -errno (-ENOMEM with a sentence). Falling back to smaller pages is no
 * error: arena_fallback() says why.
 */
int arena_create(const struct arena_config *config, struct arena **ret, struct err *err);

/*
 * The memory behind @fd, which another process made with the same bytes and keep. -EINVAL or what the
 * kernel says, and a sentence, where @fd is anything else, is not sealed or not this user's; it stays the
 * caller's then, and is the arena's on success.
 */
int arena_take(const struct arena_config *config, int fd, struct arena **ret, struct err *err);

/* The memory's descriptor, the arena's own; -1: it ends with this process. */
int arena_fd(const struct arena *a);

/*
 * Puts new pages under [offset, offset + bytes), both multiples of ARENA_RENEW: what a process that died
 * may still be reading from a disk lands in the old ones, which nobody sees. For kept memory, before the
 * prefault starts. Waits a while for huge pages to come free. 0 or -errno.
 */
int arena_renew(struct arena *a, uint64_t offset, uint64_t bytes);
#define ARENA_RENEW (2ull << 20)

void arena_destroy(struct arena *a); /* stops the prefault threads; NULL is fine */

void *arena_base(const struct arena *a); /* aligned to 2 MiB; valid until arena_destroy() */
uint64_t arena_bytes(const struct arena *a);
enum arena_pages arena_pages(const struct arena *a);
const char *arena_pages_name(enum arena_pages pages); /* "hugetlb", "thp", "4k" */
uint64_t arena_page_bytes(const struct arena *a);

/*
 * The pages of [offset, offset + bytes) that are not there yet are to come from @node while it has
 * any (preferred, so an empty node costs speed and not the daemon). Offsets are rounded inwards to
 * arena_page_bytes(). 0 or -errno, noted in arena_fallback(). Before the prefault starts.
 */
int arena_bind(struct arena *a, uint64_t offset, uint64_t bytes, int node);

/*
 * Gives the pages of [offset, offset + bytes) back for good, rounded inwards to arena_page_bytes(): nobody
 * reads or writes them any more. Before the prefault starts, or after it ended. Returns the bytes given back.
 */
uint64_t arena_release(struct arena *a, uint64_t offset, uint64_t bytes);

/*
 * Asks the kernel where the pages of a range are, at most @max_samples of them evenly spread:
 * adds to ret_pages[node] for nodes below @n_nodes, and returns how many were asked and present, or
 * -errno. Any thread; some microseconds per 100 samples.
 */
int arena_where(const struct arena *a, uint64_t offset, uint64_t bytes, unsigned max_samples,
		uint64_t *ret_pages, unsigned n_nodes);

/*
 * Why it is not better than it is: sentences with the numbers and the command that would help, or
 * empty. Valid as long as the arena, never changes.
 */
const char *arena_fallback(const struct arena *a);

/*
 * Starts / waits for / asks about the background prefault. start: 0 or -errno, once per arena. The
 * number of bytes present only grows; it stops short of arena_bytes() only where the machine has
 * no memory for the rest, which is then left to the first use of each page.
 */
int arena_prefault_start(struct arena *a);
void arena_prefault_wait(struct arena *a);
/* While somebody computes, the prefault takes a small part of one processor. Any thread. */
void arena_set_busy(struct arena *a, bool busy);
uint64_t arena_prefaulted_bytes(const struct arena *a); /* any thread */

#endif
