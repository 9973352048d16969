/* SPDX-License-Identifier: MIT */
/*
 * base/jsonc.h: json-c, to be included instead of <json-c/json.h>, never beside <jansson.h>.
 *
 * libjansson, which parts of the programs use too, has functions of the same names as two of
 * json-c's (json_object_get, json_object_iter_next), and the linker gives both sides the one that it
 * meets first. The first is therefore looked up by its version here, the second not used. Any thread.
 */
#ifndef SLUICE_BASE_JSONC_H
#define SLUICE_BASE_JSONC_H

#include <json-c/json.h>

/* json-c's json_object_get(): one more holder of @o, which may be NULL. Returns it. */
struct json_object *jsonc_hold(struct json_object *o);

/* The member @key of @o, borrowed. NULL: @o is no object, or the member is absent or null. */
struct json_object *jsonc_member(struct json_object *o, const char *key);

/*
 * What a URI fragment that is a JSON pointer (RFC 6901) leads to from @root: "#", "#/$defs/a%20b", "#/anyOf/0".
 * NULL: it is none, or leads nowhere, or to null. Borrowed.
 */
struct json_object *jsonc_follow(struct json_object *root, const char *fragment);

/* At most so many values the JSON @text (@n bytes) has: what stands between them, outside of strings. json-c takes
 * some 100 bytes for each. */
size_t jsonc_values(const char *text, size_t n);

/*
 * @text (@n bytes, a NUL behind them) as the one JSON value that it is, in UTF-8, arrays and objects @depth deep at
 * most. 0, -ENOMEM, or -EINVAL: *ret_why says what is wrong, near byte *ret_at. An integer beyond 64 bits, for which json-c
 * alone gives the nearest that fits, is a double that is written with its digits (jsonc_digits()).
 */
int jsonc_parse(const char *text, size_t n, int depth, struct json_object **ret, size_t *ret_at,
		const char **ret_why);

/* The text of an integer beyond 64 bits, "-"? and digits; NULL: @o is none. Borrowed. */
const char *jsonc_digits(struct json_object *o);

/* @o as text without white space, slashes as they are: malloc'd; NULL: out of memory. Lets go of @o. */
char *jsonc_take_text(struct json_object *o);

#define json_object_get(o) jsonc_hold(o)
#pragma GCC poison json_object_iter_next

#endif
