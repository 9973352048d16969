/* SPDX-License-Identifier: MIT */
/*
 * Description: on a disk that is memory, faults end in a retry or in the failure of the request
 * concerned, never in anything else; every request ends exactly once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "base/clock.h"
#include "store/reader_memory.h"
#include "tests/unit/store/requests.h"

#define CONTENT_BYTES ((3u << 20) + 801)

static uint8_t *content;
static struct reader_memory_file files[2];
static struct reader_memory disk;

static int setup(void **state)
{
	content = malloc(CONTENT_BYTES);
	assert_non_null(content);
	srand(11);
	for (uint32_t i = 0; i < CONTENT_BYTES; i++)
		content[i] = (uint8_t)(rand() >> 7);
	return 0;
}

static int teardown(void **state)
{
	free(content);
	return 0;
}

static struct reader *open_disk(uint32_t depth, bool buffered)
{
	struct reader_config c = { .ops = &reader_memory,
				   .ops_arg = &disk,
				   .depth = depth,
				   .buffered = buffered,
				   .request_bytes = 64 << 10,
				   .least_align = 4096 };
	struct gguf_file list[2];
	struct reader *r;

	memset(&disk, 0, sizeof(disk));
	disk.files = files;
	disk.n_files = 2;
	for (int i = 0; i < 2; i++) {
		files[i].content = content;
		atomic_store(&files[i].bytes, CONTENT_BYTES);
	}
	reader_memory_describe(&disk, list);
	assert_int_equal(reader_create_files(list, 2, &c, &r, NULL), 0);
	assert_int_equal(reader_align(r), 4096);
	return r;
}

static void submit_one(struct reader *r, struct tracked *t, uint32_t file, uint64_t offset,
		       uint64_t bytes)
{
	struct reader_request *q = &t->request;

	prepare_request(r, t, file, offset, bytes);
	reader_submit(r, &q, 1);
}

/* Direct reads are aligned in offset, length and address, or this disk refuses them. */
static void test_direct_reads_are_aligned(void **state)
{
	struct reader *r = open_disk(8, false);
	struct reader_stats s;

	read_many(r, content, CONTENT_BYTES, 64);
	reader_get_stats(r, &s);
	assert_int_equal(s.errors, 0);
	assert_int_equal(s.retries, 0);
	assert_int_equal(s.requests, 64);
	assert_int_equal(s.pieces, atomic_load(&disk.reads));
	reader_destroy(r);
}

static void test_passing_faults(void **state)
{
	for (int buffered = 0; buffered < 2; buffered++) {
		struct reader *r = open_disk(8, buffered);
		struct reader_stats s;

		atomic_store(&disk.errors, 2);
		atomic_store(&disk.eintr, 50);
		atomic_store(&disk.eagain, 50);
		/* more than the alignment: a direct read that is cut goes on from a multiple */
		atomic_store(&disk.most_bytes, 7000);
		read_many(r, content, CONTENT_BYTES, 64);
		reader_get_stats(r, &s);
		assert_int_equal(s.errors, 0);
		assert_int_equal(s.retries, 102);
		assert_true(s.short_reads > 100);
		reader_destroy(r);
	}
}

/* Whatever its number, a negative result is a failure: tried twice more, then passed on. */
static void test_every_errno(void **state)
{
	static const int codes[] = { -EIO, -ENODATA, -ETIMEDOUT, -EREMOTEIO, -EINVAL, -ENOMEM };

	for (unsigned i = 0; i < ARRAY_LEN(codes); i++)
		for (int times = 1; times <= 3; times++) {
			struct reader *r = open_disk(4, true);
			struct reader_stats s;
			struct tracked t;

			atomic_store(&disk.error_code, codes[i]);
			atomic_store(&disk.errors, times);
			submit_one(r, &t, 0, 5000, 3000);
			wait_request(&t);
			if (times == 3)
				assert_int_equal(t.result, codes[i]);
			else
				assert_memory_equal(t.request.dest, content + 5000, 3000);
			reader_get_stats(r, &s);
			assert_int_equal(s.errors, times == 3);
			assert_int_equal(s.retries, times == 3 ? 2 : times);
			free(t.room);
			reader_destroy(r);
		}
}

static void test_lasting_error_fails_one(void **state)
{
	struct reader *r = open_disk(4, false);
	struct reader_request *list[4];
	struct tracked t[4];

	atomic_store(&disk.bad_file, 1);
	atomic_store(&disk.bad_from, 1000000);
	atomic_store(&disk.bad_to, 1000001);
	atomic_store(&disk.bad_times, UINT32_MAX);
	prepare_request(r, &t[0], 1, 100000, 300000);
	prepare_request(r, &t[1], 1, 900000, 300000); /* holds the bad byte */
	prepare_request(r, &t[2], 1, 1600000, 300000);
	prepare_request(r, &t[3], 0, 900000, 300000); /* the same place of the other file */
	for (int i = 0; i < 4; i++)
		list[i] = &t[i].request;
	reader_submit(r, list, 4);
	for (int i = 0; i < 4; i++)
		wait_request(&t[i]);
	assert_int_equal(t[1].result, -EIO);
	free(t[1].room);
	check_request(r, &t[0], content);
	check_request(r, &t[2], content);
	check_request(r, &t[3], content);
	atomic_store(&disk.bad_times, 0); /* the disk recovers: so does the place */
	submit_one(r, &t[1], 1, 900000, 300000);
	wait_request(&t[1]);
	check_request(r, &t[1], content);
	reader_destroy(r);
}

