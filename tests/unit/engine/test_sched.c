/* SPDX-License-Identifier: MIT */
/*
 * Description: who gets into a step, in which order, and how requests end: first come first served whatever
 * the order of endings, cancelled and failed ones give their place to the next, every request hears its
 * end once; prompts are cut to the step, and into few chunks where each waits for the disk; scoring; what can
 * never run is refused at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <pthread.h>

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

/* One place, the others wait: the cancelled leave the queue wherever they stand, the rest keep their order. */
static void test_cancelled_in_the_queue(void **state)
{
	_Atomic uint64_t clock = 0;
	struct ask *a = calloc(6, sizeof(*a));

	rig.config.n_parallel = 1;
	rig_least_budget(&rig);
	rig_start(&rig);
	reader_memory_hold(&rig.disk);
	for (unsigned i = 0; i < 6; i++) {
		ask_prompt(&a[i], &rig, 8, 4, i);
		a[i].clock = &clock;
		ask_submit(&a[i], &rig);
	}
	rig_wait_for_disk(&rig);
	atomic_store(&a[1].request.cancel, true);
	atomic_store(&a[4].request.cancel, true);
	atomic_store(&a[5].request.cancel, true);
	reader_memory_release(&rig.disk);
	for (unsigned i = 0; i < 6; i++)
		ask_wait(&a[i]);
	for (unsigned i = 0; i < 6; i++) {
		bool cancelled = i == 1 || i >= 4;

		assert_int_equal(a[i].result.stop, cancelled ? STOP_CANCELLED : STOP_LENGTH);
		assert_int_equal(a[i].n_tokens, cancelled ? 0 : 4);
		assert_int_equal(a[i].result.n_prompt, cancelled ? 0 : 8);
	}
	assert_true(a[0].at[3] < a[2].at[0]);
	assert_true(a[2].at[3] < a[3].at[0]);
	free(a);
}

/* The one in the place is cancelled, or cannot be read: the next one takes it, with its own bits. */
static void test_next_takes_the_place(void **state)
{
	const struct expert_part *x = &rig.model->layers[0].experts.part[0];
	struct ask alone, first, second;

	rig.config.n_parallel = 1;
	rig_least_budget(&rig);
	rig_start(&rig);
	ask_prompt(&alone, &rig, 20, 8, 3);
	ask_submit(&alone, &rig);
	ask_wait(&alone);
	for (unsigned way = 0; way < 2; way++) {
		ask_prompt(&first, &rig, 200, 8, 4);
		ask_prompt(&second, &rig, 20, 8, 3);
		if (way == 0) {
			reader_memory_hold(&rig.disk);
		} else { /* every read of the first layer's experts, until the first has ended */
			atomic_store(&rig.disk.bad_from, x->offset);
			atomic_store(&rig.disk.bad_to, x->offset + x->bytes * rig.model->n_expert);
			atomic_store(&rig.disk.bad_times, UINT32_MAX);
		}
		ask_submit(&first, &rig);
		if (way == 0) {
			ask_submit(&second, &rig);
			rig_wait_for_disk(&rig);
			atomic_store(&first.request.cancel, true);
			ask_wait(&first); /* while the disk is held */
			assert_int_equal(atomic_load(&second.ended), 0);
			reader_memory_release(&rig.disk);
		} else {
			ask_wait(&first);
			atomic_store(&rig.disk.bad_times, 0);
			ask_submit(&second, &rig);
		}
		ask_wait(&second);
		assert_int_equal(first.result.stop, way ? STOP_ERROR : STOP_CANCELLED);
		assert_int_equal(second.result.stop, STOP_LENGTH);
		assert_memory_equal(alone.tokens, second.tokens, sizeof(alone.tokens));
	}
}

static void *destroy(void *arg)
{
	rig_stop(&rig);
	return NULL;
}

