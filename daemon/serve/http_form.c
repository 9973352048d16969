/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_form.c: the form that a request wants its answer in: response_format (text.format
 * of Responses), grammar, json_schema, regex, forced calls, strict tools. Read with the other fields, and
 * compiled when the prompt is known, as what may come before the form depends on it. On the worker's
 * thread; what comes in is untrusted.
 */
#include <errno.h>
#include <string.h>

#include "grammar/constraint.h"
#include "grammar/vocab.h"
#include "serve/http_private.h"

/* ---- reading ---- */

static bool want(struct http_call *c, enum form form, const char *param)
{
	struct form_wish *w = &c->gen.wish;

	if (w->form != FORM_FREE)
		return fault_param(&c->fault, param, "%s and %s: only one form can hold an answer",
				   w->param, param);
	w->form = form;
	w->param = param;
	return true;
}

static bool want_text(struct http_call *c, const char *key, enum form form)
{
	struct json_object *v = get(c->json, key);
	struct form_wish *w = &c->gen.wish;

	if (!v || (json_object_is_type(v, json_type_string) && !json_object_get_string_len(v)))
		return true;
	if (!json_object_is_type(v, json_type_string))
		return fault_param(&c->fault, key, "%s must be a string", key);
	w->text = json_object_get_string(v);
	w->n = (size_t)json_object_get_string_len(v);
	return want(c, form, key);
}

static bool want_schema(struct http_call *c, struct json_object *schema, const char *param)
{
	c->gen.wish.schema = schema;
	return want(c, FORM_SCHEMA, param);
}

/* The object that holds name, schema and strict. */
static bool want_named(struct http_call *c, struct json_object *o, const char *param)
{
	struct json_object *schema = json_object_is_type(o, json_type_object) ? get(o, "schema")
									      : NULL;

	if (!schema)
		return fault_param(&c->fault, param, "%s: a json_schema must have a schema", param);
	return read_bool(o, "strict", &c->gen.wish.strict, &c->fault) &&
	       want_schema(c, schema, param);
}

bool form_read_format(struct http_call *c, struct json_object *v, const char *param)
{
	const char *type = "";
	bool flat = !strcmp(param, "text"); /* Responses: without an object of its own */

	if (!v)
		return true;
	if (!json_object_is_type(v, json_type_object) || !read_text(v, "type", &type, &c->fault))
		return fault_param(&c->fault, param, "%s must be an object with a type", param);
	if (!strcmp(type, "text"))
		return true;
	if (!strcmp(type, "json_object"))
		return get(v, "schema") ? want_schema(c, get(v, "schema"), param)
					: want(c, FORM_OBJECT, param);
	if (!strcmp(type, "json_schema"))
		return want_named(c, flat ? v : get(v, "json_schema"), param);
	return fault_param(&c->fault, param,
			   "%s %.40s is not supported: text, json_object or json_schema", param,
			   type);
}

bool form_read(struct http_call *c)
{
	struct json_object *schema = get(c->json, "json_schema");

	return form_read_format(c, get(c->json, "response_format"), "response_format") &&
	       want_text(c, "grammar", FORM_GBNF) && want_text(c, "regex", FORM_REGEX) &&
	       (!schema || want_schema(c, schema, "json_schema"));
}

/* ---- tools ---- */

static struct json_object *function_of(struct json_object *tool)
{
	struct json_object *f = get(tool, "function");

	return f ? f : tool;
}

/* The first strict tool's name, or NULL. */
static const char *strict_tool(struct json_object *tools)
{
	size_t n = json_object_is_type(tools, json_type_array) ? json_object_array_length(tools)
							       : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *f = function_of(json_object_array_get_idx(tools, i));

		if (json_object_get_boolean(get(f, "strict")))
			return json_object_get_string(get(f, "name"));
	}
	return NULL;
}

static bool has_tool(struct json_object *tools, const char *name)
{
	size_t n = json_object_is_type(tools, json_type_array) ? json_object_array_length(tools)
							       : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *f = function_of(json_object_array_get_idx(tools, i));

		if (!strcmp(json_object_get_string(get(f, "name")), name))
			return true;
	}
	return false;
}

