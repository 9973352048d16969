/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_completion.c: text that is continued: /v1/completions as OpenAI words it, and
 * /completion with the fields of llama.cpp's server. Reading is on the worker's thread, wording on
 * the main thread.
 */
#include <string.h>

#include "serve/http_private.h"
#include "serve/prompt.h"

/* ---- reading ---- */

/* The texts of the prompts, where the answer repeats them. */
static bool keep_prompts(struct http_call *c)
{
	struct generation *g = &c->gen;

	for (unsigned i = 0; g->echo && i < g->n_prompts; i++) {
		struct http_prompt *p = &g->prompts[i];

		if (prompt_decode(c->http->serve, p->ids, p->n, true, &p->text, &p->bytes))
			return fault_set(&c->fault, 500, "out of memory");
	}
	if (g->native && prompt_decode(c->http->serve, g->prompts[0].ids, g->prompts[0].n, true,
				       &g->rendered, &g->rendered_bytes))
		return fault_set(&c->fault, 500, "out of memory");
	return true;
}

static bool check_suffix(struct http_call *c)
{
	struct json_object *suffix = get(c->json, "suffix");

	return !suffix ||
	       (json_object_is_type(suffix, json_type_string) &&
		!json_object_get_string_len(suffix)) ||
	       fault_param(&c->fault, "suffix", "suffix is not supported");
}

bool completion_work(struct http_call *c)
{
	return read_generation(c) && read_prompt_logprobs(c) &&
	       read_bool(c->json, "echo", &c->gen.echo, &c->fault) && check_suffix(c) &&
	       read_prompts(c) && keep_prompts(c) && check_prompt_logprobs(c) &&
	       form_build(c, true);
}

bool native_work(struct http_call *c)
{
	c->gen.native = true;
	return read_generation(c) &&
	       read_bool(c->json, "return_tokens", &c->gen.return_tokens, &c->fault) &&
	       read_prompts(c) && keep_prompts(c) && form_build(c, true);
}

/* ---- OpenAI ---- */

static const char *finish_text(const struct choice *c)
{
	return c->finish == FINISH_LENGTH ? "length" : "stop";
}

static void put_choice(struct http_request *r, struct choice *c, const char *text, size_t n)
{
	buf_text(&r->out, "{\"text\":");
	buf_json(&r->out, text, n);
	buf_fmt(&r->out, ",\"index\":%u,\"logprobs\":", c->index);
	put_logprobs(r, c);
	put_prompt_logprobs(r, c);
	buf_text(&r->out, ",\"finish_reason\":");
	buf_json_text(&r->out, c->done ? finish_text(c) : NULL);
	buf_text(&r->out, "}");
}

static void chunk(struct http_request *r, struct choice *c, const char *text, size_t n)
{
	sse_open(r, NULL);
	openai_open(r, "text_completion");
	put_choice(r, c, text, n);
	buf_text(&r->out, "]");
	if (c->done || r->call->gen.timings_per_token) {
		buf_text(&r->out, ",");
		put_timings(&r->out, c);
	}
	buf_text(&r->out, r->call->gen.include_usage ? ",\"usage\":null}" : "}");
	sse_close(r);
}

static const struct http_prompt *prompt_of(const struct http_request *r, const struct choice *c)
{
	return &r->call->gen.prompts[c->index / r->call->gen.n];
}

static void on_echo(struct http_request *r, struct choice *c)
{
	chunk(r, c, prompt_of(r, c)->text, prompt_of(r, c)->bytes);
}

static void on_begin(struct http_request *r)
{
	const struct generation *g = &r->call->gen;

	for (unsigned i = 0; g->echo && !g->ask.want_prompt_logprobs && i < r->n_choices; i++)
		on_echo(r, &r->choices[i]);
}

static void on_piece(struct http_request *r, struct choice *c, const char *text, size_t n,
		     uint32_t token)
{
	if (!r->call->gen.stream)
		buf_put(&c->text, text, n);
	else if (n)
		chunk(r, c, text, n);
}

static void on_finish(struct http_request *r, struct choice *c)
{
	if (r->call->gen.stream)
		chunk(r, c, "", 0);
}

static void on_end(struct http_request *r)
{
	struct generation *g = &r->call->gen;

	if (g->stream && g->include_usage) {
		sse_open(r, NULL);
		openai_open(r, "text_completion");
		buf_text(&r->out, "],");
		openai_usage(r);
		buf_text(&r->out, "}");
		sse_close(r);
	}
	if (g->stream) {
		buf_text(&r->out, "data: [DONE]\n\n");
		return;
	}
	openai_open(r, "text_completion");
	for (unsigned i = 0; i < r->n_choices; i++) {
		struct choice *c = &r->choices[i];
		struct buf whole = { 0 };

		if (g->echo)
			buf_put(&whole, prompt_of(r, c)->text, prompt_of(r, c)->bytes);
		buf_put(&whole, c->text.data, c->text.n);
		buf_text(&r->out, i ? "," : "");
		put_choice(r, c, whole.data, whole.n);
		buf_done(&whole);
	}
	openai_close(r);
}

