/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_form.c: the form that a request wants its answer in: response_format (text.format
 * of Responses), grammar, json_schema, regex, vLLM's structured_outputs and guided_..., forced calls,
 * strict tools. Read with the other fields, and compiled when the prompt is known, as what may come before
 * the form depends on it. On the worker's thread; what comes in is untrusted.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/turns.h"
#include "grammar/constraint.h"
#include "grammar/grammar.h"
#include "grammar/stop.h"
#include "serve/forms.h"
#include "serve/http_private.h"

/* ---- reading ---- */

static bool want(struct http_call *c, enum form form, const char *param)
{
	struct form_wish *w = &c->gen.wish;

	if (w->form != FORM_FREE && !strcmp(w->param, param))
		return fault_param(&c->fault, param, "%s: only one form can hold an answer", param);
	if (w->form != FORM_FREE)
		return fault_param(&c->fault, param, "%s and %s: only one form can hold an answer",
				   w->param, param);
	w->form = form;
	w->param = param;
	return true;
}

static bool want_text(struct http_call *c, struct json_object *v, enum form form, const char *param)
{
	struct form_wish *w = &c->gen.wish;

	if (!v || (json_object_is_type(v, json_type_string) && !json_object_get_string_len(v)))
		return true;
	if (!json_object_is_type(v, json_type_string))
		return fault_param(&c->fault, param, "%s must be a string", param);
	w->text = json_object_get_string(v);
	w->n = (size_t)json_object_get_string_len(v);
	return want(c, form, param);
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
	if (!read_bool(o, "strict", &c->gen.wish.strict, &c->fault))
		return fault_param(&c->fault, param, "%s: strict must be true or false", param);
	return want_schema(c, schema, param);
}

bool form_read_format(struct http_call *c, struct json_object *v, const char *param)
{
	const char *type = "";

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
		/* chats put schema and name into json_schema; Responses, Messages and llama.cpp do not */
		return want_named(c, get(v, "json_schema") ? get(v, "json_schema") : v, param);
	return fault_param(&c->fault, param,
			   "%s %.40s is not supported: text, json_object or json_schema", param,
			   type);
}

/* ---- vLLM's fields; what is made of them takes their place in the body, which owns it ---- */

/* A schema, or the text of one. */
static bool want_json(struct http_call *c, struct json_object *o, const char *key,
		      const char *param)
{
	struct json_object *v = get(o, key), *schema = NULL;
	bool ok;

	if (!v || !json_object_is_type(v, json_type_string))
		return !v || want_schema(c, v, param);
	ok = read_json_text(c, json_object_get_string(v), (size_t)json_object_get_string_len(v),
			    param, &schema);
	json_object_object_add(o, key, schema); /* lets go of @v */
	if (!ok)
		snprintf(c->fault.param, sizeof(c->fault.param), "%s", param);
	return ok && want_schema(c, schema, param);
}

/* An expression that matches @text and nothing else. */
static void put_literal(struct buf *b, const char *text, size_t n)
{
	static const char marks[] = "\\^$.|?*+()[]{}/-";

	for (size_t i = 0; i < n; i++) {
		if (text[i] && strchr(marks, text[i]))
			buf_put(b, "\\", 1);
		buf_put(b, text + i, 1);
	}
}

/* One of several texts, as an expression. */
static bool want_choice(struct http_call *c, struct json_object *o, const char *key,
			const char *param)
{
	struct json_object *list = get(o, key), *expression;
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	struct buf b = { 0 };
	bool ok = n;

	if (!list)
		return true;
	for (size_t i = 0; ok && i < n; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);

		ok = json_object_is_type(v, json_type_string) && json_object_get_string_len(v);
		if (ok && i)
			buf_text(&b, "|");
		if (ok)
			put_literal(&b, json_object_get_string(v),
				    (size_t)json_object_get_string_len(v));
	}
	expression = ok && !b.failed ? json_object_new_string_len(b.data, (int)b.n) : NULL;
	buf_done(&b);
	if (!ok)
		return fault_param(&c->fault, param,
				   "%s: choices must be a list of texts that are not empty", param);
	if (!expression)
		return fault_set(&c->fault, 500, "out of memory");
	json_object_object_add(o, key, expression);
	return want_text(c, expression, FORM_REGEX, param);
}

/* Until its version 0.12. */
static bool read_guided(struct http_call *c)
{
	struct json_object *o = c->json;

	return want_json(c, o, "guided_json", "guided_json") &&
	       want_text(c, get(o, "guided_regex"), FORM_REGEX, "guided_regex") &&
	       want_choice(c, o, "guided_choice", "guided_choice") &&
	       want_text(c, get(o, "guided_grammar"), FORM_GBNF, "guided_grammar");
}

