/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/arena.c: see arena.h.
 *
 * Hugetlb: mapping the memfd reserves its pages, or fails cleanly with ENOMEM where the pool is too
 * small. A reserved page can still be refused with SIGBUS under a control group's hugetlb limit;
 * where there is one, all pages are allocated at once, which is slow (they are zeroed) but also
 * fails cleanly. Elsewhere the prefault threads allocate them, with fallocate() and
 * MADV_POPULATE_WRITE, which change no bytes, so reads may already be landing there.
 * 1 GiB pages are not tried: measured, they stream no faster than 2 MiB ones, and a pool of them
 * has to be reserved at boot.
 */
#include "store/arena_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <numa.h>
#include <numaif.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/num.h"

#define PIECE_BYTES (32ull << 20) /* of prefault work taken at a time */
#define BUSY_REST   24

static const char *const page_names[ARENA_PAGES_NR] = { "hugetlb", "thp", "4k" };

void arena_note(struct arena *a, const char *fmt, ...)
{
	size_t used = strlen(a->fallback);
	va_list ap;

	if (used)
		used += (size_t)snprintf(a->fallback + used, sizeof(a->fallback) - used, "; ");
	if (used >= sizeof(a->fallback))
		return;
	va_start(ap, fmt);
	vsnprintf(a->fallback + used, sizeof(a->fallback) - used, fmt, ap);
	va_end(ap);
}

/* Spreads pages that are not there yet over the nodes that have memory. No correctness needs it. */
void arena_interleave(struct arena *a)
{
	struct bitmask *nodes;
	unsigned n;

	if (numa_available() < 0)
		return;
	nodes = numa_get_mems_allowed();
	n = nodes ? numa_bitmask_weight(nodes) : 0;
	if (n > 1 && mbind(a->base, a->bytes, MPOL_INTERLEAVE, nodes->maskp, nodes->size + 1, 0))
		arena_note(a, "memory is not spread over the %u NUMA nodes: %s", n,
			   strerror(errno));
	else if (n > 1)
		a->n_nodes = n;
	if (nodes)
		numa_bitmask_free(nodes);
}

int arena_bind(struct arena *a, uint64_t offset, uint64_t bytes, int node)
{
	uint64_t first = align_up(offset, a->page_bytes);
	uint64_t end = (offset + bytes) / a->page_bytes * a->page_bytes;
	unsigned long mask[1024 / (8 * sizeof(long))] = { 0 };
	unsigned bits = 8 * sizeof(mask[0]);
	int error;

	if (node < 0 || (size_t)node >= 8 * sizeof(mask) || offset + bytes > a->bytes)
		return -EINVAL;
	if (first >= end)
		return 0;
	mask[(unsigned)node / bits] = 1ul << (unsigned)node % bits;
	if (!mbind(a->base + first, end - first, MPOL_PREFERRED, mask, 8 * sizeof(mask), 0))
		return 0;
	error = errno;
	if (!a->bind_failed)
		arena_note(a, "memory is not bound to NUMA node %d: %s", node, strerror(error));
	a->bind_failed = true;
	return -error;
}

uint64_t arena_release(struct arena *a, uint64_t offset, uint64_t bytes)
{
	uint64_t first = align_up(offset, a->page_bytes);
	uint64_t end = (offset + bytes) / a->page_bytes * a->page_bytes;
	int rc;

	if (first >= end || end > a->bytes)
		return 0;
	if (a->fd >= 0)
		rc = fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)first,
			       (off_t)(end - first));
	else
		rc = madvise(a->base + first, end - first, MADV_DONTNEED);
	return rc ? 0 : end - first;
}

int arena_where(const struct arena *a, uint64_t offset, uint64_t bytes, unsigned max_samples,
		uint64_t *ret_pages, unsigned n_nodes)
{
	enum { BATCH = 256 };
	uint64_t n_pages = bytes / a->page_bytes, step = n_pages / (max_samples + 1) + 1;
	void *pages[BATCH];
	int status[BATCH], present = 0;

	for (uint64_t i = 0; i < n_pages;) {
		unsigned n = 0;

		for (; i < n_pages && n < BATCH; i += step)
			pages[n++] = a->base + offset + i * a->page_bytes;
		if (move_pages(0, n, pages, NULL, status, 0))
			return -errno;
		for (unsigned k = 0; k < n; k++) {
			if (status[k] < 0)
				continue; /* not there yet */
			present++;
			if ((unsigned)status[k] < n_nodes)
				ret_pages[status[k]]++;
		}
	}
	return present;
}

