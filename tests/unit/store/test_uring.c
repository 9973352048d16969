/* SPDX-License-Identifier: MIT */
/*
 * Description: faults that the kernel hands to the ring's owner: completions that fail or are short,
 * and calls of io_uring_enter() that take nothing. The program puts its own io_uring_submit() and
 * io_uring_submit_and_wait() in front of liburing's and changes what comes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/resource.h>

#include "base/num.h"
#include "store/arena.h"
#include "tests/unit/store/disk_file.h"
#include "tests/unit/store/requests.h"

/*
 * How often each fault is still to come; set by the test before the reader has its first read, counted down
 * by the io thread.
 */
static struct {
	_Atomic int refused; /* calls that fail before the kernel sees them */
	_Atomic int refused_code;
	_Atomic int failed; /* completions of reads that fail instead */
	_Atomic int failed_code;
	_Atomic int cut;	    /* completions of reads that bring less */
	_Atomic int direct_code;    /* what every direct read ends with, 0: as it does */
	_Atomic int direct_refused; /* reads that did */
} faults;

#define REQUEST_BYTES (64u << 10)
#define IN_FLIGHT     8 /* tags of reads are below: the depth of the readers here */

/* The io thread's: which tags are in flight, and which of them as direct reads. */
static bool in_flight[IN_FLIGHT], issued_direct[IN_FLIGHT];

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr);
int io_uring_submit(struct io_uring *ring);

static bool take(_Atomic int *n)
{
	return atomic_load(n) > 0 && atomic_fetch_sub(n, 1) > 0;
}

/* Notes the reads of this submission, as the kernel will see them. */
static void note_reads(const struct io_uring *ring)
{
	const struct io_uring_sq *sq = &ring->sq;
	const unsigned mask = *sq->kring_mask;

	for (unsigned i = sq->sqe_head; i != sq->sqe_tail; i++) {
		const struct io_uring_sqe *sqe = &sq->sqes[i & mask];

		if (sqe->user_data >= IN_FLIGHT) /* the event */
			continue;
		in_flight[sqe->user_data] = true;
		issued_direct[sqe->user_data] = sqe->flags & IOSQE_FIXED_FILE
							? sqe->fd % 2 == 0
							: fcntl(sqe->fd, F_GETFL) & O_DIRECT;
	}
}

/* Reads that have not come back yet */
static unsigned missing(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	for (unsigned i = 0; i < IN_FLIGHT; i++)
		n += in_flight[i];
	io_uring_for_each_cqe(ring, head, cqe) n -= cqe->user_data < IN_FLIGHT;
	return n;
}

static void spoil(struct io_uring_cqe *cqe)
{
	if (atomic_load(&faults.direct_code) && issued_direct[cqe->user_data]) {
		cqe->res = atomic_load(&faults.direct_code);
		atomic_fetch_add(&faults.direct_refused, 1);
	} else if (cqe->res < 4096) { /* a tail */
		return;
	} else if (take(&faults.failed)) {
		cqe->res = atomic_load(&faults.failed_code);
	} else if (take(&faults.cut)) {
		cqe->res = cqe->res / 3 + 1;
	}
}

/*
 * While a fault is to come, this waits for every read in flight: the owner looks at the ring after us, and a
 * completion that came in between would be one that no fault reached.
 */
int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
	static int (*real)(struct io_uring * ring, unsigned wait_nr);
	struct io_uring_cqe *cqe;
	unsigned head;
	int rc;

	if (!real)
		real = (int (*)(struct io_uring *, unsigned))dlsym(RTLD_NEXT,
								   "io_uring_submit_and_wait");
	if (take(&faults.refused))
		return atomic_load(&faults.refused_code);
	note_reads(ring);
	rc = real(ring, wait_nr);
	while (rc >= 0 && missing(ring) &&
	       (atomic_load(&faults.failed) > 0 || atomic_load(&faults.cut) > 0 ||
		atomic_load(&faults.direct_code)))
		rc = real(ring, io_uring_cq_ready(ring) + 1);
	io_uring_for_each_cqe(ring, head, cqe)
	{
		if (cqe->user_data >= IN_FLIGHT)
			continue;
		in_flight[cqe->user_data] = false;
		spoil(cqe);
	}
	return rc;
}

int io_uring_submit(struct io_uring *ring)
{
	static int (*real)(struct io_uring * ring);

	if (!real)
		real = (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit");
	if (take(&faults.refused))
		return atomic_load(&faults.refused_code);
	note_reads(ring);
	return real(ring);
}

static struct reader *open_reader(struct disk_file *f, bool buffered)
{
	struct reader_config c = { .kind = READER_URING,
				   .depth = IN_FLIGHT,
				   .request_bytes = REQUEST_BYTES,
				   .buffered = buffered };
	struct reader *r;

	memset(&faults, 0, sizeof(faults));
	memset(in_flight, 0, sizeof(in_flight));
	assert_int_equal(reader_create_files(&f->as_gguf, 1, &c, &r, NULL), 0);
	return r;
}

/* A naive program waits for ever once a submission was refused. */
static void test_refused_calls(void **state)
{
	static const int codes[] = { -EAGAIN, -EBUSY, -EINTR, -ENOMEM };
	struct disk_file *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(codes); i++) {
		struct reader *r = open_reader(f, false);

		for (int times = 1; times < 200; times *= 5) {
			atomic_store(&faults.refused_code, codes[i]);
			atomic_store(&faults.refused, times);
			read_many(r, f->content, f->bytes, 16);
			assert_true(atomic_load(&faults.refused) <= 0);
		}
		reader_destroy(r);
	}
}

