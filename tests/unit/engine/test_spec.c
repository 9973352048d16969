/* SPDX-License-Identifier: MIT */
/*
 * Description: speculation changes no token and no log-probability: every source and length of drafts, right,
 * wrong and mixed, greedy and drawn, every budget, alone and in company, cut by an end of generation, by a cancel and
 * by a read that fails; what follows on a sequence is as if nothing had been drafted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/num.h"
#include "engine/batch.h"
#include "tests/unit/engine/engine_rig.h"
#include "trace/read.h"

#define PROMPT 40
#define ANSWER 32

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

/* A prompt that repeats itself, so that what follows is found in it. */
static void make(struct ask *a, unsigned seed, bool drawn)
{
	ask_prompt(a, &rig, PROMPT, ANSWER, seed);
	for (unsigned i = 0; i < PROMPT; i++)
		a->prompt[i] = a->prompt[i % 13];
	if (drawn)
		a->request.sampling =
			(struct sampling){ .temperature = 0.9f, .top_k = 20, .seed = seed };
}

static void run(struct ask *a)
{
	ask_submit(a, &rig);
	ask_wait(a);
	if (a->result.stop == STOP_ERROR)
		fail_msg("%s", a->result.err.text);
}

/* The same without drafts. */
static void run_plain(struct ask *a, unsigned seed, bool drawn)
{
	make(a, seed, drawn);
	a->request.spec = SPEC_OFF;
	run(a);
	assert_int_equal(a->result.spec.drafted[DRAFT_NGRAM], 0);
	assert_int_equal(a->n_tokens, ANSWER);
}

/* The answer with each token wrong where a bit of @wrong says so. */
static void spoil(uint32_t draft[ANSWER], const struct ask *plain, uint32_t wrong)
{
	for (unsigned i = 0; i < ANSWER; i++)
		draft[i] = (plain->tokens[i] + (wrong >> i % 32 & 1)) % rig.model->n_vocab;
}

static void assert_same(const struct ask *a, const struct ask *b)
{
	assert_int_equal(a->n_tokens, b->n_tokens);
	assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof(a->tokens[0]));
}

static void check_ways(uint32_t step)
{
	static const uint32_t wrong[] = { 0, UINT32_MAX, 0x49249249, 0x0f0f0f0f, 0x80808080 };
	uint32_t draft[ANSWER];
	struct ask plain, other;

	for (unsigned drawn = 0; drawn < 2; drawn++) {
		run_plain(&plain, 3 + drawn, drawn);
		for (uint32_t length = 0; length <= DRAFT_MAX; length += step) {
			make(&other, 3 + drawn, drawn);
			other.request.spec = SPEC_NGRAM;
			other.request.draft_length = length;
			run(&other);
			assert_same(&plain, &other);
			for (unsigned i = 0; i < ARRAY_LEN(wrong) && length; i++) {
				spoil(draft, &plain, wrong[i]);
				make(&other, 3 + drawn, drawn);
				other.request.draft = draft;
				other.request.n_draft = ANSWER;
				other.request.draft_length = length;
				run(&other);
				assert_same(&plain, &other);
				assert_true(other.result.spec.drafted[DRAFT_GIVEN] > 0);
				if (wrong[i] == UINT32_MAX)
					assert_int_equal(other.result.spec.accepted[DRAFT_GIVEN],
							 0);
				if (!wrong[i])
					assert_int_equal(other.result.spec.accepted[DRAFT_GIVEN],
							 other.result.spec.drafted[DRAFT_GIVEN]);
			}
		}
	}
}

static void test_same_tokens(void **state)
{
	rig_start(&rig);
	check_ways(1);
	rig_stop(&rig);
	rig.config.kv_type = KV_Q8_0;
	rig.config.threads = 3;
	rig_least_budget(&rig);
	rig_start(&rig);
	check_ways(3);
}

