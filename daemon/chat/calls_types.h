/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_types.h: the tools of a request, and values of the xml forms in their types.
 *
 * What a value may be is worked out from the schemas once, when the tools are read. Private to
 * calls*.c. Any thread.
 */
#ifndef SLUICE_CHAT_CALLS_TYPES_H
#define SLUICE_CHAT_CALLS_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct json_object;

/* Bytes that grow. */
struct bytes {
	char *p;
	size_t n, cap;
};

/* 0 or -ENOMEM. */
int bytes_room(struct bytes *b, size_t more);
int bytes_add(struct bytes *b, const char *p, size_t n);

struct tool_property {
	const char *name; /* the schema's */
	size_t n;
	uint8_t types; /* enum json_kind, several */
};

struct tool {
	char *name; /* owned, as the names of its properties are */
	size_t n;
	size_t order;
	struct tool_property *properties; /* by name */
	size_t n_properties;
	uint8_t others; /* types of properties that are not listed */
};

struct toolbox {
	struct tool *tools; /* by name */
	size_t n;
};

/* @tools: as in struct calls_options. 0, -ENOMEM, -EINVAL and a sentence. */
int toolbox_make(struct json_object *tools, struct toolbox *ret, struct err *err);
void toolbox_done(struct toolbox *b);

/* NULL: not listed. */
const struct tool *toolbox_find(const struct toolbox *b, const char *name, size_t n);

/*
 * Appends the JSON of @value for parameter @key of @tool (NULL: any types): the types that the
 * schema allows, tried in the order null, boolean, integer, number, object, array, else a string.
 */
int value_json(struct bytes *b, const struct tool *tool, const char *key, size_t key_n,
	       const char *value, size_t n);
/* Appends @text as a JSON string. */
int string_json(struct bytes *b, const char *text, size_t n);

#endif
