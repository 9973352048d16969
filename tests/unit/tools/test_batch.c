/* SPDX-License-Identifier: MIT */
/* Description: sluice batch: lines of requests and results, going on after a kill at every byte, time left. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/batch.h"

static char in_path[64], out_path[64];

static void put(const char *path, const char *text, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	fclose(f);
}

static size_t size_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (size_t)st.st_size;
}

#define BODY "\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":\"x\"}}\n"

static void open_text(struct batch *b, const char *text, const char *want)
{
	struct err err = { 0 };
	int rc;

	put(in_path, text, strlen(text));
	rc = batch_open(b, in_path, &err);
	if (!want)
		assert_int_equal(rc, 0);
	else
		assert_true(rc && strstr(err.text, want));
}

static void the_input(void **state)
{
	struct batch b;
	struct err err = { 0 };
	char *text;

	open_text(&b,
		  "\n{\"custom_id\":\"a\"," BODY "not JSON\n  \n{\"custom_id\":\"b\"," BODY
		  "{\"custom_id\":\"\"," BODY "{\"custom_id\":7}",
		  NULL);
	assert_int_equal(b.n_lines, 5);
	assert_string_equal(b.lines[0].custom_id, "a");
	assert_int_equal(b.lines[0].number, 2);
	assert_null(b.lines[1].custom_id);
	assert_int_equal(b.lines[2].number, 5);
	assert_null(b.lines[3].custom_id);
	assert_null(b.lines[4].custom_id);
	assert_int_equal(batch_text(&b, &b.lines[1], &text, &err), 0);
	assert_string_equal(text, "not JSON");
	free(text);
	assert_int_equal(truncate(in_path, 4), 0);
	assert_int_equal(batch_text(&b, &b.lines[1], &text, &err), -ENODATA);
	batch_close(&b);
	open_text(&b, "", "holds no requests");
	batch_close(&b);
	open_text(&b, "{\"custom_id\":\"a\"}\n{\"custom_id\":\"b\"}\n\n{\"custom_id\":\"a\"}",
		  "line 4: its custom_id is that of line 1 already");
	batch_close(&b);
	err_clear(&err);
	assert_int_equal(batch_open(&b, "/dev/null", &err), -EINVAL);
	batch_close(&b);
}

/* 40 custom_ids: the index grows, and all are found. */
static void many_names(void **state)
{
	char text[4096];
	struct batch b;
	size_t n = 0, cut;

	for (int i = 0; i < 40; i++)
		n += (size_t)sprintf(text + n, "{\"custom_id\":\"line-%d\"}\n", i);
	open_text(&b, text, NULL);
	n = 0;
	for (int i = 39; i >= 0; i -= 2)
		n += (size_t)sprintf(text + n,
				     "{\"id\":\"\",\"custom_id\":\"line-%d\",\"response\":"
				     "{\"status_code\":200},\"error\":null}\n",
				     i);
	put(out_path, text, n);
	assert_int_equal(batch_resume(&b, out_path, &cut, NULL), 0);
	assert_int_equal(b.n_done, 20);
	assert_int_equal(b.n_failed, 0);
	for (size_t i = 0; i < 40; i++)
		assert_int_equal(b.lines[i].done, i % 2);
	batch_close(&b);
}

