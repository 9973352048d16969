/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/normalise.h: what normalise.c and normalise_tools.c share. All return 0 or -errno with a
 * sentence in norm.err, which names the place. Objects that are returned or put are the taker's. The
 * thread of the request.
 */
#ifndef SLUICE_CHAT_NORMALISE_H
#define SLUICE_CHAT_NORMALISE_H

#include <stddef.h>

#include "base/err.h"
#include "base/jsonc.h"

struct norm {
	struct err *err;
	size_t at;     /* the message worked on, for sentences */
	size_t values; /* of all calls' arguments that came as texts */
};

/* The text of @o, NULL where it is none. Borrowed. */
const char *norm_text(struct json_object *o);
/* -ENOMEM and its sentence. */
int norm_no_memory(struct norm *w);
/* Makes @v, which is taken over, the member @key; NULL is no memory. */
int norm_put(struct norm *w, struct json_object *o, const char *key, struct json_object *v);
/* A copy of @o without the members that are null, whose values are shared; NULL: no memory. */
struct json_object *norm_copy(struct json_object *o);

/* tool_calls of the message @m: arguments that are texts of JSON objects become those. */
int norm_calls(struct norm *w, struct json_object *m);
/* *ret: @tools, each with its function in a member; NULL where @tools is. */
int norm_tools(struct norm *w, struct json_object *tools, struct json_object **ret);

#endif
