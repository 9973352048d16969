/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_run.c: a generation's way: its choices become requests of one session, their
 * events become a stream or, when all are through, one answer. How it is worded is the form's.
 * While a client leaves HTTP_OUT_HIGH bytes unread nothing more is rendered for it: the session's
 * buffers hold the tokens. Main thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "serve/http_private.h"

#define EVENTS_IN_A_TURN 4096

/* ---- start ---- */

/* Requests of all clients that are open now. */
static unsigned count_open(const struct http *h)
{
	unsigned n = 0;

	for (const struct http_request *r = h->requests; r; r = r->next)
		n += r->session.n_jobs;
	return n;
}

static bool may_start(struct http_request *r)
{
	struct http *h = r->http;
	struct engine_status e;

	if (h->quiet)
		return fault_set(&r->fault, 503, "the daemon is stopping");
	engine_get_status(h->serve->config.engine, &e);
	if (e.state != ENGINE_READY) {
		fault_set(&r->fault, 503, "Loading model: try again in a moment");
		r->fault.code = "model_loading";
		return false;
	}
	if (count_open(h) + r->n_choices > e.n_parallel + h->config.queue) {
		fault_set(&r->fault, 429,
			  "%u requests run or wait already (sluiced --queue %u): try again later",
			  count_open(h), h->config.queue);
		r->fault.code = "queue_full";
		return false;
	}
	return true;
}

/* Clients take turns by key, or by address where there are none. */
static uint64_t client_number(const struct http_request *r)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */

	if (r->tenant)
		return r->tenant;
	for (size_t i = 0; r->peer && i < sizeof(r->peer->client); i++)
		hash = (hash ^ r->peer->client[i]) * 1099511628211u;
	return hash;
}

/* The engine's sentence; of what it looks at, only the slot is a field that was not checked before. */
static void refuse(struct http_request *r, const struct ask *ask, const struct event *refused)
{
	struct engine_status e;

	fault_of_code(&r->fault, refused->u.refused.code, refused->u.refused.why.text);
	engine_get_status(r->http->serve->config.engine, &e);
	if (refused->u.refused.code == SLUICE_E_INVALID && ask->place > e.n_parallel)
		snprintf(r->fault.param, sizeof(r->fault.param), "id_slot");
}

static bool submit(struct http_request *r, unsigned i)
{
	struct generation *g = &r->call->gen;
	const struct http_prompt *p = &g->prompts[i / g->n];
	struct ask ask = g->ask;
	struct event e;

	ask.kind = ASK_GENERATE;
	ask.id = i;
	ask.client = client_number(r);
	ask.tenant = r->tenant;
	ask.data = (const uint8_t *)p->ids;
	ask.bytes = (uint64_t)p->n * sizeof(*p->ids);
	ask.is_ids = true;
	ask.sampling.seed += i % g->n; /* choices of one prompt differ */
	ask.stops = g->stops;
	ask.want_progress = g->return_progress;
	r->choices[i].index = i;
	r->choices[i].n_prompt = p->n;
	if (!session_ask(&r->session, &ask, &e))
		return fault_set(&r->fault, 500, "no answer");
	if (e.kind == EVENT_REFUSED)
		refuse(r, &ask, &e);
	event_fini(&e);
	return !r->fault.status;
}

void http_run_ready(struct http_request *r)
{
	r->state = HTTP_READY;
	http_resume(r);
}

static bool start(struct http_request *r)
{
	struct generation *g = &r->call->gen;

	r->n_choices = g->n_prompts * g->n;
	if (!may_start(r))
		return false;
	r->choices = calloc(r->n_choices, sizeof(*r->choices));
	if (!r->choices)
		return fault_set(&r->fault, 500, "out of memory");
	for (unsigned i = 0; i < r->n_choices; i++) {
		if (g->chat && !sink_start(r, &r->choices[i]))
			return fault_set(&r->fault, 500, "out of memory");
		if (!submit(r, i))
			return false;
	}
	return true;
}

void http_run_start(struct http_request *r)
{
	r->state = HTTP_RUN;
	r->fault = r->call->fault;
	if (!r->fault.status && r->call->slot_action) {
		http_slots_start(r);
		return;
	}
	if (r->fault.status || r->call->answer.n || !start(r)) {
		session_end(&r->session); /* those that were taken before one was not */
		http_run_ready(r);
		return;
	}
	http_request_name(r, r->route->form->prefix);
	if (!r->call->gen.stream)
		return;
	if (r->route->form->begin)
		r->route->form->begin(r);
	http_run_ready(r);
}

/* ---- events ---- */