static bool check_tools(struct http_call *c, enum call_form calls)
{
	struct form_wish *w = &c->gen.wish;
	const char *strict = strict_tool(c->gen.tools);

	if (w->force && !c->gen.tools)
		return fault_param(&c->fault, "tool_choice",
				   "tool_choice: a call is forced, and there are no tools");
	if (w->only && !has_tool(c->gen.tools, w->only))
		return fault_param(&c->fault, "tool_choice", "tool_choice: there is no tool %.64s",
				   w->only);
	if (calls != CALL_UNKNOWN || (!w->force && !strict))
		return true;
	if (w->force)
		return fault_param(
			&c->fault, "tool_choice",
			"tool_choice: calls cannot be forced in the form that this model "
			"writes them (%s); use auto or none",
			calls_format_name(c->gen.calls_format));
	return fault_param(&c->fault, "tools",
			   "tool %.64s is strict: calls cannot be held in the form that this model "
			   "writes them (%s)",
			   strict, calls_format_name(c->gen.calls_format));
}

/* ---- compiling ---- */

static enum call_form call_form_of(const struct http_call *c)
{
	return c->gen.calls_format == CALLS_HERMES	? CALL_HERMES
	       : c->gen.calls_format == CALLS_QWEN3_XML ? CALL_QWEN_XML
							: CALL_UNKNOWN;
}

/* Does the prompt end, but for white space, with these words? */
static bool prompt_ends(const struct http_call *c, const char *words)
{
	const char *text = c->gen.rendered;
	size_t n = c->gen.rendered_bytes, len = strlen(words);

	while (n && strchr(" \n\r\t", text[n - 1]) && text[n - 1])
		n--;
	return n >= len && !memcmp(text + n - len, words, len);
}

static enum before before_of(const struct http_call *c, bool go_on)
{
	size_t n;
	const char *source;

	if (!c->gen.chat || go_on)
		return BEFORE_NOTHING;
	if (c->gen.calls_format == CALLS_HARMONY)
		return BEFORE_CHANNELS;
	if (c->gen.thinking_open)
		return BEFORE_THINKING;
	source = chat_template_source(c->http->serve->config.chat, &n);
	if (prompt_ends(c, "</think>") || !source || !memmem(source, n, "</think>", 8))
		return BEFORE_NOTHING;
	return BEFORE_MAY_THINK;
}

static bool take_vocab(struct http_call *c)
{
	return *c->vocab || !vocab_of_tokenizer(c->http->serve->config.tokenizer, c->vocab);
}

bool form_build(struct http_call *c, bool go_on)
{
	struct generation *g = &c->gen;
	struct form_wish *w = &g->wish;
	enum call_form calls = call_form_of(c);
	struct constraint_ask ask = { .form = w->force ? FORM_CALLS : w->form,
				      .schema = w->schema,
				      .strict = w->strict,
				      .text = w->text,
				      .n = w->n,
				      .tools = g->tools,
				      .call_form = calls,
				      .only = w->only,
				      .one_call = g->one_call };
	struct err err = { 0 };
	int rc;

	if (!g->ask.max_tokens || g->counting)
		return true;
	if (g->chat && !check_tools(c, calls))
		return false;
	if (ask.form == FORM_FREE && !strict_tool(g->tools))
		return true;
	ask.before = before_of(c, go_on);
	if (!take_vocab(c))
		return fault_set(&c->fault, 500, "out of memory");
	rc = constraint_create(&ask, *c->vocab, &g->ask.constraint, &err);
	if (rc == -ENOMEM)
		return fault_set(&c->fault, 500, "out of memory");
	if (rc)
		return fault_param(&c->fault,
				   ask.form == FORM_CALLS || ask.form == FORM_FREE ? "tools"
										   : w->param,
				   "%s: %s", w->param && !w->force ? w->param : "tools", err.text);
	return true;
}