/* A stop ends those in places and those in the queue, each once; a cancelled one is told so. */
static void test_stop(void **state)
{
	struct ask *a = calloc(5, sizeof(*a));
	pthread_t t;

	rig.config.n_parallel = 2;
	rig_least_budget(&rig);
	rig_start(&rig);
	reader_memory_hold(&rig.disk);
	for (unsigned i = 0; i < 5; i++) {
		ask_prompt(&a[i], &rig, 30, 4, i);
		ask_submit(&a[i], &rig);
	}
	rig_wait_for_disk(&rig);
	atomic_store(&a[3].request.cancel, true);
	assert_int_equal(pthread_create(&t, NULL, destroy, NULL), 0);
	for (unsigned i = 0; i < 5; i++)
		ask_wait(&a[i]);
	reader_memory_release(&rig.disk);
	pthread_join(t, NULL);
	for (unsigned i = 0; i < 5; i++) {
		if (i == 3) {
			assert_int_equal(a[i].result.stop, STOP_CANCELLED);
			continue;
		}
		assert_int_equal(a[i].result.stop, STOP_ERROR);
		assert_int_equal(a[i].result.error, -ESHUTDOWN);
		assert_non_null(strstr(a[i].result.err.text, "stopping"));
	}
	free(a);
}

/* A prompt of 100 in steps of 16: seven of them, of which the last gives the first token. */
static void test_cut_to_the_step(void **state)
{
	struct engine_status status;
	struct ask a;

	rig.config.n_batch = 16;
	rig_start(&rig);
	ask_prompt(&a, &rig, 100, 1, 6);
	a.request.no_reuse = true; /* which would stop once more, for a state to be kept */
	a.request.want_progress = true;
	ask_submit(&a, &rig);
	ask_wait(&a);
	assert_int_equal(a.result.n_prompt, 100);
	assert_int_equal(a.n_tokens, 1);
	assert_int_equal(a.n_read, 100);
	do { /* a step is counted after its requests have ended */
		usleep(1000);
		engine_get_status(rig.engine, &status);
	} while (status.steps < 7);
	assert_int_equal(status.steps, 7);
}

struct biter {
	struct ask ask; /* first */
	_Atomic uint32_t n_bites, n_read;
};

static void on_bite(struct request *r, uint32_t n_read, double done)
{
	struct biter *b = (struct biter *)r;

	if (n_read != atomic_load(&b->n_read))
		atomic_fetch_add(&b->n_bites, 1);
	atomic_store(&b->n_read, n_read);
}

/*
 * Nothing stays in memory, and each token beside the first few is read for nearly nothing: a prompt beside one
 * that decodes is taken in few steps, not 8 tokens at a time, and the other goes on between them.
 */
static void test_few_bites(void **state)
{
	static const struct request_ops ops = { .progress = on_bite,
						.token = rig_token,
						.done = rig_done };
	struct biter reader = { 0 };
	struct ask decoder;
	uint32_t before;

	rig_least_budget(&rig);
	rig_start(&rig);
	atomic_store(&rig.disk.latency_us, 3000);
	ask_prompt(&decoder, &rig, 8, 500, 1);
	ask_submit(&decoder, &rig);
	while (atomic_load(&decoder.n_tokens) < 4)
		usleep(500);
	ask_prompt(&reader.ask, &rig, 480, 1, 2);
	reader.ask.request.ops = &ops;
	reader.ask.request.want_progress = true;
	before = atomic_load(&decoder.n_tokens);
	ask_submit(&reader.ask, &rig);
	ask_wait(&reader.ask);
	assert_int_equal(reader.ask.n_tokens, 1);
	assert_int_equal(atomic_load(&decoder.ended), 0);
	assert_in_range(atomic_load(&reader.n_bites), 2, 24);
	assert_in_range(atomic_load(&decoder.n_tokens) - before, atomic_load(&reader.n_bites), 500);
	atomic_store(&rig.disk.latency_us, 0);
	atomic_store(&decoder.request.cancel, true);
	ask_wait(&decoder);
}

struct score {
	struct ask ask; /* first */
	double logprob[64];
	unsigned n;
};

static void on_logprob(struct request *r, uint32_t at, double logprob)
{
	struct score *s = (struct score *)r;

	s->logprob[at] = logprob;
	s->n++;
}

