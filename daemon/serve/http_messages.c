/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_messages.c: /v1/messages and /v1/messages/count_tokens, as Anthropic words them.
 * Their content blocks become messages of OpenAI's shape before the template, and the answer's blocks
 * become theirs. Fields that are not known are ignored, as their clients send many. Reading on the
 * worker's thread, wording on the main thread.
 */
#include <string.h>

#include "serve/http_private.h"

/* ---- reading ---- */

static bool is_type(struct json_object *o, const char *name)
{
	struct json_object *type = json_object_is_type(o, json_type_object) ? get(o, "type") : NULL;

	return json_object_is_type(type, json_type_string) &&
	       !strcmp(json_object_get_string(type), name);
}

static void put(struct json_object *o, const char *key, struct json_object *value)
{
	json_object_object_add(o, key, value);
}

static struct json_object *hold(struct json_object *o)
{
	return json_object_get(o);
}

/* A part of a user's turn: joins those before it, unless something came between. */
static void add_part(struct json_object *list, struct json_object **user, struct json_object *part)
{
	if (!*user) {
		*user = talk_message(list, "user");
		put(*user, "content", json_object_new_array());
	}
	json_object_array_add(get(*user, "content"), hold(part));
}

static void add_user(struct json_object *list, struct json_object *blocks)
{
	struct json_object *user = NULL;

	for (size_t i = 0; i < json_object_array_length(blocks); i++) {
		struct json_object *b = json_object_array_get_idx(blocks, i), *m;

		if (!is_type(b, "tool_result")) {
			add_part(list, &user, b);
			continue;
		}
		m = talk_message(list, "tool");
		put(m, "tool_call_id", hold(get(b, "tool_use_id")));
		put(m, "content", hold(get(b, "content")));
		user = NULL;
	}
}

static struct json_object *call_of(struct json_object *b)
{
	struct json_object *call = json_object_new_object(), *f = json_object_new_object();

	put(f, "name", hold(get(b, "name")));
	put(f, "arguments", hold(get(b, "input")));
	put(call, "id", hold(get(b, "id")));
	put(call, "type", json_object_new_string("function"));
	put(call, "function", f);
	return call;
}

static void add_assistant(struct json_object *list, struct json_object *blocks)
{
	struct json_object *m = talk_message(list, "assistant"), *calls = NULL;
	struct json_object *content = json_object_new_array();

	put(m, "content", content);
	for (size_t i = 0; i < json_object_array_length(blocks); i++) {
		struct json_object *b = json_object_array_get_idx(blocks, i);

		if (is_type(b, "thinking")) {
			put(m, "reasoning_content", hold(get(b, "thinking")));
		} else if (is_type(b, "tool_use")) {
			if (!calls) {
				calls = json_object_new_array();
				put(m, "tool_calls", calls);
			}
			json_object_array_add(calls, call_of(b));
		} else if (!is_type(b, "redacted_thinking")) {
			json_object_array_add(content, hold(b));
		}
	}
}

static bool convert_messages(struct http_call *c, struct json_object *from, struct json_object *to)
{
	if (!json_object_is_type(from, json_type_array) || !json_object_array_length(from))
		return fault_param(&c->fault, "messages", "messages: a list of messages is needed");
	for (size_t i = 0; i < json_object_array_length(from); i++) {
		struct json_object *m = json_object_array_get_idx(from, i), *role, *content;
		const char *name;

		if (!json_object_is_type(m, json_type_object))
			return fault_param(&c->fault, "messages", "messages.%zu: must be an object",
					   i);
		role = get(m, "role");
		content = get(m, "content");
		if (!json_object_is_type(role, json_type_string))
			return fault_param(&c->fault, "messages", "messages.%zu: role is missing",
					   i);
		name = json_object_get_string(role);
		if (!json_object_is_type(content, json_type_array))
			put(talk_message(to, name), "content", hold(content));
		else if (!strcmp(name, "assistant"))
			add_assistant(to, content);
		else if (!strcmp(name, "user"))
			add_user(to, content);
		else
			put(talk_message(to, name), "content", hold(content));
	}
	return true;
}

