/* SPDX-License-Identifier: MIT */
/*
 * daemon/chat/calls_format.c: which form a template writes calls in, and a form for templates that
 * have none: Hermes' (github.com/NousResearch/Hermes-Function-Calling describes it), told to the
 * model in the system turn. See calls.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/jsonc.h"
#include "base/num.h"
#include "chat/calls_impl.h"

static const char *const names[] = {
	[CALLS_HERMES] = "hermes",
	[CALLS_QWEN3_XML] = "qwen3_xml",
	[CALLS_GLM] = "glm",
	[CALLS_MINIMAX_M2] = "minimax_m2",
	[CALLS_DEEPSEEK_V31] = "deepseek_v3.1",
	[CALLS_KIMI_K2] = "kimi_k2",
	[CALLS_HARMONY] = "harmony",
};

const char *calls_format_name(enum calls_format f)
{
	return names[f];
}

static bool has(const char *source, size_t len, const char *word)
{
	return memmem(source, len, word, strlen(word)) != NULL;
}

enum calls_format calls_format_of(const char *source, size_t len, bool *ret_told)
{
	/* the first that the source has both words of, most particular first */
	static const struct {
		const char *a, *b;
		enum calls_format format;
	} rules[] = {
		{ "<|tool_call_begin|>", "<|tool_call_argument_begin|>", CALLS_KIMI_K2 },
		{ "<|tool_calls_section_begin|>", "", CALLS_KIMI_K2 },
		{ "<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>", CALLS_DEEPSEEK_V31 },
		{ "<|channel|>", "<|message|>", CALLS_HARMONY },
		{ "minimax:tool_call", "<invoke name=", CALLS_MINIMAX_M2 },
		{ "<arg_key>", "<arg_value>", CALLS_GLM },
		{ "<tool_call>", "<function=", CALLS_QWEN3_XML },
		{ "<tool_call>", "arguments", CALLS_HERMES },
	};

	*ret_told = true;
	/* its calls stand between tokens of its own, in which these words are only parts */
	if (source && !has(source, len, "]<]minimax[>["))
		for (size_t i = 0; i < ARRAY_LEN(rules); i++)
			if (has(source, len, rules[i].a) && has(source, len, rules[i].b))
				return rules[i].format;
	*ret_told = false;
	return CALLS_HERMES;
}

bool calls_prompt_thinks(const char *prompt, size_t n)
{
	while (n && json_space(prompt[n - 1]))
		n--;
	return n >= 7 && !memcmp(prompt + n - 7, "<think>", 7);
}

/* ---- tools told in words ---- */

static int add(struct bytes *b, const char *text)
{
	return bytes_add(b, text, strlen(text));
}

static const char *json_text(struct json_object *o)
{
	return json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							 JSON_C_TO_STRING_NOSLASHESCAPE);
}

/* Text of a message: its content, parts of text joined. */
static int add_content(struct bytes *b, struct json_object *content)
{
	int rc = 0;

	if (json_object_is_type(content, json_type_string))
		return bytes_add(b, json_object_get_string(content),
				 (size_t)json_object_get_string_len(content));
	if (!json_object_is_type(content, json_type_array))
		return 0;
	for (size_t i = 0; i < json_object_array_length(content) && !rc; i++) {
		struct json_object *t = jsonc_member(json_object_array_get_idx(content, i), "text");

		if (json_object_is_type(t, json_type_string))
			rc = bytes_add(b, json_object_get_string(t),
				       (size_t)json_object_get_string_len(t));
	}
	return rc;
}

static int add_tools(struct bytes *b, struct json_object *tools)
{
	int rc = add(b, "You can call functions. Their descriptions, as JSON Schema, are between "
			"<tools></tools>:\n<tools>\n");

	for (size_t i = 0; i < json_object_array_length(tools) && !rc; i++) {
		const char *text = json_text(json_object_array_get_idx(tools, i));

		rc = text ? add(b, text) : -ENOMEM;
		rc = rc ? rc : add(b, "\n");
	}
	return rc ? rc
		  : add(b, "</tools>\nTo call one, write an object with its name and arguments "
			   "between <tool_call></tool_call>, once for each call:\n<tool_call>\n"
			   "{\"name\": \"NAME\", \"arguments\": {}}\n</tool_call>");
}