static void test_failed_completions(void **state)
{
	static const int codes[] = { -EINTR, -EAGAIN, -EIO, -ENODATA };
	struct disk_file *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(codes); i++) {
		struct reader *r = open_reader(f, false);
		struct reader_stats s;
		int times = i < 2 ? 40 : 2;

		atomic_store(&faults.failed_code, codes[i]);
		atomic_store(&faults.failed, times);
		read_many(r, f->content, f->bytes, 32);
		reader_get_stats(r, &s);
		assert_int_equal(s.retries, times);
		assert_int_equal(s.errors, 0);
		reader_destroy(r);
	}
}

static void test_lasting_failure(void **state)
{
	struct disk_file *f = *state;
	struct reader *r = open_reader(f, false);
	struct tracked t;
	struct reader_request *q = &t.request;

	atomic_store(&faults.failed_code, -EIO);
	atomic_store(&faults.failed, 3);
	prepare_request(r, &t, 0, 8192, 8192);
	reader_submit(r, &q, 1);
	wait_request(&t);
	assert_int_equal(t.result, -EIO);
	free(t.room);
	read_many(r, f->content, f->bytes, 8);
	reader_destroy(r);
}

/*
 * A file system that only pretends: from now on it refuses every direct read, and no other. One request of
 * as many pieces as may be in flight has them all refused at once; after that nothing is read directly.
 */
static void test_direct_refused_late(void **state)
{
	struct disk_file *f = *state;
	struct reader *r = open_reader(f, false);
	struct reader_request *q;
	struct reader_stats s;
	struct tracked t;

	atomic_store(&faults.direct_code, -EOPNOTSUPP);
	prepare_request(r, &t, 0, 0, IN_FLIGHT * REQUEST_BYTES);
	q = &t.request;
	reader_submit(r, &q, 1);
	wait_request(&t);
	check_request(r, &t, f->content);
	assert_int_equal(atomic_load(&faults.direct_refused), IN_FLIGHT);
	read_many(r, f->content, f->bytes, 32);
	reader_get_stats(r, &s);
	assert_int_equal(s.errors, 0);
	assert_int_equal(s.retries, IN_FLIGHT);
	assert_int_equal(atomic_load(&faults.direct_refused), IN_FLIGHT);
	reader_destroy(r);
}

static void test_short_completions(void **state)
{
	struct disk_file *f = *state;

	for (int buffered = 0; buffered < 2; buffered++) {
		struct reader *r = open_reader(f, buffered);
		struct reader_stats s;

		atomic_store(&faults.cut, 60);
		read_many(r, f->content, f->bytes, 48);
		reader_get_stats(r, &s);
		assert_true(s.short_reads > 20);
		assert_int_equal(s.errors, 0);
		reader_destroy(r);
	}
}

struct asker {
	struct reader *r;
	struct arena *arena;
	int rc;
};

static void *ask(void *arg)
{
	struct asker *a = arg;

	a->rc = reader_register_memory(a->r, arena_base(a->arena), arena_bytes(a->arena), NULL);
	return NULL;
}

/* Registering memory while reads are on their way: as much as this user may lock. */
static void test_register_under_load(void **state)
{
	struct arena_config config = { .bytes = 32 << 20, .best = ARENA_THP };
	struct disk_file *f = *state;
	struct rlimit lock;
	struct asker a;
	pthread_t thread;

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &lock), 0);
	if (geteuid() && lock.rlim_cur < config.bytes)
		config.bytes = align_down(lock.rlim_cur / 2, 2 << 20);
	if (config.bytes < 2 << 20) {
		print_message("this user may lock %llu bytes only\n",
			      (unsigned long long)lock.rlim_cur);
		skip();
	}
	a = (struct asker){ .r = open_reader(f, false) };

	assert_int_equal(arena_create(&config, &a.arena, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, ask, &a), 0);
	for (int i = 0; i < 4; i++)
		read_many(a.r, f->content, f->bytes, 16);
	pthread_join(thread, NULL);
	assert_int_equal(a.rc, 0);
	assert_int_equal(reader_read(a.r, 0, 4096, 1 << 20, arena_base(a.arena)), 0);
	assert_memory_equal(arena_base(a.arena), f->content + 4096, 1 << 20);
	reader_destroy(a.r);
	arena_destroy(a.arena);
}

static void test_cancelled_at_destroy(void **state)
{
	struct disk_file *f = *state;
	struct reader *r = open_reader(f, false);
	static struct tracked t[200];

	for (unsigned i = 0; i < 200; i++) {
		struct reader_request *q = &t[i].request;

		prepare_request(r, &t[i], 0, 100 * i, 300000);
		reader_submit(r, &q, 1);
	}
	reader_destroy(r);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(atomic_load(&t[i].ended), 1);
		if (t[i].result)
			assert_int_equal(t[i].result, -ECANCELED);
		else
			assert_memory_equal(t[i].request.dest, f->content + 100 * i, 300000);
		free(t[i].room);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_calls),
		cmocka_unit_test(test_failed_completions),
		cmocka_unit_test(test_lasting_failure),
		cmocka_unit_test(test_direct_refused_late),
		cmocka_unit_test(test_short_completions),
		cmocka_unit_test(test_register_under_load),
		cmocka_unit_test(test_cancelled_at_destroy),
	};

	return cmocka_run_group_tests(tests, disk_file_setup, disk_file_teardown);
}
