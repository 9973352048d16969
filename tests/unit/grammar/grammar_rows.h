/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/grammar/grammar_rows.h: what the tests of grammars share: JSON files, a text put to a
 * program, and JSON written in the ways that a model may write it. Included once per test program.
 */
#ifndef SLUICE_TEST_GRAMMAR_ROWS_H
#define SLUICE_TEST_GRAMMAR_ROWS_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/jsonc.h"
#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "grammar/program.h"
#include "grammar/vocab.h"
#include "tests/unit/data.h"

#define HELPER __attribute__((unused)) static

HELPER struct json_object *parse_json(const char *text)
{
	struct json_tokener *t = json_tokener_new_ex(2000);
	struct json_object *o = json_tokener_parse_ex(t, text, (int)strlen(text) + 1);

	if (json_tokener_get_error(t) != json_tokener_success)
		fail_msg("no JSON: %.200s", text);
	json_tokener_free(t);
	return o;
}

HELPER struct json_object *read_rows(const char *name)
{
	char path[DATA_PATH], *text;
	struct json_object *o;
	FILE *f = fopen(fixture(name, path), "rb");
	long n;

	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	text = malloc((size_t)n + 1);
	assert_int_equal(fread(text, 1, (size_t)n, f), n);
	text[n] = '\0';
	fclose(f);
	o = parse_json(text);
	free(text);
	return o;
}

enum verdict { ACCEPTED, INCOMPLETE, REJECTED };

HELPER enum verdict put_text(const struct program *p, const char *text, size_t n)
{
	struct matcher *m;
	enum verdict v;
	long taken;

	assert_int_equal(matcher_create(p, NULL, &m), 0);
	taken = matcher_bytes(m, text, n);
	assert_true(taken >= 0);
	v = taken < (long)n ? REJECTED : matcher_accepts(m) ? ACCEPTED : INCOMPLETE;
	matcher_destroy(m);
	return v;
}

HELPER struct program *schema_program(struct json_object *schema, bool strict, int want,
				      struct err *err)
{
	const struct schema_options o = { .strict = strict };
	struct program *p = NULL;
	int rc;

	err_clear(err);
	rc = grammar_schema(schema, &o, &p, err);
	if (rc)
		assert_true(err->text[0]);
	if (want <= 0 && rc != want)
		fail_msg("%.300s: %d, not %d: %s", json_object_to_json_string(schema), rc, want,
			 err->text);
	return p;
}

/* ---- JSON as json.dumps writes it ---- */

struct out {
	char *p;
	size_t n, room;
	bool ascii, blanks;
};

HELPER void put_bytes(struct out *o, const char *b, size_t n)
{
	if (o->n + n + 1 > o->room) {
		o->room = 2 * (o->n + n) + 64;
		o->p = realloc(o->p, o->room);
		assert_non_null(o->p);
	}
	memcpy(o->p + o->n, b, n);
	o->n += n;
	o->p[o->n] = '\0';
}

HELPER void put_string(struct out *o, const char *s, size_t n)
{
	static const char codes[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	char buf[16];

	put_bytes(o, "\"", 1);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		const char *at = c ? strchr(codes, c) : NULL;
		unsigned len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
		uint32_t x = c & (0x7fu >> len);

		if (at) {
			buf[0] = '\\';
			buf[1] = letters[at - codes];
			put_bytes(o, buf, 2);
		} else if (c < 0x20) {
			put_bytes(o, buf, (size_t)sprintf(buf, "\\u%04x", c));
		} else if (c < 0x80 || !o->ascii) {
			put_bytes(o, s + i, 1);
		} else {
			for (unsigned k = 1; k < len; k++)
				x = x << 6 | ((unsigned char)s[++i] & 63);
			if (x >= 0x10000)
				put_bytes(o, buf,
					  (size_t)sprintf(buf, "\\u%04x\\u%04x",
							  0xd800 + ((x - 0x10000) >> 10),
							  0xdc00 + (x & 0x3ff)));
			else
				put_bytes(o, buf, (size_t)sprintf(buf, "\\u%04x", x));
		}
	}
	put_bytes(o, "\"", 1);
}

HELPER void put_value(struct out *o, struct json_object *v)
{
	const char *text;
	bool first = true;

	switch (json_object_get_type(v)) {
	case json_type_string:
		put_string(o, json_object_get_string(v), (size_t)json_object_get_string_len(v));
		break;
	case json_type_array:
		put_bytes(o, "[", 1);
		for (size_t i = 0; i < json_object_array_length(v); i++) {
			if (i)
				put_bytes(o, ", ", o->blanks ? 2 : 1);
			put_value(o, json_object_array_get_idx(v, i));
		}
		put_bytes(o, "]", 1);
		break;
	case json_type_object:
		put_bytes(o, "{", 1);
		json_object_object_foreach(v, k, x)
		{
			if (!first)
				put_bytes(o, ", ", o->blanks ? 2 : 1);
			first = false;
			put_string(o, k, strlen(k));
			put_bytes(o, ": ", o->blanks ? 2 : 1);
			put_value(o, x);
		}
		put_bytes(o, "}", 1);
		break;
	default:
		text = json_object_to_json_string(v);
		put_bytes(o, text, strlen(text));
	}
}

/* Way @k of four; malloc'd. */
HELPER char *write_json(struct json_object *v, unsigned k)
{
	struct out o = { .ascii = k & 1, .blanks = k & 2 };

	put_bytes(&o, "", 0);
	put_value(&o, v);
	return o.p;
}

#endif
