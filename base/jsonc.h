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

/* @o as text without white space, slashes as they are: malloc'd; NULL: out of memory. Lets go of @o. */
char *jsonc_take_text(struct json_object *o);

#define json_object_get(o) jsonc_hold(o)
#pragma GCC poison json_object_iter_next

#endif