static bool read_structured(struct http_call *c)
{
	static const char name[] = "structured_outputs";
	struct json_object *o = get(c->json, name);
	bool object = false;

	if (!o)
		return true;
	if (!json_object_is_type(o, json_type_object) ||
	    !(get(o, "json") || get(o, "json_object") || get(o, "regex") || get(o, "choice") ||
	      get(o, "grammar")))
		return fault_param(
			&c->fault, name,
			"%s must be an object with json, json_object, regex, choice or grammar",
			name);
	if (!read_bool(o, "json_object", &object, &c->fault))
		return fault_param(&c->fault, name, "%s: json_object must be true or false", name);
	return want_json(c, o, "json", name) && (!object || want(c, FORM_OBJECT, name)) &&
	       want_text(c, get(o, "regex"), FORM_REGEX, name) &&
	       want_choice(c, o, "choice", name) &&
	       want_text(c, get(o, "grammar"), FORM_GBNF, name);
}

bool form_read(struct http_call *c)
{
	struct json_object *schema = get(c->json, "json_schema");

	return form_read_format(c, get(c->json, "response_format"), "response_format") &&
	       (!schema || want_schema(c, schema, "json_schema")) &&
	       want_text(c, get(c->json, "grammar"), FORM_GBNF, "grammar") &&
	       want_text(c, get(c->json, "regex"), FORM_REGEX, "regex") && read_guided(c) &&
	       read_structured(c);
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

static bool check_tools(struct http_call *c)
{
	struct form_wish *w = &c->gen.wish;

	if (w->force && !c->gen.tools)
		return fault_param(&c->fault, "tool_choice",
				   "tool_choice: a call is forced, and there are no tools");
	if (w->only && !has_tool(c->gen.tools, w->only))
		return fault_param(&c->fault, "tool_choice", "tool_choice: there is no tool %.64s",
				   w->only);
	return true;
}

/* ---- compiling ---- */

static enum call_form call_form_of(const struct http_call *c)
{
	static const enum call_form forms[CALLS_FORMATS] = {
		[CALLS_HERMES] = CALL_HERMES,
		[CALLS_QWEN3_XML] = CALL_QWEN_XML,
		[CALLS_GLM] = CALL_GLM,
		[CALLS_MINIMAX_M2] = CALL_MINIMAX,
		[CALLS_DEEPSEEK_V31] = CALL_DEEPSEEK,
		[CALLS_KIMI_K2] = CALL_KIMI,
		[CALLS_HARMONY] = CALL_HARMONY,
	};

	return c->gen.calls_format < CALLS_FORMATS ? forms[c->gen.calls_format] : CALL_UNKNOWN;
}

/* What came of it, as the client hears it. */
static bool say(struct http_call *c, int rc, const char *param, const struct err *err)
{
	if (!rc)
		return true;
	if (rc == -ENOMEM)
		return fault_set(&c->fault, 500, "out of memory");
	if (rc == -ECANCELED)
		return fault_set(&c->fault, 503, "the daemon is stopping");
	return fault_param(&c->fault, param, "%s: %s", param, err->text);
}

bool form_build(struct http_call *c, bool go_on)
{
	struct generation *g = &c->gen;
	struct form_wish *w = &g->wish;
	struct constraint_ask ask = { .form = w->force ? FORM_CALLS : w->form,
				      .schema = w->schema,
				      .strict = w->strict,
				      .text = w->text,
				      .n = w->n,
				      .tools = g->tools,
				      .call_form = call_form_of(c),
				      .only = w->only,
				      .one_call = g->one_call };
	struct grammar_stop stop = { &c->cut, now_ns() + GRAMMAR_MAX_NS };
	int rc, was;
	bool tools;
	struct err err = { 0 };

	if (!g->ask.max_tokens || g->counting)
		return true;
	if (g->chat && !check_tools(c))
		return false;
	if (ask.form == FORM_FREE && !strict_tool(g->tools))
		return true;
	ask.stop = &stop;
	if (g->chat && !go_on)
		ask.before =
			forms_before(c->http->serve->config.chat, g->rendered, g->rendered_bytes);
	/* may take long: here this thread does not come before those that compute */
	was = getpriority(PRIO_PROCESS, 0);
	setpriority(PRIO_PROCESS, 0, c->http->serve->nice);
	turns_short(false);
	rc = forms_compile(c->http->serve->forms, c->tenant, &ask, &g->ask.constraint, &err);
	setpriority(PRIO_PROCESS, 0, was);
	turns_short(true);
	grammar_say(rc, &err);
	tools = ask.form == FORM_CALLS || ask.form == FORM_FREE;
	return say(c, rc, tools ? "tools" : w->param, &err);
}