/* Eight at once, each with another length, half of them drawn. */
static void test_company(void **state)
{
	static struct ask plain[8], both[8];
	uint32_t draft[8][ANSWER];

	rig.config.n_parallel = 8;
	rig_start(&rig);
	for (unsigned i = 0; i < 8; i++)
		run_plain(&plain[i], 20 + i, i & 1);
	for (unsigned i = 0; i < 8; i++) {
		make(&both[i], 20 + i, i & 1);
		spoil(draft[i], &plain[i], 0x10842108u << i);
		both[i].request.draft = i % 4 == 3 ? NULL : draft[i];
		both[i].request.n_draft = i % 4 == 3 ? 0 : ANSWER;
		both[i].request.draft_length = i % (DRAFT_MAX + 1);
	}
	for (unsigned i = 0; i < 8; i++)
		ask_submit(&both[i], &rig);
	for (unsigned i = 0; i < 8; i++) {
		ask_wait(&both[i]);
		assert_same(&plain[i], &both[i]);
	}
}

/* An answer that reaches the context's end: nothing is drafted beyond it. */
static void test_context_end(void **state)
{
	uint32_t draft[ANSWER];
	struct ask plain, other;

	rig.config.n_ctx = 64;
	rig_start(&rig);
	for (uint32_t length = 1; length <= DRAFT_MAX; length++) {
		make(&plain, 5, false);
		plain.request.max_tokens = 64 - PROMPT;
		plain.request.spec = SPEC_OFF;
		run(&plain);
		make(&other, 5, false);
		memcpy(draft, plain.tokens, sizeof(draft));
		other.request.max_tokens = 64 - PROMPT;
		other.request.draft = draft;
		other.request.n_draft = ANSWER;
		other.request.draft_length = length;
		run(&other);
		assert_int_equal(other.n_tokens, 64 - PROMPT);
		assert_same(&plain, &other);
	}
}

/* A question whose answer ends by itself. */
static void make_question(struct ask *a, unsigned seed)
{
	static const char text[] = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
				   "<|im_start|>assistant\n";
	uint32_t *ids = NULL;
	ssize_t n = tokenizer_encode_prompt(rig.tokenizer, text, sizeof(text) - 1, true, &ids);

	assert_in_range(n, 1, 1023);
	make(a, seed, false);
	memcpy(a->prompt, ids, (size_t)n * sizeof(*ids));
	free(ids);
	a->request.n_tokens = (uint32_t)n;
	a->request.ignore_eog = false;
}

/* The draft goes on behind the end of generation; the answer does not. */
static void test_end_inside_a_draft(void **state)
{
	uint32_t draft[ANSWER];
	struct ask plain, other;

	rig_start(&rig);
	make_question(&plain, 1);
	plain.request.spec = SPEC_OFF;
	run(&plain);
	assert_int_equal(plain.result.stop, STOP_EOG);
	for (unsigned i = 0; i < ANSWER; i++)
		draft[i] = plain.tokens[i < plain.n_tokens ? i : 0];
	for (uint32_t length = 1; length <= DRAFT_MAX; length++) {
		make_question(&other, 1);
		other.request.draft = draft;
		other.request.n_draft = ANSWER;
		other.request.draft_length = length;
		run(&other);
		assert_int_equal(other.result.stop, STOP_EOG);
		assert_same(&plain, &other);
		assert_int_equal(other.result.spec.tokens, other.n_tokens - 1);
	}
}

/* Cancelled in the middle; the place's next request is not touched by what was pending. */
static void test_cancel(void **state)
{
	uint32_t draft[ANSWER];
	struct ask plain, other;

	rig.config.n_parallel = 1;
	rig_start(&rig);
	run_plain(&plain, 9, false);
	memcpy(draft, plain.tokens, sizeof(draft));
	for (unsigned i = 0; i < 10; i++) {
		make(&other, 9, false);
		other.request.draft = draft;
		other.request.n_draft = ANSWER;
		other.request.draft_length = 1 + i % DRAFT_MAX;
		ask_submit(&other, &rig);
		while (i && !atomic_load(&other.ended) && atomic_load(&other.n_tokens) < 2 * i)
			usleep(50);
		atomic_store(&other.request.cancel, true);
		ask_wait(&other);
		assert_memory_equal(plain.tokens, other.tokens, other.n_tokens * sizeof(uint32_t));
		run_plain(&other, 9, false);
		assert_same(&plain, &other);
	}
}

