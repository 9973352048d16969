/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_responses.c: answers of OpenAI's Responses: items, and the events of a stream, each
 * with its sequence_number. What an item is when it is done is the same in its event and in the final
 * object. The last event is always response.completed, whose status says where the answer was cut.
 * Main thread.
 */
#include <stdio.h>
#include <string.h>

#include "serve/http_private.h"

/* Ids are those of the response with the item's number, so that all events agree. */
static void put_item_id(struct http_request *r, const struct choice *c, const struct block *b)
{
	static const char *const prefixes[] = {
		[CALLS_REASONING] = "rs_", [CALLS_CONTENT] = "msg_", [CALLS_BEGIN] = "fc_"
	};

	buf_fmt(&r->out, "\"%s%s_%u\"", prefixes[b->kind], r->name + strlen("resp_"),
		(unsigned)(b - c->blocks));
}

static void put_text_part(struct buf *out, const char *type, const struct block *b, bool whole)
{
	buf_fmt(out, "{\"type\":\"%s\",\"text\":", type);
	buf_json(out, whole ? b->text.data : NULL, whole ? b->text.n : 0);
	buf_text(out, strcmp(type, "output_text") ? "}" : ",\"annotations\":[],\"logprobs\":[]}");
}

/* An item as it begins (@whole false) or is when it is done. */
static void put_item(struct http_request *r, const struct choice *c, const struct block *b,
		     bool whole)
{
	const char *status = whole ? "completed" : "in_progress";

	buf_text(&r->out, "{\"id\":");
	put_item_id(r, c, b);
	if (b->kind == CALLS_REASONING) {
		buf_fmt(&r->out,
			",\"type\":\"reasoning\",\"summary\":[],\"status\":\"%s\",\"content\":[",
			status);
		if (whole)
			put_text_part(&r->out, "reasoning_text", b, true);
		buf_text(&r->out, "]}");
	} else if (b->kind == CALLS_CONTENT) {
		buf_fmt(&r->out,
			",\"type\":\"message\",\"role\":\"assistant\",\"status\":\"%s\",\"content\":[",
			status);
		if (whole)
			put_text_part(&r->out, "output_text", b, true);
		buf_text(&r->out, "]}");
	} else {
		buf_fmt(&r->out,
			",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":", status);
		buf_json_text(&r->out, b->id);
		buf_text(&r->out, ",\"name\":");
		buf_json_text(&r->out, b->name);
		buf_text(&r->out, ",\"arguments\":");
		buf_json(&r->out, whole ? b->text.data : NULL, whole ? b->text.n : 0);
		buf_text(&r->out, "}");
	}
}

static void put_usage(struct http_request *r, const struct choice *c)
{
	buf_fmt(&r->out,
		"{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u},"
		"\"output_tokens\":%u,\"output_tokens_details\":{\"reasoning_tokens\":%u},"
		"\"total_tokens\":%u}",
		c->n_prompt, choice_cached(c), c->n_tokens, c->n_reasoning,
		c->n_prompt + c->n_tokens);
}

static void put_field(struct http_request *r, const char *key, const char *otherwise)
{
	struct json_object *v = get(r->call->json, key);

	buf_fmt(&r->out, ",\"%s\":%s", key,
		v ? json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN) : otherwise);
}

/* @status: "in_progress", "completed", "incomplete" or "failed". */
static void put_response(struct http_request *r, const char *status, const struct fault *f)
{
	struct choice *c = &r->choices[0];
	bool over = strcmp(status, "in_progress") != 0;

	buf_text(&r->out, "{\"id\":");
	buf_json_text(&r->out, r->name);
	buf_fmt(&r->out,
		",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"model\":",
		(long long)r->created, status);
	buf_json_text(&r->out, r->http->model);
	buf_text(&r->out, ",\"output\":[");
	for (unsigned i = 0; over && i < c->n_blocks; i++) {
		buf_text(&r->out, i ? "," : "");
		put_item(r, c, &c->blocks[i], true);
	}
	buf_text(&r->out, "],\"error\":");
	if (f) {
		buf_text(&r->out, "{\"code\":\"server_error\",\"message\":");
		buf_json_text(&r->out, f->err.text);
		buf_text(&r->out, "}");
	} else {
		buf_text(&r->out, "null");
	}
	buf_fmt(&r->out, ",\"incomplete_details\":%s",
		strcmp(status, "incomplete") ? "null" : "{\"reason\":\"max_output_tokens\"}");
	put_field(r, "instructions", "null");
	put_field(r, "metadata", "{}");
	put_field(r, "parallel_tool_calls", "true");
	put_field(r, "temperature", "null");
	put_field(r, "top_p", "null");
	put_field(r, "tool_choice", "\"auto\"");
	put_field(r, "tools", "[]");
	put_field(r, "max_output_tokens", "null");
	buf_text(&r->out,
		 ",\"previous_response_id\":null,\"store\":false,\"truncation\":\"disabled\","
		 "\"usage\":");
	if (over)
		put_usage(r, c);
	else
		buf_text(&r->out, "null");
	buf_text(&r->out, "}");
}

