/* SPDX-License-Identifier: MIT */
/*
 * Description: the engine as a whole over a disk of memory: the same bits for every budget, batch, number
 * of threads and company; cancel and stop end a step that waits for the disk; a failed read fails
 * its request alone; a long prompt does not hold up those who decode.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "base/num.h"
#include "store/residency.h"
#include "tests/unit/engine/engine_rig.h"

#define PROMPT 48
#define ANSWER 12

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

static void run(struct ask *a, unsigned seed)
{
	ask_prompt(a, &rig, PROMPT, ANSWER, seed);
	a->request.want_logits = true;
	a->logits = calloc((size_t)PROMPT * rig.model->n_vocab, sizeof(float));
	assert_non_null(a->logits);
	ask_submit(a, &rig);
	ask_wait(a);
	assert_int_equal(a->result.stop, STOP_LENGTH);
	assert_int_equal(a->n_tokens, ANSWER);
}

static void test_same_bits(void **state)
{
	static const struct {
		bool least;
		unsigned threads;
		uint32_t batch;
		int numa;
	} ways[] = { { false, 1, 512, 0 },
		     { true, 2, 512, 0 },
		     { true, 3, 7, 0 },
		     { false, 2, 1, 0 },
		     { true, 2, 64, 2 } };
	struct ask first, other;
	size_t bytes;

	rig_start(&rig);
	run(&first, 1);
	rig_stop(&rig);
	bytes = (size_t)PROMPT * rig.model->n_vocab * sizeof(float);
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		struct engine_config kept = rig.config;

		if (ways[i].least)
			rig_least_budget(&rig);
		rig.config.threads = ways[i].threads;
		rig.config.n_batch = ways[i].batch;
		rig.config.n_parallel = ways[i].batch < 4 ? 1 : 4;
		rig.config.numa = ways[i].numa;
		rig_start(&rig);
		run(&other, 1);
		rig_stop(&rig);
		rig.config = kept;
		assert_memory_equal(first.tokens, other.tokens, sizeof(first.tokens));
		assert_memory_equal(first.logits, other.logits, bytes);
		free(other.logits);
	}
	free(first.logits);
}

/* Three others beside it, in any phase. */
static void test_company(void **state)
{
	struct ask alone, mixed[4];

	rig.config.n_batch = 32;
	rig_start(&rig);
	run(&alone, 5);
	for (unsigned i = 0; i < 4; i++)
		ask_prompt(&mixed[i], &rig, i == 2 ? PROMPT : 10 + 40 * i, ANSWER, i == 2 ? 5 : i);
	for (unsigned i = 0; i < 4; i++)
		ask_submit(&mixed[i], &rig);
	for (unsigned i = 0; i < 4; i++)
		ask_wait(&mixed[i]);
	assert_memory_equal(alone.tokens, mixed[2].tokens, sizeof(alone.tokens));
	free(alone.logits);
}

/*
 * A cold prompt of 512 tokens whose disk does not answer: cancel ends the request while every read
 * is still held, and the engine goes on with others once the disk does.
 */
static void test_cancel_while_reading(void **state)
{
	struct ask a, b;

	rig_least_budget(&rig);
	rig_start(&rig);
	reader_memory_hold(&rig.disk);
	ask_prompt(&a, &rig, 512, 8, 9);
	ask_submit(&a, &rig);
	rig_wait_for_disk(&rig);
	atomic_store(&a.request.cancel, true);
	ask_wait(&a);
	assert_int_equal(a.result.stop, STOP_CANCELLED);
	assert_int_equal(a.result.n_prompt, 0);
	assert_int_equal(a.n_tokens, 0);
	reader_memory_release(&rig.disk);
	run(&b, 3);
	free(b.logits);
}

/* One of two was cancelled: the step is still wanted. */
static void test_cancel_one_of_two(void **state)
{
	struct ask a, b, alone;

	rig_least_budget(&rig);
	rig_start(&rig);
	run(&alone, 4);
	reader_memory_hold(&rig.disk);
	ask_prompt(&a, &rig, 100, 8, 9);
	ask_prompt(&b, &rig, PROMPT, ANSWER, 4);
	ask_submit(&a, &rig);
	ask_submit(&b, &rig);
	rig_wait_for_disk(&rig);
	atomic_store(&a.request.cancel, true);
	usleep(30000); /* several looks */
	reader_memory_release(&rig.disk);
	ask_wait(&a);
	ask_wait(&b);
	assert_int_equal(a.result.stop, STOP_CANCELLED);
	assert_int_equal(b.result.stop, STOP_LENGTH);
	assert_memory_equal(alone.tokens, b.tokens, sizeof(b.tokens));
	free(alone.logits);
}

static void *destroy(void *arg)
{
	rig_stop(&rig);
	return NULL;
}

/* Stop: requests end while the reads are held; what was only queued is never read. */
static void test_stop_while_reading(void **state)
{
	uint64_t reads;
	pthread_t t;
	struct ask a;

	rig_least_budget(&rig);
	rig_start(&rig);
	reader_memory_hold(&rig.disk);
	reads = atomic_load(&rig.disk.reads);
	ask_prompt(&a, &rig, 512, 8, 9);
	ask_submit(&a, &rig);
	rig_wait_for_disk(&rig);
	assert_int_equal(pthread_create(&t, NULL, destroy, NULL), 0);
	ask_wait(&a);
	assert_int_equal(a.result.stop, STOP_ERROR);
	assert_int_equal(a.result.error, -ESHUTDOWN);
	reader_memory_release(&rig.disk);
	pthread_join(t, NULL);
	assert_true(atomic_load(&rig.disk.reads) - reads <= rig.config.io_depth);
}

