/* SPDX-License-Identifier: MIT */
/* base/jsonc.c: see jsonc.h. */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
#include "base/jsonc_escape.h"
#include "base/num.h"

typedef struct json_object *hold_fn(struct json_object *o);

struct json_object *jsonc_hold(struct json_object *o)
{
	static _Atomic(uintptr_t) found;
	uintptr_t hold = atomic_load_explicit(&found, memory_order_relaxed);

	if (!hold) {
		hold = (uintptr_t)dlvsym(RTLD_DEFAULT, "json_object_get", "JSONC_0.14");
		if (!hold) { /* another json-c than those that we know: nothing can be right then */
			fputs("this libjson-c has no json_object_get of version JSONC_0.14\n",
			      stderr);
			abort();
		}
		atomic_store_explicit(&found, hold, memory_order_relaxed);
	}
	return ((hold_fn *)hold)(o);
}

size_t jsonc_values(const char *text, size_t n)
{
	bool string = false;
	size_t count = 1;

	for (size_t i = 0; i < n; i++) {
		char c = text[i];

		if (string && c == '\\')
			i++;
		else if (c == '"')
			string = !string;
		else if (!string)
			count += c == ',' || c == '[' || c == '{';
	}
	return count;
}

/* ---- parsing ---- */

#define AS_DOUBLE \
	"e0" /* behind the digits of an integer that json-c would not keep; "123e0" is written like that */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* @text: n characters of an integer, and what is behind them. */
static bool is_wide(const char *text, size_t n)
{
	if (n < 19 || text[n] == '.' || text[n] == 'e' || text[n] == 'E') /* 2^63 has 19 digits */
		return false;
	errno = 0;
	if (*text == '-')
		strtoll(text, NULL, 10);
	else
		strtoull(text, NULL, 10);
	return errno == ERANGE;
}

enum found { FOUND_END, FOUND_WIDE, FOUND_FAULT };

/*
 * Moves *at behind the next integer beyond 64 bits that is not in a string, or onto something that json-c takes, strict
 * or not, and that is no JSON: quotes of the other kind, NaN and Infinity, 00, 1. and control characters in strings.
 * Else to the end.
 */
static enum found next_wide(const char *text, size_t n, size_t *at, bool *string)
{
	while (*at < n) {
		size_t from = *at, first, end;
		char c = text[(*at)++];

		if (*string && c == '\\') {
			++*at;
			continue;
		}
		if (c == '"')
			*string = !*string;
		if (*string && (unsigned char)c < ' ') { /* json-c takes it, 0.18 does not */
			*at = from;
			return FOUND_FAULT;
		}
		if (*string || (c != '-' && c != '\'' && c != 'N' && c != 'I' && !is_digit(c)))
			continue;
		first = end = from + (c == '-');
		while (end < n && is_digit(text[end]))
			end++;
		if ((c != '-' && !is_digit(c)) || (text[first] == '0' && end > first + 1) ||
		    (end > first && text[end] == '.' && !is_digit(text[end + 1]))) {
			*at = from;
			return FOUND_FAULT;
		}
		*at = end;
		if (is_wide(text + from, end - from))
			return FOUND_WIDE;
		while (*at < n && text[*at] && strchr("+-.eE0123456789", text[*at]))
			++*at; /* what is behind the point is no number of its own */
	}
	*at = n;
	return FOUND_END;
}

/* The digits of such integers without what made them doubles. */
static void drop_marks(struct json_object *o)
{
	char *text;
	size_t n;

	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			drop_marks(json_object_array_get_idx(o, i));
	} else if (json_object_is_type(o, json_type_object)) {
		json_object_object_foreach(o, key, item)
		{
			(void)key;
			drop_marks(item);
		}
	} else if (json_object_is_type(o, json_type_double)) {
		text = json_object_get_userdata(o);
		n = text ? strlen(text) : 0;
		if (n > 19 && !strcmp(text + n - 2, AS_DOUBLE) && !strchr(text, '.'))
			text[n - 2] = '\0';
	}
}

static enum json_tokener_error parse(struct json_tokener *t, const char *text, size_t n,
				     struct json_object **ret, size_t *ret_at)
{
	enum json_tokener_error e = n ? json_tokener_continue : json_tokener_error_parse_eof;
	enum found found = FOUND_WIDE;
	bool string = false, wide = false;
	size_t from = 0, end;

