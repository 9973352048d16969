/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/kwargs.c: the variables of a template that a request may set. See template.h.
 *
 * Published templates know one wish by several names: enable_thinking (Qwen, GLM) and thinking
 * (DeepSeek, Kimi); preserve_thinking and, the other way round, clear_thinking (GLM). The fields of
 * a request set all of them; chat_template_kwargs goes through as it is.
 */
#include <errno.h>
#include <string.h>

#include "base/jsonc.h"
#include "chat/template.h"

/* each rendering of a conversation looks them all up, and there are several */
#define MEMBERS_MAX 1024

static const char KWARGS[] = "chat_template_kwargs";

/* Where a fault is told. */
struct asked {
	struct err *err;
	const char *field; /* of the request; NULL: none is at fault */
};

static int bad(struct asked *a, const char *field, const char *what)
{
	a->field = field;
	return err_set(a->err, -EINVAL, "%s: %s", field, what);
}

static int no_memory(struct asked *a)
{
	return err_set(a->err, -ENOMEM, "out of memory for the variables of a chat");
}

static int set(struct json_object *o, const char *key, struct json_object *v, struct asked *a)
{
	if (v && !json_object_object_add(o, key, v))
		return 0;
	json_object_put(v);
	return no_memory(a);
}

static int merge(struct json_object *into, struct json_object *from, struct asked *a)
{
	static const char *const refused[] = { "messages", "tools", "add_generation_prompt",
					       "chat_template" };
	int rc = 0;

	if (json_object_object_length(from) > MEMBERS_MAX) {
		a->field = KWARGS;
		return err_set(a->err, -EINVAL, "%s: at most %d members", KWARGS, MEMBERS_MAX);
	}
	json_object_object_foreach(from, key, value)
	{
		for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
			if (!strcmp(key, refused[i])) {
				a->field = KWARGS;
				return err_set(a->err, -EINVAL, "%s: '%s' cannot be set there",
					       KWARGS, key);
			}
		if (!rc && json_object_object_add(into, key, json_object_get(value))) {
			json_object_put(value);
			rc = no_memory(a);
		}
	}
	return rc;
}

/* A switch of the request: @key and the names that mean the same, and the opposite. */
static int take_switch(struct json_object *into, struct json_object *request, const char *key,
		       const char *same, const char *opposite, struct asked *a)
{
	struct json_object *v = NULL;
	bool on;
	int rc;

	if (!json_object_object_get_ex(request, key, &v) || !v)
		return 0;
	if (!json_object_is_type(v, json_type_boolean))
		return bad(a, key, "neither true nor false");
	on = json_object_get_boolean(v);
	rc = set(into, key, json_object_new_boolean(on), a);
	if (!rc && same)
		rc = set(into, same, json_object_new_boolean(on), a);
	if (!rc && opposite)
		rc = set(into, opposite, json_object_new_boolean(!on), a);
	return rc;
}

static int take_effort(struct json_object *into, struct json_object *request, struct asked *a)
{
	struct json_object *v = NULL;
	int rc;

	if (!json_object_object_get_ex(request, "reasoning_effort", &v) || !v)
		return 0;
	if (!json_object_is_type(v, json_type_string))
		return bad(a, "reasoning_effort", "no text");
	if (strcmp(json_object_get_string(v), "none"))
		return set(into, "reasoning_effort", json_object_get(v), a);
	rc = set(into, "enable_thinking", json_object_new_boolean(false), a);
	return rc ? rc : set(into, "thinking", json_object_new_boolean(false), a);
}

static int take_request(struct json_object *into, struct json_object *request, struct asked *a)
{
	struct json_object *v = NULL;
	int rc;

	if (json_object_object_get_ex(request, "chat_template", &v) && v)
		return bad(a, "chat_template", "a request cannot bring its own template");
	rc = take_effort(into, request, a);
	if (!rc)
		rc = take_switch(into, request, "enable_thinking", "thinking", NULL, a);
	if (!rc)
		rc = take_switch(into, request, "preserve_thinking", NULL, "clear_thinking", a);
	if (rc || !json_object_object_get_ex(request, KWARGS, &v) || !v)
		return rc;
	if (!json_object_is_type(v, json_type_object))
		return bad(a, KWARGS, "no object");
	return merge(into, v, a);
}

int chat_kwargs(struct json_object *base, struct json_object *request, struct json_object **ret,
		const char **ret_field, struct err *err)
{
	struct json_object *o = json_object_new_object();
	struct asked a = { .err = err };
	int rc = o ? 0 : no_memory(&a);

	if (!rc && base && !json_object_is_type(base, json_type_object))
		rc = err_set(err, -EINVAL, "the kwargs of chat templates are no object");
	if (!rc && base)
		rc = merge(o, base, &a);
	if (!rc && request)
		rc = take_request(o, request, &a);
	if (rc && ret_field)
		*ret_field = a.field;
	if (rc)
		json_object_put(o);
	else
		*ret = o;
	return rc;
}
