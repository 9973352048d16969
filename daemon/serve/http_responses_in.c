/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_responses_in.c: a request of OpenAI's Responses as a conversation. Stateless: the
 * whole conversation comes with each request, previous_response_id is refused. Items become messages
 * of chat completions; items and tools of kinds that only OpenAI's servers run are left out. Worker.
 */
#include <string.h>

#include "base/num.h"
#include "serve/http_private.h"

static void put(struct json_object *o, const char *key, struct json_object *value)
{
	json_object_object_add(o, key, value);
}

static struct json_object *hold(struct json_object *o)
{
	return json_object_get(o);
}

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v = json_object_is_type(o, json_type_object) ? get(o, key) : NULL;

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

struct reading {
	struct json_object *messages;
	struct json_object *answer; /* the assistant's turn that items still join; NULL: none */
};

static struct json_object *new_message(struct reading *w, const char *role)
{
	struct json_object *m = talk_message(w->messages, role);

	w->answer = strcmp(role, "assistant") ? NULL : m;
	return m;
}

static struct json_object *answer(struct reading *w)
{
	return w->answer ? w->answer : new_message(w, "assistant");
}

static bool add_message(struct http_call *c, struct reading *w, struct json_object *item, size_t i)
{
	const char *role = text_of(item, "role");
	struct json_object *m;

	if (strcmp(role, "assistant")) {
		if (!get(item, "content"))
			return fault_param(&c->fault, "input", "input[%zu]: content is missing", i);
		put(new_message(w, role), "content", hold(get(item, "content")));
		return true;
	}
	m = answer(w);
	if (get(m, "content") || get(m, "tool_calls"))
		m = new_message(w, "assistant");
	put(m, "content", hold(get(item, "content")));
	return true;
}

static void add_call(struct reading *w, struct json_object *item)
{
	struct json_object *m = answer(w), *calls = get(m, "tool_calls");
	struct json_object *call = json_object_new_object(), *f = json_object_new_object();

	if (!calls) {
		calls = json_object_new_array();
		put(m, "tool_calls", calls);
	}
	put(f, "name", hold(get(item, "name")));
	put(f, "arguments", hold(get(item, "arguments")));
	put(call, "id", hold(get(item, "call_id")));
	put(call, "type", json_object_new_string("function"));
	put(call, "function", f);
	json_object_array_add(calls, call);
}

static void add_output(struct reading *w, struct json_object *item)
{
	struct json_object *m = new_message(w, "tool");

	put(m, "tool_call_id", hold(get(item, "call_id")));
	put(m, "content", hold(get(item, "output")));
}

