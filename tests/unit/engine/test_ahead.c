/* SPDX-License-Identifier: MIT */
/*
 * Description: reads ahead of layers change no token, whoever guesses, at every budget, beside drafts and with
 * reads that fail; an oracle that knows all wastes nothing, and the simulator counts what the engine counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>

#include "base/num.h"
#include "tests/unit/engine/engine_rig.h"
#include "trace/sim.h"

#define PROMPT 12
#define ANSWER 32
#define ASKS   3

static struct engine_rig rig;
static char trace[] = "/tmp/sluice-ahead-XXXXXX";

static int setup(void **state)
{
	rig_open(&rig);
	rig.config.n_parallel = 2;
	return 0;
}

static int teardown(void **state)
{
	rig_close(&rig);
	return 0;
}

/* One after the other, so that a trace's numbers are the same each time. */
static void run(struct ask asks[ASKS], enum spec_mode spec)
{
	for (unsigned i = 0; i < ASKS; i++) {
		ask_prompt(&asks[i], &rig, PROMPT, ANSWER, 7 + i);
		asks[i].request.spec = spec;
		asks[i].request.draft_length = spec == SPEC_OFF ? 0 : 3;
		asks[i].request.no_reuse = true;
		ask_submit(&asks[i], &rig);
		ask_wait(&asks[i]);
	}
}

static void start(enum predict_mode mode, double share, unsigned percent)
{
	rig.config.predict = (struct predict_choice){ .mode = mode, .share = share, .path = trace };
	rig.config.budget_percent = percent;
	rig.config.host_budget = 0;
	if (!percent)
		rig_least_budget(&rig);
	rig_start(&rig);
}

static void assert_same(const struct ask *a, const struct ask *b)
{
	for (unsigned i = 0; i < ASKS; i++) {
		assert_int_equal(a[i].result.stop, b[i].result.stop);
		assert_int_equal(a[i].result.error, b[i].result.error);
		assert_int_equal(a[i].n_tokens, b[i].n_tokens);
		assert_memory_equal(a[i].tokens, b[i].tokens, a[i].n_tokens * sizeof(uint32_t));
	}
}

static void test_same_tokens(void **state)
{
	static const unsigned percents[] = { 60, 30, 0 };
	static struct ask plain[ASKS], other[ASKS];
	struct engine_status s;

	start(PREDICT_OFF, 0, 100);
	run(plain, SPEC_OFF);
	engine_get_status(rig.engine, &s);
	assert_int_equal(s.predicted, 0);
	rig_stop(&rig);
	for (unsigned i = 0; i < ARRAY_LEN(percents); i++) {
		start(PREDICT_ROUTER, 0, percents[i]);
		run(other, i % 2 ? SPEC_NGRAM : SPEC_OFF);
		engine_get_status(rig.engine, &s);
		assert_same(plain, other);
		assert_int_equal(s.ahead.mode, PREDICT_ROUTER);
		assert_true(s.ahead.uses > s.ahead.foreseen && s.ahead.foreseen > 0);
		/* the least has no slot to spare */
		assert_int_equal(s.predicted > 0, percents[i] > 0);
		/* what was guessed last may still be held */
		assert_in_range(s.predicted,
				s.predicted_useful + s.predicted_late + s.predicted_wasted,
				s.predicted_useful + s.predicted_late + s.predicted_wasted + 64);
		print_message("%u %%: recall %.2f, %d reads ahead, %d useful, %d late, %d wasted\n",
			      percents[i], (double)s.ahead.foreseen / (double)s.ahead.uses,
			      (int)s.predicted, (int)s.predicted_useful, (int)s.predicted_late,
			      (int)s.predicted_wasted);
		rig_stop(&rig);
		start(PREDICT_AUTO, 0, percents[i]);
		run(other, SPEC_OFF);
		assert_same(plain, other);
		rig_stop(&rig);
	}
}

/* A prompt of many tokens: absent experts of the next layer are read while its mixer runs, whoever is to guess. */
static void test_many_tokens(void **state)
{
	static const unsigned percents[] = { 60, 30, 0 };
	static const enum predict_mode modes[] = { PREDICT_AUTO, PREDICT_ROUTER, PREDICT_OFF };
	static struct ask plain, other;
	struct engine_status s;

	for (unsigned i = 0; i < 1 + ARRAY_LEN(percents) * ARRAY_LEN(modes); i++) {
		enum predict_mode mode = i ? modes[(i - 1) % ARRAY_LEN(modes)] : PREDICT_OFF;
		unsigned percent = i ? percents[(i - 1) / ARRAY_LEN(modes)] : 100;
		struct ask *a = i ? &other : &plain;

		start(mode, 0, percent);
		ask_prompt(a, &rig, 300, 1,
			   7); /* no step that decodes: all guesses are the prompt's */
		a->request.no_reuse = true;
		ask_submit(a, &rig);
		ask_wait(a);
		engine_get_status(rig.engine, &s);
		print_message("%u %%, mode %d: %d reads ahead, %d useful, %d late, %d wasted\n",
			      percent, mode, (int)s.predicted, (int)s.predicted_useful,
			      (int)s.predicted_late, (int)s.predicted_wasted);
		assert_int_equal(a->result.stop, plain.result.stop);
		assert_memory_equal(plain.tokens, a->tokens, plain.n_tokens * sizeof(uint32_t));
		assert_int_equal(s.predicted > 0, mode != PREDICT_OFF && percent && percent < 100);
		if (s.predicted) /* a crowd wants nearly all */
			assert_true(s.predicted_useful + s.predicted_late > 2 * s.predicted_wasted);
		rig_stop(&rig);
	}
}

