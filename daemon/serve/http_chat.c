/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_chat.c: /v1/chat/completions, as OpenAI words it, with the fields that llama.cpp's
 * server and vLLM add; and /apply-template. Reading on the worker's thread, wording on the main
 * thread.
 */
#include <string.h>

#include "serve/http_private.h"

/* ---- reading ---- */

static bool read_talk(struct http_call *c, struct talk *t)
{
	bool add = true, parallel = true;

	*t = (struct talk){ .messages = get(c->json, "messages"),
			    .field = "messages",
			    .tools = get(c->json, "tools"),
			    .request = c->json };
	if (!talk_tools(c, t->tools) ||
	    !talk_choice(c, get(c->json, "tool_choice"), &t->no_calls) ||
	    !read_bool(c->json, "parallel_tool_calls", &parallel, &c->fault) ||
	    !read_bool(c->json, "continue_final_message", &t->continue_final, &c->fault) ||
	    !read_bool(c->json, "add_generation_prompt", &add, &c->fault))
		return false;
	c->gen.one_call = !parallel;
	t->no_prompt = !add;
	if (t->tools && !json_object_array_length(t->tools))
		t->tools = NULL;
	return true;
}

bool chat_work(struct http_call *c)
{
	struct talk t;

	if (!read_generation(c) || !read_prompt_logprobs(c) || !read_talk(c, &t))
		return false;
	if (get(c->json, "functions"))
		return fault_param(&c->fault, "functions",
				   "functions are not supported: use tools");
	if (get(c->json, "function_call"))
		return fault_param(&c->fault, "function_call",
				   "function_call is not supported: use tool_choice");
	return talk_render(c, &t) && check_prompt_logprobs(c);
}

bool count_chat_work(struct http_call *c)
{
	struct talk t;

	c->gen.counting = true;
	if (!read_talk(c, &t) || !talk_render(c, &t))
		return false;
	put_input_tokens(c);
	return true;
}

bool apply_template_work(struct http_call *c)
{
	struct talk t;

	c->gen.ask.max_tokens = 0;
	if (!read_talk(c, &t) || !talk_render(c, &t))
		return false;
	buf_text(&c->answer, "{\"prompt\":");
	buf_json(&c->answer, c->gen.rendered, c->gen.rendered_bytes);
	buf_text(&c->answer, "}");
	return true;
}

/* ---- wording ---- */

static const char *finish_text(const struct choice *c)
{
	static const char *const texts[] = {
		[FINISH_STOP] = "stop", [FINISH_LENGTH] = "length", [FINISH_TOOLS] = "tool_calls"
	};

	return texts[c->finish];
}

static void open_chunk(struct http_request *r, const struct choice *c)
{
	sse_open(r, NULL);
	openai_open(r, "chat.completion.chunk");
	buf_fmt(&r->out, "{\"index\":%u,\"delta\":{", c->index);
}

static void close_chunk(struct http_request *r, struct choice *c, bool last)
{
	buf_text(&r->out, "},\"logprobs\":");
	put_logprobs(r, c);
	buf_text(&r->out, ",\"finish_reason\":");
	buf_json_text(&r->out, last ? finish_text(c) : NULL);
	buf_text(&r->out, "}]");
	if (last || r->call->gen.timings_per_token) {
		buf_text(&r->out, ",");
		put_timings(&r->out, c);
	}
	buf_text(&r->out, r->call->gen.include_usage ? ",\"usage\":null}" : "}");
	sse_close(r);
}

/* Reasoning under the names that clients look for. */
static void put_reasoning(struct http_request *r, const char *text, size_t n)
{
	uint32_t field = r->http->config.reasoning_field;

	if (field != HTTP_REASONING) {
		buf_text(&r->out, "\"reasoning_content\":");
		buf_json(&r->out, text, n);
	}
	if (field == HTTP_REASONING_BOTH)
		buf_text(&r->out, ",");
	if (field != HTTP_REASONING_CONTENT) {
		buf_text(&r->out, "\"reasoning\":");
		buf_json(&r->out, text, n);
	}
}

static void on_begin(struct http_request *r)
{
	for (unsigned i = 0; i < r->n_choices; i++) {
		open_chunk(r, &r->choices[i]);
		buf_text(&r->out, "\"role\":\"assistant\",\"content\":\"\"");
		close_chunk(r, &r->choices[i], false);
	}
}

