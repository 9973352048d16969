/* SPDX-License-Identifier: MIT */
/*
 * Description: requests with the same new beginning that come together: one reads it, the others take it up, with
 * the tokens of runs that reuse nothing; when the one that reads is cancelled or fails; not over tenants, nor where
 * nothing is to be reused; others have their turns meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/engine/engine_rig.h"

enum { MOST = 4, NEW_TOKENS = 6 };

static struct engine_rig rig;
static struct ask asks[MOST], alone;

static int setup(void **state)
{
	rig_open(&rig);
	rig.config.n_parallel = 8;
	rig.config.n_batch = 64; /* the first step ends before what they share does */
	rig.config.prefix_cache = 64 << 20;
	rig_least_budget(&rig); /* every step waits for the disk */
	return 0;
}

static int teardown(void **state)
{
	rig_close(&rig);
	return 0;
}

/* The first @same tokens are those of all, the others its own. */
static void set_up(struct ask *a, uint32_t same, uint32_t n, unsigned seed)
{
	static struct ask of_all;

	ask_prompt(&of_all, &rig, same, NEW_TOKENS, 77);
	ask_prompt(a, &rig, n, NEW_TOKENS, 1000 + seed);
	memcpy(a->prompt, of_all.prompt, same * sizeof(a->prompt[0]));
}

/* The others come while the first one is in its first step. */
static void come_together(unsigned n)
{
	rig_start(&rig);
	reader_memory_hold(&rig.disk);
	for (unsigned i = 0; i < n; i++)
		ask_submit(&asks[i], &rig);
	rig_wait_for_disk(&rig);
	reader_memory_release(&rig.disk);
	for (unsigned i = 0; i < n; i++)
		ask_wait(&asks[i]);
}

/* ... and says what it says alone. */
static void same_alone(const struct ask *a)
{
	ask_prompt(&alone, &rig, 1, NEW_TOKENS, 0);
	memcpy(alone.prompt, a->prompt, a->request.n_tokens * sizeof(a->prompt[0]));
	alone.request.n_tokens = a->request.n_tokens;
	alone.request.no_reuse = true;
	ask_submit(&alone, &rig);
	ask_wait(&alone);
	assert_int_equal(alone.result.n_cached, 0);
	assert_int_equal(a->result.stop, STOP_LENGTH);
	assert_int_equal(a->result.n_prompt, a->request.n_tokens);
	assert_memory_equal(a->tokens, alone.tokens, NEW_TOKENS * sizeof(alone.tokens[0]));
}

static void test_together(void **state)
{
	for (unsigned i = 0; i < MOST; i++)
		set_up(&asks[i], 260, 280 + 20 * i, i);
	come_together(MOST);
	for (unsigned i = 0; i < MOST; i++) {
		assert_int_equal(asks[i].result.n_cached, i ? 260 : 0);
		same_alone(&asks[i]);
	}
}

/* Choices of one prompt: all but its last token is read once. */
static void test_one_prompt(void **state)
{
	for (unsigned i = 0; i < 4; i++)
		set_up(&asks[i], 200, 200, 0);
	come_together(4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(asks[i].result.n_cached, i ? 199 : 0);
		same_alone(&asks[i]);
	}
}

/* The third shares more with the second than both with the first. */
static void test_in_a_row(void **state)
{
	for (unsigned i = 0; i < 3; i++)
		set_up(&asks[i], 150, 350, i);
	memcpy(asks[2].prompt, asks[1].prompt, 280 * sizeof(asks[1].prompt[0]));
	come_together(3);
	assert_int_equal(asks[0].result.n_cached, 0);
	assert_int_equal(asks[1].result.n_cached, 150);
	assert_int_equal(asks[2].result.n_cached, 280);
	for (unsigned i = 0; i < 3; i++)
		same_alone(&asks[i]);
}

/* The disk is sound again before anybody else's step. */
static void mend_disk(struct request *r, const struct request_result *result)
{
	atomic_store(&rig.disk.bad_times, 0);
	rig_done(r, result);
}

