/* SPDX-License-Identifier: MIT */
/* Description: routing traces of every format: contents, round trips, refusals (needs SHARED/traces). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/data.h"
#include "trace/read.h"

static struct route_trace *read_path(const char *path)
{
	struct err err = { 0 };
	struct route_trace *t;

	if (trace_read(path, &t, &err))
		fail_msg("%s", err.text);
	return t;
}

static struct route_trace *read_shared(const char *name)
{
	char path[DATA_PATH];

	shared_trace(name, path);
	return read_path(path);
}

static int read_text(const void *text, size_t len, struct route_trace **ret, struct err *err)
{
	char path[] = "/tmp/sluice-test-XXXXXX";
	int rc, fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	close(fd);
	rc = trace_read(path, ret, err);
	unlink(path);
	return rc;
}

static void expect_refused(const char *text, size_t len, const char *why)
{
	struct err err = { 0 };
	struct route_trace *t;

	if (!read_text(text, len, &t, &err))
		fail_msg("taken, but: %s", why);
	if (!strstr(err.text, why))
		fail_msg("'%s' lacks '%s'", err.text, why);
}

/* What is in the files was counted by other means: wc, awk and the files' README. */
static void test_shared_contents(void **state)
{
	static const struct {
		const char *name;
		uint32_t layers, experts, used;
		size_t rows, uses, frequencies;
	} want[] = {
		{ "qwen.route.csv", 48, 128, 6, 7461, 44766, 0 },
		{ "gemma.route.csv", 30, 128, 6, 4710, 28260, 0 },
		{ "gptoss.route.csv", 36, 128, 2, 5280, 10560, 0 },
		{ "kimi-linear.jsonl", 26, 256, 8, 7800, 62400, 0 },
		{ "olmoe.jsonl", 16, 64, 8, 4784, 38272, 0 },
		{ "397b.freq", 60, 512, 10, 0, 0, 15500 },
		{ "122b.freq", 48, 256, 8, 0, 0, 3179 },
	};

	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct route_trace *t = read_shared(want[i].name);

		assert_int_equal(t->n_layers, want[i].layers);
		assert_int_equal(t->n_expert, want[i].experts);
		assert_int_equal(t->n_expert_used, want[i].used);
		assert_int_equal(t->n_rows, want[i].rows);
		assert_int_equal(t->n_uses, want[i].uses);
		assert_int_equal(t->n_frequencies, want[i].frequencies);
		route_trace_destroy(t);
	}
}

static void test_csv_fields(void **state)
{
	struct route_trace *t = read_shared("qwen.route.csv");
	const struct trace_row *last = &t->rows[t->n_rows - 1];

	assert_string_equal(t->model, "Qwen3-30B-A3B-Q4_K_M.gguf");
	assert_string_equal(t->arch, "qwen3moe");
	assert_true(t->by_rank && t->has_weights && t->has_reads);
	assert_int_equal(t->layers[6].expert_bytes, 2654208);
	assert_int_equal(t->layers[6].dense_bytes, 11682816);
	/* 0,0,2,0,1,16,0.234965,0,0: third token of the prompt, all of it one pass */
	assert_int_equal(t->rows[2].pos, 2);
	assert_int_equal(t->rows[2].step, 1);
	assert_int_equal(t->rows[2].phase, TRACE_PREFILL);
	assert_int_equal(t->uses[13].expert, 16);
	assert_true(t->uses[13].weight == 0.234965f);
	assert_int_equal(t->uses[13].read_bytes, 0);
	assert_int_equal(t->uses[12].read_bytes, 3059712);
	/* 128 tokens were decoded, each a pass of its own */
	assert_int_equal(last->step, 129);
	assert_int_equal(last->layer, 47);
	assert_int_equal(last->pos, 155);
	assert_int_equal(last->phase, TRACE_DECODE);
	assert_true(t->uses[t->n_uses - 1].was_present);
	route_trace_destroy(t);
}

static void test_frequencies(void **state)
{
	struct route_trace *t = read_shared("397b.freq");
	double sum = 0;

	assert_int_equal(t->frequencies[0].layer, 0);
	assert_int_equal(t->frequencies[0].expert, 463);
	for (size_t i = 0; i < t->n_frequencies; i++)
		sum += (double)t->frequencies[i].uses_per_token;
	assert_true(sum > 599.99 && sum < 600.01);
	route_trace_destroy(t);
}