/* Tools of ours have a schema; those that Anthropic's servers would run are left out. */
static struct json_object *convert_tools(struct json_object *from)
{
	struct json_object *to;

	if (!json_object_is_type(from, json_type_array))
		return NULL;
	to = json_object_new_array();
	for (size_t i = 0; i < json_object_array_length(from); i++) {
		struct json_object *t = json_object_array_get_idx(from, i), *f;

		if (!json_object_is_type(t, json_type_object) || !get(t, "input_schema"))
			continue;
		f = json_object_new_object();
		put(f, "name", hold(get(t, "name")));
		if (get(t, "description"))
			put(f, "description", hold(get(t, "description")));
		put(f, "parameters", hold(get(t, "input_schema")));
		if (get(t, "strict"))
			put(f, "strict", hold(get(t, "strict")));
		talk_add_tool(to, f);
	}
	return talk_some(to);
}

static bool read_choice(struct http_call *c, struct talk *t)
{
	struct json_object *choice = get(c->json, "tool_choice");
	bool one = false;

	if (!choice)
		return true;
	if (!json_object_is_type(choice, json_type_object))
		return fault_param(&c->fault, "tool_choice", "tool_choice: must be an object");
	t->no_calls = is_type(choice, "none");
	c->gen.wish.force = is_type(choice, "any") || is_type(choice, "tool");
	if (!t->no_calls && !c->gen.wish.force && !is_type(choice, "auto"))
		return fault_param(&c->fault, "tool_choice",
				   "tool_choice: its type must be auto, any, tool or none");
	if (is_type(choice, "tool")) {
		if (!json_object_is_type(get(choice, "name"), json_type_string))
			return fault_param(&c->fault, "tool_choice",
					   "tool_choice must name a tool");
		c->gen.wish.only = json_object_get_string(get(choice, "name"));
	}
	if (!read_bool(choice, "disable_parallel_tool_use", &one, &c->fault))
		return false;
	c->gen.one_call = one;
	return true;
}

/* What chat_kwargs() reads: Anthropic's thinking as the template's switch. */
static struct json_object *kwargs_of(struct http_call *c)
{
	struct json_object *thinking = get(c->json, "thinking"), *o = json_object_new_object();

	if (get(c->json, "chat_template_kwargs"))
		put(o, "chat_template_kwargs", hold(get(c->json, "chat_template_kwargs")));
	if (json_object_is_type(thinking, json_type_object))
		put(o, "enable_thinking", json_object_new_boolean(!is_type(thinking, "disabled")));
	return o;
}

/* A last message that is the assistant's, with text: the answer goes on behind it. */
static bool goes_on(struct json_object *messages)
{
	size_t n = json_object_array_length(messages);
	struct json_object *m = n ? json_object_array_get_idx(messages, n - 1) : NULL;
	struct json_object *content = m ? get(m, "content") : NULL;

	if (!m || strcmp(json_object_get_string(get(m, "role")), "assistant") ||
	    get(m, "tool_calls"))
		return false;
	return json_object_is_type(content, json_type_array)
		       ? json_object_array_length(content) > 0
		       : json_object_is_type(content, json_type_string) &&
				 json_object_get_string_len(content) > 0;
}

/* A field that, if it is there, must be an object. */
static bool read_object(struct http_call *c, const char *key, struct json_object **ret)
{
	*ret = get(c->json, key);
	return !*ret || json_object_is_type(*ret, json_type_object) ||
	       fault_param(&c->fault, key, "%s: must be an object", key);
}

/* The answer's form under Anthropic's newer name and its older one, and what else has a type. */
static bool read_others(struct http_call *c)
{
	struct json_object *config, *thinking, *system = get(c->json, "system");

	if (!read_object(c, "output_config", &config) || !read_object(c, "thinking", &thinking) ||
	    !form_read_format(c, get(config, "format"), "output_config") ||
	    !form_read_format(c, get(c->json, "output_format"), "output_format"))
		return false;
	return !system || json_object_is_type(system, json_type_string) ||
	       json_object_is_type(system, json_type_array) ||
	       fault_param(&c->fault, "system", "system: must be a text or a list of blocks");
}