static void what_a_line_asks(void **state)
{
	static const struct {
		const char *text, *code;
	} all[] = {
		{ "{\"custom_id\":\"a\"," BODY, NULL },
		{ "{\"custom_id\":\"a\",\"url\":\"/v1/messages\",\"body\":{\"stream\":false}}",
		  NULL },
		{ "{", "invalid_json" },
		{ "[]", "invalid_json" },
		{ "{\"custom_id\":\"a\"} x", "invalid_json" },
		{ "{\"custom_id\":\"\xff\"}", "invalid_json" },
		{ "{" BODY, "missing_custom_id" },
		{ "{\"custom_id\":\"a\\u0000b\"," BODY, "missing_custom_id" },
		{ "{\"custom_id\":\"a\",\"method\":\"GET\",\"url\":\"/v1/completions\"}",
		  "invalid_method" },
		{ "{\"custom_id\":\"a\",\"url\":\"/v1/embeddings\",\"body\":{}}", "invalid_url" },
		{ "{\"custom_id\":\"a\",\"url\":7,\"body\":{}}", "invalid_url" },
		{ "{\"custom_id\":\"a\",\"url\":\"/v1/completions\",\"body\":[]}", "invalid_body" },
		{ "{\"custom_id\":\"a\",\"url\":\"/v1/completions\"}", "invalid_body" },
		{ "{\"custom_id\":\"a\",\"url\":\"/v1/completions\",\"body\":{\"stream\":true}}",
		  "invalid_body" },
	};
	struct batch_line l = { .number = 7 };
	struct batch_fault f;
	struct batch_ask a;
	bool failed;
	uint32_t line;
	char *text, *id;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_int_equal(batch_ask_parse(all[i].text, strlen(all[i].text), &a, &f),
				 !all[i].code);
		json_object_put(a.object);
		if (!all[i].code)
			continue;
		assert_string_equal(f.code, all[i].code);
		text = batch_result_fault(&l, &f);
		assert_null(strchr(text, '\n'));
		assert_int_equal(batch_result_parse(text, strlen(text), &id, &line, &failed), 0);
		assert_true(failed && !id && line == 7);
		free(text);
	}
}

static void what_an_answer_becomes(void **state)
{
	static char body[] =
		"{\"a\": 0.10,\n \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}";
	static char name[] = "a\"\n\x1b", html[] = "<html>";
	struct batch_line l = { .number = 7, .custom_id = name };
	struct http_reply r = { .status = 200, .request_id = "req-1" };
	uint64_t tokens[2] = { 0 };
	uint32_t line;
	char *text, *id;
	bool failed;

	r.body = (struct bytes){ .data = body, .n = strlen(body) };
	text = batch_result_answer(&l, &r, tokens, &failed);
	assert_non_null(
		strstr(text, "\"custom_id\":\"a\\\"\\n\\u001b\",\"response\":{\"status_code\":200,"
			     "\"request_id\":\"req-1\",\"body\":{\"a\": 0.10,  \"usage\""));
	assert_null(strchr(text, '\n'));
	assert_int_equal(tokens[0], 3);
	assert_int_equal(tokens[1], 5);
	assert_int_equal(batch_result_parse(text, strlen(text), &id, &line, &failed), 0);
	assert_string_equal(id, name);
	assert_false(failed);
	free(id);
	free(text);
	r.status = 400;
	text = batch_result_answer(&l, &r, tokens, &failed);
	assert_int_equal(batch_result_parse(text, strlen(text), &id, &line, &failed), 0);
	assert_true(failed);
	free(id);
	free(text);
	r.body = (struct bytes){ .data = html, .n = strlen(html) };
	text = batch_result_answer(&l, &r, tokens, &failed);
	assert_non_null(strstr(text, "\"code\":\"invalid_answer\""));
	free(text);
}