/* The one that reads is cancelled in the middle, or cannot be read: the next one reads, the third waits on. */
static void test_first_ends(void **state)
{
	static const struct request_ops first_ops = { .progress = rig_progress,
						      .token = rig_token,
						      .done = mend_disk };
	const struct expert_part *x = &rig.model->layers[0].experts.part[0];

	for (unsigned way = 0; way < 2; way++) {
		rig_start(&rig);
		for (unsigned i = 0; i < 3; i++)
			set_up(&asks[i], 400, 420 + i, i);
		asks[0].request.want_progress = true;
		asks[0].request.ops = &first_ops;
		ask_submit(&asks[0], &rig);
		while (atomic_load(&asks[0].n_read) < 128)
			usleep(500);
		reader_memory_hold(&rig.disk);
		ask_submit(&asks[1], &rig);
		ask_submit(&asks[2], &rig);
		rig_wait_for_disk(&rig);
		if (way == 0) {
			atomic_store(&asks[0].request.cancel, true);
		} else {
			atomic_store(&rig.disk.bad_from, x->offset);
			atomic_store(&rig.disk.bad_to, x->offset + x->bytes * rig.model->n_expert);
			atomic_store(&rig.disk.bad_times, UINT32_MAX);
		}
		reader_memory_release(&rig.disk);
		for (unsigned i = 0; i < 3; i++)
			ask_wait(&asks[i]);
		assert_int_equal(asks[0].result.stop, way ? STOP_ERROR : STOP_CANCELLED);
		assert_int_equal(asks[2].result.n_cached, 400);
		for (unsigned i = 1; i < 3; i++)
			same_alone(&asks[i]);
		rig_stop(&rig);
	}
}

/* The one that waits is cancelled: the others go on. */
static void test_other_ends(void **state)
{
	for (unsigned i = 0; i < 3; i++)
		set_up(&asks[i], 250, 280 + i, i);
	rig_start(&rig);
	reader_memory_hold(&rig.disk);
	for (unsigned i = 0; i < 3; i++)
		ask_submit(&asks[i], &rig);
	rig_wait_for_disk(&rig);
	atomic_store(&asks[1].request.cancel, true);
	reader_memory_release(&rig.disk);
	for (unsigned i = 0; i < 3; i++)
		ask_wait(&asks[i]);
	assert_int_equal(asks[1].result.stop, STOP_CANCELLED);
	assert_int_equal(asks[2].result.n_cached, 250);
	same_alone(&asks[0]);
	same_alone(&asks[2]);
}

static void test_apart(void **state)
{
	for (unsigned i = 0; i < 4; i++)
		set_up(&asks[i], 200, 230 + i, i);
	asks[1].request.tenant = 9;
	asks[2].request.no_reuse = true;
	come_together(4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(asks[i].result.n_cached, i == 3 ? 200 : 0);
		same_alone(&asks[i]);
	}
}

/* What is read for those who wait is served to them too: a third client's prompt is not put behind it. */
static void test_turns(void **state)
{
	_Atomic uint64_t clock = 0;

	set_up(&asks[0], 500, 520, 0);
	set_up(&asks[1], 500, 520, 1);
	ask_prompt(&asks[2], &rig, 150, NEW_TOKENS, 5);
	for (unsigned i = 0; i < 3; i++) {
		asks[i].request.client = 100 + i;
		asks[i].clock = &clock;
	}
	come_together(3);
	assert_int_equal(asks[1].result.n_cached, 500);
	assert_true(asks[2].at[0] < asks[0].at[0]);
	assert_true(asks[2].at[0] < asks[1].at[0]);
	for (unsigned i = 0; i < 3; i++)
		same_alone(&asks[i]);
}

/* A cache without room for a state: who waited reads for itself in the end. */
static void test_no_room(void **state)
{
	rig.config.prefix_cache = 1;
	for (unsigned i = 0; i < 4; i++)
		set_up(&asks[i], 250, 270 + 10 * i, i);
	come_together(4);
	for (unsigned i = 0; i < 4; i++)
		same_alone(&asks[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_together, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_prompt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_in_a_row, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
