/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/reader.c: the reader's life and its books (see reader.h). Its queues are
 * reader_queue.c, its files reader_files.c; backends only execute pieces (reader_backend.h).
 * reader_read() belongs to any thread, booking pieces to the backend's.
 */
#include "store/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"
#include "model/gguf.h"
#include "store/reader_backend.h"

#define DEFAULT_DEPTH	  32
#define DEFAULT_REQUEST	  (1u << 20)
#define MIN_ALIGN	  512 /* of buffered reads too, so that slots are cut alike */
#define MAX_DEPTH	  4096
#define MAX_REQUEST	  (1u << 30)
#define MAX_RETRIES	  2	/* of a failed read, per piece */
#define MAX_INTERRUPTIONS 10000 /* EINTR and EAGAIN, per piece */
#define FREE_RETRIES	  64	/* so many of them at full speed, then with pauses */
#define PAUSE_US	  50

static int start_backend(struct reader *r, const struct reader_config *c, struct err *err)
{
	struct err why = { { 0 } };
	size_t used;
	int rc;

	if (c->ops) {
		r->ops = c->ops;
		return c->ops->start(r, c->ops_arg, &r->state, err);
	}
	if (c->kind != READER_PREAD) {
		r->ops = &reader_uring;
		rc = reader_uring.start(r, NULL, &r->state, &why);
		if (!rc || c->kind == READER_URING)
			return rc ? err_set(err, rc, "%s", why.text) : 0;
		used = strlen(r->fallback);
		snprintf(r->fallback + used, sizeof(r->fallback) - used,
			 "%sreads by threads: %.150s", used ? "; " : "", why.text);
	}
	r->ops = &reader_pread;
	return reader_pread.start(r, NULL, &r->state, err);
}

static int check_config(const struct reader *r, const struct reader_config *c, struct err *err)
{
	if (c->least_align && (!is_pow2(c->least_align) || c->least_align > READER_MAX_ALIGN))
		return err_set(err, -EINVAL, "alignment %u: must be a power of two up to %u",
			       c->least_align, READER_MAX_ALIGN);
	if (r->depth > MAX_DEPTH || r->request_bytes % r->align || r->request_bytes > MAX_REQUEST)
		return err_set(err, -EINVAL,
			       "reads of %u bytes, %u at a time: the size must be a multiple of %u "
			       "up to 1 GiB, the number at most %u",
			       r->request_bytes, r->depth, r->align, MAX_DEPTH);
	return 0;
}

int reader_create_files(const struct gguf_file *files, uint32_t n_files,
			const struct reader_config *config, struct reader **ret, struct err *err)
{
	static const struct reader_config defaults;
	const struct reader_config *c = config ? config : &defaults;
	struct reader *r = calloc(1, sizeof(*r));
	int rc = -ENOMEM;

	if (!r)
		return err_set(err, -ENOMEM, "no memory");
	pthread_mutex_init(&r->cut, NULL);
	for (int i = 0; i < READ_CLASS_NR; i++)
		r->queue[i].tail = &r->queue[i].head;
	r->align = c->least_align > MIN_ALIGN ? c->least_align : MIN_ALIGN;
	r->depth = c->depth ? c->depth : DEFAULT_DEPTH;
	r->request_bytes = c->request_bytes ? c->request_bytes : DEFAULT_REQUEST;
	r->ops_arg = c->ops_arg;
	r->files = calloc((size_t)n_files + 1, sizeof(*r->files));
	if (!r->files)
		goto out_fail;
	for (uint32_t i = 0; i < n_files; i++) {
		rc = reader_open_file(r, &files[i], &r->files[i], c->buffered, err);
		if (rc)
			goto out_fail;
		r->n_files++;
	}
	rc = check_config(r, c, err);
	if (!rc)
		rc = start_backend(r, c, err);
	if (rc)
		goto out_fail;
	*ret = r;
	return 0;
out_fail:
	r->ops = NULL;
	reader_destroy(r);
	return err_set(err, rc, "the reader: %s", strerror(-rc));
}

int reader_create(const struct gguf *g, const struct reader_config *config, struct reader **ret,
		  struct err *err)
{
	uint32_t n = gguf_n_files(g);
	struct gguf_file *files = calloc((size_t)n + 1, sizeof(*files));
	int rc;

	if (!files)
		return err_set(err, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < n; i++)
		files[i] = *gguf_file(g, i);
	rc = reader_create_files(files, n, config, ret, err);
	free(files);
	return rc;
}

void reader_destroy(struct reader *r)
{
	struct read_piece p;

	if (!r)
		return;
	atomic_store(&r->stop, true);
	if (r->ops)
		r->ops->stop(r, r->state);
	while (reader_take_piece(r, &p))
		reader_fail_piece(r, &p, -ECANCELED);
	for (uint32_t i = 0; i < r->n_files; i++)
		reader_close_file(&r->files[i]);
	pthread_mutex_destroy(&r->cut);
	free(r->files);
	free(r);
}

const char *reader_name(const struct reader *r)
{
	return r->ops->name;
}

const char *reader_fallback(const struct reader *r)
{
	return r->fallback;
}

uint32_t reader_align(const struct reader *r)
{
	return r->align;
}

int reader_register_memory(struct reader *r, void *base, uint64_t bytes, struct err *err)
{
	if (!r->ops->register_memory)
		return 0;
	return r->ops->register_memory(r, r->state, base, bytes, err);
}