/* ---- events ---- */

static void open_event(struct http_request *r, const char *type)
{
	sse_open(r, type);
	buf_fmt(&r->out, "{\"type\":\"%s\",\"sequence_number\":%u", type, r->sequence++);
}

static void close_event(struct http_request *r)
{
	buf_text(&r->out, "}");
	sse_close(r);
}

static void response_event(struct http_request *r, const char *type, const char *status,
			   const struct fault *f)
{
	open_event(r, type);
	buf_text(&r->out, ",\"response\":");
	put_response(r, status, f);
	close_event(r);
}

static void on_begin(struct http_request *r)
{
	response_event(r, "response.created", "in_progress", NULL);
	response_event(r, "response.in_progress", "in_progress", NULL);
}

static void open_item_event(struct http_request *r, const char *type, const struct choice *c,
			    const struct block *b)
{
	open_event(r, type);
	buf_fmt(&r->out, ",\"output_index\":%u", (unsigned)(b - c->blocks));
}

/* An event about the text of an item: which item, and which part of it. */
static void open_text_event(struct http_request *r, const char *type, const struct choice *c,
			    const struct block *b)
{
	open_item_event(r, type, c, b);
	buf_text(&r->out, ",\"item_id\":");
	put_item_id(r, c, b);
	if (b->kind != CALLS_BEGIN)
		buf_text(&r->out, ",\"content_index\":0");
}

static const char *part_type(const struct block *b)
{
	return b->kind == CALLS_REASONING ? "reasoning_text" : "output_text";
}

static void on_open(struct http_request *r, struct choice *c, struct block *b)
{
	open_item_event(r, "response.output_item.added", c, b);
	buf_text(&r->out, ",\"item\":");
	put_item(r, c, b, false);
	close_event(r);
	if (b->kind == CALLS_BEGIN)
		return;
	open_text_event(r, "response.content_part.added", c, b);
	buf_text(&r->out, ",\"part\":");
	put_text_part(&r->out, part_type(b), b, false);
	close_event(r);
}

static const char *text_event(const struct block *b, bool done)
{
	if (b->kind == CALLS_REASONING)
		return done ? "response.reasoning_text.done" : "response.reasoning_text.delta";
	if (b->kind == CALLS_CONTENT)
		return done ? "response.output_text.done" : "response.output_text.delta";
	return done ? "response.function_call_arguments.done"
		    : "response.function_call_arguments.delta";
}

static void on_delta(struct http_request *r, struct choice *c, const struct calls_delta *d)
{
	const struct block *b = &c->blocks[c->n_blocks - 1];

	if (d->kind == CALLS_BEGIN)
		return;
	open_text_event(r, text_event(b, false), c, b);
	buf_text(&r->out, ",\"delta\":");
	buf_json(&r->out, d->text, d->n);
	buf_text(&r->out, b->kind == CALLS_CONTENT ? ",\"logprobs\":[]" : "");
	close_event(r);
}

static void on_close(struct http_request *r, struct choice *c, struct block *b)
{
	open_text_event(r, text_event(b, true), c, b);
	buf_text(&r->out, b->kind == CALLS_BEGIN ? ",\"name\":" : ",\"text\":");
	if (b->kind == CALLS_BEGIN) {
		buf_json_text(&r->out, b->name);
		buf_text(&r->out, ",\"arguments\":");
	}
	buf_json(&r->out, b->text.data, b->text.n);
	buf_text(&r->out, b->kind == CALLS_CONTENT ? ",\"logprobs\":[]" : "");
	close_event(r);
	if (b->kind != CALLS_BEGIN) {
		open_text_event(r, "response.content_part.done", c, b);
		buf_text(&r->out, ",\"part\":");
		put_text_part(&r->out, part_type(b), b, true);
		close_event(r);
	}
	open_item_event(r, "response.output_item.done", c, b);
	buf_text(&r->out, ",\"item\":");
	put_item(r, c, b, true);
	close_event(r);
}

static void on_finish(struct http_request *r, struct choice *c)
{
	/* on_end() has all */
}

static void on_end(struct http_request *r)
{
	const char *status = r->choices[0].finish == FINISH_LENGTH ? "incomplete" : "completed";

	if (r->call->gen.stream)
		response_event(r, "response.completed", status, NULL);
	else
		put_response(r, status, NULL);
}

static void on_late(struct http_request *r, const struct fault *f)
{
	response_event(r, "response.failed", "failed", f);
}

const struct http_form responses_form = {
	.prefix = "resp_",
	.begin = on_begin,
	.open = on_open,
	.delta = on_delta,
	.close = on_close,
	.finish = on_finish,
	.end = on_end,
	.late = on_late,
};