static void take_end(struct http_request *r, struct choice *c, const struct event *e)
{
	static const struct request_result none;

	c->figures = e->u.done.figures ? *e->u.done.figures : none;
	if (c->figures.n_prompt) /* a respelt prompt has other tokens than the text's own */
		c->n_prompt = c->figures.n_prompt;
	c->done = true;
	r->n_done++;
	if (e->u.done.stop == STOP_ERROR || (e->u.done.stop == STOP_CANCELLED)) {
		fault_of_code(&r->fault, e->u.done.code ? e->u.done.code : SLUICE_E_INTERNAL,
			      e->u.done.stop == STOP_ERROR ? e->u.done.why : "it was cancelled");
		return;
	}
	c->finish = e->u.done.stop == STOP_LENGTH ? FINISH_LENGTH : FINISH_STOP;
	c->eog = e->u.done.stop == STOP_EOG && !e->u.done.stop_string;
	if (e->u.done.stop_string) {
		buf_text(&c->stop_copy, e->u.done.stop_string);
		c->stop_string = c->stop_copy.data;
	}
	if (r->call->gen.chat)
		sink_finish(r, c);
	r->route->form->finish(r, c);
}

/* What was written last is a thought. */
static bool is_thinking(const struct choice *c)
{
	const struct block *b = c->n_blocks ? &c->blocks[c->n_blocks - 1] : NULL;

	return b && b->kind == CALLS_REASONING && !b->closed;
}

static void take_event(struct http_request *r, const struct event *e)
{
	const struct http_form *form = r->route->form;
	struct choice *c = &r->choices[e->id];

	switch (e->kind) {
	case EVENT_PROGRESS:
		c->n_read = e->u.progress.n_read;
		c->times.n_cached = e->u.progress.n_cached;
		c->progress_ns = now_ns();
		if (r->call->gen.stream && form->progress)
			form->progress(r, c);
		break;
	case EVENT_PROMPT_TOKEN:
		take_prompt_logprobs(r, c, e);
		if (e->u.prompt_token.last && r->call->gen.stream)
			form->echo(r, c);
		break;
	case EVENT_TOKEN:
		c->times = e->u.token.times;
		c->n_prompt = c->times.n_prompt;
		if (e->u.token.token != EVENT_NO_TOKEN) {
			c->n_tokens++;
			take_logprobs(r, c, e);
			if (r->call->gen.return_tokens)
				buf_fmt(&c->ids, "%s%u", c->ids.n ? "," : "", e->u.token.token);
		}
		if (r->call->gen.chat) {
			sink_piece(r, c, e->u.token.text, e->u.token.bytes);
			c->n_reasoning += e->u.token.token != EVENT_NO_TOKEN && is_thinking(c);
		} else
			form->piece(r, c, e->u.token.text, e->u.token.bytes, e->u.token.token);
		break;
	case EVENT_DONE:
		take_end(r, c, e);
		break;
	default:
		break;
	}
}

/* It cannot be answered to the end. */
static void break_off(struct http_request *r)
{
	session_end(&r->session);
	if (!r->call->gen.stream) {
		http_run_ready(r);
	} else {
		r->route->form->late(r, &r->fault);
		r->ended = true;
	}
}

static void render(struct http_request *r)
{
	unsigned left = EVENTS_IN_A_TURN;
	struct event e;

	while (r->out.n - r->out_at < HTTP_OUT_HIGH && !r->fault.status && left-- &&
	       session_next(&r->session, &e)) {
		take_event(r, &e);
		event_fini(&e);
		if (!left) /* of a long prompt's tokens: others come in between */
			serve_wake(r->http->serve);
	}
	session_reap(&r->session);
	if (r->fault.status) {
		break_off(r);
	} else if (r->n_done == r->n_choices) {
		r->route->form->end(r);
		r->ended = true;
	}
}

/* A comment, so that proxies and clients see that we live. */
static void ping(struct http_request *r, uint64_t now)
{
	uint64_t period = (uint64_t)r->http->config.sse_ping_s * 1000000000u;

	if (period && now - r->put_ns >= period && r->out.n == r->out_at)
		buf_text(&r->out, ": ping\n\n");
}

void http_run_pump(struct http_request *r)
{
	size_t before = r->out.n;
	uint64_t now;

	if (!r->choices || (r->ended && !r->suspended))
		return;
	if (!r->ended && !r->fault.status)
		render(r);
	if (!r->call->gen.stream) {
		if (r->ended && r->state == HTTP_RUN)
			http_run_ready(r);
		return;
	}
	now = now_ns();
	if (!r->ended)
		ping(r, now);
	if (r->out.n != before)
		r->put_ns = now;
	if (r->out.n > r->out_at || r->ended)
		http_resume(r);
}

/* ---- answers ---- */

/* The library asks for more of a stream. */
static ssize_t read_stream(void *arg, uint64_t at, char *data, size_t room)
{
	struct http_request *r = arg;
	size_t n = r->out.n - r->out_at;

	if (r->out.failed || r->peer->vanished)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n) {
		n = n < room ? n : room;
		memcpy(data, r->out.data + r->out_at, n);
		r->out_at += n;
		r->taken_ns = now_ns();
		if (r->out_at == r->out.n) {
			r->out.n = r->out_at = 0;
		} else if (r->out_at >= HTTP_OUT_HIGH) { /* a slow reader: what it has goes */
			memmove(r->out.data, r->out.data + r->out_at, r->out.n - r->out_at);
			r->out.n -= r->out_at;
			r->out_at = 0;
		}
		return (ssize_t)n;
	}
	if (r->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	r->suspended = true;
	MHD_suspend_connection(r->c);
	return 0;
}