static void assert_same(const struct route_trace *a, const struct route_trace *b)
{
	assert_string_equal(a->model, b->model);
	assert_string_equal(a->arch, b->arch);
	assert_int_equal(a->n_layers, b->n_layers);
	assert_int_equal(a->n_expert, b->n_expert);
	assert_int_equal(a->n_expert_used, b->n_expert_used);
	assert_true(a->by_rank == b->by_rank && a->has_weights == b->has_weights &&
		    a->has_reads == b->has_reads);
	assert_int_equal(a->n_rows, b->n_rows);
	assert_int_equal(a->n_uses, b->n_uses);
	assert_int_equal(a->n_frequencies, b->n_frequencies);
	assert_memory_equal(a->layers, b->layers, a->n_layers * sizeof(*a->layers));
	assert_memory_equal(&a->outside, &b->outside, sizeof(a->outside));
	for (size_t i = 0; i < a->n_rows; i++) {
		const struct trace_row *x = &a->rows[i], *y = &b->rows[i];

		assert_true(x->step == y->step && x->seq == y->seq && x->pos == y->pos &&
			    x->layer == y->layer && x->phase == y->phase && x->n == y->n &&
			    x->first == y->first);
	}
	for (size_t i = 0; i < a->n_uses; i++) {
		const struct trace_use *x = &a->uses[i], *y = &b->uses[i];

		assert_true(x->expert == y->expert && x->weight == y->weight &&
			    x->was_present == y->was_present && x->read_bytes == y->read_bytes);
	}
	for (size_t i = 0; i < a->n_frequencies; i++)
		assert_true(a->frequencies[i].layer == b->frequencies[i].layer &&
			    a->frequencies[i].expert == b->frequencies[i].expert &&
			    a->frequencies[i].uses_per_token == b->frequencies[i].uses_per_token);
}

/* Every file turns into route_trace v1 and back with nothing lost, to the last bit. */
static void test_round_trip(void **state)
{
	static const char *const names[] = { "qwen.route.csv",	 "gemma.route.csv",
					     "gptoss.route.csv", "kimi-linear.jsonl",
					     "olmoe.jsonl",	 "397b.freq",
					     "122b.freq" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct route_trace *a = read_shared(names[i]), *b;
		char path[] = "/tmp/sluice-test-XXXXXX";
		FILE *f = fdopen(mkstemp(path), "w");

		assert_non_null(f);
		assert_int_equal(trace_write(a, f), 0);
		fclose(f);
		b = read_path(path);
		unlink(path);
		assert_same(a, b);
		route_trace_destroy(a);
		route_trace_destroy(b);
	}
}

#define HEAD "route_trace v1\ngeometry 2 4 2\norder rank\n"

static void test_own(void **state)
{
	static const char text[] = HEAD
		"model two words\nsome later key\nlayer 1 expert_bytes=10 dense_bytes=20\n"
		"outside dense_bytes=300 token_bytes=200\ndata\n"
		"# a comment\nstep 7\np 0 3 0 1:0.75 2:0.25\np 0 3 1 3:1\nd 1 4 99 0:0.5:1:0\n"
		"lost 5\nf 1 3 0.5\nd 1 4 100 2:0.";
	struct err err = { 0 };
	struct route_trace *t;

	if (read_text(text, strlen(text), &t, &err))
		fail_msg("%s", err.text);
	assert_string_equal(t->model, "two words");
	assert_int_equal(t->layers[1].dense_bytes, 20);
	assert_int_equal(t->outside.dense_bytes, 300);
	assert_int_equal(t->outside.token_bytes, 200);
	assert_int_equal(t->n_rows, 3); /* the half line is not there */
	assert_int_equal(t->n_uses, 4);
	assert_int_equal(t->lost, 5);
	assert_int_equal(t->rows[1].step, 7);
	assert_int_equal(t->rows[1].seq, 3);
	assert_int_equal(t->rows[1].pos, 1);
	assert_int_equal(t->rows[1].n, 1);
	assert_int_equal(t->rows[2].phase, TRACE_DECODE);
	assert_true(t->uses[3].was_present);
	assert_true(t->frequencies[0].uses_per_token == 0.5f);
	route_trace_destroy(t);
}

