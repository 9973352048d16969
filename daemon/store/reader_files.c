/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/reader_files.c: the reader's descriptors: opened again from those that were
 * validated, so that a file renamed over stays the one that was opened; direct where the file system
 * has O_DIRECT and really reads that way, with the alignment that it asks for. And the check whether
 * the files are still what they were.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "store/reader_backend.h"

#define DEFAULT_ALIGN 4096

/* What the file system asks of direct reads, at least 512; 0: it says that it has none. */
static uint32_t direct_align(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx st;
	uint32_t a;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) || !(st.stx_mask & STATX_DIOALIGN))
		return DEFAULT_ALIGN;
	a = st.stx_dio_offset_align > st.stx_dio_mem_align ? st.stx_dio_offset_align
							   : st.stx_dio_mem_align;
	if (!st.stx_dio_offset_align || !is_pow2(a) || a > READER_MAX_ALIGN)
		return 0;
	return a < 512 ? 512 : a;
#else
	return DEFAULT_ALIGN;
#endif
}

/* Some file systems take the flag and refuse the read. A fault of the disk is not our matter here. */
static bool reads_directly(int fd, uint32_t align)
{
	void *room = aligned_alloc(align, align);
	bool refused;

	if (!room)
		return true;
	refused = pread(fd, room, align, 0) < 0 && (errno == EINVAL || errno == EOPNOTSUPP);
	free(room);
	return !refused;
}

/*
 * The validated file once more, or -1: by its descriptor, or, where there is no /proc, by its path,
 * if that still names this file.
 */
static int open_again(const struct gguf_file *g, int flags)
{
	char path[64];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", g->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	if (fd >= 0)
		return fd;
	fd = open(g->path, O_RDONLY | O_CLOEXEC | flags);
	if (fd >= 0 && !fstat(fd, &st) && st.st_dev == g->device && st.st_ino == g->inode)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void open_direct(struct reader *r, const struct gguf_file *g, struct reader_file *f)
{
	uint32_t align;

	f->fd_direct = open_again(g, O_DIRECT);
	align = f->fd_direct >= 0 ? direct_align(f->fd_direct) : 0;
	if (align && reads_directly(f->fd_direct, align)) {
		r->align = align > r->align ? align : r->align;
		return;
	}
	if (f->fd_direct >= 0)
		close(f->fd_direct);
	f->fd_direct = -1;
	snprintf(r->fallback, sizeof(r->fallback),
		 "the file system refuses direct reads: reads pass through the page cache");
}

int reader_open_file(struct reader *r, const struct gguf_file *g, struct reader_file *f,
		     bool buffered, struct err *err)
{
	f->fd_direct = f->fd_buffered = -1;
	f->path = g->path;
	f->bytes = g->bytes;
	f->device = g->device;
	f->inode = g->inode;
	f->mtime_ns = g->mtime_ns;
	atomic_store(&f->direct, !buffered);
	if (g->fd < 0)
		return 0; /* a test's file, which its backend knows how to read */
	f->fd_buffered = open_again(g, 0);
	if (f->fd_buffered < 0)
		f->fd_buffered = fcntl(g->fd, F_DUPFD_CLOEXEC, 0);
	if (f->fd_buffered < 0)
		return err_set(err, -errno, "%s: cannot be opened again: %s", g->path,
			       strerror(errno));
	if (!buffered)
		open_direct(r, g, f);
	atomic_store(&f->direct, f->fd_direct >= 0);
	return 0;
}

void reader_close_file(struct reader_file *f)
{
	if (f->fd_direct >= 0)
		close(f->fd_direct);
	if (f->fd_buffered >= 0)
		close(f->fd_buffered);
}

/* A fault goes to @err, where only the path is another's to @note. */
static int check_file(const struct reader_file *f, struct err *err, struct err *note)
{
	struct stat st, at;
	int64_t mtime;

	if (fstat(f->fd_buffered, &st))
		return err_set(err, -ESTALE, "%s: %s", f->path, strerror(errno));
	mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	if ((uint64_t)st.st_size < f->bytes)
		return err_set(err, -ESTALE, "%s was cut from %llu to %lld bytes while in use",
			       f->path, (unsigned long long)f->bytes, (long long)st.st_size);
	if (mtime != f->mtime_ns || (uint64_t)st.st_size != f->bytes)
		return err_set(err, -ESTALE, "%s was written to while in use", f->path);
	if (stat(f->path, &at))
		err_set(note, 0, "%s is not found any more (%s): the one opened first is used",
			f->path, strerror(errno));
	else if (at.st_dev != st.st_dev || at.st_ino != st.st_ino)
		err_set(note, 0, "%s now names another file: the one opened first is used",
			f->path);
	return 0;
}

int reader_check_files(struct reader *r, struct err *err)
{
	struct err note = { { 0 } };
	int rc = 0;

	for (uint32_t i = 0; i < r->n_files && !rc; i++)
		if (r->files[i].fd_buffered >= 0)
			rc = check_file(&r->files[i], err, &note);
	return rc ? rc : err_set(err, 0, "%s", note.text);
}