static void on_progress(struct http_request *r, struct choice *c)
{
	sse_open(r, NULL);
	openai_open(r, "chat.completion.chunk");
	buf_fmt(&r->out, "{\"index\":%u,\"delta\":{},\"logprobs\":null,\"finish_reason\":null}]",
		c->index);
	buf_text(&r->out, ",");
	put_progress(&r->out, r, c);
	buf_text(&r->out, "}");
	sse_close(r);
}

static void on_delta(struct http_request *r, struct choice *c, const struct calls_delta *d)
{
	if (d->kind == CALLS_END)
		return;
	open_chunk(r, c);
	switch (d->kind) {
	case CALLS_REASONING:
		put_reasoning(r, d->text, d->n);
		break;
	case CALLS_CONTENT:
		buf_text(&r->out, "\"content\":");
		buf_json(&r->out, d->text, d->n);
		break;
	case CALLS_BEGIN:
		buf_fmt(&r->out, "\"tool_calls\":[{\"index\":%u,\"id\":", d->call);
		buf_json_text(&r->out, d->id);
		buf_text(&r->out, ",\"type\":\"function\",\"function\":{\"name\":");
		buf_json(&r->out, d->name, d->name_n);
		buf_text(&r->out, ",\"arguments\":\"\"}}]");
		break;
	default:
		buf_fmt(&r->out,
			"\"tool_calls\":[{\"index\":%u,\"function\":{\"arguments\":", d->call);
		buf_json(&r->out, d->text, d->n);
		buf_text(&r->out, "}}]");
	}
	close_chunk(r, c, false);
}

static void on_finish(struct http_request *r, struct choice *c)
{
	if (!r->call->gen.stream)
		return;
	open_chunk(r, c);
	close_chunk(r, c, true);
}

static void put_calls(struct http_request *r, const struct choice *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n_blocks; i++) {
		const struct block *b = &c->blocks[i];

		if (b->kind != CALLS_BEGIN)
			continue;
		buf_text(&r->out, n++ ? ",{\"id\":" : ",\"tool_calls\":[{\"id\":");
		buf_json_text(&r->out, b->id);
		buf_text(&r->out, ",\"type\":\"function\",\"function\":{\"name\":");
		buf_json_text(&r->out, b->name);
		buf_text(&r->out, ",\"arguments\":");
		buf_json(&r->out, b->text.data, b->text.n);
		buf_text(&r->out, "}}");
	}
	buf_text(&r->out, n ? "]" : "");
}

static void put_message(struct http_request *r, struct choice *c)
{
	struct buf content = { 0 }, reasoning = { 0 };

	sink_join(c, CALLS_CONTENT, &content);
	sink_join(c, CALLS_REASONING, &reasoning);
	buf_text(&r->out, "{\"role\":\"assistant\",\"content\":");
	if (c->n_calls && !content.n)
		buf_text(&r->out, "null");
	else
		buf_json(&r->out, content.data, content.n);
	if (reasoning.n) {
		buf_text(&r->out, ",");
		put_reasoning(r, reasoning.data, reasoning.n);
	}
	put_calls(r, c);
	buf_text(&r->out, "}");
	r->out.failed |= content.failed || reasoning.failed;
	buf_done(&content);
	buf_done(&reasoning);
}

static void end_stream(struct http_request *r)
{
	if (r->call->gen.include_usage) {
		sse_open(r, NULL);
		openai_open(r, "chat.completion.chunk");
		openai_close(r);
		sse_close(r);
	}
	buf_text(&r->out, "data: [DONE]\n\n");
}

static void on_end(struct http_request *r)
{
	if (r->call->gen.stream) {
		end_stream(r);
		return;
	}
	openai_open(r, "chat.completion");
	for (unsigned i = 0; i < r->n_choices; i++) {
		struct choice *c = &r->choices[i];

		buf_fmt(&r->out, "%s{\"index\":%u,\"message\":", i ? "," : "", i);
		put_message(r, c);
		buf_text(&r->out, ",\"logprobs\":");
		put_logprobs(r, c);
		buf_fmt(&r->out, ",\"finish_reason\":\"%s\"}", finish_text(c));
	}
	openai_close(r);
}

const struct http_form chat_form = {
	.prefix = "chatcmpl-",
	.begin = on_begin,
	.progress = on_progress,
	.delta = on_delta,
	.finish = on_finish,
	.end = on_end,
	.late = openai_late,
};