static bool read_talk(struct http_call *c)
{
	struct json_object *messages = json_object_new_array();
	struct json_object *system = get(c->json, "system");
	struct talk t = { .messages = messages, .field = "messages" };
	bool ok = read_others(c);

	if (system)
		put(talk_message(messages, "system"), "content", hold(system));
	t.tools = convert_tools(get(c->json, "tools"));
	t.request = kwargs_of(c);
	ok = ok && talk_is_list(c, get(c->json, "tools")) && talk_tools(c, t.tools) &&
	     read_choice(c, &t) && convert_messages(c, get(c->json, "messages"), messages);
	if (ok) {
		t.continue_final = goes_on(messages);
		ok = talk_render(c, &t);
	}
	json_object_put(t.tools);
	json_object_put(t.request);
	json_object_put(messages);
	return ok;
}

bool messages_work(struct http_call *c)
{
	if (!get(c->json, "max_tokens"))
		return fault_param(&c->fault, "max_tokens", "max_tokens: Field required");
	if (!read_generation(c))
		return false;
	c->gen.n = 1;
	c->gen.return_progress = c->gen.stream; /* for what message_start says */
	return read_talk(c);
}

bool count_tokens_work(struct http_call *c)
{
	c->gen.counting = true;
	if (!read_talk(c))
		return false;
	buf_fmt(&c->answer, "{\"input_tokens\":%u}", c->gen.prompts[0].n);
	return true;
}

/* ---- wording ---- */

static void put_usage(struct http_request *r, const struct choice *c)
{
	uint32_t cached = choice_cached(c);

	buf_fmt(&r->out,
		"\"usage\":{\"input_tokens\":%u,\"cache_creation_input_tokens\":0,"
		"\"cache_read_input_tokens\":%u,\"output_tokens\":%u}",
		c->n_prompt - cached, cached, c->n_tokens);
}

static void put_stop(struct http_request *r, const struct choice *c)
{
	static const char *const reasons[] = { [FINISH_STOP] = "end_turn",
					       [FINISH_LENGTH] = "max_tokens",
					       [FINISH_TOOLS] = "tool_use" };
	const char *reason = c->stop_string && c->finish == FINISH_STOP ? "stop_sequence"
									: reasons[c->finish];

	buf_fmt(&r->out, "\"stop_reason\":\"%s\",\"stop_sequence\":", reason);
	buf_json_text(&r->out, c->stop_string);
}