	*ret = NULL;
	*ret_at = 0;
	while (e == json_tokener_continue && found == FOUND_WIDE) {
		end = from;
		found = next_wide(text, n, &end, &string);
		*ret = json_tokener_parse_ex(t, text + from,
					     (int)(end - from + (found == FOUND_END)));
		e = json_tokener_get_error(t);
		*ret_at = from + json_tokener_get_parse_end(t);
		if (found == FOUND_WIDE && e == json_tokener_continue) {
			json_tokener_parse_ex(t, AS_DOUBLE, 2);
			wide = true;
		}
		from = end;
	}
	if (found == FOUND_FAULT && e == json_tokener_continue)
		e = json_tokener_error_parse_unexpected;
	if (wide && e == json_tokener_success)
		drop_marks(*ret);
	return e;
}

static bool is_ascii(const char *text, size_t n)
{
	char all = 0;

	for (size_t i = 0; i < n; i++)
		all |= text[i];
	return !(all & 0x80);
}

/* parse() of a copy whose strings are ASCII: json-c is never asked what is a character. False: no memory for it. */
static bool parse_escaped(struct json_tokener *t, const char *text, size_t n,
			  struct json_object **ret, size_t *ret_at, enum json_tokener_error *ret_e)
{
	size_t bad, bytes;
	char *copy = jsonc_escape(text, n, &bytes, &bad);

	if (!copy)
		return false;
	*ret_e = parse(t, copy, bytes, ret, ret_at);
	*ret_at = jsonc_escaped_at(text, n, *ret_at);
	free(copy);
	/* where something else is wrong too, that is told */
	if (*ret_e == json_tokener_success && bad != SIZE_MAX) {
		json_object_put(*ret);
		*ret = NULL;
		*ret_at = bad;
		*ret_e = json_tokener_error_parse_utf8_string;
	}
	return true;
}

int jsonc_parse(const char *text, size_t n, int depth, struct json_object **ret, size_t *ret_at,
		const char **ret_why)
{
	enum json_tokener_error e;
	struct json_tokener *t = json_tokener_new_ex(depth);
	struct json_object *o = NULL;
	bool done = true;

	*ret_at = 0;
	*ret_why = "out of memory";
	if (!t)
		return -ENOMEM;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT);
	if (is_ascii(text, n))
		e = parse(t, text, n, &o, ret_at);
	else
		done = parse_escaped(t, text, n, &o, ret_at, &e);
	json_tokener_free(t);
	if (!done)
		return -ENOMEM;
	*ret_why = e != json_tokener_success ? json_tokener_error_desc(e)
					     : "it goes on behind its end";
	if (e == json_tokener_success && *ret_at >= n) {
		*ret = o;
		return 0;
	}
	json_object_put(o);
	return -EINVAL;
}

const char *jsonc_digits(struct json_object *o)
{
	const char *text = json_object_is_type(o, json_type_double) ? json_object_get_userdata(o)
								    : NULL;

	return text && *text && !strpbrk(text, ".eEnN") ? text : NULL;
}

struct json_object *jsonc_member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (json_object_is_type(o, json_type_object))
		json_object_object_get_ex(o, key, &v);
	return v;
}

char *jsonc_take_text(struct json_object *o)
{
	const char *text = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	char *copy = text ? strdup(text) : NULL;

	json_object_put(o);
	return copy;
}

/* The next part of a pointer, up to its '/' or the end, into @buf. NULL: too long. */
static const char *pointer_part(const char *at, char *buf, size_t size)
{
	size_t n = 0;

	for (; *at && *at != '/'; at++) {
		char c = *at;

		if (c == '%' && hex_value(at[1]) >= 0 && hex_value(at[2]) >= 0) {
			c = (char)(hex_value(at[1]) << 4 | hex_value(at[2]));
			at += 2;
		}
		if (c == '~' && (at[1] == '0' || at[1] == '1'))
			c = *++at == '0' ? '~' : '/';
		if (n + 1 == size)
			return NULL;
		buf[n++] = c;
	}
	buf[n] = '\0';
	return at;
}

struct json_object *jsonc_follow(struct json_object *root, const char *fragment)
{
	const char *at = fragment + (*fragment == '#');
	struct json_object *o = root;
	char part[1024], *end;

	if (*fragment != '#' || (*at && *at != '/'))
		return NULL;
	while (o && *at == '/') {
		at = pointer_part(at + 1, part, sizeof(part));
		if (!at)
			return NULL;
		if (json_object_is_type(o, json_type_array)) {
			size_t i = strtoul(part, &end, 10);

			o = part[0] >= '0' && part[0] <= '9' && !*end
				    ? json_object_array_get_idx(o, i)
				    : NULL;
		} else {
			o = jsonc_member(o, part);
		}
	}
	return o;
}
