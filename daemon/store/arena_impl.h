/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/arena_impl.h: the insides of the arena, shared by arena.c (memory of this process) and
 * arena_kept.c (memory that outlives it). Nobody else includes it but warm.c, for the check of a memfd.
 */
#ifndef SLUICE_STORE_ARENA_IMPL_H
#define SLUICE_STORE_ARENA_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "store/arena.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MAX_PREFAULT 4
#define MAX_BYTES    (1ull << 46)

struct arena {
	uint8_t *base;
	uint64_t bytes, page_bytes;
	enum arena_pages pages;
	int fd;		     /* the memfd of hugetlb pages and of kept memory, else -1 */
	bool kept;	     /* others may hold the memfd */
	bool collapse;	     /* huge pages come by MADV_COLLAPSE, once a page is there */
	_Atomic bool *small; /* then: pieces of 2 MiB that are small pages still */
	uint32_t n_nodes;
	bool bind_failed;
	char fallback[384];

	pthread_t threads[MAX_PREFAULT]; /* owned by the thread that starts and waits */
	unsigned n_threads, n_wanted;
	_Atomic uint64_t cursor, done;
	_Atomic bool stop, busy;
};

/* One more reason why the arena is not better than it is. */
void arena_note(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Spreads pages that are not there yet over the nodes that have memory. No correctness needs it. */
void arena_interleave(struct arena *a);

/* What both kinds of memory have in common, once it is mapped. */
void arena_set_up(struct arena *a, const struct arena_config *config, unsigned cpus);

/* Are transparent huge pages switched off for this process? */
bool arena_thp_off(void);

/* Address space of @bytes, a multiple of 2 MiB, aligned to that, nothing mapped to it; NULL and errno. */
uint8_t *arena_address_space(uint64_t bytes);

/* A memfd of @bytes whose size is sealed; @flags: MFD_HUGETLB and its size, or 0. -1 and errno. */
int arena_memory_file(uint64_t bytes, unsigned flags);

/*
 * Is @fd such a file, of this user and of @bytes (0: any)? 0 with its size and whether it has huge pages of
 * 2 MiB, or -errno and a sentence that begins with "it".
 */
int arena_check_file(int fd, uint64_t bytes, uint64_t *ret_bytes, bool *ret_huge, struct err *err);

/*
 * Shared pages for @a, which has none yet. False: there is no such memory, or, where @only_fast, it would be
 * slower than that of this process alone; noted either way.
 */
bool arena_try_kept(struct arena *a, uint64_t bytes, bool huge, bool only_fast);

/*
 * Of kept memory without hugetlb: a huge page at @at, where that is not how they come anyway. False: a read holds
 * its pages, and it is marked in @a->small.
 */
bool arena_collapse(struct arena *a, uint64_t at);
/* Tries again what is marked, for some time, and counts it as done. All prefault threads together. */
void arena_collapse_rest(struct arena *a);

/* A prefault thread after a huge page, which took it since @start: gives way where requests are busy. */
void arena_rest(struct arena *a, uint64_t start_ns);

#endif