/* From the third token on the disk does not answer. */
static void token_then_hold(struct request *r, uint32_t id)
{
	rig_token(r, id);
	if (atomic_load(&((struct ask *)r)->n_tokens) == 3)
		reader_memory_hold(&rig.disk);
}

/* Distinct experts of each layer and step, as the daemon and the simulator count uses. */
static uint64_t uses_in_trace(const char *path)
{
	struct err err = { { 0 } };
	struct route_trace *t;
	uint64_t n = 0;
	bool *seen;

	if (trace_read(path, &t, &err))
		fail_msg("%s", err.text);
	seen = calloc(t->n_expert, sizeof(*seen));
	assert_non_null(seen);
	for (size_t i = 0; i < t->n_rows; i++) {
		const struct trace_row *row = &t->rows[i];

		if (!i || row->step != row[-1].step || row->layer != row[-1].layer)
			memset(seen, 0, t->n_expert * sizeof(*seen));
		for (uint32_t u = 0; u < row->n; u++) {
			bool *one = &seen[t->uses[row->first + u].expert];

			n += !*one;
			*one = true;
		}
	}
	free(seen);
	route_trace_destroy(t);
	return n;
}

/* A step with drafts that was given up while it waited for the disk: its uses so far are in the trace. */
static void test_trace_of_a_step_given_up(void **state)
{
	struct request_ops ops = rig_request_ops;
	char path[] = "/tmp/sluice-test-spec.XXXXXX";
	struct engine_status status;
	uint32_t draft[ANSWER];
	struct ask plain, other;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	rig_least_budget(&rig);
	rig_start(&rig);
	run_plain(&plain, 9, false);
	rig_stop(&rig);
	rig.config.trace_path = path;
	rig.config.trace_overwrite = true;
	rig_start(&rig);
	spoil(draft, &plain, UINT32_MAX); /* only the last token of each step is sure */
	make(&other, 9, false);
	other.request.draft = draft;
	other.request.n_draft = ANSWER;
	other.request.draft_length = 4;
	ops.token = token_then_hold;
	other.request.ops = &ops;
	ask_submit(&other, &rig);
	rig_wait_for_disk(&rig);
	atomic_store(&other.request.cancel, true);
	ask_wait(&other);
	reader_memory_release(&rig.disk);
	assert_int_equal(other.result.stop, STOP_CANCELLED);
	engine_get_status(rig.engine, &status);
	rig_stop(&rig);
	assert_int_equal(uses_in_trace(path), status.hits + status.misses);
	unlink(path);
}

/*
 * Reads that fail for good under drafts that are all wrong: a request ends with an error exactly where
 * it would have without them, after the same tokens.
 */
static void test_failed_read(void **state)
{
	const struct expert_part *p = &rig.model->layers[1].experts.part[0];
	uint32_t draft[ANSWER];
	struct ask plain, other, whole;
	unsigned failed = 0;

	rig_least_budget(&rig);
	rig_start(&rig);
	make(&whole, 31, false);
	whole.request.n_tokens = 3;
	whole.request.spec = SPEC_OFF;
	run(&whole);
	for (uint32_t e = 0; e < rig.model->n_expert; e++) {
		atomic_store(&rig.disk.bad_from, p->offset + e * p->bytes);
		atomic_store(&rig.disk.bad_to, p->offset + (e + 1) * p->bytes);
		atomic_store(&rig.disk.bad_times, UINT32_MAX);
		make(&plain, 31, false);
		plain.request.n_tokens = 3;
		plain.request.spec = SPEC_OFF;
		ask_submit(&plain, &rig);
		ask_wait(&plain);
		for (unsigned way = 0; way < 3; way++) {
			spoil(draft, &whole, way == 0 ? UINT32_MAX : way == 1 ? 0 : 0x55555555);
			make(&other, 31, false);
			other.request.n_tokens = 3;
			other.request.draft = draft;
			other.request.n_draft = ANSWER;
			other.request.draft_length = 3 + way;
			ask_submit(&other, &rig);
			ask_wait(&other);
			assert_int_equal(plain.result.stop, other.result.stop);
			assert_int_equal(plain.result.error, other.result.error);
			assert_same(&plain, &other);
		}
		failed += plain.result.stop == STOP_ERROR && plain.n_tokens;
	}
	assert_true(failed > 0); /* in the middle of the answer, else this is no test */
}