static void open_message(struct http_request *r)
{
	buf_text(&r->out, "{\"id\":");
	buf_json_text(&r->out, r->name);
	buf_text(&r->out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
	buf_json_text(&r->out, r->http->model);
	buf_text(&r->out, ",\"content\":[");
}

/*
 * The first events: once it is known how much of the prompt was cached, which is when it has a place and
 * its reading has begun. Comments (--sse-ping) come before that.
 */
static void begin(struct http_request *r)
{
	if (r->choices[0].begun)
		return;
	r->choices[0].begun = true;
	sse_open(r, "message_start");
	buf_text(&r->out, "{\"type\":\"message_start\",\"message\":");
	open_message(r);
	buf_text(&r->out, "],\"stop_reason\":null,\"stop_sequence\":null,");
	put_usage(r, &r->choices[0]);
	buf_text(&r->out, "}}");
	sse_close(r);
	sse_open(r, "ping");
	buf_text(&r->out, "{\"type\":\"ping\"}");
	sse_close(r);
}

static void on_progress(struct http_request *r, struct choice *c)
{
	begin(r);
}

static void on_open(struct http_request *r, struct choice *c, struct block *b)
{
	begin(r);
	sse_open(r, "content_block_start");
	buf_fmt(&r->out, "{\"type\":\"content_block_start\",\"index\":%u,\"content_block\":",
		c->n_blocks - 1);
	if (b->kind == CALLS_REASONING) {
		buf_text(&r->out, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}");
	} else if (b->kind == CALLS_CONTENT) {
		buf_text(&r->out, "{\"type\":\"text\",\"text\":\"\"}}");
	} else {
		buf_text(&r->out, "{\"type\":\"tool_use\",\"id\":");
		buf_json_text(&r->out, b->id);
		buf_text(&r->out, ",\"name\":");
		buf_json_text(&r->out, b->name);
		buf_text(&r->out, ",\"input\":{}}}");
	}
	sse_close(r);
}

static void put_delta(struct http_request *r, struct choice *c, const char *type, const char *field,
		      const char *text, size_t n)
{
	sse_open(r, "content_block_delta");
	buf_fmt(&r->out,
		"{\"type\":\"content_block_delta\",\"index\":%u,\"delta\":{\"type\":\"%s\",\"%s\":",
		c->n_blocks - 1, type, field);
	buf_json(&r->out, text, n);
	buf_text(&r->out, "}}");
	sse_close(r);
}

static void on_delta(struct http_request *r, struct choice *c, const struct calls_delta *d)
{
	if (d->kind == CALLS_REASONING)
		put_delta(r, c, "thinking_delta", "thinking", d->text, d->n);
	else if (d->kind == CALLS_CONTENT)
		put_delta(r, c, "text_delta", "text", d->text, d->n);
	else if (d->kind == CALLS_ARGUMENTS)
		put_delta(r, c, "input_json_delta", "partial_json", d->text, d->n);
}

static void on_close(struct http_request *r, struct choice *c, struct block *b)
{
	if (b->kind == CALLS_REASONING)
		put_delta(r, c, "signature_delta", "signature", "", 0);
	sse_open(r, "content_block_stop");
	buf_fmt(&r->out, "{\"type\":\"content_block_stop\",\"index\":%u}", c->n_blocks - 1);
	sse_close(r);
}

static void on_finish(struct http_request *r, struct choice *c)
{
	/* on_end() has all */
}

static void put_block(struct http_request *r, const struct block *b)
{
	if (b->kind == CALLS_REASONING) {
		buf_text(&r->out, "{\"type\":\"thinking\",\"thinking\":");
		buf_json(&r->out, b->text.data, b->text.n);
		buf_text(&r->out, ",\"signature\":\"\"}");
	} else if (b->kind == CALLS_CONTENT) {
		buf_text(&r->out, "{\"type\":\"text\",\"text\":");
		buf_json(&r->out, b->text.data, b->text.n);
		buf_text(&r->out, "}");
	} else {
		buf_text(&r->out, "{\"type\":\"tool_use\",\"id\":");
		buf_json_text(&r->out, b->id);
		buf_text(&r->out, ",\"name\":");
		buf_json_text(&r->out, b->name);
		buf_text(&r->out, ",\"input\":");
		buf_put(&r->out, b->text.n ? b->text.data : "{}", b->text.n ? b->text.n : 2);
		buf_text(&r->out, "}");
	}
}

static void on_end(struct http_request *r)
{
	struct choice *c = &r->choices[0];

	if (!r->call->gen.stream) {
		open_message(r);
		for (unsigned i = 0; i < c->n_blocks; i++) {
			buf_text(&r->out, i ? "," : "");
			put_block(r, &c->blocks[i]);
		}
		buf_text(&r->out, "],");
		put_stop(r, c);
		buf_text(&r->out, ",");
		put_usage(r, c);
		buf_text(&r->out, "}");
		return;
	}
	begin(r);
	sse_open(r, "message_delta");
	buf_text(&r->out, "{\"type\":\"message_delta\",\"delta\":{");
	put_stop(r, c);
	buf_text(&r->out, "},");
	put_usage(r, c);
	buf_text(&r->out, "}");
	sse_close(r);
	sse_open(r, "message_stop");
	buf_text(&r->out, "{\"type\":\"message_stop\"}");
	sse_close(r);
}

static void on_late(struct http_request *r, const struct fault *f)
{
	sse_open(r, "error");
	http_fault_body(&r->out, f, ENVELOPE_ANTHROPIC);
	sse_close(r);
}

const struct http_form messages_form = {
	.prefix = "msg_",
	.progress = on_progress,
	.open = on_open,
	.delta = on_delta,
	.close = on_close,
	.finish = on_finish,
	.end = on_end,
	.late = on_late,
};
