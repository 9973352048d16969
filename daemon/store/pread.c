/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/pread.c: the reader where io_uring is refused: a pool of threads that read pieces
 * with pread(2), as many as the depth up to a bound. They sleep on a futex that submit bumps. The
 * pool serves any backend that reads synchronously (reader_memory.c, tests).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/futex.h"
#include "store/reader_backend.h"

#define MAX_THREADS 16

struct pool {
	struct reader *r;
	_Atomic uint32_t work; /* bumped by submit */
	_Atomic uint32_t sleepers;
	pthread_t threads[MAX_THREADS];
	unsigned n;
};

static ssize_t read_piece(struct reader *r, struct read_piece *p)
{
	ssize_t n = pread(reader_piece_fd(r, p), p->dest + p->done, p->bytes - p->done,
			  (off_t)(p->offset + p->done));

	return n < 0 ? -errno : n;
}

static ssize_t read_booked(struct reader *r, struct read_piece *p)
{
	uint64_t begin = reader_fill_begin(p);
	ssize_t n = r->ops->read(r, p);

	reader_fill_end(r, p, begin);
	return n;
}

static void *pool_main(void *arg)
{
	struct pool *pool = arg;
	struct reader *r = pool->r;
	struct read_piece p;

	pthread_setname_np(pthread_self(), "sluice-read");
	for (;;) {
		uint32_t seen = atomic_load(&pool->work);

		if (atomic_load(&r->stop))
			return NULL;
		if (reader_take_piece(r, &p)) {
			while (reader_book_piece(r, &p, read_booked(r, &p)))
				;
			continue;
		}
		atomic_fetch_add(&pool->sleepers, 1);
		futex_wait(&pool->work, seen, 0);
		atomic_fetch_sub(&pool->sleepers, 1);
	}
}

void reader_pool_wake(struct reader *r, void *state)
{
	struct pool *pool = state;

	atomic_fetch_add(&pool->work, 1);
	if (atomic_load(&pool->sleepers))
		futex_wake_all(&pool->work);
}

void reader_pool_stop(struct reader *r, void *state)
{
	struct pool *pool = state;

	atomic_fetch_add(&pool->work, 1);
	futex_wake_all(&pool->work);
	while (pool->n)
		pthread_join(pool->threads[--pool->n], NULL);
	free(pool);
}

int reader_pool_start(struct reader *r, void *arg, void **ret_state, struct err *err)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	unsigned wanted = r->depth < MAX_THREADS ? r->depth : MAX_THREADS;

	if (!pool)
		return err_set(err, -ENOMEM, "no memory");
	pool->r = r;
	while (pool->n < wanted) {
		int rc = pthread_create(&pool->threads[pool->n], NULL, pool_main, pool);

		if (rc && !pool->n) {
			free(pool);
			return err_set(err, -rc, "no thread for reading: %s", strerror(rc));
		}
		if (rc)
			break;
		pool->n++;
	}
	*ret_state = pool;
	return 0;
}

const struct reader_ops reader_pread = {
	.name = "pread",
	.start = reader_pool_start,
	.stop = reader_pool_stop,
	.wake = reader_pool_wake,
	.read = read_piece,
};
