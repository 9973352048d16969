/* SPDX-License-Identifier: MIT */
/* base/jsonc.c: see jsonc.h. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonc.h"
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
