/* SPDX-License-Identifier: MIT */
/*
 * Description: the engine with fewer pages than its sequences could fill: who gives way goes on with the same
 * tokens, nothing fails and nothing hangs; clients take turns; time limits end what waits and what runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/num.h"
#include "tests/unit/engine/engine_rig.h"

static struct engine_rig rig;

static int setup(void **state)
{
	rig_open(&rig);
	return 0;
}

static int teardown(void **state)
{
	rig_close(&rig);
	return 0;
}

enum { MANY = 16 };

/* Different lengths; what the rig keeps of their tokens are the last ones. */
static void make_asks(struct ask *a)
{
	for (unsigned i = 0; i < MANY; i++)
		ask_prompt(&a[i], &rig, 10 + 15 * i, 100 + 8 * i, 77 + i);
}

static uint64_t run_all(struct ask *a, uint32_t pages)
{
	struct engine_status s;

	rig.config.kv_budget = 0;
	rig.config.prefix_cache = PREFIX_CACHE_OFF; /* pages of its own, which would be used */
	rig_start(&rig);
	engine_get_status(rig.engine, &s);
	if (pages) { /* bytes of a page: what all take, shared by all */
		rig_stop(&rig);
		rig.config.kv_budget = s.kv_bytes / (MANY * rig.config.n_ctx / KV_BLOCK) * pages;
		rig_start(&rig);
	}
	for (unsigned i = 0; i < MANY; i++)
		ask_submit(&a[i], &rig);
	for (unsigned i = 0; i < MANY; i++) {
		ask_wait(&a[i]);
		if (a[i].result.stop != STOP_LENGTH)
			fail_msg("ask %u: %s", i, a[i].result.err.text);
	}
	engine_get_status(rig.engine, &s);
	rig_stop(&rig);
	return s.pauses;
}

static void test_same_tokens(void **state)
{
	static const uint32_t pages[] = { 8, 12, 25 };
	static struct ask want[MANY], got[MANY];
	uint64_t pauses = 0;

	rig.config.n_parallel = MANY;
	rig.config.n_ctx = 512;
	make_asks(want);
	run_all(want, 0);
	for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
		make_asks(got);
		pauses += run_all(got, pages[i]);
		for (unsigned k = 0; k < MANY; k++) {
			assert_int_equal(got[k].n_tokens, want[k].n_tokens);
			assert_memory_equal(got[k].tokens, want[k].tokens, sizeof(want[k].tokens));
		}
	}
	assert_true(pauses > 10);
}

/*
 * Two that were paused are resumed together when the oldest has ended, and their prompts do not fit beside each
 * other: the turn of the newer one takes the last pages, and goes without for the older one.
 */
static void test_no_standstill(void **state)
{
	static struct ask oldest, older, newer;
	struct engine_status s;

	rig.config.n_batch = 16;
	rig.config.prefix_cache = PREFIX_CACHE_OFF;
	rig.config.itl_target_ns = 1000000000; /* prompts are not held back */
	rig_start(&rig);
	engine_get_status(rig.engine, &s);
	rig_stop(&rig);
	rig.config.kv_budget = s.kv_bytes / 4;
	rig_start(&rig);
	ask_prompt(&oldest, &rig, 10, 500, 1);
	ask_prompt(&older, &rig, 200, 600, 2);
	ask_prompt(&newer, &rig, 620, 300, 3);
	older.request.client = 2;
	newer.request.client = 3;
	ask_submit(&oldest, &rig);
	ask_submit(&older, &rig);
	ask_submit(&newer, &rig);
	ask_wait(&oldest);
	ask_wait(&older);
	ask_wait(&newer);
	assert_int_equal(older.result.stop, STOP_LENGTH);
	assert_int_equal(newer.result.stop, STOP_LENGTH);
	assert_int_equal(newer.result.n_prompt, 620);
	engine_get_status(rig.engine, &s);
	assert_true(s.pauses >= 2);
}

/* All of a prompt's logits come once, also where it was paused while it was read. */
static void test_scores(void **state)
{
	static struct ask want, got, others[3];
	struct engine_status s;
	size_t bytes = 400u * rig.model->n_vocab * sizeof(float);

	rig.config.n_ctx = 512;
	rig.config.n_batch = 16;
	for (unsigned round = 0; round < 2; round++) {
		struct ask *a = round ? &got : &want;

		rig_start(&rig);
		engine_get_status(rig.engine, &s);
		ask_prompt(a, &rig, 400, 0, 5);
		a->request.want_logits = true;
		a->logits = calloc(1, bytes);
		for (unsigned i = 0; round && i < 3; i++) {
			ask_prompt(&others[i], &rig, 40, 60, i);
			others[i].request.client = 9;
			ask_submit(&others[i], &rig);
		}
		ask_submit(a, &rig);
		ask_wait(a);
		for (unsigned i = 0; round && i < 3; i++)
			ask_wait(&others[i]);
		rig_stop(&rig);
		assert_int_equal(a->result.stop, STOP_LENGTH);
		assert_int_equal(a->result.n_prompt, 400);
		rig.config.kv_budget = s.kv_bytes / (4 * 512 / KV_BLOCK) * 9;
	}
	assert_memory_equal(want.logits, got.logits, bytes);
	free(want.logits);
	free(got.logits);
}

/* One client with many requests does not keep the other from being next. */
static void test_fair(void **state)
{
	static struct ask greedy[12], modest;
	_Atomic uint64_t clock = 0;
	unsigned later = 0;

	rig.config.n_parallel = 2;
	rig_start(&rig);
	for (unsigned i = 0; i < 12; i++) {
		ask_prompt(&greedy[i], &rig, 16, 12, i);
		greedy[i].clock = &clock;
		greedy[i].request.client = 1;
		ask_submit(&greedy[i], &rig);
	}
	ask_prompt(&modest, &rig, 16, 12, 99);
	modest.clock = &clock;
	modest.request.client = 2;
	ask_submit(&modest, &rig);
	for (unsigned i = 0; i < 12; i++)
		ask_wait(&greedy[i]);
	ask_wait(&modest);
	for (unsigned i = 0; i < 12; i++)
		later += greedy[i].at[0] > modest.at[0];
	assert_true(later >= 6); /* last to come, but not last to be served */
}

static void test_time(void **state)
{
	static struct ask runs, waits, late;

	rig.config.n_parallel = 1;
	rig_start(&rig);
	reader_memory_hold(&rig.disk);
	rig_least_budget(&rig);
	ask_prompt(&runs, &rig, 16, 12, 1);
	ask_prompt(&waits, &rig, 16, 12, 2);
	waits.request.max_ns = 1000000;
	ask_submit(&runs, &rig);
	ask_submit(&waits, &rig);
	usleep(5000);
	reader_memory_release(&rig.disk);
	ask_wait(&waits);
	assert_int_equal(waits.result.stop, STOP_ERROR);
	assert_int_equal(waits.result.error, -ETIME);
	assert_non_null(strstr(waits.result.err.text, "1 ms"));
	ask_wait(&runs);
	assert_int_equal(runs.result.stop, STOP_LENGTH);
	assert_int_equal(runs.n_tokens, 12);
	/* an answer that has begun is cut */
	ask_prompt(&late, &rig, 16, RIG_TOKENS, 3);
	late.request.max_tokens = 900;
	late.request.max_ns = 50000000;
	ask_submit(&late, &rig);
	ask_wait(&late);
	assert_int_equal(late.result.stop, STOP_LENGTH);
	assert_in_range(late.result.n_generated, 1, 899);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same_tokens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_standstill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scores, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fair, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
