/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/reader_backend.h: the seam under the reader: who executes pieces.
 *
 * reader_queue.c cuts requests into pieces and reader.c books them; a backend takes pieces, reads
 * them, and gives them back. Backends: uring.c, pread.c, reader_memory.c (tests), and what else a test
 * hands to reader_config.ops.
 */
#ifndef SLUICE_STORE_READER_BACKEND_H
#define SLUICE_STORE_READER_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/err.h"
#include "model/gguf.h"
#include "store/reader.h"

#define READER_MAX_ALIGN (64u << 10) /* of direct reads */

/* One aligned range of a request. `done` grows until everything that is wanted has arrived. */
struct read_piece {
	struct reader_request *request;
	uint32_t file;
	uint64_t offset; /* in the file, aligned */
	uint64_t bytes;	 /* aligned; may reach past the end of the file */
	uint64_t wanted; /* the first so many bytes must arrive */
	uint64_t done;	 /* have arrived; direct reads go on from a multiple of the alignment */
	uint64_t seen;	 /* most that ever arrived, before rounding down */
	uint8_t *dest;
	bool direct; /* how it was issued last */
	uint8_t cls; /* enum read_class that it was begun in */
	unsigned errors, interruptions;
	uint64_t began_ns;
};

struct reader_file {
	int fd_direct, fd_buffered; /* -1: O_DIRECT is refused; both -1: a test's file */
	_Atomic bool direct;	    /* which of the two is used */
	uint64_t bytes;
	const char *path;
	uint64_t device, inode;
	int64_t mtime_ns;
};

struct reader_ops {
	const char *name;
	/* Starts threads; *ret_state is the backend's own. -errno and a sentence where refused. */
	int (*start)(struct reader *r, void *arg, void **ret_state, struct err *err);
	/* r->stop is set: finish what is in flight, join. */
	void (*stop)(struct reader *r, void *state);
	/* New pieces may be taken. Any thread, must not block. */
	void (*wake)(struct reader *r, void *state);
	/* NULL: has no use for it. 0 or -errno and a sentence. */
	int (*register_memory)(struct reader *r, void *state, void *base, uint64_t bytes,
			       struct err *err);
	/*
	 * For backends on the thread pool below, else NULL: reads what is missing of a piece, like
	 * pread(2) with -errno on failure. Calls reader_piece_fd(), which settles p->direct.
	 */
	ssize_t (*read)(struct reader *r, struct read_piece *p);
};

/* A pool of threads that calls ops->read for pieces: start, stop and wake of such backends. */
int reader_pool_start(struct reader *r, void *arg, void **ret_state, struct err *err);
void reader_pool_stop(struct reader *r, void *state);
void reader_pool_wake(struct reader *r, void *state);

struct reader {
	const struct reader_ops *ops;
	void *state;   /* the backend's */
	void *ops_arg; /* the test's */
	uint32_t align, depth, request_bytes;
	uint32_t n_files;
	struct reader_file *files;
	char fallback[256];
	_Atomic bool stop;

	_Atomic(struct reader_request *) inbox; /* newest first */
	_Atomic bool cancelled;			/* nothing more is begun */
	pthread_mutex_t cut;			/* guards the queues; held for a few instructions */
	struct reader_queue {
		struct reader_request *head, **tail;
	} queue[READ_CLASS_NR];

	_Atomic uint32_t in_flight; /* pieces */
	_Atomic uint32_t ahead;	    /* of them, those of READ_PREDICTED */
	_Atomic uint64_t busy_since;
	_Atomic uint64_t bytes, requests, pieces, retries, short_reads, errors, busy_ns;
	_Atomic uint64_t fill_cpu_ns;
	struct histogram times; /* fine: of pieces */
};

extern const struct reader_ops reader_uring, reader_pread;

/* The next piece to read: by class, then in order of submission. False: nothing is queued. Reader
 * threads. */
bool reader_take_piece(struct reader *r, struct read_piece *ret);

/* Is anything queued? Reader threads; exact enough to decide on sleeping after a wake flag. */
bool reader_has_work(struct reader *r);

/*
 * Books what a read of (piece->bytes - piece->done) at (piece->offset + piece->done) gave: a byte
 * count or -errno. True: read again (the rest, or a retry). False: the piece is finished, and with
 * the last piece of a request done() has been called.
 */
bool reader_book_piece(struct reader *r, struct read_piece *p, ssize_t result);

/* Ends a piece without reading it (stop). */
void reader_fail_piece(struct reader *r, struct read_piece *p, int result);

/*
 * Around what begins a piece, or reads it: what fills cost the thread is booked. It is mostly the pages that
 * they land in, which the kernel clears where nobody has touched them before.
 */
static inline uint64_t reader_fill_begin(const struct read_piece *p)
{
	return p->cls == READ_FILL ? thread_cpu_ns() : 0;
}

static inline void reader_fill_end(struct reader *r, const struct read_piece *p, uint64_t begin_ns)
{
	if (p->cls == READ_FILL)
		atomic_fetch_add_explicit(&r->fill_cpu_ns, thread_cpu_ns() - begin_ns,
					  memory_order_relaxed);
}

/* The descriptor to issue a piece on, direct or buffered; the piece remembers which. */
static inline int reader_piece_fd(const struct reader *r, struct read_piece *p)
{
	const struct reader_file *f = &r->files[p->file];

	p->direct = atomic_load_explicit(&f->direct, memory_order_relaxed);
	return p->direct ? f->fd_direct : f->fd_buffered;
}

/*
 * reader_files.c: opens the data descriptors of @g into @f and raises r->align to what direct reads
 * of it need; a refusal of O_DIRECT goes into r->fallback. 0 or -errno and a sentence.
 */
int reader_open_file(struct reader *r, const struct gguf_file *g, struct reader_file *f,
		     bool buffered, struct err *err);
void reader_close_file(struct reader_file *f);

#endif