static void explain_no_hugetlb(struct arena *a, uint64_t pages, int error)
{
	struct limits pool;

	limits_read(NULL, &pool);
	if (error == ENOMEM && pool.huge_free < pages)
		arena_note(a,
			   "no hugetlb pages: %llu of 2 MiB needed, %llu free (echo %llu > "
			   "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages reserves them)",
			   (unsigned long long)pages, (unsigned long long)pool.huge_free,
			   (unsigned long long)(pool.huge_total + pages - pool.huge_free));
	else
		arena_note(a, "no hugetlb pages: %s", strerror(error));
}

/* True, or why not in a->fallback. */
static bool try_hugetlb(struct arena *a, uint64_t bytes, bool spread, bool bounded)
{
	uint64_t rounded = align_up(bytes, LIMITS_HUGE_PAGE);
	void *base = MAP_FAILED;
	int fd, error;

	fd = arena_memory_file(rounded, MFD_HUGETLB | MFD_HUGE_2MB);
	if (fd < 0)
		goto out_fail;
	base = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		goto out_fail;
	a->base = base;
	a->bytes = rounded;
	if (spread)
		arena_interleave(a);
	if (bounded && fallocate(fd, 0, 0, (off_t)rounded)) {
		arena_note(
			a,
			"no hugetlb pages: the control group's hugetlb limit is below %llu bytes",
			(unsigned long long)rounded);
		munmap(base, rounded);
		close(fd);
		return false;
	}
	a->fd = fd;
	a->page_bytes = LIMITS_HUGE_PAGE;
	a->pages = ARENA_HUGETLB;
	return true;
out_fail:
	error = errno;
	if (fd >= 0)
		close(fd);
	explain_no_hugetlb(a, rounded / LIMITS_HUGE_PAGE, error);
	return false;
}

bool arena_thp_off(void)
{
	char line[128] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");

	if (f) {
		if (!fgets(line, sizeof(line), f))
			line[0] = '\0';
		fclose(f);
	}
	return !line[0] || strstr(line, "[never]") || prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0;
}