/* Beside the engine's: hits there, and what was under way, are the simulator's hits. */
static void check_simulator(const struct engine_status *s, double share)
{
	struct sim_options o = { .policy = "lfu", .budget = s->budget_bytes, .predict = share };
	struct route_trace *t;
	struct sim_result r;
	struct err err = { { 0 } };
	double is, was = (double)(s->hits + s->predicted_late);

	if (trace_read(trace, &t, &err) || sim_run(t, &o, &r, &err))
		fail_msg("%s", err.text);
	route_trace_destroy(t);
	is = (double)r.all.hits;
	print_message("share %.1f: simulator %.0f hits, %d reads ahead; engine %.0f, %d\n", share,
		      is, (int)r.predicted.reads, was, (int)s->predicted);
	assert_int_equal(r.all.hits + r.all.misses, s->hits + s->misses);
	assert_true(fabs(is - was) <= 0.02 * was);
	assert_true(fabs((double)r.predicted.reads - (double)s->predicted) <=
		    0.05 * (double)s->predicted + 4);
}

static void test_oracle(void **state)
{
	static const double shares[] = { 0, 0.8, 1 };
	static struct ask plain[ASKS], other[ASKS];
	struct engine_status s;
	int fd = mkstemp(trace);

	assert_true(fd >= 0);
	close(fd);
	rig.config.trace_path = trace;
	rig.config.trace_overwrite = true;
	start(PREDICT_OFF, 0, 40);
	run(plain, SPEC_OFF);
	rig_stop(&rig);
	rig.config.trace_path = NULL;
	for (unsigned i = 0; i < ARRAY_LEN(shares); i++) {
		double recall;

		start(PREDICT_ORACLE, shares[i], 40);
		run(other, SPEC_OFF);
		engine_get_status(rig.engine, &s);
		assert_same(plain, other);
		recall = (double)s.ahead.foreseen / (double)s.ahead.uses;
		assert_true(fabs(recall - shares[i]) < 0.05);
		assert_int_equal(s.predicted > 0, shares[i] > 0);
		assert_int_equal(s.predicted_wasted, 0); /* what it says is used */
		check_simulator(&s, shares[i]);
		rig_stop(&rig);
	}
	unlink(trace);
}

/* An expert that cannot be read ends a request where it would have without guesses. */
static void test_failed_reads(void **state)
{
	const struct expert_part *p = &rig.model->layers[2].experts.part[0];
	static struct ask plain[ASKS], other[ASKS];
	unsigned failed = 0;

	for (uint32_t e = 0; e < rig.model->n_expert; e += 3) {
		atomic_store(&rig.disk.bad_times, 0);
		atomic_store(&rig.disk.bad_from, p->offset + e * p->bytes);
		atomic_store(&rig.disk.bad_to, p->offset + (e + 1) * p->bytes);
		start(PREDICT_OFF, 0, 40);
		atomic_store(&rig.disk.bad_times, UINT32_MAX);
		run(plain, SPEC_OFF);
		rig_stop(&rig);
		atomic_store(&rig.disk.bad_times, 0);
		start(PREDICT_ROUTER, 0, 40);
		atomic_store(&rig.disk.bad_times, UINT32_MAX);
		run(other, SPEC_OFF);
		rig_stop(&rig);
		assert_same(plain, other);
		for (unsigned i = 0; i < ASKS; i++)
			failed += plain[i].result.stop == STOP_ERROR && plain[i].n_tokens;
	}
	assert_true(failed > 0); /* in the middle of an answer, else this is no test */
}

static void test_refused(void **state)
{
	struct err err = { { 0 } };

	rig.config.predict = (struct predict_choice){ .mode = PREDICT_ORACLE, .share = 1 };
	assert_true(engine_create(&rig.config, rig.model, rig.tokenizer, &rig.engine, &err) < 0);
	assert_non_null(strstr(err.text, "oracle:R:FILE"));
	rig.config.predict.path = "/nonexistent/trace";
	err_clear(&err);
	assert_true(engine_create(&rig.config, rig.model, rig.tokenizer, &rig.engine, &err) < 0);
	assert_non_null(strstr(err.text, "/nonexistent/trace"));
	rig.config.predict.path = RIG_MODEL; /* no trace */
	err_clear(&err);
	assert_true(engine_create(&rig.config, rig.model, rig.tokenizer, &rig.engine, &err) < 0);
	assert_non_null(strstr(err.text, "--predict"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same_tokens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_tokens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oracle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