static void test_refused(void **state)
{
	static const char *const bad[][2] = {
		{ "", "is no routing trace" },
		{ "route_trace v2\n", "is no routing trace" },
		{ "route_trace v1\n", "header is not complete" },
		{ HEAD, "header is not complete" },
		{ "route_trace v1\ndata\nd 0 0 0 1\n", "line 3: a row comes before the geometry" },
		{ "route_trace v1\ngeometry 0 4 2\n", "0 layers of 4 experts" },
		{ "route_trace v1\ngeometry 2 4 5\n", "4 experts, 5 used" },
		{ "route_trace v1\ngeometry 99999 4 2\n", "99999 layers" },
		{ "route_trace v1\ngeometry 2 4\n", "geometry is not" },
		{ HEAD "geometry 2 4 2\n", "line 4: the geometry is given twice" },
		{ HEAD "layer 2 expert_bytes=1 dense_bytes=1\n", "no such layer" },
		{ HEAD "layer 1 expert_bytes=x\n", "bytes cannot be read" },
		{ HEAD "outside dense_bytes=1 token_bytes=-1\n", "outside the layers cannot" },
		{ HEAD "outside expert_bytes=1\n", "outside the layers cannot" },
		{ HEAD "data\nd 2 0 0 1\n", "line 5: layer 2 of 2" },
		{ HEAD "data\nd 0 0 0 4\n", "expert 4 of 4" },
		{ HEAD "data\nd 0 0 0 1 1\n", "expert 1 twice" },
		{ HEAD "data\nd 0 0 0 1 2 3\n", "more than 2 experts" },
		{ HEAD "data\nd 0 0\n", "starts with layer, sequence and position" },
		{ HEAD "data\nd 0 0 0 x\n", "number is missing" },
		{ HEAD "data\nd 0 0 0 1:nan\n", "weight cannot be read" },
		{ HEAD "data\nd 0 0 0 1:1:2:0\n", "0 or 1, then bytes" },
		{ HEAD "data\nd 0 0 0 1:1:1\n", "0 or 1, then bytes" },
		{ HEAD "data\nd 0 0 0 1:1:1:\n", "bytes of a read are missing" },
		{ HEAD "data\nd 0 0 0 1/2\n", "cannot be read" },
		{ HEAD "data\nstep 2\nd 0 0 0 1\nstep 1\nd 0 0 0 1\n",
		  "step 1 comes after step 2" },
		{ HEAD "data\nstep 99999999999999999999\n", "starts no line" },
		{ HEAD "data\nq 1 2\n", "`q 1 2` starts no line" },
		{ HEAD "data\nf 0 4 1\n", "outside the geometry" },
		{ HEAD "data\nf 0 1 -1\n", "below zero" },
		{ HEAD "data\nf 0 1 inf\n", "a frequency is" },
		{ "# route_trace v1\n", "there are no rows" },
		{ "# route_trace v1\n0,0,0,0,0,1,0.5,0,0\n", "before the geometry" },
		{ "# route_trace v1\n# x n_layer=2 n_expert=4 n_expert_used=2\n0,0,0,0,1,1,0.5,0,0\n",
		  "slot 1 is out of order" },
		{ "# route_trace v1\n# x n_layer=2 n_expert=4 n_expert_used=2\n0,0,0,0,0\n",
		  "column 5" },
		{ "# route_trace v1\n# x n_layer=2 n_expert=4 n_expert_used=2\n0,0,0,0,0,1,1,2,0\n",
		  "columns are not" },
		{ "{\"tok\": 1, \"layers\": [[1, 2]}\n", "this is not" },
		{ "{\"tok\": 1, \"layers\": [[1, 2], [3]], 4}\n", "this is not" },
		{ "{\"tok\": 1, \"layers\": [[1, 2]]}\n{\"tok\": 2, \"layers\": []}\n", "line 2" },
		{ "{\"tok\": 1, \"layers\": [[1, 70000]]}\n", "this is not" },
	};
	static const char freq[] = "QERF\1\0\0\0\2\0\0\0\1\0\0\0\5\0\1\0\0\0\0\0";

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		expect_refused(bad[i][0], strlen(bad[i][0]), bad[i][1]);
	expect_refused(freq, 23, "is no table");
	expect_refused(freq, 24, "outside the geometry");
}

/* Every prefix of a small file of each format is taken or refused, never worse (run with SAN=). */
static void test_every_prefix(void **state)
{
	static const char *const texts[] = {
		HEAD
		"layer 1 expert_bytes=10 dense_bytes=20\ndata\nstep 7\np 0 3 0 1:0.75 2:0.25:1:9\n"
		"lost 5\nf 1 3 0.5\n",
		"# route_trace v1\n# x n_layer=2 n_expert=4 n_expert_used=2\n# layer=0 expert_bytes=1 "
		"dense_bytes=2\nturn,phase,step,layer,slot\n0,0,0,0,0,1,0.5,0,0\n",
		"{\"tok\": 1, \"layers\": [[1, 2], [0, 3]]}\n",
	};
	size_t taken = 0;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		for (size_t len = 0; len <= strlen(texts[i]); len++) {
			struct route_trace *t;

			if (read_text(texts[i], len, &t, NULL))
				continue;
			route_trace_destroy(t);
			taken++;
		}
	assert_true(taken >= 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_contents),
		cmocka_unit_test(test_csv_fields),
		cmocka_unit_test(test_frequencies),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_every_prefix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
