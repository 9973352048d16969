/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_talk.c: a conversation becomes a prompt: pictures and sounds refused or noted,
 * tools told, the template rendered, its text made tokens. On the worker's thread; what comes in is
 * untrusted, and only what the template wrote itself may become control tokens.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "chat/template.h"
#include "serve/http_private.h"
#include "serve/prompt.h"

/* ---- parts that are no text ---- */

/* "image" for "image_url", "input_image", ...; NULL: the part is text or unknown. */
static const char *modality(const char *type)
{
	static const char *const kinds[] = { "image", "audio", "video", "file", "document" };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strstr(type, kinds[i]))
			return kinds[i];
	return NULL;
}

/* A new part that says what stood there. */
static struct json_object *note(const char *kind)
{
	struct json_object *o = json_object_new_object();
	char text[80];

	snprintf(text, sizeof(text), "[%s left out: this model reads text only]", kind);
	json_object_object_add(o, "type", json_object_new_string("text"));
	json_object_object_add(o, "text", json_object_new_string(text));
	return o;
}

static bool check_parts(struct http_call *c, const struct talk *t, struct json_object *parts)
{
	for (size_t i = 0; i < json_object_array_length(parts); i++) {
		struct json_object *part = json_object_array_get_idx(parts, i);
		struct json_object *type =
			json_object_is_type(part, json_type_object) ? get(part, "type") : NULL;
		const char *kind = json_object_is_type(type, json_type_string)
					   ? modality(json_object_get_string(type))
					   : NULL;

		if (!kind)
			continue;
		if (!c->http->config.strip_images)
			return fault_param(
				&c->fault, t->field,
				"this model reads text only: the request has a part of type %.30s "
				"(%s); sluiced --strip-images puts a note in its place",
				json_object_get_string(type), kind);
		json_object_array_put_idx(parts, i, note(kind));
	}
	return true;
}

/* An answer may be its calls alone; of all others a missing content is a slip that no template tells. */
static bool check_content(struct http_call *c, const struct talk *t, struct json_object *m,
			  size_t i)
{
	struct json_object *content = NULL, *role = get(m, "role");

	if (json_object_object_get_ex(m, "content", &content))
		return !json_object_is_type(content, json_type_array) || check_parts(c, t, content);
	if (!json_object_is_type(role, json_type_string) ||
	    !strcmp(json_object_get_string(role), "assistant"))
		return true;
	return fault_param(&c->fault, t->field, "messages[%zu]: content is missing", i);
}

static bool check_messages(struct http_call *c, const struct talk *t)
{
	struct json_object *messages = t->messages;

	if (!json_object_is_type(messages, json_type_array) || !json_object_array_length(messages))
		return fault_param(&c->fault, t->field,
				   "messages must be a list of at least one message");
	for (size_t i = 0; i < json_object_array_length(messages); i++) {
		struct json_object *m = json_object_array_get_idx(messages, i);

		if (!json_object_is_type(m, json_type_object))
			return fault_param(&c->fault, t->field, "messages[%zu] must be an object",
					   i);
		if (!check_content(c, t, m, i))
			return false;
	}
	return true;
}

bool talk_is_list(struct http_call *c, struct json_object *tools)
{
	return !tools || json_object_is_type(tools, json_type_array) ||
	       fault_param(&c->fault, "tools", "tools must be a list");
}

bool talk_tools(struct http_call *c, struct json_object *tools)
{
	if (!talk_is_list(c, tools))
		return false;
	for (size_t i = 0; tools && i < json_object_array_length(tools); i++) {
		struct json_object *o = json_object_array_get_idx(tools, i);
		struct json_object *function = get(o, "function"), *name, *parameters;

		function = function ? function : o;
		name = get(function, "name");
		parameters = get(function, "parameters");
		if (!json_object_is_type(name, json_type_string) || !*json_object_get_string(name))
			return fault_param(&c->fault, "tools",
					   "tools[%zu] must be an object with a function's name",
					   i);
		if (parameters && !json_object_is_type(parameters, json_type_object) &&
		    !json_object_is_type(parameters, json_type_boolean))
			return fault_param(&c->fault, "tools",
					   "tools[%zu]: the parameters must be a JSON schema", i);
	}
	return true;
}