/* No token is made; each position but the first is scored once, as the logits have it. */
static void test_scoring(void **state)
{
	static const struct request_ops ops = { .logits = rig_logits,
						.logprob = on_logprob,
						.done = rig_done };
	uint32_t n_vocab = rig.model->n_vocab;
	struct score s;

	rig.config.n_batch = 7;
	rig_start(&rig);
	memset(&s, 0, sizeof(s));
	ask_prompt(&s.ask, &rig, 40, 0, 8);
	s.ask.request.ops = &ops;
	s.ask.request.want_logits = s.ask.request.want_logprobs = true;
	s.ask.logits = calloc((size_t)40 * n_vocab, sizeof(float));
	ask_submit(&s.ask, &rig);
	ask_wait(&s.ask);
	assert_int_equal(s.ask.result.stop, STOP_LENGTH);
	assert_int_equal(s.ask.n_tokens, 0);
	assert_int_equal(s.n, 39);
	for (uint32_t t = 1; t < 40; t++) {
		const float *row = s.ask.logits + (size_t)(t - 1) * n_vocab;
		double sum = 0, want;

		for (uint32_t i = 0; i < n_vocab; i++)
			sum += exp((double)row[i]);
		want = (double)row[s.ask.prompt[t]] - log(sum);
		assert_true(fabs(s.logprob[t] - want) < 1e-5);
	}
	free(s.ask.logits);
}

static void refused(struct request *r, int error, const char *word)
{
	struct err err = { { 0 } };

	assert_int_equal(engine_submit(rig.engine, r, &err), error);
	if (!strstr(err.text, word))
		fail_msg("'%s'", err.text);
}

/* What can never run is refused with a sentence, and hears nothing more. */
static void test_refusals(void **state)
{
	struct ask a;

	rig_start(&rig);
	ask_prompt(&a, &rig, 8, 4, 1);
	a.request.n_tokens = 0;
	refused(&a.request, -EINVAL, "empty");
	a.request.n_tokens = 8;
	a.request.max_tokens = rig.config.n_ctx;
	refused(&a.request, -E2BIG, "context");
	a.request.max_tokens = 4;
	a.prompt[5] = rig.model->n_vocab;
	refused(&a.request, -EINVAL, "token 5");
	assert_int_equal(atomic_load(&a.ended), 0);
	a.prompt[5] = 0;
	ask_submit(&a, &rig);
	ask_wait(&a);
	assert_int_equal(a.result.stop, STOP_LENGTH);
}

static _Atomic uint32_t n_done;

static void count_done(struct request *r, const struct request_result *result)
{
	atomic_fetch_add(&n_done, 1);
}

/* The queue has an end: one more is refused, and all that were taken hear theirs. */
static void test_full_queue(void **state)
{
	static const struct request_ops ops = { .done = count_done };
	static const uint32_t tokens[] = { 1, 2 };
	enum { MOST = 100000 };
	struct request *r = calloc(MOST, sizeof(*r));
	struct err err = { { 0 } };
	uint32_t n = 0;
	int rc = 0;

	rig_least_budget(&rig);
	rig_start(&rig);
	reader_memory_hold(&rig.disk);
	while (n < MOST && !rc) {
		r[n] = (struct request){ .ops = &ops, .tokens = tokens, .n_tokens = 2 };
		rc = engine_submit(rig.engine, &r[n], &err);
		n += !rc;
	}
	assert_int_equal(rc, -EBUSY);
	assert_non_null(strstr(err.text, "waiting"));
	for (uint32_t i = 0; i < n; i++)
		atomic_store(&r[i].cancel, true);
	reader_memory_release(&rig.disk);
	while (atomic_load(&n_done) < n)
		usleep(1000);
	rig_stop(&rig);
	assert_int_equal(atomic_load(&n_done), n);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cancelled_in_the_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_next_takes_the_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_to_the_step, setup, teardown),
		cmocka_unit_test_setup_teardown(test_few_bites, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scoring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_queue, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