uint8_t *arena_address_space(uint64_t bytes)
{
	uint64_t room = bytes + LIMITS_HUGE_PAGE, head;
	uint8_t *base = mmap(NULL, room, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return NULL;
	/* aligned to a huge page: cut off what is before and after */
	head = align_up((uintptr_t)base, LIMITS_HUGE_PAGE) - (uintptr_t)base;
	if (head)
		munmap(base, head);
	if (LIMITS_HUGE_PAGE - head)
		munmap(base + head + bytes, LIMITS_HUGE_PAGE - head);
	return base + head;
}

static int try_anonymous(struct arena *a, uint64_t bytes, bool huge)
{
	uint64_t rounded = align_up(bytes, LIMITS_HUGE_PAGE);

	a->base = arena_address_space(rounded);
	if (!a->base)
		return -errno;
	a->bytes = rounded;
	a->pages = ARENA_4K;
	a->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	if (huge && !arena_thp_off() && !madvise(a->base, rounded, MADV_HUGEPAGE)) {
		a->pages = ARENA_THP;
		a->page_bytes = LIMITS_HUGE_PAGE;
		return 0;
	}
	madvise(a->base, rounded, MADV_NOHUGEPAGE); /* what we say is what we have */
	if (huge)
		arena_note(a, "no transparent huge pages: they are switched off "
			      "(/sys/kernel/mm/transparent_hugepage/enabled)");
	return 0;
}

/* The best that there is. */
static int choose_memory(struct arena *a, const struct arena_config *config, uint64_t bytes,
			 bool bounded)
{
	bool huge = config->best != ARENA_4K;

	if (config->best == ARENA_HUGETLB && try_hugetlb(a, bytes, config->interleave, bounded)) {
		a->kept = config->keep != ARENA_OWN;
		return 0;
	}
	if (config->keep != ARENA_OWN &&
	    arena_try_kept(a, bytes, huge, config->keep == ARENA_KEEP_IF_FAST))
		return 0;
	return try_anonymous(a, bytes, huge);
}

void arena_set_up(struct arena *a, const struct arena_config *config, unsigned cpus)
{
	if (config->interleave && a->n_nodes == 1)
		arena_interleave(a);
	madvise(a->base, a->bytes, MADV_DONTDUMP);
	a->n_wanted = config->prefault_threads ? config->prefault_threads
					       : (unsigned)u64_max(1, cpus / 2);
	a->n_wanted = (unsigned)u64_min(a->n_wanted, MAX_PREFAULT);
}

int arena_create(const struct arena_config *config, struct arena **ret, struct err *err)
{
	uint64_t bytes = config->bytes ? config->bytes : 1;
	struct limits limits;
	struct arena *a;
	int rc;

	if (bytes > MAX_BYTES)
		return err_set(err, -ENOMEM, "%llu bytes are more than can be addressed",
			       (unsigned long long)bytes);
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(err, -ENOMEM, "no memory");
	a->fd = -1;
	a->n_nodes = 1;
	limits_read(NULL, &limits);
	rc = choose_memory(a, config, bytes, limits.huge_room_bytes != LIMITS_UNKNOWN);
	if (rc) {
		free(a);
		return err_set(err, rc, "no address space for %llu bytes: %s",
			       (unsigned long long)bytes, strerror(-rc));
	}
	arena_set_up(a, config, limits.cpus);
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
	if (a->fd >= 0)
		close(a->fd);
	free(a->small);
	free(a);
}

/* One byte of each page, by an atomic that adds nothing: what lies there stays. */
static void touch(uint8_t *at, uint64_t bytes, uint64_t page)
{
	for (uint64_t i = 0; i < bytes; i += page)
		__atomic_fetch_add(at + i, 0, __ATOMIC_RELAXED);
}

/* 0 or -errno: then the pages are left to the first real use. */
static int make_present(struct arena *a, uint64_t at, uint64_t n)
{
	if (a->pages == ARENA_HUGETLB && fallocate(a->fd, 0, (off_t)at, (off_t)n))
		return -errno;
	if (!madvise(a->base + at, n, MADV_POPULATE_WRITE))
		return 0;
	if (errno != EINVAL)
		return -errno;
	touch(a->base + at, n, a->page_bytes); /* before Linux 5.14 */
	return 0;
}

void arena_rest(struct arena *a, uint64_t start_ns)
{
	if (atomic_load_explicit(&a->busy, memory_order_relaxed))
		usleep((unsigned)u64_min((now_ns() - start_ns) / 1000 * BUSY_REST, 100000));
}

/*
 * A huge page after the other. A request must not pay for pages that it does not need: while there is
 * one, this thread rests BUSY_REST times as long as it has worked. (A lower priority would do the same
 * but for the locks that it holds meanwhile.)
 */
static int make_piece(struct arena *a, uint64_t at, uint64_t bytes)
{
	for (uint64_t end = at + bytes; at < end && !atomic_load(&a->stop);) {
		uint64_t n = u64_min(LIMITS_HUGE_PAGE, end - at), start = now_ns();
		bool whole = arena_collapse(a, at);
		int rc = make_present(a, at, n);

		if (rc)
			return rc;
		at += n;
		if (whole)
			atomic_fetch_add(&a->done, n);
		arena_rest(a, start);
	}
	return 0;
}

static void *prefault_main(void *arg)
{
	struct arena *a = arg;

	pthread_setname_np(pthread_self(), "sluice-prefault");
	for (;;) {
		uint64_t at = atomic_fetch_add(&a->cursor, PIECE_BYTES), n;

		if (at >= a->bytes) {
			arena_collapse_rest(a);
			return NULL;
		}
		if (atomic_load(&a->stop))
			return NULL;
		n = u64_min(PIECE_BYTES, a->bytes - at);
		if (make_piece(a, at, n))
			return NULL;
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

void arena_set_busy(struct arena *a, bool busy)
{
	atomic_store_explicit(&a->busy, busy, memory_order_relaxed);
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