static void progress_chunk(struct http_request *r, struct choice *c)
{
	sse_open(r, NULL);
	openai_open(r, "text_completion");
	put_choice(r, c, "", 0);
	buf_text(&r->out, "],");
	put_progress(&r->out, r, c);
	buf_text(&r->out, "}");
	sse_close(r);
}

const struct http_form completion_form = {
	.prefix = "cmpl-",
	.begin = on_begin,
	.echo = on_echo,
	.progress = progress_chunk,
	.piece = on_piece,
	.finish = on_finish,
	.end = on_end,
	.late = openai_late,
};

/* ---- llama.cpp's server ---- */

static void native_head(struct http_request *r, struct choice *c, const char *text, size_t n)
{
	buf_fmt(&r->out, "{\"index\":%u,\"content\":", c->index);
	buf_json(&r->out, text, n);
	buf_text(&r->out, ",\"tokens\":[");
	if (c->ids.n)
		buf_put(&r->out, c->ids.data, c->ids.n);
	buf_fmt(&r->out,
		"],\"stop\":%s,\"id_slot\":%d,\"tokens_predicted\":%u,\"tokens_evaluated\":%u",
		c->done ? "true" : "false", (int)(c->done ? c->figures.place : c->times.place) - 1,
		c->n_tokens, c->n_prompt);
	put_logprobs(r, c);
}

static void native_tail(struct http_request *r, struct choice *c)
{
	const struct generation *g = &r->call->gen;

	buf_text(&r->out, ",\"model\":");
	buf_json_text(&r->out, r->http->model);
	buf_text(&r->out, ",\"prompt\":");
	if (c->index / g->n == 0)
		buf_json(&r->out, g->rendered, g->rendered_bytes);
	else
		buf_text(&r->out, "null");
	buf_fmt(&r->out, ",\"truncated\":false,\"stop_type\":\"%s\",\"stopping_word\":",
		c->stop_string		     ? "word"
		: c->finish == FINISH_LENGTH ? "limit"
					     : "eos");
	buf_json_text(&r->out, c->stop_string ? c->stop_string : "");
	buf_fmt(&r->out, ",\"tokens_cached\":%u,\"generation_settings\":{\"stream\":%s,",
		choice_cached(c), g->stream ? "true" : "false");
	put_sampling(&r->out, &g->ask.sampling);
	buf_text(&r->out, "},");
	put_timings(&r->out, c);
}

static void native_progress(struct http_request *r, struct choice *c)
{
	sse_open(r, NULL);
	native_head(r, c, "", 0);
	buf_text(&r->out, ",");
	put_progress(&r->out, r, c);
	buf_text(&r->out, "}");
	sse_close(r);
}

static void native_piece(struct http_request *r, struct choice *c, const char *text, size_t n,
			 uint32_t token)
{
	if (!r->call->gen.stream) {
		buf_put(&c->text, text, n);
		return;
	}
	if (!n)
		return;
	sse_open(r, NULL);
	native_head(r, c, text, n);
	if (r->call->gen.timings_per_token) {
		buf_text(&r->out, ",");
		put_timings(&r->out, c);
	}
	buf_text(&r->out, "}");
	sse_close(r);
	c->ids.n = 0;
}

static void native_finish(struct http_request *r, struct choice *c)
{
	if (!r->call->gen.stream)
		return;
	sse_open(r, NULL);
	native_head(r, c, "", 0);
	native_tail(r, c);
	buf_text(&r->out, "}");
	sse_close(r);
}

static void native_end(struct http_request *r)
{
	if (r->call->gen.stream)
		return;
	buf_text(&r->out, r->n_choices > 1 ? "[" : "");
	for (unsigned i = 0; i < r->n_choices; i++) {
		struct choice *c = &r->choices[i];

		buf_text(&r->out, i ? "," : "");
		native_head(r, c, c->text.data, c->text.n);
		native_tail(r, c);
		buf_text(&r->out, "}");
	}
	buf_text(&r->out, r->n_choices > 1 ? "]" : "");
}

static void native_late(struct http_request *r, const struct fault *f)
{
	buf_text(&r->out, "data: ");
	http_fault_body(&r->out, f, r->route->envelope);
	buf_text(&r->out, "\n\n");
}

const struct http_form native_form = {
	.prefix = "cmpl-",
	.progress = native_progress,
	.piece = native_piece,
	.finish = native_finish,
	.end = native_end,
	.late = native_late,
};
