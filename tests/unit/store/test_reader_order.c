/* SPDX-License-Identifier: MIT */
/*
 * Description: the reader's one queue serves classes in order, moves what was promoted, and gives up
 * what is queued when it is told to. One thread reads from a disk of memory that is held meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "store/reader_memory.h"
#include "tests/unit/store/requests.h"

#define BYTES	(256u << 10)
#define N	12
#define REQUEST 4096

struct rig {
	struct reader_memory disk;
	struct reader_memory_file file;
	uint8_t content[BYTES];
	struct reader *reader;
	struct tracked t[N];
	struct reader_request *list[N];
	unsigned order[N];
	_Atomic unsigned n_ended;
};

static struct rig *rig;

static void ended(struct reader_request *q, int result)
{
	struct tracked *t = (struct tracked *)q;

	rig->order[rig->n_ended++] = (unsigned)(t - rig->t);
	request_done(q, result);
}

static int setup_depth(uint32_t depth)
{
	struct reader_config c = { .ops = &reader_memory,
				   .depth = depth,
				   .request_bytes = REQUEST };
	struct gguf_file list[1];

	rig = calloc(1, sizeof(*rig));
	for (unsigned i = 0; i < BYTES; i++)
		rig->content[i] = (uint8_t)(i * 7 + i / 251);
	rig->file.content = rig->content;
	rig->file.bytes = BYTES;
	rig->disk.files = &rig->file;
	rig->disk.n_files = 1;
	c.ops_arg = &rig->disk;
	reader_memory_describe(&rig->disk, list);
	reader_memory_hold(&rig->disk);
	return reader_create_files(list, 1, &c, &rig->reader, NULL);
}

static int setup(void **state)
{
	return setup_depth(1);
}

static int setup_wide(void **state)
{
	return setup_depth(N);
}

static int teardown(void **state)
{
	reader_memory_release(&rig->disk);
	reader_destroy(rig->reader);
	free(rig);
	return 0;
}

static void submit(unsigned i, enum read_class cls, uint64_t bytes)
{
	prepare_request(rig->reader, &rig->t[i], 0, i * 20000 + 13, bytes);
	rig->t[i].request.done = ended;
	rig->t[i].request.cls = (uint8_t)cls;
	rig->list[i] = &rig->t[i].request;
	reader_submit(rig->reader, &rig->list[i], 1);
}

/* So many threads have taken a piece and wait in the read. */
static void wait_in_flight(uint32_t n)
{
	for (int i = 0; i < 20000 && atomic_load(&rig->reader->in_flight) < n; i++)
		usleep(500);
	assert_int_equal(atomic_load(&rig->reader->in_flight), n);
}

static void wait_taken(void)
{
	wait_in_flight(1);
}

static void check_all(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		wait_request(&rig->t[i]);
		check_request(rig->reader, &rig->t[i], rig->content);
	}
}

static void test_classes(void **state)
{
	static const unsigned expected[] = { 0, 3, 5, 2, 4, 1 };

	submit(0, READ_FILL, 100);
	wait_taken(); /* begun: not interrupted */
	submit(1, READ_FILL, 100);
	submit(2, READ_PREDICTED, 100);
	submit(3, READ_DEMAND, 100);
	submit(4, READ_PREDICTED, 100);
	submit(5, READ_DEMAND, 100);
	reader_memory_release(&rig->disk);
	check_all(6);
	assert_memory_equal(rig->order, expected, sizeof(expected));
}

/*
 * Of guesses no more than four pieces are in flight, so that what somebody waits for is read at once; the
 * others go on as those end, and fills stay behind them.
 */
static void test_few_predicted(void **state)
{
	for (unsigned i = 0; i < 10; i++)
		submit(i, READ_PREDICTED, 100);
	submit(10, READ_FILL, 100);
	wait_in_flight(4);
	usleep(20000);
	assert_int_equal(atomic_load(&rig->reader->in_flight), 4);
	submit(11, READ_DEMAND, 100);
	wait_in_flight(5);
	reader_memory_release(&rig->disk);
	check_all(12);
	assert_int_equal(atomic_load(&rig->reader->ahead), 0);
}

/* A fill of several pieces is overtaken between them, and still arrives whole. */
static void test_between_pieces(void **state)
{
	static const unsigned expected[] = { 1, 0 };

	submit(0, READ_FILL, 3 * REQUEST);
	wait_taken();
	submit(1, READ_DEMAND, 2 * REQUEST);
	reader_memory_release(&rig->disk);
	check_all(2);
	assert_memory_equal(rig->order, expected, sizeof(expected));
}

static void test_promote(void **state)
{
	static const unsigned expected[] = { 4, 3, 2, 1, 0 };

	submit(0, READ_FILL, 3 * REQUEST); /* begun, and promoted for its rest below: last demand */
	wait_taken();
	submit(1, READ_FILL, 100);
	submit(2, READ_PREDICTED, 100);
	submit(3, READ_FILL, 100);
	submit(4, READ_DEMAND, 100);
	reader_promote(rig->reader, &rig->list[3], 1, READ_DEMAND);
	reader_promote(rig->reader, &rig->list[2], 1, READ_DEMAND);
	reader_promote(rig->reader, &rig->list[1], 1, READ_PREDICTED);
	reader_promote(rig->reader, &rig->list[1], 1, READ_DEMAND);
	reader_promote(rig->reader, &rig->list[0], 1, READ_DEMAND);
	reader_promote(rig->reader, &rig->list[4], 1, READ_DEMAND); /* is there: stays first */
	reader_promote(rig->reader, &rig->list[1], 1, READ_FILL);   /* never moved back */
	reader_memory_release(&rig->disk);
	check_all(5);
	assert_memory_equal(rig->order, expected, sizeof(expected));
	reader_promote(rig->reader, rig->list, 5, READ_DEMAND); /* all over: nothing happens */
}

/* Promotions of anything in any state while reads go on: every request ends once, with its bytes. */
static void test_promote_anytime(void **state)
{
	reader_memory_release(&rig->disk);
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned i = 0; i < N; i++)
			submit(i, (enum read_class)((i + round) % READ_CLASS_NR), 1 + i * 900);
		for (unsigned k = 0; k < 8; k++)
			reader_promote(rig->reader, &rig->list[(round * 5 + k * 7) % (N - 2)], 2,
				       (enum read_class)(k % READ_CLASS_NR));
		check_all(N);
		rig->n_ended = 0;
	}
}

static void test_cancel(void **state)
{
	submit(0, READ_DEMAND, 100);
	wait_taken();
	for (unsigned i = 1; i < 6; i++)
		submit(i, (enum read_class)(i % READ_CLASS_NR), 3 * REQUEST);
	reader_cancel_queued(rig->reader);
	for (unsigned i = 1; i < 6; i++) {
		wait_request(&rig->t[i]);
		assert_int_equal(rig->t[i].result, -ECANCELED);
		free(rig->t[i].room);
	}
	submit(6, READ_DEMAND, 100); /* what comes later ends in the same way */
	wait_request(&rig->t[6]);
	assert_int_equal(rig->t[6].result, -ECANCELED);
	free(rig->t[6].room);
	assert_int_equal(atomic_load(&rig->t[0].ended), 0);
	reader_memory_release(&rig->disk);
	wait_request(&rig->t[0]);
	check_request(rig->reader, &rig->t[0], rig->content);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_classes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_few_predicted, setup_wide, teardown),
		cmocka_unit_test_setup_teardown(test_between_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_promote, setup, teardown),
		cmocka_unit_test_setup_teardown(test_promote_anytime, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