/* An answer with @text in it, @n times, between @before and @after: what is kept of it can be read. */
static void assert_kept(const char *before, const char *text, size_t n, const char *after,
			bool kept)
{
	static char name[] = "a";
	struct batch_line l = { .number = 7, .custom_id = name };
	struct http_reply r = { .status = 200 };
	uint64_t tokens[2] = { 0 };
	char *result, *id;
	uint32_t line;
	bool failed, told;

	assert_int_equal(bytes_put(&r.body, before, strlen(before)), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(bytes_put(&r.body, text, strlen(text)), 0);
	assert_int_equal(bytes_put(&r.body, after, strlen(after)), 0);
	result = batch_result_answer(&l, &r, tokens, &told);
	assert_true(strlen(result) <= BATCH_LINE_MAX);
	assert_int_equal(batch_result_parse(result, strlen(result), &id, &line, &failed), 0);
	assert_int_equal(told, failed);
	assert_string_equal(id, "a");
	assert_int_equal(failed, !kept);
	assert_int_equal(!strstr(result, "\"code\":\"invalid_answer\""), kept);
	free(id);
	free(result);
	bytes_done(&r.body);
}

/* What resuming would refuse is no result: too large, too deep, with a NUL that would cut it. */
static void answers_that_cannot_be_kept(void **state)
{
	static char block[(1u << 20) + 1];
	char *deep = calloc(1001, 1), *ends = calloc(1001, 1);
	struct batch_line l = { .number = 7, .custom_id = block };
	struct batch_fault f = { .code = "x" };
	static char cut[] = "{}\0{";
	struct http_reply r = { .status = 200, .body = { .data = cut, .n = 4 } };
	uint64_t tokens[2] = { 0 };
	bool failed;
	char *text;

	memset(block, 'x', sizeof(block) - 1);
	assert_kept("{\"a\":\"", block, 32, "\"}", true);
	assert_kept("{\"a\":\"", block, 33, "\"}", false);
	for (size_t n = 995; n < 1000;
	     n++) { /* 997 and 998 are JSON, and within a result too deep */
		memset(deep, '[', n);
		memset(ends, ']', n);
		memcpy(deep + n, "0", 2);
		strcpy(ends + n, "}");
		assert_kept("{\"a\":", deep, 1, ends, n <= 996);
	}
	free(deep);
	free(ends);
	/* a NUL and something behind the object */
	text = batch_result_answer(&l, &r, tokens, &failed);
	assert_true(failed);
	assert_non_null(strstr(text, "\"code\":\"invalid_answer\""));
	free(text);
	/* a name that leaves no room for a result is none */
	memset(block, '\x01', BATCH_NAME_MAX);
	block[BATCH_NAME_MAX] = '\0';
	text = batch_result_fault(&l, &f);
	assert_true(strlen(text) < BATCH_LINE_MAX);
	free(text);
	text = malloc(BATCH_NAME_MAX + 32);
	memset(block, 'x', BATCH_NAME_MAX + 1);
	for (int more = 0; more < 2; more++) {
		int n = sprintf(text, "{\"custom_id\":\"%.*s\"}", (int)BATCH_NAME_MAX + more,
				block);
		char *id = batch_custom_id(text, (size_t)n);

		assert_int_equal(id == NULL, more);
		free(id);
	}
	free(text);
}

/* Killed behind every byte of two results: whole lines stay, a torn one goes, the rest is done again. */
static void killed_at_every_byte(void **state)
{
	struct batch b;
	struct err err = { 0 };
	size_t cut, first, all;
	char text[1024];
	FILE *f;

	open_text(&b, "{\"custom_id\":\"a\"," BODY "{\n{\"custom_id\":\"c\"," BODY, NULL);
	unlink(out_path);
	assert_int_equal(batch_resume(&b, out_path, &cut, &err), 0);
	assert_int_equal(batch_write(&b, &b.lines[0],
				     "{\"custom_id\":\"a\",\"response\":{\"status_code\":200},"
				     "\"error\":null}",
				     false, &err),
			 0);
	first = size_of(out_path);
	assert_int_equal(
		batch_write(&b, &b.lines[1],
			    "{\"custom_id\":null,\"response\":null,\"error\":{\"line\":2}}", true,
			    &err),
		0);
	assert_int_equal(batch_sync(&b, &err), 0);
	assert_int_equal(b.n_done, 2);
	assert_int_equal(b.n_failed, 1);
	batch_close(&b);
	f = fopen(out_path, "r");
	all = fread(text, 1, sizeof(text), f);
	fclose(f);
	for (size_t n = 0; n <= all; n++) {
		size_t want = n < first ? 0 : n < all ? first : all;

		put(out_path, text, n);
		assert_int_equal(batch_open(&b, in_path, &err), 0);
		assert_int_equal(batch_resume(&b, out_path, &cut, &err), 0);
		assert_int_equal(cut, n - want);
		assert_int_equal(size_of(out_path), want);
		assert_int_equal(b.n_done, (want > 0) + (want == all));
		assert_int_equal(b.n_failed, want == all);
		batch_close(&b);
	}
}

static void outputs_of_others(void **state)
{
	static const struct {
		const char *text, *want;
	} all[] = {
		{ "hello\n", "line 1: this is no result" },
		{ "\n", "no result" },
		{ "{\"custom_id\":\"a\"}\n", "no result" },
		{ "{\"custom_id\":\"z\",\"response\":null,\"error\":null}\n", "another batch's" },
		{ "{\"custom_id\":null,\"response\":null,\"error\":{\"line\":1}}\n",
		  "another batch's" },
		{ "{\"custom_id\":null,\"response\":null,\"error\":{\"line\":9}}\n",
		  "another batch's" },
		{ "{\"custom_id\":\"a\",\"response\":null,\"error\":null}\n"
		  "{\"custom_id\":\"a\",\"response\":null,\"error\":null}\n",
		  "line 2: a second result of line 1" },
	};
	struct batch b, c;
	struct err err = { 0 };
	size_t cut;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		open_text(&b, "{\"custom_id\":\"a\"," BODY, NULL);
		put(out_path, all[i].text, strlen(all[i].text));
		err_clear(&err);
		assert_true(batch_resume(&b, out_path, &cut, &err) < 0);
		assert_non_null(strstr(err.text, all[i].want));
		assert_int_equal(size_of(out_path), strlen(all[i].text));
		batch_close(&b);
	}
	unlink(out_path);
	open_text(&b, "{\"custom_id\":\"a\"," BODY, NULL);
	assert_int_equal(batch_resume(&b, out_path, &cut, &err), 0);
	assert_int_equal(batch_open(&c, in_path, &err), 0);
	assert_int_equal(batch_resume(&c, out_path, &cut, &err), -EBUSY); /* two at once */
	batch_close(&c);
	batch_close(&b);
	assert_int_equal(batch_open(&c, in_path, &err), 0);
	assert_int_equal(batch_resume(&c, in_path, &cut, &err), -EINVAL);
	batch_close(&c);
}