/* ---- for those whose API has other shapes ---- */

struct json_object *talk_message(struct json_object *messages, const char *role)
{
	struct json_object *m = json_object_new_object();

	json_object_object_add(m, "role", json_object_new_string(role));
	json_object_array_add(messages, m);
	return m;
}

void talk_add_tool(struct json_object *tools, struct json_object *function)
{
	struct json_object *tool = json_object_new_object();

	json_object_object_add(tool, "type", json_object_new_string("function"));
	json_object_object_add(tool, "function", function);
	json_object_array_add(tools, tool);
}

struct json_object *talk_some(struct json_object *list)
{
	if (json_object_array_length(list))
		return list;
	json_object_put(list);
	return NULL;
}

/* ---- rendering ---- */

static bool render_fault(struct http_call *c, const struct talk *t, int rc,
			 const struct template_error *e)
{
	if (rc == -ENOMEM)
		return fault_set(&c->fault, 500, "out of memory");
	fault_param(&c->fault, t->field, "%s%s",
		    e->raised ? "" : "the chat template cannot render this: ", e->err.text);
	return false;
}

/* Text and origins as tokens; the text is kept. */
static bool take_rendered(struct http_call *c, const struct talk *t, struct rendered *r)
{
	struct generation *g = &c->gen;
	uint32_t *ids = NULL;
	uint32_t n_ctx = engine_n_ctx(c->http->serve->config.engine);
	ssize_t n;

	if (r->n > (uint64_t)n_ctx * detok_bound(c->http->serve->config.tokenizer) && !g->counting)
		return read_too_long(c, n_ctx + 1); /* at least */
	n = tokenizer_encode_spans(c->http->serve->config.tokenizer, r->text, r->n, r->trusted,
				   r->n_trusted, &ids);
	if (n == -ENOMEM)
		return fault_set(&c->fault, 500, "out of memory");
	if (n < 0)
		return fault_param(&c->fault, t->field,
				   "the conversation cannot be made tokens: %s", strerror((int)-n));
	g->thinking_open = calls_prompt_thinks(r->text, r->n);
	g->rendered = malloc(r->n + 1);
	if (!g->rendered) {
		free(ids);
		return fault_set(&c->fault, 500, "out of memory");
	}
	memcpy(g->rendered, r->text, r->n + 1);
	g->rendered_bytes = r->n;
	return read_prompt_ids(c, ids, (uint32_t)n);
}

/* Where the next turn of this conversation may begin to differ, as places in its tokens. */
static void mark(struct http_call *c, const struct chat_input *in, const struct rendered *r)
{
	static const enum mark_kind kinds[] = { [CHAT_MARK_SYSTEM] = MARK_SYSTEM,
						[CHAT_MARK_USER] = MARK_USER,
						[CHAT_MARK_PROMPT] = MARK_PROMPT };
	struct generation *g = &c->gen;
	struct chat_mark found[CHAT_MARKS];
	struct text_mark marks[CHAT_MARKS];
	size_t n = chat_marks(c->http->serve->config.chat, in, NULL, r, found);

	for (size_t i = 0; i < n; i++)
		marks[i] = (struct text_mark){ found[i].at, kinds[found[i].kind] };
	g->ask.n_marks = prompt_marks(c->http->serve, g->rendered, g->rendered_bytes,
				      g->prompts[0].ids, g->prompts[0].n, marks, (uint32_t)n,
				      g->marks);
	g->ask.marks = g->marks;
	g->ask.respell = true;
}

static bool render(struct http_call *c, const struct talk *t, struct json_object *messages,
		   struct json_object *tools, struct json_object *kwargs)
{
	const struct chat_input in = { .messages = messages,
				       .tools = tools,
				       .kwargs = kwargs,
				       .add_generation_prompt = !t->no_prompt && !t->continue_final,
				       .continue_final = t->continue_final };
	struct template_error why = { 0 };
	struct rendered r = { 0 };
	int rc = chat_render(c->http->serve->config.chat, &in, NULL, &r, &why);
	bool ok = rc ? render_fault(c, t, rc, &why) : take_rendered(c, t, &r);

