/* SPDX-License-Identifier: MIT */
/* Description: the trace writer: what comes back, phases, a full ring, a file that cannot grow. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "trace/record.h"
#include "trace/read.h"

#define LAYERS 3
#define USED   4

static struct layer layers[LAYERS];
static const struct model model = {
	.arch_name = "qwen3moe",
	.name = "a model\nof two lines",
	.n_layers = LAYERS,
	.n_expert = 100,
	.n_expert_used = USED,
	.layers = layers,
	/* 1032 of a layer, a table of 20 rows of 64 bytes, an output matrix of 500 */
	.dense_bytes = 1032 + 20 * 64 + 500,
	.w[ROLE_TOKEN_EMBD] = { .n_out = 20, .row_bytes = 64 },
	.w[ROLE_OUTPUT] = { .n_out = 1, .row_bytes = 500 },
};
static char path[48]; /* this process's own: tests of two trees may run at once */

static struct trace *open_trace(void)
{
	struct err err = { 0 };
	struct trace *t;

	unlink(path);
	layers[1].experts.bytes = 777;
	layers[1].w[ROLE_WQ].n_out = 10;
	layers[1].w[ROLE_WQ].row_bytes = 100;
	layers[1].w[ROLE_FFN_NORM].n_out = 1;
	layers[1].w[ROLE_FFN_NORM].row_bytes = 32;
	if (trace_open(path, false, &model, NULL, &t, &err) || trace_start(t, &err))
		fail_msg("%s", err.text);
	return t;
}

static struct route_trace *read_back(void)
{
	struct err err = { 0 };
	struct route_trace *t;

	if (trace_read(path, &t, &err))
		fail_msg("%s", err.text);
	unlink(path);
	return t;
}

static void put(struct trace *t, uint64_t step, uint32_t seq, uint32_t pos, uint32_t layer)
{
	uint32_t ids[USED];
	float weights[USED];

	for (uint32_t i = 0; i < USED; i++) {
		ids[i] = (uint32_t)(step * 7 + pos + layer * 3 + i * 11) % 100;
		weights[i] = 0.5f / (float)(i + 1);
	}
	trace_layer(t, step, seq, pos, layer, ids, weights, USED);
}

static void test_rows(void **state)
{
	struct trace *t = open_trace();
	struct route_trace *r;

	/* step 1: a prompt of 3 tokens beside a sequence that decodes; step 2: both decode */
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		put(t, 1, 0, 40, layer);
		for (uint32_t pos = 0; pos < 3; pos++)
			put(t, 1, 1, pos, layer);
	}
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		put(t, 2, 0, 41, layer);
		put(t, 2, 1, 3, layer);
	}
	trace_close(t);
	r = read_back();
	assert_string_equal(r->model, "a model of two lines");
	assert_string_equal(r->arch, "qwen3moe");
	assert_true(r->by_rank && r->has_weights);
	assert_int_equal(r->layers[1].expert_bytes, 777);
	assert_int_equal(r->layers[1].dense_bytes, 1032);
	assert_int_equal(r->layers[0].dense_bytes, 0);
	assert_int_equal(r->outside.dense_bytes, 20 * 64 + 500);
	assert_int_equal(r->outside.token_bytes, 64 + 500); /* a token reads one row of the table */
	assert_int_equal(r->n_rows, LAYERS * 6);
	for (size_t i = 0; i < r->n_rows; i++) {
		const struct trace_row *row = &r->rows[i];

		assert_int_equal(row->step, i < LAYERS * 4 ? 1 : 2);
		assert_int_equal(row->phase,
				 row->seq == 1 && row->pos < 3 ? TRACE_PREFILL : TRACE_DECODE);
		assert_int_equal(row->n, USED);
		for (uint32_t k = 0; k < USED; k++) {
			const struct trace_use *u = &r->uses[row->first + k];
			float want = 0.5f / (float)(k + 1);

			assert_int_equal(u->expert,
					 (row->step * 7 + row->pos + row->layer * 3 + k * 11) %
						 100);
			assert_true(u->weight > want - 1e-5f && u->weight < want + 1e-5f);
		}
	}
	route_trace_destroy(r);
}

/* Rows are never made up or torn: what is written plus what is lost is what was given. */
static void test_flood(void **state)
{
	const uint32_t n = 1500000;
	struct trace *t = open_trace();
	struct route_trace *r;

	for (uint32_t i = 0; i < n; i++)
		put(t, i / 1000 + 1, 0, i, i % LAYERS);
	assert_int_equal(trace_error(t, NULL), 0);
	trace_close(t);
	r = read_back();
	assert_int_equal(r->n_rows + r->lost, n);
	for (size_t i = 0; i < r->n_rows; i++) {
		const struct trace_row *row = &r->rows[i];

		assert_int_equal(row->step, row->pos / 1000 + 1);
		assert_int_equal(r->uses[row->first].expert,
				 (row->step * 7 + row->pos + row->layer * 3) % 100);
	}
	route_trace_destroy(r);
}