static void test_endless_interruption_ends(void **state)
{
	struct reader *r = open_disk(4, false);
	struct tracked bad, good;
	uint64_t start = now_ns();

	atomic_store(&disk.eagain, INT32_MAX);
	submit_one(r, &bad, 0, 4096, 4096);
	wait_request(&bad);
	assert_int_equal(bad.result, -EAGAIN);
	assert_true(now_ns() - start < 20000000000u);
	atomic_store(&disk.eagain, 0);
	submit_one(r, &good, 0, 4096, 4096);
	wait_request(&good);
	check_request(r, &good, content);
	free(bad.room);
	reader_destroy(r);
}

/* Many direct reads are in flight when the first is refused: all of them go on buffered. */
static void test_direct_refused_late(void **state)
{
	struct reader *r = open_disk(16, false);
	struct reader_stats s;
	struct tracked t[40];

	reader_memory_hold(&disk);
	atomic_store(&disk.no_direct, 1);
	for (unsigned i = 0; i < 40; i++)
		submit_one(r, &t[i], 0, 70000 * i + i, 60000);
	usleep(20000);
	reader_memory_release(&disk);
	for (unsigned i = 0; i < 40; i++) {
		wait_request(&t[i]);
		check_request(r, &t[i], content);
	}
	reader_get_stats(r, &s);
	assert_int_equal(s.errors, 0);
	reader_destroy(r);
}

static void test_truncated(void **state)
{
	struct reader *r = open_disk(4, false);
	struct tracked t[2];

	atomic_store(&files[0].bytes, 1000000);
	submit_one(r, &t[0], 0, 900000, 100000); /* to the new end, which is aligned to nothing */
	submit_one(r, &t[1], 0, 900000, 100001);
	wait_request(&t[0]);
	wait_request(&t[1]);
	check_request(r, &t[0], content);
	assert_int_equal(t[1].result, -ENODATA);
	free(t[1].room);
	reader_destroy(r);
}

static void test_cancelled_at_destroy(void **state)
{
	struct reader *r = open_disk(4, false);
	unsigned n_cancelled = 0, n_read = 0;
	struct tracked t[40];

	submit_one(r, &t[0], 0, 0, 1000);
	wait_request(&t[0]);
	reader_memory_hold(&disk); /* until the reader ends */
	for (unsigned i = 1; i < 40; i++)
		submit_one(r, &t[i], 0, 1000 * i, 600000);
	reader_destroy(r);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(atomic_load(&t[i].ended), 1); /* every request, once */
		assert_true(t[i].result == 0 || t[i].result == -ECANCELED);
		n_cancelled += t[i].result == -ECANCELED;
		n_read += t[i].result == 0;
		free(t[i].room);
	}
	assert_true(n_cancelled > 0 && n_read > 0);
}

/* What waits is read in the order of submission. */
static void test_order(void **state)
{
	struct reader *r = open_disk(1, false);
	struct tracked t[30];

	atomic_store(&disk.latency_us, 1000);
	for (unsigned i = 0; i < 30; i++)
		submit_one(r, &t[i], i % 2, 1000 * i, 1000);
	for (unsigned i = 0; i < 29; i++) {
		while (!atomic_load(&t[i + 1].ended))
			usleep(100);
		assert_int_equal(atomic_load(&t[i].ended), 1);
	}
	for (unsigned i = 0; i < 30; i++)
		check_request(r, &t[i], content);
	reader_destroy(r);
}

struct submitter {
	struct reader *r;
	pthread_t thread;
	struct tracked t[100];
};

static void *submit_many(void *arg)
{
	struct submitter *s = arg;

	for (unsigned i = 0; i < 100; i++) {
		struct reader_request *q = &s->t[i].request;

		reader_submit(s->r, &q, 1);
		if (i % 10 == 9)
			usleep(200); /* let the readers fall asleep now and then */
	}
	return NULL;
}

static void test_many_submitters(void **state)
{
	struct reader *r = open_disk(4, false);
	static struct submitter s[4];

	for (int k = 0; k < 4; k++) {
		s[k].r = r;
		for (unsigned i = 0; i < 100; i++)
			prepare_request(r, &s[k].t[i], k % 2, 1 + 20000 * i, 9000 + i);
		assert_int_equal(pthread_create(&s[k].thread, NULL, submit_many, &s[k]), 0);
	}
	for (int k = 0; k < 4; k++)
		pthread_join(s[k].thread, NULL);
	for (int k = 0; k < 4; k++)
		for (unsigned i = 0; i < 100; i++) {
			wait_request(&s[k].t[i]);
			check_request(r, &s[k].t[i], content);
		}
	reader_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_direct_reads_are_aligned),
		cmocka_unit_test(test_passing_faults),
		cmocka_unit_test(test_every_errno),
		cmocka_unit_test(test_lasting_error_fails_one),
		cmocka_unit_test(test_endless_interruption_ends),
		cmocka_unit_test(test_direct_refused_late),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_cancelled_at_destroy),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_many_submitters),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