/* Since the reads in flight began. A statistic: another thread may have just begun anew. */
static uint64_t busy_time(const struct reader *r)
{
	uint64_t since = atomic_load_explicit(&r->busy_since, memory_order_relaxed);
	uint64_t now = now_ns();

	return now > since ? now - since : 0;
}

/* The piece is over; with the last one, the request. */
static void end_piece(struct reader *r, struct read_piece *p, int result)
{
	struct reader_request *q = p->request;
	int none = 0;

	if (p->cls == READ_PREDICTED)
		atomic_fetch_sub(&r->ahead, 1);
	/* acq_rel: sees the busy_since of whoever counted up from zero */
	if (atomic_fetch_sub_explicit(&r->in_flight, 1, memory_order_acq_rel) == 1)
		atomic_fetch_add_explicit(&r->busy_ns, busy_time(r), memory_order_relaxed);
	if (!result) {
		histogram_observe_fine(&r->times, now_ns() - p->began_ns);
	} else {
		atomic_fetch_add_explicit(&r->errors, 1, memory_order_relaxed);
		atomic_compare_exchange_strong(&q->result, &none, result);
	}
	/* acq_rel: the last piece sees, and passes on, what the others read */
	if (atomic_fetch_sub_explicit(&q->pieces_left, 1, memory_order_acq_rel) == 1) {
		atomic_fetch_add_explicit(&r->requests, 1, memory_order_relaxed);
		q->done(q, atomic_load_explicit(&q->result, memory_order_relaxed));
	}
}

void reader_fail_piece(struct reader *r, struct read_piece *p, int result)
{
	end_piece(r, p, result);
}

void reader_cancel_queued(struct reader *r)
{
	struct read_piece p;

	atomic_store(&r->cancelled, true);
	while (reader_take_piece(r, &p))
		reader_fail_piece(r, &p, -ECANCELED);
}

/* True: worth another try. Any negative result is a failure, whatever its number. */
static bool retry(struct reader *r, struct read_piece *p, int error)
{
	/* not a fault of the disk; but never spin for ever on a file that always says so */
	if (error == -EINTR || error == -EAGAIN) {
		if (++p->interruptions > FREE_RETRIES)
			usleep(PAUSE_US);
		return p->interruptions < MAX_INTERRUPTIONS;
	}
	if ((error == -EINVAL || error == -EOPNOTSUPP) && p->direct) {
		/* this file system takes no direct reads after all */
		atomic_store_explicit(&r->files[p->file].direct, false, memory_order_relaxed);
		p->done = p->seen = 0;
		return true;
	}
	/* block devices fail merged requests together: a neighbour's fault passes on a retry */
	return error != -EFAULT && error != -EBADF && p->errors++ < MAX_RETRIES;
}

bool reader_book_piece(struct reader *r, struct read_piece *p, ssize_t result)
{
	if (result < 0) {
		if (!atomic_load(&r->stop) && !atomic_load(&r->cancelled) &&
		    retry(r, p, (int)result)) {
			atomic_fetch_add_explicit(&r->retries, 1, memory_order_relaxed);
			return true;
		}
		end_piece(r, p, (int)result);
		return false;
	}
	p->done += (uint64_t)result;
	if (p->done >= p->wanted) {
		atomic_fetch_add_explicit(&r->bytes, p->done, memory_order_relaxed);
		end_piece(r, p, 0);
		return false;
	}
	if (p->done <= p->seen || !result) { /* the file ends before what is wanted */
		end_piece(r, p, -ENODATA);
		return false;
	}
	atomic_fetch_add_explicit(&r->short_reads, 1, memory_order_relaxed);
	p->seen = p->done;
	if (p->direct)
		p->done = align_down(p->done, r->align);
	return true;
}

struct waiter {
	struct reader_request request; /* first */
	_Atomic uint32_t ended;
	int result;
};

static void wake_waiter(struct reader_request *q, int result)
{
	struct waiter *w = (struct waiter *)q;

	w->result = result;
	atomic_store(&w->ended, 1);
	futex_wake_all(&w->ended);
	/* the waiter may be gone now: a wake of an address nobody waits on is harmless */
}

int reader_read(struct reader *r, uint32_t file, uint64_t offset, uint64_t bytes, uint8_t *dest)
{
	struct waiter w = { .request = { .file = file,
					 .offset = offset,
					 .bytes = bytes,
					 .dest = dest,
					 .done = wake_waiter } };
	struct reader_request *q = &w.request;

	reader_submit(r, &q, 1);
	while (!atomic_load(&w.ended))
		futex_wait(&w.ended, 0, 0);
	return w.result;
}

void reader_get_stats(const struct reader *r, struct reader_stats *s)
{
	s->bytes = atomic_load(&r->bytes);
	s->requests = atomic_load(&r->requests);
	s->pieces = atomic_load(&r->pieces);
	s->retries = atomic_load(&r->retries);
	s->short_reads = atomic_load(&r->short_reads);
	s->errors = atomic_load(&r->errors);
	histogram_read(&r->times, &s->times);
	s->in_flight = atomic_load(&r->in_flight);
	s->busy_ns = atomic_load(&r->busy_ns);
	if (atomic_load(&r->in_flight))
		s->busy_ns += busy_time(r);
}

uint64_t reader_fill_cpu_ns(const struct reader *r)
{
	return atomic_load_explicit(&r->fill_cpu_ns, memory_order_relaxed);
}
