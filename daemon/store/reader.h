/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/reader.h: extents of the model's files into memory, and nothing else.
 *
 * Owns the file descriptors used for data and the io thread (or the pread threads). A request is
 * one byte range of one file that lands at one address; large requests are cut into pieces of
 * request_bytes, at most depth of them in flight. Short reads, EINTR and EAGAIN are continued,
 * EIO is retried a bounded number of times; then the request fails with -errno and the others go
 * on. A request is complete only when every byte has landed.
 *
 * Backends behind one ops table: uring (O_DIRECT where the file system has it, registered files,
 * registered buffers after prefault), pread (a thread pool, same alignment rules, same results),
 * memory (tests: a buffer with injected errors, short reads and latency).
 */
#ifndef SLUICE_STORE_READER_H
#define SLUICE_STORE_READER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/histogram.h"

struct gguf;
struct gguf_file;
struct reader;
struct reader_ops; /* reader_backend.h */

/*
 * Who goes first: while anything of a class is queued, nothing of a later one is begun. A piece that
 * is in flight is never interrupted; of READ_PREDICTED only a few pieces are in flight at a time, whatever
 * the depth, so that demand finds the disk nearly free.
 */
enum read_class {
	READ_DEMAND,	/* somebody waits for it */
	READ_PREDICTED, /* somebody may soon */
	READ_FILL,	/* memory that would be idle otherwise */
	READ_CLASS_NR
};

/*
 * Embedded in the owner's struct, untouched by the owner between submit and completion. done() runs
 * on a reader thread, must not block, and is the last touch of the request by the reader; what was
 * read happens-before it.
 */
struct reader_request {
	uint32_t file;
	uint64_t offset, bytes; /* any values: the reader widens to the alignment */
	/*
	 * Where the byte at @offset goes. The reader may write in the aligned range around it:
	 * from dest - lead to dest + bytes rounded up, where lead = offset % reader_align(): the
	 * owner reserves reader_room(offset, bytes) bytes starting at dest - lead, and
	 * (dest - lead) is aligned to reader_align().
	 */
	uint8_t *dest;
	void (*done)(struct reader_request *r, int result); /* 0 or -errno */
	uint8_t cls;					    /* enum read_class */

	/* private to the reader */
	struct reader_request *next;
	uint64_t cut_done; /* bytes of it already given out as pieces */
	_Atomic uint32_t pieces_left;
	_Atomic int result;
	uint64_t submitted_ns;
};

enum reader_kind { READER_AUTO, READER_URING, READER_PREAD };

struct reader_config {
	enum reader_kind kind;	/* READER_URING: an error where it is refused; AUTO falls back */
	uint32_t depth;		/* pieces in flight, 0 = 32 */
	uint32_t request_bytes; /* size of a piece, 0 = 1 MiB; a multiple of the alignment */
	uint32_t least_align;	/* 0, or a power of two up to 64 KiB: align to no less (tests) */
	bool buffered;		/* no O_DIRECT (tests, file systems without) */
	const struct reader_ops *ops; /* NULL, or a test's backend instead of kind */
	void *ops_arg;
};

struct reader_stats { /* monotonic counters, read at any time from any thread */
	uint64_t bytes, requests, pieces, retries, short_reads, errors;
	uint64_t busy_ns;	       /* time with at least one piece in flight */
	uint32_t in_flight;	       /* pieces, now */
	struct histogram_values times; /* fine: of pieces that were read */
};

/*
 * Takes its own descriptors of @g's files: by /proc/self/fd, so that a file renamed over stays the one
 * that was validated, or without /proc by a path that still names it. 0 or -errno and a sentence.
 */
int reader_create(const struct gguf *g, const struct reader_config *config, struct reader **ret,
		  struct err *err);
/* Waits for what is in flight, fails what is queued with -ECANCELED. NULL is fine. */
void reader_destroy(struct reader *r);

/*
 * The same for any files: of each path, fd, bytes, device, inode and mtime_ns are used. Path and fd
 * stay the caller's and must outlive the reader. fd may be -1 where config->ops needs none.
 */
int reader_create_files(const struct gguf_file *files, uint32_t n_files,
			const struct reader_config *config, struct reader **ret, struct err *err);

const char *reader_name(const struct reader *r);     /* "uring" or "pread" */
const char *reader_fallback(const struct reader *r); /* why not better: sentences, or empty */
uint32_t reader_align(const struct reader *r);	     /* power of two: offset, length and address */

/* Bytes that a request covers when widened to the alignment. */
static inline uint64_t reader_room(uint64_t offset, uint64_t bytes, uint32_t align)
{
	uint64_t mask = (uint64_t)align - 1;

	return ((offset + bytes + mask) & ~mask) - (offset & ~mask);
}

/*
 * Memory that most requests land in, for registration with the ring (in pieces <= 1 GiB, between
 * which reads go on). Optional, once; call when the range is present. Waits for the end. 0 or
 * -errno and a sentence; a refusal (memlock) is no fault: reads go on without, or with the pieces
 * that were taken. Any thread but the reader's own.
 */
int reader_register_memory(struct reader *r, void *base, uint64_t bytes, struct err *err);

/*
 * Any thread. Never blocks, never fails: a fault comes through done(), which for a request that
 * names no such range is called at once and by the caller's thread.
 */
void reader_submit(struct reader *r, struct reader_request *const *requests, unsigned n);

/*
 * What of these requests is still queued goes on as @cls, behind what that class has; what has
 * been begun or is over stays as it is. The requests must be the caller's own, submitted by it and
 * not reused since. Any thread; waits for no read.
 */
void reader_promote(struct reader *r, struct reader_request *const *requests, unsigned n,
		    enum read_class cls);

/*
 * Nobody waits for these requests any more: those of which nothing has been begun end with
 * -ECANCELED, their done() called by this thread; the others go on to their end. The requests must
 * be the caller's own. Any thread; waits for no read.
 */
void reader_withdraw(struct reader *r, struct reader_request *const *requests, unsigned n);

/* For the end: what is queued, and what comes later, fails with -ECANCELED; what is in flight goes
 * on. Any thread; done() of the queued ones is called by it. */
void reader_cancel_queued(struct reader *r);

/* Reads a range and waits for it. Any thread but the reader's own. 0 or -errno. */
int reader_read(struct reader *r, uint32_t file, uint64_t offset, uint64_t bytes, uint8_t *dest);

void reader_get_stats(const struct reader *r, struct reader_stats *ret);

/* Processor time that the reader's threads have had for READ_FILL. Only grows; any thread. */
uint64_t reader_fill_cpu_ns(const struct reader *r);

/*
 * Compares size, mtime and inode of the files with what gguf_open() saw and with the path: 0, or
 * -ESTALE and a sentence when an open file was truncated or written, whatever became of the paths of
 * others; paths that now name another file (renamed over) or none (removed) return 0 with the sentence
 * of the first set. Any thread; a stat per file.
 */
int reader_check_files(struct reader *r, struct err *err);

#endif