	/* it renders four times more, with all that is in the body and not shown */
	if (ok && !c->gen.counting && !c->gen.ask.no_reuse && c->values <= HTTP_FEW_VALUES)
		mark(c, &in, &r);
	if (!rc)
		rendered_done(&r);
	return ok;
}

/* Tools as the template shows them, or, where it does not know how, told in the system text. */
static bool tell_and_render(struct http_call *c, const struct talk *t, struct json_object *kwargs)
{
	const struct serve_config *s = &c->http->serve->config;
	struct json_object *told = NULL;
	struct err err = { 0 };
	size_t len;
	const char *source = chat_template_source(s->chat, &len);
	bool knows, ok;

	c->gen.calls_format = calls_format_of(source, len, &knows);
	if (knows)
		return render(c, t, t->messages, t->tools, kwargs);
	if (calls_tell(t->messages, t->tools, &told, &err))
		return fault_param(&c->fault, "tools", "%s", err.text);
	ok = render(c, t, told, NULL, kwargs);
	json_object_put(told);
	return ok;
}

bool talk_render(struct http_call *c, const struct talk *t)
{
	const struct serve_config *s = &c->http->serve->config;
	struct json_object *kwargs = NULL;
	const char *field = NULL;
	struct err err = { 0 };
	int rc;
	bool ok;

	if (!s->chat)
		return fault_set(&c->fault, 400, "no chats with this model: %s",
				 s->chat_why && *s->chat_why ? s->chat_why
							     : "its file has no chat template");
	rc = chat_kwargs(s->chat_kwargs, t->request, &kwargs, &field, &err);
	if (rc == -ENOMEM)
		return fault_set(&c->fault, 500, "%s", err.text);
	if (rc) /* what the request has under another name was one of the template's variables */
		return fault_param(&c->fault,
				   field && get(c->json, field) ? field : "chat_template_kwargs",
				   "%s", err.text);
	if (!check_messages(c, t)) {
		json_object_put(kwargs);
		return false;
	}
	c->gen.chat = true;
	c->gen.ask.raw = c->gen.ask.hide_eog = true;
	if (t->tools && !t->no_calls && json_object_array_length(t->tools))
		c->gen.tools = json_object_get(t->tools);
	ok = tell_and_render(c, t, kwargs) && form_build(c, t->continue_final);
	json_object_put(kwargs);
	return ok;
}

/* An object that names no function; it may be of another type, as OpenAI's allowed_tools. */
static bool no_function(struct http_call *c, struct json_object *type)
{
	const char *text = json_object_is_type(type, json_type_string)
				   ? json_object_get_string(type)
				   : "function";

	if (!strcmp(text, "function"))
		return fault_param(&c->fault, "tool_choice", "tool_choice must name a function");
	return fault_param(&c->fault, "tool_choice",
			   "tool_choice of type %.40s is not supported: auto, none, required or a "
			   "function",
			   text);
}

bool talk_choice(struct http_call *c, struct json_object *choice, bool *ret_none)
{
	struct json_object *function =
		json_object_is_type(choice, json_type_object) ? get(choice, "function") : NULL;
	struct form_wish *w = &c->gen.wish;
	const char *text = "";

	*ret_none = false;
	if (!choice)
		return true;
	if (json_object_is_type(choice, json_type_object)) {
		function = json_object_is_type(function, json_type_object) ? function : choice;
		if (!json_object_is_type(get(function, "name"), json_type_string))
			return no_function(c, get(choice, "type"));
		w->only = json_object_get_string(get(function, "name"));
		w->force = true;
		return true;
	}
	if (json_object_is_type(choice, json_type_string))
		text = json_object_get_string(choice);
	*ret_none = !strcmp(text, "none");
	w->force = !strcmp(text, "required");
	if (*ret_none || w->force || !strcmp(text, "auto"))
		return true;
	return fault_param(&c->fault, "tool_choice",
			   "tool_choice %.40s is not supported: auto, none, required or a function",
			   text);
}