static int add_call(struct bytes *b, struct json_object *call)
{
	struct json_object *f = jsonc_member(call, "function"), *a;
	const char *text;
	int rc;

	f = f ? f : call;
	a = jsonc_member(f, "arguments");
	text = json_text(jsonc_member(f, "name"));
	rc = b->n ? add(b, "\n") : 0;
	rc = rc ? rc : add(b, "<tool_call>\n{\"name\": ");
	rc = rc ? rc : add(b, text ? text : "null");
	rc = rc ? rc : add(b, ", \"arguments\": ");
	if (!rc && json_object_is_type(a, json_type_string) &&
	    json_kind_of(json_object_get_string(a), (size_t)json_object_get_string_len(a)))
		rc = add(b, json_object_get_string(a));
	else if (!rc)
		rc = add(b, a ? json_text(a) : "{}");
	return rc ? rc : add(b, "}\n</tool_call>");
}

static struct json_object *message(const char *role, const struct bytes *b)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "role", json_object_new_string(role));
	json_object_object_add(o, "content",
			       json_object_new_string_len(b->p ? b->p : "", (int)b->n));
	return o;
}

/* A message as the template may see it: calls and results as text. New, or NULL: no memory. */
static struct json_object *told(struct json_object *m, struct json_object *describe)
{
	struct json_object *role = jsonc_member(m, "role"), *calls = jsonc_member(m, "tool_calls"),
			   *o;
	const char *name =
		json_object_is_type(role, json_type_string) ? json_object_get_string(role) : "";
	bool is_tool = !strcmp(name, "tool"), has_calls;
	struct bytes b = { 0 };
	int rc;

	has_calls = json_object_is_type(calls, json_type_array) && json_object_array_length(calls);
	if (!is_tool && !has_calls && !describe)
		return json_object_get(m);
	rc = is_tool ? add(&b, "<tool_response>\n") : 0;
	rc = rc ? rc : add_content(&b, jsonc_member(m, "content"));
	if (is_tool && !rc)
		rc = add(&b, "\n</tool_response>");
	for (size_t i = 0; has_calls && i < json_object_array_length(calls) && !rc; i++)
		rc = add_call(&b, json_object_array_get_idx(calls, i));
	if (describe && !rc) {
		rc = b.n ? add(&b, "\n\n") : 0;
		rc = rc ? rc : add_tools(&b, describe);
	}
	o = rc ? NULL : message(is_tool ? "user" : name, &b);
	/* what else the message says, reasoning among it, stays */
	if (o && !is_tool && json_object_is_type(m, json_type_object)) {
		json_object_object_foreach(m, key, value)
		{
			if (strcmp(key, "role") && strcmp(key, "content") &&
			    strcmp(key, "tool_calls"))
				json_object_object_add(o, key, json_object_get(value));
		}
	}
	free(b.p);
	return o;
}

int calls_tell(struct json_object *messages, struct json_object *tools, struct json_object **ret,
	       struct err *err)
{
	struct json_object *out, *m;
	bool tell = json_object_is_type(tools, json_type_array) && json_object_array_length(tools);
	size_t n, i = 0;

	if (!json_object_is_type(messages, json_type_array))
		return err_set(err, -EINVAL, "messages is not an array");
	n = json_object_array_length(messages);
	for (size_t k = 0; k < n; k++)
		if (!json_object_is_type(json_object_array_get_idx(messages, k), json_type_object))
			return err_set(err, -EINVAL, "messages[%zu] is not an object", k);
	out = json_object_new_array();
	m = n ? jsonc_member(json_object_array_get_idx(messages, 0), "role") : NULL;
	if (tell && !(json_object_is_type(m, json_type_string) &&
		      (!strcmp(json_object_get_string(m), "system") ||
		       !strcmp(json_object_get_string(m), "developer")))) {
		struct bytes b = { 0 };

		if (add_tools(&b, tools) || json_object_array_add(out, message("system", &b)))
			goto no_memory;
		free(b.p);
		tell = false;
	}
	for (; i < n; i++) {
		m = told(json_object_array_get_idx(messages, i), tell && !i ? tools : NULL);
		if (!m || json_object_array_add(out, m))
			goto no_memory;
	}
	*ret = out;
	return 0;
no_memory:
	json_object_put(out);
	return -ENOMEM;
}
