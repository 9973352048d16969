/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/reader.c: files, queue and books of the reader (see reader.h). Backends only execute
 * pieces (reader_backend.h).
 */
#include "store/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"
#include "model/gguf.h"
#include "store/reader_backend.h"

#define DEFAULT_DEPTH	32
#define DEFAULT_REQUEST (1u << 20)
#define DEFAULT_ALIGN	4096
#define MAX_RETRIES	2 /* of EIO, per piece */

/* What the file system asks of direct reads; never less than 512, so leads stay small integers. */
static uint32_t direct_align(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx st;

	if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) && (st.stx_mask & STATX_DIOALIGN) &&
	    st.stx_dio_offset_align) {
		uint32_t a = st.stx_dio_offset_align > st.stx_dio_mem_align
				     ? st.stx_dio_offset_align
				     : st.stx_dio_mem_align;

		if (is_pow2(a) && a <= (1u << 16))
			return a < 512 ? 512 : a;
	}
#endif
	return DEFAULT_ALIGN;
}

static int open_file(struct reader *r, const struct gguf_file *g, struct reader_file *f,
		     bool buffered, struct err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", g->fd);
	f->fd_direct = -1;
	f->path = g->path;
	f->bytes = g->bytes;
	f->device = g->device;
	f->inode = g->inode;
	f->mtime_ns = g->mtime_ns;
	f->fd_buffered = open(path, O_RDONLY | O_CLOEXEC);
	if (f->fd_buffered < 0)
		f->fd_buffered = fcntl(g->fd, F_DUPFD_CLOEXEC, 0); /* no /proc */
	if (f->fd_buffered < 0)
		return err_set(err, -errno, "%s: cannot be opened again: %s", g->path,
			       strerror(errno));
	if (!buffered)
		f->fd_direct = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
	if (f->fd_direct >= 0) {
		uint32_t align = direct_align(f->fd_direct);

		r->align = align > r->align ? align : r->align;
	} else if (!buffered) {
		snprintf(r->fallback, sizeof(r->fallback),
			 "the file system refuses direct reads: reads pass through the page cache");
	}
	atomic_store(&f->direct, f->fd_direct >= 0);
	return 0;
}

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

int reader_create(const struct gguf *g, const struct reader_config *config, struct reader **ret,
		  struct err *err)
{
	static const struct reader_config defaults;
	const struct reader_config *c = config ? config : &defaults;
	struct reader *r = calloc(1, sizeof(*r));
	int rc = -ENOMEM;