/* An answer with the log-probabilities of its tokens and of the likeliest beside them. */
struct scored {
	struct ask ask; /* first */
	struct token_logprobs said[ANSWER];
};

static void on_logprobs(struct request *r, const struct token_logprobs *l)
{
	struct scored *s = (struct scored *)r;

	s->said[atomic_load(&s->ask.n_tokens)] = *l; /* of the token that comes next */
}

static void run_scored(struct scored *s)
{
	static struct request_ops ops;

	ops = rig_request_ops;
	ops.token_logprobs = on_logprobs;
	s->ask.request.ops = &ops;
	s->ask.request.n_logprobs = 1 + LOGPROBS_MAX;
	run(&s->ask);
	assert_int_equal(s->ask.n_tokens, ANSWER);
}

/* Bit for bit, with drafts that are right, wrong and mixed, at every budget. */
static void test_same_logprobs(void **state)
{
	static const unsigned percents[] = { 100, 60, 30, 0 };
	static struct scored plain, other;
	uint32_t draft[ANSWER];

	for (unsigned i = 0; i < ARRAY_LEN(percents); i++) {
		rig.config.budget_percent = percents[i];
		if (!percents[i])
			rig_least_budget(&rig);
		rig_start(&rig);
		for (unsigned drawn = 0; drawn < 2; drawn++) {
			memset(&plain, 0, sizeof(plain));
			make(&plain.ask, 50 + drawn, drawn);
			plain.ask.request.spec = SPEC_OFF;
			run_scored(&plain);
			for (uint32_t length = 1; length <= DRAFT_MAX; length += 2) {
				spoil(draft, &plain.ask, 0x21084210u >> length);
				memset(&other, 0, sizeof(other));
				make(&other.ask, 50 + drawn, drawn);
				other.ask.request.draft = draft;
				other.ask.request.n_draft = ANSWER;
				other.ask.request.draft_length = length;
				run_scored(&other);
				assert_same(&plain.ask, &other.ask);
				assert_memory_equal(plain.said, other.said, sizeof(plain.said));
				assert_true(other.ask.result.spec.accepted[DRAFT_GIVEN] > 0);
			}
		}
		rig_stop(&rig);
	}
}

/* Uses that only drafts made are in no count but their own. */
static void test_counts(void **state)
{
	struct engine_status before, after;
	uint32_t draft[ANSWER];
	struct ask plain, other;
	uint64_t uses;

	rig_start(&rig);
	engine_get_status(rig.engine, &before);
	run_plain(&plain, 4, false);
	engine_get_status(rig.engine, &after);
	uses = after.hits + after.misses - before.hits - before.misses;
	assert_int_equal(after.dropped, 0);
	spoil(draft, &plain, UINT32_MAX);
	make(&other, 4, false);
	other.request.draft = draft;
	other.request.n_draft = ANSWER;
	other.request.draft_length = 5;
	before = after;
	run(&other);
	engine_get_status(rig.engine, &after);
	assert_int_equal(after.hits + after.misses - before.hits - before.misses, uses);
	assert_true(after.dropped > 0);
	assert_int_equal(other.result.spec.tokens,
			 ANSWER - 1); /* the prompt's step gave the first */
	assert_int_equal(other.result.spec.columns,
			 other.result.spec.steps + other.result.spec.drafted[DRAFT_GIVEN]);
}

/* A text that repeats: the control finds it out by itself, and less steps than tokens are taken. */
static void test_control(void **state)
{
	uint32_t draft[ANSWER];
	struct ask plain, other;

	rig_start(&rig);
	run_plain(&plain, 3, false);
	memcpy(draft, plain.tokens, sizeof(draft));
	make(&other, 3, false);
	other.request.draft = draft;
	other.request.n_draft = ANSWER;
	run(&other);
	assert_same(&plain, &other);
	assert_true(other.result.spec.steps <= other.result.spec.tokens);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same_tokens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_logprobs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_company, setup, teardown),
		cmocka_unit_test_setup_teardown(test_context_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end_inside_a_draft, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_trace_of_a_step_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_control, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
