/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/arena.c: see arena.h.
 *
 * Hugetlb space is taken with fallocate() on a memfd, which fails cleanly where the pool is too
 * small; a plain reservation would succeed and deliver SIGBUS later. Prefault touches pages with
 * MADV_POPULATE_WRITE, which changes no bytes, so reads may already be landing in them.
 */
#include "store/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <numa.h>
#include <numaif.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HUGE_BYTES   (2ull << 20)
#define PIECE_BYTES  (32ull << 20) /* of prefault work taken at a time */
#define MAX_PREFAULT 4

struct arena {
	uint8_t *base;
	uint64_t bytes, page_bytes;
	enum arena_pages pages;
	char fallback[256];

	pthread_t threads[MAX_PREFAULT];
	unsigned n_threads, n_wanted;
	_Atomic uint64_t cursor, done;
	_Atomic bool stop;
};

static const char *const page_names[ARENA_PAGES_NR] = { "hugetlb", "thp", "4k" };

static uint64_t free_hugepages(void)
{
	unsigned long long n = 0;
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");

	if (f) {
		if (fscanf(f, "%llu", &n) != 1)
			n = 0;
		fclose(f);
	}
	return n;
}

/* 0, or -errno and why in a->fallback. */
static int try_hugetlb(struct arena *a, uint64_t bytes)
{
	uint64_t rounded = align_up(bytes, HUGE_BYTES), pages = rounded / HUGE_BYTES;
	uint64_t available = free_hugepages();
	void *base;
	int fd, rc;

	if (available < pages) {
		snprintf(a->fallback, sizeof(a->fallback),
			 "no hugetlb pages: %llu of 2 MiB needed, %llu free (echo %llu > "
			 "/proc/sys/vm/nr_hugepages reserves them)",
			 (unsigned long long)pages, (unsigned long long)available,
			 (unsigned long long)pages);
		return -ENOMEM;
	}
	fd = memfd_create("sluice-arena", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	if (fd < 0)
		goto out_errno;
	if (fallocate(fd, 0, 0, (off_t)rounded))
		goto out_close;
	base = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		goto out_close;
	close(fd); /* the mapping holds the pages */
	a->base = base;
	a->bytes = rounded;
	a->page_bytes = HUGE_BYTES;
	a->pages = ARENA_HUGETLB;
	return 0;
out_close:
	rc = -errno;
	close(fd);
	errno = -rc;
out_errno:
	rc = -errno;
	snprintf(a->fallback, sizeof(a->fallback), "no hugetlb pages: %s", strerror(-rc));
	return rc;
}

static bool thp_off(void)
{
	char line[128] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");

	if (f) {
		if (!fgets(line, sizeof(line), f))
			line[0] = '\0';
		fclose(f);
	}
	return !line[0] || strstr(line, "[never]");
}

static int try_anonymous(struct arena *a, uint64_t bytes, bool huge)
{
	uint64_t rounded = align_up(bytes, HUGE_BYTES), room = rounded + HUGE_BYTES;
	uint8_t *base = mmap(NULL, room, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head;

	if (base == MAP_FAILED)
		return -errno;
	/* aligned to a huge page: cut off what is before and after */
	head = align_up((uintptr_t)base, HUGE_BYTES) - (uintptr_t)base;
	if (head)
		munmap(base, head);
	if (HUGE_BYTES - head)
		munmap(base + head + rounded, HUGE_BYTES - head);
	base += head;
	madvise(base, rounded, MADV_DONTDUMP);
	a->base = base;
	a->bytes = rounded;
	a->pages = ARENA_4K;
	a->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	if (huge && !thp_off() && !madvise(base, rounded, MADV_HUGEPAGE)) {
		a->pages = ARENA_THP;
		a->page_bytes = HUGE_BYTES;
	} else if (huge && strlen(a->fallback) < sizeof(a->fallback) - 48) {
		strcat(a->fallback, "; no transparent huge pages either");
	}
	return 0;
}

/* Spreads the pages over the nodes that have memory; best effort, no correctness hangs on it. */
static void interleave(struct arena *a)
{
	struct bitmask *nodes;

	if (numa_available() < 0)
		return;
	nodes = numa_get_mems_allowed();
	if (nodes && numa_bitmask_weight(nodes) > 1)
		mbind(a->base, a->bytes, MPOL_INTERLEAVE, nodes->maskp, nodes->size + 1, 0);
	if (nodes)
		numa_bitmask_free(nodes);
}

int arena_create(const struct arena_config *config, struct arena **ret, struct err *err)
{
	struct arena *a = calloc(1, sizeof(*a));
	uint64_t bytes = config->bytes ? config->bytes : 1;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int rc = -ENOMEM;

	if (!a)
		return err_set(err, -ENOMEM, "no memory");
	if (bytes > 1ull << 46) {
		free(a);
		return err_set(err, -ENOMEM, "%llu bytes are more than can be addressed",
			       (unsigned long long)bytes);
	}
	if (config->best == ARENA_HUGETLB)
		rc = try_hugetlb(a, bytes);
	if (rc)
		rc = try_anonymous(a, bytes, config->best != ARENA_4K);
	if (rc) {
		free(a);
		return err_set(err, rc, "no address space for %llu bytes: %s",
			       (unsigned long long)bytes, strerror(-rc));
	}
	if (config->interleave)
		interleave(a);
	a->n_wanted = config->prefault_threads ? config->prefault_threads
					       : (unsigned)u64_max(1, (uint64_t)cores / 2);
	a->n_wanted = (unsigned)u64_min(a->n_wanted, MAX_PREFAULT);
	*ret = a;
	return 0;
}

void arena_destroy(struct arena *a)
{
	if (!a)
		return;
	atomic_store(&a->stop, true);
	arena_prefault_wait(a);
	munmap(a->base, a->bytes);
	free(a);
}

/* One byte of each page, by an atomic that adds nothing: what lies there stays. */
static void touch(uint8_t *at, uint64_t bytes, uint64_t page)
{
	for (uint64_t i = 0; i < bytes; i += page)
		__atomic_fetch_add(at + i, 0, __ATOMIC_RELAXED);
}

static void *prefault_main(void *arg)
{
	struct arena *a = arg;

	pthread_setname_np(pthread_self(), "sluice-prefault");
	for (;;) {
		uint64_t at = atomic_fetch_add(&a->cursor, PIECE_BYTES), n;

		if (at >= a->bytes || atomic_load(&a->stop))
			return NULL;
		n = u64_min(PIECE_BYTES, a->bytes - at);
		if (madvise(a->base + at, n, MADV_POPULATE_WRITE)) {
			if (errno != EINVAL) /* out of memory: leave it to the first real use */
				return NULL;
			touch(a->base + at, n, a->page_bytes); /* before Linux 5.14 */
		}
		atomic_fetch_add(&a->done, n);
	}
}

int arena_prefault_start(struct arena *a)
{
	while (a->n_threads < a->n_wanted) {
		int rc = pthread_create(&a->threads[a->n_threads], NULL, prefault_main, a);

		if (rc)
			return a->n_threads ? 0 : -rc;
		a->n_threads++;
	}
	return 0;
}

void arena_prefault_wait(struct arena *a)
{
	while (a->n_threads)
		pthread_join(a->threads[--a->n_threads], NULL);
}

void *arena_base(const struct arena *a)
{
	return a->base;
}

uint64_t arena_bytes(const struct arena *a)
{
	return a->bytes;
}

enum arena_pages arena_pages(const struct arena *a)
{
	return a->pages;
}

const char *arena_pages_name(enum arena_pages pages)
{
	return page_names[pages];
}

uint64_t arena_page_bytes(const struct arena *a)
{
	return a->page_bytes;
}

const char *arena_fallback(const struct arena *a)
{
	return a->fallback;
}

uint64_t arena_prefaulted_bytes(const struct arena *a)
{
	return atomic_load(&a->done);
}