/* A file that cannot grow (as on a full disk): said once, cut to whole rows, nothing else. */
static void test_full(void **state)
{
	struct rlimit old, small = { 100000, 100000 };
	struct err err = { 0 };
	struct route_trace *r;
	struct trace *t;
	int rc = 0;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	t = open_trace();
	for (uint32_t i = 0; i < 1000 && !rc; i++) {
		for (uint32_t k = 0; k < 100; k++)
			put(t, i + 1, 0, i * 100 + k, 0);
		usleep(1000);
		rc = trace_error(t, &err);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(rc, -EFBIG);
	assert_non_null(strstr(err.text, "ends here"));
	put(t, 5000, 0, 0, 0);
	assert_int_equal(trace_error(t, &err), 0);
	trace_close(t);
	r = read_back();
	assert_true(r->n_rows > 100);
	route_trace_destroy(r);
}

static void test_refused(void **state)
{
	struct model dense = model;
	struct err err = { 0 };
	struct trace *t;

	dense.n_expert = 0;
	assert_int_equal(trace_open(path, false, &dense, NULL, &t, &err), -EINVAL);
	err_clear(&err);
	assert_int_equal(trace_open("/nowhere/trace", false, &model, NULL, &t, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nowhere/trace"));
	err_clear(&err);
	assert_int_equal(trace_open("/dev/full", false, &model, NULL, &t, &err),
			 0); /* no file to lose */
	assert_int_equal(trace_start(t, &err), -ENOSPC);
	trace_close(t);
	assert_int_equal(access("/dev/full", F_OK), 0);
	assert_int_equal(trace_error(NULL, &err), 0);
	trace_close(NULL);
}

static off_t size_of(const char *file)
{
	struct stat st;

	return stat(file, &st) ? -1 : st.st_size;
}

/* What is there stays until the daemon really starts, and is replaced only where that was asked. */
static void test_existing(void **state)
{
	struct err err = { 0 };
	struct trace *t;
	FILE *f;

	unlink(path);
	assert_int_equal(trace_open(path, false, &model, NULL, &t, &err), 0);
	assert_int_equal(size_of(path), 0);
	trace_close(t); /* never started: nothing stays behind */
	assert_int_equal(size_of(path), -1);
	f = fopen(path, "w");
	fputs("a day's work", f);
	fclose(f);
	assert_int_equal(trace_open(path, false, &model, NULL, &t, &err), -EEXIST);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "--overwrite"));
	assert_int_equal(size_of(path), 12);
	err_clear(&err);
	assert_int_equal(trace_open(path, true, &model, NULL, &t, &err), 0);
	trace_close(t); /* another reason not to start */
	assert_int_equal(size_of(path), 12);
	assert_int_equal(trace_open(path, true, &model, NULL, &t, &err), 0);
	assert_int_equal(trace_start(t, &err), 0);
	put(t, 1, 0, 0, 0);
	trace_close(t);
	route_trace_destroy(read_back());
	/* an empty file is one too: somebody may have taken the name */
	f = fopen(path, "w");
	fclose(f);
	assert_int_equal(trace_open(path, false, &model, NULL, &t, NULL), -EEXIST);
	unlink(path);
}

/* Traces of before say less: what is missing is 0. */
static void test_old_header(void **state)
{
	struct route_trace *r;
	FILE *f = fopen(path, "w");

	fputs("route_trace v1\ngeometry 2 4 2\nlayer 0 expert_bytes=7\nlayer 1 dense_bytes=9\n"
	      "data\nd 0 0 0 1 2\n",
	      f);
	fclose(f);
	r = read_back();
	assert_int_equal(r->layers[0].expert_bytes, 7);
	assert_int_equal(r->layers[0].dense_bytes, 0);
	assert_int_equal(r->layers[1].dense_bytes, 9);
	assert_int_equal(r->outside.dense_bytes, 0);
	route_trace_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),	 cmocka_unit_test(test_flood),
		cmocka_unit_test(test_full),	 cmocka_unit_test(test_refused),
		cmocka_unit_test(test_existing), cmocka_unit_test(test_old_header),
	};

	snprintf(path, sizeof(path), "/tmp/sluice-test-trace-%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