/* Its own words, or where those are not there its summary. */
static void add_reasoning(struct reading *w, struct json_object *item)
{
	struct json_object *parts = get(item, "content");
	struct buf text = { 0 };

	if (!json_object_is_type(parts, json_type_array) || !json_object_array_length(parts))
		parts = get(item, "summary");
	if (!json_object_is_type(parts, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(parts); i++)
		buf_text(&text, text_of(json_object_array_get_idx(parts, i), "text"));
	if (text.n)
		put(new_message(w, "assistant"), "reasoning_content",
		    json_object_new_string_len(text.data, (int)text.n));
	buf_done(&text);
}

static bool add_item(struct http_call *c, struct reading *w, struct json_object *item, size_t i)
{
	const char *type = text_of(item, "type");

	if (!json_object_is_type(item, json_type_object))
		return fault_param(&c->fault, "input", "input[%zu] must be an object", i);
	if (!strcmp(type, "message") || (!*type && get(item, "role")))
		return add_message(c, w, item, i);
	if (!strcmp(type, "function_call"))
		add_call(w, item);
	else if (!strcmp(type, "function_call_output"))
		add_output(w, item);
	else if (!strcmp(type, "reasoning"))
		add_reasoning(w, item);
	else if (!strcmp(type, "item_reference"))
		return fault_param(
			&c->fault, "input",
			"input[%zu] refers to an earlier response: nothing is stored here", i);
	return true; /* other kinds are OpenAI's own */
}

static bool read_input(struct http_call *c, struct reading *w)
{
	struct json_object *input = get(c->json, "input"), *system = get(c->json, "instructions");

	if (system && !json_object_is_type(system, json_type_string))
		return fault_param(&c->fault, "instructions", "instructions must be a string");
	if (system)
		put(new_message(w, "system"), "content", hold(system));
	if (json_object_is_type(input, json_type_string)) {
		put(new_message(w, "user"), "content", hold(input));
		return true;
	}
	if (!json_object_is_type(input, json_type_array))
		return fault_param(&c->fault, "input", "input must be a string or a list of items");
	for (size_t i = 0; i < json_object_array_length(input); i++)
		if (!add_item(c, w, json_object_array_get_idx(input, i), i))
			return false;
	return json_object_array_length(w->messages) ||
	       fault_param(&c->fault, "input", "input: there is no item that can be answered");
}

/* Functions, wrapped as chat completions have them; NULL: none. */
static struct json_object *read_tools(struct json_object *from)
{
	static const char *const fields[] = { "name", "description", "parameters", "strict" };
	struct json_object *to = json_object_new_array();

	for (size_t i = 0;
	     json_object_is_type(from, json_type_array) && i < json_object_array_length(from);
	     i++) {
		struct json_object *t = json_object_array_get_idx(from, i), *f;

		if (strcmp(text_of(t, "type"), "function"))
			continue;
		f = json_object_new_object();
		for (size_t k = 0; k < sizeof(fields) / sizeof(fields[0]); k++)
			if (get(t, fields[k]))
				put(f, fields[k], hold(get(t, fields[k])));
		talk_add_tool(to, f);
	}
	return talk_some(to);
}

/* What chat_kwargs() reads. */
static struct json_object *kwargs_of(struct http_call *c)
{
	static const char *const fields[] = { "chat_template_kwargs", "enable_thinking",
					      "preserve_thinking" };
	struct json_object *o = json_object_new_object(), *reasoning = get(c->json, "reasoning");

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (get(c->json, fields[i]))
			put(o, fields[i], hold(get(c->json, fields[i])));
	if (*text_of(reasoning, "effort"))
		put(o, "reasoning_effort", hold(get(reasoning, "effort")));
	return o;
}

/* What would be needed for the answer, and cannot be had; what is there in another form than it must have. */
static bool check_rest(struct http_call *c)
{
	static const char *const stored[] = { "previous_response_id", "conversation", "prompt" };
	struct json_object *reasoning = get(c->json, "reasoning");
	struct json_object *text = get(c->json, "text");
	bool background = false;

	if (text && !json_object_is_type(text, json_type_object))
		return fault_param(&c->fault, "text", "text must be an object");
	if (text && !form_read_format(c, get(text, "format"), "text"))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(stored); i++)
		if (get(c->json, stored[i]))
			return fault_param(&c->fault, stored[i],
					   "%s: nothing is stored here; send the whole "
					   "conversation as input",
					   stored[i]);
	if (!read_bool(c->json, "background", &background, &c->fault))
		return false;
	if (background)
		return fault_param(&c->fault, "background",
				   "background responses are not supported");
	if (reasoning && !json_object_is_type(reasoning, json_type_object))
		return fault_param(&c->fault, "reasoning", "reasoning must be an object");
	return !get(reasoning, "effort") ||
	       json_object_is_type(get(reasoning, "effort"), json_type_string) ||
	       fault_param(&c->fault, "reasoning", "reasoning.effort must be a string");
}

/* What comes before the answer, as a prompt. */
static bool read_conversation(struct http_call *c)
{
	struct reading w = { .messages = json_object_new_array() };
	struct talk t = { .messages = w.messages, .field = "input" };
	bool parallel = true, ok;

	t.tools = read_tools(get(c->json, "tools"));
	t.request = kwargs_of(c);
	ok = check_rest(c) && talk_is_list(c, get(c->json, "tools")) && talk_tools(c, t.tools) &&
	     talk_choice(c, get(c->json, "tool_choice"), &t.no_calls) &&
	     read_bool(c->json, "parallel_tool_calls", &parallel, &c->fault) && read_input(c, &w);
	if (ok) {
		c->gen.n = 1;
		c->gen.one_call = !parallel;
		ok = talk_render(c, &t);
	}
	json_object_put(t.tools);
	json_object_put(t.request);
	json_object_put(w.messages);
	return ok;
}

bool responses_work(struct http_call *c)
{
	return read_generation(c) && read_conversation(c);
}

void put_input_tokens(struct http_call *c)
{
	buf_fmt(&c->answer, "{\"object\":\"response.input_tokens\",\"input_tokens\":%u}",
		c->gen.prompts[0].n);
}

bool count_responses_work(struct http_call *c)
{
	c->gen.counting = true;
	if (!read_conversation(c))
		return false;
	put_input_tokens(c);
	return true;
}