static void time_left(void **state)
{
	struct batch b = { .n_lines = 320, .n_done = 80, .bytes = 4000, .bytes_done = 1000 };
	struct batch_progress p = { .began_ns = 5000000000ull, .bytes_before = 500 };
	char text[320];

	assert_float_equal(batch_seconds_left(&p, &b, 15000000000ull), 60, 1e-6);
	assert_true(batch_seconds_left(&p, &b, 1) < 0);
	p.bytes_before = 1000;
	assert_true(batch_seconds_left(&p, &b, 15000000000ull) < 0);
	p.bytes_before = 0;
	batch_progress_text(&p, &b, 15000000000ull, true, 79, text, sizeof(text));
	assert_string_equal(text,
			    "[#######.......................]  25 %  80 of 320 lines, 30 s left");
	b.n_failed = 2;
	batch_progress_text(&p, &b, 1800000000000ull, false, 79, text, sizeof(text));
	assert_string_equal(text, "25 %  80 of 320 lines, 2 failed, 1 h 29 min left");
	batch_progress_text(&p, &b, 15000000000ull, true, 40, text, sizeof(text));
	assert_string_equal(text, "25 %  80 of 320 lines, 2 failed, 30 s le");
	for (unsigned columns = 40; columns < 200; columns++) {
		batch_progress_text(&p, &b, 15000000000ull, true, columns, text, sizeof(text));
		assert_true(strlen(text) <= columns);
	}
	b.bytes_done = b.bytes;
	assert_float_equal(batch_seconds_left(&p, &b, 15000000000ull), 0, 0);
	assert_string_equal(batch_duration(59.4, text, sizeof(text)), "59 s");
	assert_string_equal(batch_duration(3540, text, sizeof(text)), "59 min");
	assert_string_equal(batch_duration(7500, text, sizeof(text)), "2 h 05 min");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_input),
		cmocka_unit_test(many_names),
		cmocka_unit_test(what_a_line_asks),
		cmocka_unit_test(what_an_answer_becomes),
		cmocka_unit_test(answers_that_cannot_be_kept),
		cmocka_unit_test(killed_at_every_byte),
		cmocka_unit_test(outputs_of_others),
		cmocka_unit_test(time_left),
	};
	int rc;

	snprintf(in_path, sizeof(in_path), "/tmp/test_batch.%d.in", (int)getpid());
	snprintf(out_path, sizeof(out_path), "/tmp/test_batch.%d.out", (int)getpid());
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(in_path);
	unlink(out_path);
	return rc;
}