enum MHD_Result http_run_answer(struct http_request *r)
{
	if (r->fault.status && !(r->choices && r->call->gen.stream && r->ended))
		return http_reply_fault(r, &r->fault);
	if (r->call->answer.n)
		return http_reply_json(r, &r->call->answer);
	if (r->call->gen.stream)
		return http_reply_stream(r, read_stream);
	return http_reply_json(r, &r->out);
}

void http_run_end(struct http_request *r)
{
	for (unsigned i = 0; r->choices && i < r->n_choices; i++) {
		buf_done(&r->choices[i].text);
		buf_done(&r->choices[i].ids);
		buf_done(&r->choices[i].logprobs);
		buf_done(&r->choices[i].prompt_logprobs);
		for (unsigned k = 0; k < 4; k++)
			buf_done(&r->choices[i].legacy[k]);
		buf_done(&r->choices[i].stop_copy);
		sink_done(&r->choices[i]);
	}
	free(r->choices);
	r->choices = NULL;
}

/* ---- what forms share ---- */

void sse_open(struct http_request *r, const char *event)
{
	if (event)
		buf_fmt(&r->out, "event: %s\n", event);
	buf_text(&r->out, "data: ");
}

void sse_close(struct http_request *r)
{
	buf_text(&r->out, "\n\n");
}

void put_progress(struct buf *b, const struct http_request *r, const struct choice *c)
{
	buf_fmt(b,
		"\"prompt_progress\":{\"total\":%u,\"cache\":%u,\"processed\":%u,\"time_ms\":%llu}",
		c->n_prompt, choice_cached(c), c->n_read,
		(unsigned long long)((c->progress_ns - r->since_ns) / 1000000u));
}

uint32_t choice_cached(const struct choice *c)
{
	return c->done ? c->figures.n_cached : c->times.n_cached;
}

static void put_rate(struct buf *b, const char *name, uint32_t n, uint64_t ns)
{
	buf_fmt(b, "\"%s_n\":%u,\"%s_ms\":%.3f,\"%s_per_token_ms\":%.3f,\"%s_per_second\":%.3f",
		name, n, name, (double)ns / 1e6, name, n ? (double)ns / 1e6 / n : 0.0, name,
		ns ? (double)n * 1e9 / (double)ns : 0.0);
}

/* llama.cpp's two names, then as `sluice generate --json` has it; nothing where no step could draft. */
static void put_drafts(struct buf *b, const struct spec_counts *s)
{
	static const char *const names[] = {
		[DRAFT_GIVEN] = "given", [DRAFT_NGRAM] = "ngram", [DRAFT_MTP] = "mtp"
	};
	uint64_t drafted = 0, accepted = 0;

	if (!s->steps)
		return;
	for (unsigned i = 0; i < DRAFT_NR; i++) {
		drafted += s->drafted[i];
		accepted += s->accepted[i];
	}
	buf_fmt(b,
		",\"draft_n\":%llu,\"draft_n_accepted\":%llu,\"speculation\":{\"drafted\":%llu,"
		"\"accepted\":%llu,\"by\":{",
		(unsigned long long)drafted, (unsigned long long)accepted,
		(unsigned long long)drafted, (unsigned long long)accepted);
	for (unsigned i = 0; i < DRAFT_NR; i++)
		buf_fmt(b, "%s\"%s\":{\"drafted\":%llu,\"accepted\":%llu}", i ? "," : "", names[i],
			(unsigned long long)s->drafted[i], (unsigned long long)s->accepted[i]);
	buf_fmt(b, "},\"columns_per_step\":%.4f,\"tokens_per_step\":%.4f,\"gain\":%.4f}",
		(double)s->columns / (double)s->steps, (double)s->tokens / (double)s->steps,
		s->step_ns ? (double)s->plain_ns / (double)s->step_ns : 1.0);
}

/* The first token comes with the prompt: the others were predicted in predict_ns. */
void put_timings(struct buf *b, const struct choice *c)
{
	uint32_t cached = choice_cached(c);

	buf_fmt(b, "\"timings\":{\"cache_n\":%u,", cached);
	put_rate(b, "prompt", c->n_prompt - cached,
		 c->done ? c->figures.prompt_ns : c->times.prompt_ns);
	buf_text(b, ",");
	put_rate(b, "predicted", c->n_tokens,
		 c->done ? c->figures.predict_ns : c->times.predict_ns);
	put_drafts(b, &c->figures.spec);
	buf_text(b, "}");
}
