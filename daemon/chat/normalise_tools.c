/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/normalise_tools.c: calls that an assistant's message has, and what tools a request describes,
 * in the one shape that templates expect. See normalise.h.
 */
#include "chat/normalise.h"

#include <errno.h>
#include <string.h>

#define VALUES_MAX ((size_t)1 << 20) /* a text of JSON becomes some 50 times as many bytes */

/* ---- calls ---- */

/* Arguments that are the text of a JSON object become that object; nothing at all, an empty one. */
static struct json_object *parsed_arguments(struct json_object *given)
{
	const char *text = norm_text(given), *why;
	struct json_object *o;
	size_t n, at;
	int rc;

	if (given && !text)
		return json_object_get(given);
	n = text ? (size_t)json_object_get_string_len(given) : 0;
	if (!n)
		return json_object_new_object();
	rc = jsonc_parse(text, n, 64, &o, &at, &why);
	if (rc)
		return rc == -ENOMEM ? NULL : json_object_get(given);
	if (json_object_is_type(o, json_type_object))
		return o;
	json_object_put(o);
	return json_object_get(given);
}

/* What a body's own values are counted for, texts within it are too. */
static int count_values(struct norm *w, struct json_object *arguments)
{
	if (norm_text(arguments))
		w->values += jsonc_values(norm_text(arguments),
					  (size_t)json_object_get_string_len(arguments));
	return w->values <= VALUES_MAX
		       ? 0
		       : err_set(w->err, -EINVAL,
				 "messages[%zu].tool_calls: the arguments of all calls may have %zu "
				 "values",
				 w->at, VALUES_MAX);
}

static int one_call(struct norm *w, struct json_object *call, size_t i, struct json_object **ret)
{
	struct json_object *function = jsonc_member(call, "function"), *copy, *inner;
	int rc = 0;

	if (!json_object_is_type(call, json_type_object) ||
	    !norm_text(jsonc_member(function ? function : call, "name")))
		return err_set(w->err, -EINVAL,
			       "messages[%zu].tool_calls[%zu]: no object with a function and its "
			       "name",
			       w->at, i);
	inner = norm_copy(function ? function : call);
	copy = function ? norm_copy(call) : json_object_new_object();
	if (!inner || !copy)
		rc = norm_no_memory(w);
	if (!rc)
		rc = count_values(w, jsonc_member(inner, "arguments"));
	if (!rc)
		rc = norm_put(w, inner, "arguments",
			      parsed_arguments(jsonc_member(inner, "arguments")));
	if (!rc && !function) {
		json_object_object_del(inner, "id");
		json_object_object_del(inner, "type");
		if (norm_text(jsonc_member(call, "id")))
			rc = norm_put(w, copy, "id", json_object_get(jsonc_member(call, "id")));
	}
	if (!rc && !function)
		rc = norm_put(w, copy, "type", json_object_new_string("function"));
	if (!rc) {
		rc = norm_put(w, copy, "function", inner);
		inner = NULL;
	}
	json_object_put(inner);
	if (rc)
		json_object_put(copy);
	else
		*ret = copy;
	return rc;
}

int norm_calls(struct norm *w, struct json_object *m)
{
	struct json_object *calls = jsonc_member(m, "tool_calls"), *all, *call = NULL;
	size_t n;
	int rc = 0;

	if (!calls)
		return 0;
	if (!json_object_is_type(calls, json_type_array))
		return err_set(w->err, -EINVAL, "messages[%zu].tool_calls: no list", w->at);
	all = json_object_new_array();
	n = json_object_array_length(calls);
	for (size_t i = 0; all && i < n && !rc; i++) {
		rc = one_call(w, json_object_array_get_idx(calls, i), i, &call);
		if (!rc && json_object_array_add(all, call)) {
			json_object_put(call);
			rc = norm_no_memory(w);
		}
	}
	if (rc) {
		json_object_put(all);
		return rc;
	}
	return norm_put(w, m, "tool_calls", all);
}

/* ---- tools ---- */

static int take_tool(struct norm *w, struct json_object *tool, size_t i, struct json_object *all)
{
	const char *type = json_object_is_type(tool, json_type_object)
				   ? norm_text(jsonc_member(tool, "type"))
				   : NULL;
	struct json_object *function = jsonc_member(tool, "function"), *copy = NULL;
	int rc = 0;

	if (!json_object_is_type(tool, json_type_object) || (type && strcmp(type, "function")))
		return err_set(
			w->err, -EINVAL,
			"tools[%zu]: '%.60s' is no kind of tool that a template can describe", i,
			type ? type : "this");
	if (!norm_text(jsonc_member(function ? function : tool, "name")))
		return err_set(w->err, -EINVAL, "tools[%zu]: a function without a name", i);
	if (function) {
		copy = json_object_get(tool);
	} else { /* the function by itself */
		struct json_object *inner = norm_copy(tool);

		copy = json_object_new_object();
		rc = copy && inner ? norm_put(w, copy, "type", json_object_new_string("function"))
				   : norm_no_memory(w);
		if (!rc) {
			json_object_object_del(inner, "type");
			rc = norm_put(w, copy, "function", inner);
		} else {
			json_object_put(inner);
		}
	}
	if (!rc && !json_object_array_add(all, copy))
		return 0;
	json_object_put(copy);
	return rc ? rc : norm_no_memory(w);
}

int norm_tools(struct norm *w, struct json_object *tools, struct json_object **ret)
{
	struct json_object *all;
	size_t n;
	int rc = 0;

	*ret = NULL;
	if (!tools)
		return 0;
	if (!json_object_is_type(tools, json_type_array))
		return err_set(w->err, -EINVAL, "tools: no list");
	all = json_object_new_array();
	if (!all)
		return norm_no_memory(w);
	n = json_object_array_length(tools);
	for (size_t i = 0; i < n && !rc; i++)
		rc = take_tool(w, json_object_array_get_idx(tools, i), i, all);
	if (rc)
		json_object_put(all);
	else
		*ret = all;
	return rc;
}