/* Where expert @e of layer 1 lies: a read that touches it fails. */
static void break_expert(uint32_t e, uint32_t times)
{
	const struct expert_part *p = &rig.model->layers[1].experts.part[0];

	atomic_store(&rig.disk.bad_from, p->offset + e * p->bytes);
	atomic_store(&rig.disk.bad_to, p->offset + (e + 1) * p->bytes);
	atomic_store(&rig.disk.bad_times, times);
}

/* Prompts meet a broken disk: the message names the cause, and what was broken works again later. */
static void test_failed_read(void **state)
{
	unsigned failed = 0;

	rig_least_budget(&rig);
	rig_start(&rig);
	for (uint32_t e = 0; e < rig.model->n_expert; e++) {
		struct ask a;

		break_expert(e, UINT32_MAX);
		ask_prompt(&a, &rig, 6, 2, 77);
		ask_submit(&a, &rig);
		ask_wait(&a);
		if (a.result.stop == STOP_ERROR) {
			assert_int_equal(a.result.error, -EIO);
			assert_non_null(strstr(a.result.err.text, "expert"));
			failed++;
		} else {
			assert_int_equal(a.result.stop, STOP_LENGTH);
		}
		break_expert(e, 0);
	}
	assert_true(failed > 0 && failed < rig.model->n_expert);
	for (unsigned seed = 0; seed < 3; seed++) {
		struct ask a;

		run(&a, 77 + seed);
		free(a.logits);
	}
}

/* Two in one step, one of which needs an expert that cannot be read. */
static void test_failure_is_its_own(void **state)
{
	struct ask alone[2], both[2];
	bool seen = false;

	rig_least_budget(&rig);
	rig_start(&rig);
	run(&alone[0], 21);
	run(&alone[1], 22);
	for (uint32_t e = 0; e < rig.model->n_expert && !seen; e++) {
		break_expert(e, UINT32_MAX);
		for (unsigned i = 0; i < 2; i++) {
			ask_prompt(&both[i], &rig, 3, ANSWER, 30 + i);
			ask_submit(&both[i], &rig);
		}
		for (unsigned i = 0; i < 2; i++)
			ask_wait(&both[i]);
		seen = (both[0].result.stop == STOP_ERROR) != (both[1].result.stop == STOP_ERROR);
		break_expert(e, 0);
	}
	assert_true(seen); /* else the prompts are no test */
	for (unsigned i = 0; i < 2; i++)
		if (both[i].result.stop != STOP_ERROR) {
			struct ask again;

			ask_prompt(&again, &rig, 3, ANSWER, 30 + i);
			ask_submit(&again, &rig);
			ask_wait(&again);
			assert_memory_equal(again.tokens, both[i].tokens, sizeof(again.tokens));
		}
	free(alone[0].logits);
	free(alone[1].logits);
}

/* While 600 tokens are read in steps of 32, the one who decodes gets a token with every step. */
static void test_decode_beside_prompt(void **state)
{
	struct ask quick, slow;
	struct engine_status s;

	rig.config.n_batch = 32;
	rig.config.spec = SPEC_OFF;
	rig_start(&rig);
	ask_prompt(&quick, &rig, 4, 40, 1);
	ask_prompt(&slow, &rig, 600, 1, 2);
	ask_submit(&quick, &rig);
	while (!atomic_load(&quick.n_tokens))
		usleep(200);
	ask_submit(&slow, &rig);
	ask_wait(&quick);
	ask_wait(&slow);
	engine_get_status(rig.engine, &s);
	/* 1 step for the short prompt, 39 with a token each; 600 tokens beside them at 31 a step */
	assert_in_range(s.steps, 40, 41 + 600 / 31 + 1);
}

/* First come, first served, and everyone is: twelve requests for four places. */
static void test_order(void **state)
{
	_Atomic uint64_t clock = 0;
	struct ask *a = calloc(12, sizeof(*a));

	assert_non_null(a);
	rig_start(&rig);
	for (unsigned i = 0; i < 12; i++) {
		ask_prompt(&a[i], &rig, 8, 6, i);
		a[i].clock = &clock;
	}
	for (unsigned i = 0; i < 12; i++)
		ask_submit(&a[i], &rig);
	for (unsigned i = 0; i < 12; i++)
		ask_wait(&a[i]);
	for (unsigned i = 4; i < 12; i++)
		assert_true(a[i].at[0] > a[i - 4].at[0]);
	free(a);
}

/* Who sees that the daemon is ready and does not fill takes the fill for done. */
static void test_ready_and_filling(void **state)
{
	rig.config.no_fill = false;
	for (int i = 0; i < 40; i++) {
		struct engine_status status;
		struct err err = { { 0 } };

		if (engine_create(&rig.config, rig.model, rig.tokenizer, &rig.engine, &err) ||
		    engine_start(rig.engine, &err))
			fail_msg("%s", err.text);
		do
			engine_get_status(rig.engine, &status);
		while (status.state == ENGINE_STARTING);
		assert_int_equal(status.state, ENGINE_READY);
		while (status.filling)
			engine_get_status(rig.engine, &status);
		engine_get_status(rig.engine, &status);
		assert_int_equal(status.experts_resident, status.experts_total);
		rig_stop(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_company, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_while_reading, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_one_of_two, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_while_reading, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure_is_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_decode_beside_prompt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ready_and_filling, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
