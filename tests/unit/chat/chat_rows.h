/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/chat/chat_rows.h: what the tests of chat templates share: JSON files, and a rendering
 * compared with what a row of them expects. Included once per test program.
 */
#ifndef SLUICE_TEST_CHAT_ROWS_H
#define SLUICE_TEST_CHAT_ROWS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/jsonc.h"
#include "chat/template.h"
#include "tests/unit/data.h"

#define HELPER __attribute__((unused)) static

/* The clock of the fixtures. */
HELPER struct tm frozen(void)
{
	struct tm t = {
		.tm_year = 126, .tm_mon = 2, .tm_mday = 5, .tm_hour = 14, .tm_min = 7, .tm_sec = 9
	};

	timegm(&t);
	return t;
}

HELPER char *read_text(const char *path, size_t *ret_n)
{
	FILE *f = fopen(path, "rb");
	char *text = NULL;
	long n;

	if (!f)
		fail_msg("%s cannot be opened", path);
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	text = malloc((size_t)n + 1);
	assert_int_equal(fread(text, 1, (size_t)n, f), n);
	text[n] = '\0';
	fclose(f);
	*ret_n = (size_t)n;
	return text;
}

HELPER struct json_object *parse_json(const char *text, size_t n)
{
	struct json_tokener *t = json_tokener_new_ex(1000);
	struct json_object *o = json_tokener_parse_ex(t, text, (int)n + 1);

	if (json_tokener_get_error(t) != json_tokener_success)
		fail_msg("JSON: %s", json_tokener_error_desc(json_tokener_get_error(t)));
	json_tokener_free(t);
	return o;
}

HELPER struct json_object *json_of(const char *text)
{
	return parse_json(text, strlen(text));
}

HELPER struct json_object *read_json(const char *path)
{
	size_t n;
	char *text = read_text(path, &n);
	struct json_object *o = parse_json(text, n);

	free(text);
	return o;
}

HELPER struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return v;
}

HELPER const char *text_member(struct json_object *o, const char *key)
{
	return json_object_get_string(member(o, key));
}

/* How a result differs from what the row says; NULL: it does not. */
HELPER const char *difference(struct json_object *row, int rc, const struct rendered *r,
			      const struct template_error *err)
{
	struct json_object *want = member(row, "rendered"), *message = member(row, "message");
	static char said[600];

	if (rc && want) {
		snprintf(said, sizeof(said), "fails: %s", err->err.text);
		return said;
	}
	if (!want) {
		if (!rc)
			return "renders where an error is expected";
		if (!err->err.text[0] && !(message && !json_object_get_string_len(message)))
			return "fails without a sentence";
		return message && !err->raised ? "the template's own sentence is not told apart"
					       : NULL;
	}
	if (r->n == (size_t)json_object_get_string_len(want) &&
	    !memcmp(r->text, json_object_get_string(want), r->n))
		return NULL;
	return "renders something else";
}

/* One row {template, vars, rendered | error}. */
HELPER const char *check_vars_row(struct json_object *row)
{
	struct json_object *source = member(row, "template");
	struct tm now = frozen();
	const struct template_options o = { .now = &now };
	struct template_error err = { 0 };
	struct rendered r = { 0 };
	struct template *t = NULL;
	const char *bad;
	int rc = template_compile(json_object_get_string(source),
				  (size_t)json_object_get_string_len(source), &t, &err.err);

	if (!rc)
		rc = template_render(t, member(row, "vars"), &o, &r, &err);
	bad = difference(row, rc, &r, &err);
	rendered_done(&r);
	template_destroy(t);
	return bad;
}

#endif
