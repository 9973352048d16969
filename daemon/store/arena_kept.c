/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/arena_kept.c: memory that outlives this process, see arena.h.
 *
 * A memfd whose size is sealed, so that no other holder can make an access here end with SIGBUS. Pages of 2 MiB:
 * from the hugetlb pool as in arena.c; else transparent ones, which shared memory gets at its first touch only
 * where /sys/kernel/mm/transparent_hugepage/shmem_enabled says so, and on Linux 6.1 and later by MADV_COLLAPSE
 * whatever that file says, once one page is there. Pages that a read holds cannot be made one: that is tried again
 * until it can, before they are registered with the ring for good. Node policies belong to the memfd, not to the mapping.
 * What is handed over is whatever somebody wants us to believe: everything is checked before it is mapped.
 */
#include "store/arena_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/num.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

#define SEALS	     (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define SHMEM_HUGE   "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define RENEW_TRIES  500 /* 10 ms apart: a disk's last reads end within that */
#define RENEW_PAUSE  10000
#define AGAIN_TRIES  200
#define AGAIN_PAUSE  50000	/* reads that hold small pages end meanwhile */
#define HUGETLB_KIND 0x958458f6 /* HUGETLBFS_MAGIC, which older headers lack */

int arena_memory_file(uint64_t bytes, unsigned flags)
{
	int fd = memfd_create("sluice-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	int error;

	if (fd < 0)
		return -1;
	if (!ftruncate(fd, (off_t)bytes) && !fcntl(fd, F_ADD_SEALS, SEALS))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

int arena_check_file(int fd, uint64_t bytes, uint64_t *ret_bytes, bool *ret_huge, struct err *err)
{
	int seals = fcntl(fd, F_GET_SEALS), flags = fcntl(fd, F_GETFL);
	struct statfs fs;
	struct stat st;

	if (seals < 0 || flags < 0 || fstat(fd, &st) || fstatfs(fd, &fs) || !S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "it is no memory file");
	if (st.st_uid != geteuid())
		return err_set(err, -EPERM, "it is of user %u, not of %u", (unsigned)st.st_uid,
			       (unsigned)geteuid());
	if ((seals & SEALS) != SEALS)
		return err_set(err, -EINVAL, "its size is not sealed");
	if ((seals & ~SEALS) & ~F_SEAL_EXEC || (flags & O_ACCMODE) != O_RDWR)
		return err_set(err, -EACCES, "it cannot be written");
	if (bytes && (uint64_t)st.st_size != bytes)
		return err_set(err, -EINVAL, "it has %lld bytes instead of %llu",
			       (long long)st.st_size, (unsigned long long)bytes);
	*ret_huge = fs.f_type == HUGETLB_KIND;
	if (*ret_huge && (uint64_t)fs.f_bsize != LIMITS_HUGE_PAGE)
		return err_set(err, -EINVAL, "its pages are of %lld bytes", (long long)fs.f_bsize);
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

/* Does shared memory get huge pages at its first touch where the mapping asks for them? */
static bool shmem_huge(void)
{
	char line[128] = "";
	FILE *f = fopen(SHMEM_HUGE, "re");

	if (f) {
		if (!fgets(line, sizeof(line), f))
			line[0] = '\0';
		fclose(f);
	}
	return line[0] && !strstr(line, "[never]") && !strstr(line, "[deny]");
}

bool arena_collapse(struct arena *a, uint64_t at)
{
	if (!a->collapse)
		return true;
	/* one page has to be there; nothing is stored, as whoever computes may read there by now */
	(void)madvise(a->base + at, (size_t)sysconf(_SC_PAGESIZE), MADV_POPULATE_WRITE);
	if (!madvise(a->base + at, LIMITS_HUGE_PAGE, MADV_COLLAPSE) || errno != EAGAIN)
		return true; /* or there is no huge page to be had: asking again would only cost */
	atomic_store_explicit(&a->small[at / LIMITS_HUGE_PAGE], true, memory_order_relaxed);
	return false;
}

/* One pass over the pieces of small pages; how many are left. Threads share the work. */
static uint64_t collapse_again(struct arena *a)
{
	uint64_t n = a->bytes / LIMITS_HUGE_PAGE, left = 0;

	for (uint64_t i = 0; i < n && !atomic_load(&a->stop); i++) {
		uint64_t start = now_ns();

		if (!atomic_exchange_explicit(&a->small[i], false, memory_order_relaxed))
			continue;
		if (arena_collapse(a, i * LIMITS_HUGE_PAGE))
			atomic_fetch_add(&a->done, LIMITS_HUGE_PAGE);
		else
			left++;
		arena_rest(a, start);
	}
	return left;
}

void arena_collapse_rest(struct arena *a)
{
	uint64_t left = a->collapse, given_up = 0;

	for (int i = 0; left && i < AGAIN_TRIES && !atomic_load(&a->stop); i++) {
		left = collapse_again(a);
		if (left)
			usleep(AGAIN_PAUSE);
	}
	for (uint64_t i = 0; left && i < a->bytes / LIMITS_HUGE_PAGE; i++)
		given_up += atomic_exchange_explicit(&a->small[i], false, memory_order_relaxed);
	atomic_fetch_add(&a->done, given_up * LIMITS_HUGE_PAGE);
}

/* Makes @a's pages huge ones if it can be done. */
static void choose_pages(struct arena *a, bool huge)
{
	a->pages = ARENA_4K;
	a->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	if (!huge || arena_thp_off() || madvise(a->base, a->bytes, MADV_HUGEPAGE)) {
		madvise(a->base, a->bytes, MADV_NOHUGEPAGE);
		return;
	}
	if (!shmem_huge()) {
		__atomic_fetch_add(a->base, 0, __ATOMIC_RELAXED);
		if (madvise(a->base, LIMITS_HUGE_PAGE, MADV_COLLAPSE))
			return;
		a->small = calloc(a->bytes / LIMITS_HUGE_PAGE, sizeof(*a->small));
		if (!a->small)
			return;
		a->collapse = true;
	}
	a->pages = ARENA_THP;
	a->page_bytes = LIMITS_HUGE_PAGE;
}

static int map_shared(struct arena *a, int fd, uint64_t bytes, bool hugetlb)
{
	uint8_t *at = hugetlb ? NULL : arena_address_space(bytes);
	void *base;

	if (!at && !hugetlb)
		return -errno;
	base = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
	if (base == MAP_FAILED) {
		int error = errno;

		if (at)
			munmap(at, bytes);
		return -error;
	}
	a->base = base;
	a->bytes = bytes;
	a->fd = fd;
	a->kept = true;
	return 0;
}

static void unmap(struct arena *a)
{
	munmap(a->base, a->bytes);
	free(a->small);
	a->small = NULL;
	a->collapse = false;
	a->base = NULL;
	a->fd = -1;
	a->kept = false;
}

bool arena_try_kept(struct arena *a, uint64_t bytes, bool huge, bool only_fast)
{
	uint64_t rounded = align_up(bytes, LIMITS_HUGE_PAGE);
	int fd = arena_memory_file(rounded, 0);
	int rc = fd < 0 ? -errno : map_shared(a, fd, rounded, false);

	if (rc) {
		arena_note(a, "a restart reads everything anew: no memory that could be kept: %s",
			   strerror(-rc));
		if (fd >= 0)
			close(fd);
		return false;
	}
	choose_pages(a, huge);
	if (a->pages == ARENA_THP || !huge)
		return true;
	if (arena_thp_off()) { /* then that of this process would be no better */
		arena_note(a, "no transparent huge pages: they are switched off "
			      "(/sys/kernel/mm/transparent_hugepage/enabled)");
		return true;
	}
	arena_note(a, "%s: shared memory has no huge pages (echo advise > " SHMEM_HUGE ")",
		   only_fast ? "a restart reads everything anew" : "small pages");
	if (!only_fast)
		return true;
	unmap(a);
	close(fd);
	return false;
}

int arena_take(const struct arena_config *config, int fd, struct arena **ret, struct err *err)
{
	uint64_t bytes = align_up(config->bytes ? config->bytes : 1, LIMITS_HUGE_PAGE), found;
	struct limits limits;
	struct arena *a;
	bool hugetlb;
	int rc = arena_check_file(fd, bytes, &found, &hugetlb, err);

	if (rc)
		return rc;
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(err, -ENOMEM, "no memory");
	a->n_nodes = 1;
	rc = map_shared(a, fd, bytes, hugetlb);
	limits_read(NULL, &limits);
	/* holes of it are reserved by now; a control group may refuse them all the same */
	if (!rc && hugetlb && limits.huge_room_bytes != LIMITS_UNKNOWN &&
	    fallocate(fd, 0, 0, (off_t)bytes)) {
		rc = -errno;
		unmap(a);
	}
	if (rc) {
		free(a);
		return err_set(err, rc, "it cannot be mapped: %s", strerror(-rc));
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	choose_pages(a, config->best != ARENA_4K && !hugetlb);
	if (hugetlb) {
		a->pages = ARENA_HUGETLB;
		a->page_bytes = LIMITS_HUGE_PAGE;
	}
	arena_set_up(a, config, limits.cpus);
	*ret = a;
	return 0;
}

int arena_fd(const struct arena *a)
{
	return a && a->kept ? a->fd : -1;
}

int arena_renew(struct arena *a, uint64_t offset, uint64_t bytes)
{
	int rc = 0;

	if (!a->kept || offset + bytes > a->bytes)
		return -EINVAL;
	if (fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)bytes))
		return -errno;
	if (a->pages != ARENA_HUGETLB)
		return 0;
	/* there and then: the old page is free only when nobody reads into it any more */
	for (int i = 0; i < RENEW_TRIES; i++) {
		rc = fallocate(a->fd, 0, (off_t)offset, (off_t)bytes) ? -errno : 0;
		if (rc != -ENOMEM && rc != -ENOSPC)
			break;
		usleep(RENEW_PAUSE);
	}
	return rc;
}