	if (!r)
		return err_set(err, -ENOMEM, "no memory");
	pthread_mutex_init(&r->cut, NULL);
	r->tail = &r->head;
	r->align = 512;
	r->depth = c->depth ? c->depth : DEFAULT_DEPTH;
	r->request_bytes = c->request_bytes ? c->request_bytes : DEFAULT_REQUEST;
	r->ops_arg = c->ops_arg;
	r->files = calloc(gguf_n_files(g) + 1, sizeof(*r->files));
	if (!r->files)
		goto out_fail;
	for (uint32_t i = 0; i < gguf_n_files(g); i++) {
		rc = open_file(r, gguf_file(g, i), &r->files[i], c->buffered, err);
		if (rc)
			goto out_fail;
		r->n_files++;
	}
	rc = -EINVAL;
	if (r->depth > 4096 || r->request_bytes % r->align || r->request_bytes > (1u << 30)) {
		err_set(err, rc,
			"reads of %u bytes, %u at a time: the size must be a multiple of %u up to "
			"1 GiB, the number at most 4096",
			r->request_bytes, r->depth, r->align);
		goto out_fail;
	}
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

void reader_destroy(struct reader *r)
{
	struct piece p;

	if (!r)
		return;
	atomic_store(&r->stop, true);
	if (r->ops)
		r->ops->stop(r, r->state);
	while (reader_take_piece(r, &p))
		reader_fail_piece(r, &p, -ECANCELED);
	for (uint32_t i = 0; i < r->n_files; i++) {
		if (r->files[i].fd_direct >= 0)
			close(r->files[i].fd_direct);
		close(r->files[i].fd_buffered);
	}
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

/* The aligned range of a request, and how it is cut. */
static uint64_t request_start(const struct reader *r, const struct reader_request *q)
{
	return align_down(q->offset, r->align);
}

static uint64_t request_room(const struct reader *r, const struct reader_request *q)
{
	return reader_room(q->offset, q->bytes, r->align);
}

void reader_submit(struct reader *r, struct reader_request *const *requests, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct reader_request *q = requests[i];
		uint64_t n_pieces = div_ceil(request_room(r, q), r->request_bytes);
		struct reader_request *head;

		atomic_store_explicit(&q->result, 0, memory_order_relaxed);
		atomic_store_explicit(&q->pieces_left, (uint32_t)n_pieces, memory_order_relaxed);
		q->submitted_ns = now_ns();
		if (!n_pieces || q->file >= r->n_files || q->offset + q->bytes < q->offset) {
			q->done(q, n_pieces ? -EINVAL : 0);
			continue;
		}
		head = atomic_load_explicit(&r->inbox, memory_order_relaxed);
		do
			q->next = head;
		while (!atomic_compare_exchange_weak_explicit(
			&r->inbox, &head, q, memory_order_seq_cst, memory_order_relaxed));
	}
	r->ops->wake(r, r->state);
}

/* Caller holds r->cut. Moves what was submitted behind what is queued, oldest first. */
static void take_inbox(struct reader *r)
{
	struct reader_request *q = atomic_exchange(&r->inbox, NULL), *oldest = NULL;

	while (q) {
		struct reader_request *next = q->next;

		q->next = oldest;
		oldest = q;
		q = next;
	}
	*r->tail = oldest;
	while (*r->tail)
		r->tail = &(*r->tail)->next;
}

bool reader_has_work(struct reader *r)
{
	bool any;

	if (atomic_load(&r->inbox))
		return true;
	pthread_mutex_lock(&r->cut);
	any = r->head != NULL;
	pthread_mutex_unlock(&r->cut);
	return any;
}

bool reader_take_piece(struct reader *r, struct piece *p)
{
	struct reader_request *q;
	uint64_t start, room, lead, end;

	pthread_mutex_lock(&r->cut);
	if (!r->head)
		take_inbox(r);
	q = r->head;
	if (!q) {
		pthread_mutex_unlock(&r->cut);
		return false;
	}
	start = request_start(r, q);
	room = request_room(r, q);
	lead = q->offset - start;
	memset(p, 0, sizeof(*p));
	p->request = q;
	p->file = q->file;
	p->offset = start + r->cut_done;
	p->bytes = u64_min(r->request_bytes, room - r->cut_done);
	p->dest = q->dest - lead + r->cut_done;
	end = u64_min(p->offset + p->bytes, q->offset + q->bytes);
	p->wanted = end - p->offset;
	r->cut_done += p->bytes;
	if (r->cut_done >= room) {
		r->cut_done = 0;
		r->head = q->next;
		if (!r->head)
			r->tail = &r->head;
	}
	pthread_mutex_unlock(&r->cut);
	atomic_fetch_add_explicit(&r->pieces, 1, memory_order_relaxed);
	if (atomic_fetch_add_explicit(&r->in_flight, 1, memory_order_relaxed) == 0)
		atomic_store_explicit(&r->busy_since, now_ns(), memory_order_relaxed);
	return true;
}

/* The piece is over; with the last one, the request. */
static void end_piece(struct reader *r, struct piece *p, int result)
{
	struct reader_request *q = p->request;
	int none = 0;

	if (atomic_fetch_sub_explicit(&r->in_flight, 1, memory_order_relaxed) == 1) {
		uint64_t since = atomic_load_explicit(&r->busy_since, memory_order_relaxed);

		atomic_fetch_add_explicit(&r->busy_ns, now_ns() - since, memory_order_relaxed);
	}
	if (result) {
		atomic_fetch_add_explicit(&r->errors, 1, memory_order_relaxed);
		atomic_compare_exchange_strong(&q->result, &none, result);
	}
	/* acq_rel: the last piece sees, and passes on, what the others read */
	if (atomic_fetch_sub_explicit(&q->pieces_left, 1, memory_order_acq_rel) == 1) {
		atomic_fetch_add_explicit(&r->requests, 1, memory_order_relaxed);
		q->done(q, atomic_load_explicit(&q->result, memory_order_relaxed));
	}
}

void reader_fail_piece(struct reader *r, struct piece *p, int result)
{
	end_piece(r, p, result);
}

/* True: worth another try. */
static bool retry(struct reader *r, struct piece *p, int error)
{
	struct reader_file *f = &r->files[p->file];

	/* not a fault of the disk; but never spin for ever on a file that always says so */
	if (error == -EINTR || error == -EAGAIN)
		return ++p->interruptions < 10000;
	if ((error == -EINVAL || error == -EOPNOTSUPP) && f->fd_direct >= 0 &&
	    atomic_load(&f->direct)) {
		atomic_store(&f->direct, false); /* this file system takes no direct reads */
		p->done = 0;
		return true;
	}
	return error == -EIO && p->errors++ < MAX_RETRIES;
}

bool reader_book_piece(struct reader *r, struct piece *p, ssize_t result)
{
	if (result < 0) {
		if (!atomic_load(&r->stop) && retry(r, p, (int)result)) {
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
	if (atomic_load(&r->files[p->file].direct))
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
	s->busy_ns = atomic_load(&r->busy_ns);
	if (atomic_load(&r->in_flight))
		s->busy_ns += now_ns() - atomic_load(&r->busy_since);
}

int reader_check_files(struct reader *r, struct err *err)
{
	for (uint32_t i = 0; i < r->n_files; i++) {
		const struct reader_file *f = &r->files[i];
		struct stat st, at;
		int64_t mtime;

		if (fstat(f->fd_buffered, &st))
			return err_set(err, -ESTALE, "%s: %s", f->path, strerror(errno));
		mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
		if ((uint64_t)st.st_size < f->bytes)
			return err_set(err, -ESTALE,
				       "%s was cut from %llu to %lld bytes while in use", f->path,
				       (unsigned long long)f->bytes, (long long)st.st_size);
		if (mtime != f->mtime_ns || (uint64_t)st.st_size != f->bytes)
			return err_set(err, -ESTALE, "%s was written to while in use", f->path);
		if (stat(f->path, &at) || at.st_dev != st.st_dev || at.st_ino != st.st_ino)
			err_set(err, 0, "%s now names another file: the one opened first is used",
				f->path);
	}
	return 0;
}
