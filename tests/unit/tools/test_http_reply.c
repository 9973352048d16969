/* SPDX-License-Identifier: MIT */
/* Description: HTTP answers out of bytes, however they are cut; what is none; addresses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tools/http_client.h"

/* Feeds @text in pieces of @cut bytes; what feeding said last. *ret_used: bytes of the answer. */
static int feed(struct http_reply *r, const char *text, size_t n, size_t cut, size_t *ret_used)
{
	struct err err = { 0 };
	size_t used;
	int rc = 0;

	*ret_used = 0;
	http_reply_begin(r);
	for (size_t at = 0; !rc && at < n && !r->whole; at += cut) {
		rc = http_reply_feed(r, text + at, at + cut < n ? cut : n - at, &used, &err);
		*ret_used += used;
		assert_true(!rc || err.text[0]);
	}
	return rc;
}

static const char sized[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Request-Id: req-7\r\n"
			    "Retry-After: 3\r\n\r\nhelloHTTP/1.1";
static const char chunked[] = "HTTP/1.1 100 Continue\r\n\r\n"
			      "HTTP/1.1 429 Too Many Requests\r\nTransfer-Encoding: chunked\r\n"
			      "Connection: close\r\nContent-Type: text/event-stream\r\n\r\n"
			      "3\r\nhel\r\n2;x=1\r\nlo\r\n0\r\nTrailer: x\r\n\r\n";

static void every_cut(void **state)
{
	struct http_reply r = { 0 };
	size_t used;

	for (size_t cut = 1; cut < sizeof(chunked); cut++) {
		assert_int_equal(feed(&r, sized, sizeof(sized) - 1, cut, &used), 0);
		assert_true(r.whole && !r.closes && !r.is_stream);
		assert_int_equal(r.status, 200);
		assert_int_equal(r.retry_after_s, 3);
		assert_string_equal(r.request_id, "req-7");
		assert_int_equal(r.body.n, 5);
		assert_memory_equal(r.body.data, "hello", 6);
		assert_int_equal(used, sizeof(sized) - 1 - 8);
		assert_int_equal(feed(&r, chunked, sizeof(chunked) - 1, cut, &used), 0);
		assert_true(r.whole && r.closes && r.is_stream);
		assert_int_equal(r.status, 429);
		assert_string_equal(r.body.data, "hello");
		assert_int_equal(used, sizeof(chunked) - 1);
	}
	http_reply_done(&r);
}

static void until_the_end(void **state)
{
	static const char text[] = "HTTP/1.0 200 OK\r\n\r\nall of it";
	struct http_reply r = { 0 };
	struct err err = { 0 };
	size_t used;

	assert_int_equal(feed(&r, text, sizeof(text) - 1, 4, &used), 0);
	assert_false(r.whole);
	assert_int_equal(http_reply_eof(&r, &err), 0);
	assert_true(r.whole && r.closes);
	assert_string_equal(r.body.data, "all of it");
	assert_int_equal(feed(&r, sized, sizeof(sized) - 12, 9, &used), 0);
	assert_int_equal(http_reply_eof(&r, &err), -EPIPE);
	http_reply_begin(&r);
	err_clear(&err);
	assert_int_equal(http_reply_eof(&r, &err), -EPIPE);
	assert_non_null(strstr(err.text, "before"));
	http_reply_done(&r);
}

#define HEAD "HTTP/1.1 200 OK\r\n"

static void hostile(void **state)
{
	static const struct {
		const char *text;
		size_t n;
	} all[] = {
#define X(text) { text, sizeof(text) - 1 }
		X("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
		X("HTTP/2 200\r\n\r\n"),
		X("HTTP/1.1 abc\r\n\r\n"),
		X("HTTP/1.1 7 x\r\n\r\n"),
		X(HEAD "no colon\r\n\r\n"),
		X(HEAD "Content-Length: -1\r\n\r\n"),
		X(HEAD "Content-Length: 5x\r\n\r\n"),
		X(HEAD "Content-Length: 99999999999999999999\r\n\r\n"),
		X(HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
		X(HEAD "Transfer-Encoding: gzip\r\n\r\n"),
		X(HEAD "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
		X(HEAD "Transfer-Encoding: chunked\r\n\r\n-3\r\n"),
		X(HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"),
		X(HEAD "a: b\0c\r\n\r\n"),
#undef X
	};
	static char long_line[8192], head[HTTP_REPLY_HEAD_MAX + 64];
	struct http_reply r = { 0 };
	size_t used;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_true(feed(&r, all[i].text, all[i].n, 3, &used) < 0);
		assert_true(feed(&r, all[i].text, all[i].n, all[i].n, &used) < 0);
	}
	memset(head, 'a', sizeof(head));
	assert_int_equal(feed(&r, head, sizeof(head), sizeof(head), &used), -EFBIG);
	memset(long_line, '1', sizeof(long_line));
	memcpy(long_line, HEAD "Transfer-Encoding: chunked\r\n\r\n", sizeof(HEAD) + 29);
	assert_int_equal(feed(&r, long_line, sizeof(long_line), 100, &used), -EPROTO);
	http_reply_begin(&r);
	assert_int_equal(
		feed(&r, HEAD "Content-Length: 300000000\r\n\r\n", sizeof(HEAD) + 28, 400, &used),
		0);
	r.total = HTTP_REPLY_BODY_MAX;
	assert_int_equal(http_reply_feed(&r, "x", 1, &used, NULL), -EFBIG);
	http_reply_done(&r);
}

static void addresses(void **state)
{
	static const char *const bad[] = {
		"",	  "http://",  "https://a", "unix:",	      ":80",	     "a:",
		"a:8x",	  "[::1",     "[::1]x:8",  "http://a:80/x y", "a:123456789", "user@host:80",
		"a:80?x", "a\r\nb:80"
	};
	struct http_target t;
	struct err err;

	assert_int_equal(http_target_parse("http://127.0.0.1:8080/llm/", &t, NULL), 0);
	assert_int_equal(t.kind, HTTP_TCP);
	assert_string_equal(t.host, "127.0.0.1");
	assert_string_equal(t.port, "8080");
	assert_string_equal(t.prefix, "/llm");
	assert_int_equal(http_target_parse("[::1]:9", &t, NULL), 0);
	assert_string_equal(t.host, "::1");
	assert_string_equal(t.port, "9");
	assert_string_equal(t.prefix, "");
	assert_int_equal(http_target_parse("host", &t, NULL), 0);
	assert_string_equal(t.port, "80");
	assert_int_equal(http_target_parse("unix:/run/x", &t, NULL), 0);
	assert_int_equal(t.kind, HTTP_UNIX);
	assert_string_equal(t.path, "/run/x");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err_clear(&err);
		assert_int_equal(http_target_parse(bad[i], &t, &err), -EINVAL);
		assert_non_null(strstr(err.text, "--http"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_cut),
					    cmocka_unit_test(until_the_end),
					    cmocka_unit_test(hostile),
					    cmocka_unit_test(addresses) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
