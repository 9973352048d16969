/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/native_events.c: what a session has to say, as messages of the native protocol.
 */
#include "serve/native_events.h"

#include <assert.h>
#include <string.h>

#include "serve/buf.h"
#include "serve/message.h"
#include "serve/payload.h"
#include "serve/private.h"

static_assert((int)SLUICE_STOP_EOG == (int)STOP_EOG, "uapi");
static_assert((int)SLUICE_STOP_LENGTH == (int)STOP_LENGTH, "uapi");
static_assert((int)SLUICE_STOP_CANCELLED == (int)STOP_CANCELLED, "uapi");
static_assert((int)SLUICE_STOP_ERROR == (int)STOP_ERROR, "uapi");
static_assert(EVENT_NO_TOKEN == SLUICE_NO_TOKEN, "uapi");

void native_send(struct conn *c, uint16_t type, uint64_t id, const void *fixed, const void *payload,
		 uint64_t payload_bytes, int fd)
{
	struct serve *s = c->serve;
	size_t len;

	if (fd < 0 && payload_bytes > SLUICE_INLINE_MAX) {
		fd = payload_make(payload, payload_bytes);
		if (fd < 0) {
			serve_notice(s, "client dropped", c, "no memory for a long reply");
			conn_drop(c);
			return;
		}
	}
	len = message_build(s->built, SLUICE_MSG_MAX, type, id, fixed, payload, payload_bytes,
			    fd >= 0);
	conn_write(c, s->built, len, fd);
}

void native_fail(struct conn *c, uint64_t id, int code, const char *text)
{
	struct sluice_error e = { .struct_size = sizeof(e), .code = (uint32_t)code };

	e.payload_bytes = strlen(text);
	native_send(c, SLUICE_ERROR, id, &e, text, e.payload_bytes, -1);
	if (!message_error_closes(code))
		return;
	serve_notice(c->serve, "client dropped", c, text);
	conn_drop(c);
}

static void refused(struct conn *c, struct event *e)
{
	native_fail(c, e->id, e->u.refused.code, e->u.refused.why.text);
}

static void accepted(struct conn *c, struct event *e)
{
	const struct sluice_accepted a = { .struct_size = sizeof(a),
					   .n_prompt = e->u.accepted.n_prompt,
					   .max_tokens = e->u.accepted.max_tokens,
					   .n_ctx = e->u.accepted.n_ctx };

	native_send(c, SLUICE_ACCEPTED, e->id, &a, NULL, 0, -1);
}

static void progress(struct conn *c, struct event *e)
{
	const struct sluice_progress p = { .struct_size = sizeof(p),
					   .n_read = e->u.progress.n_read,
					   .n_prompt = e->u.progress.n_prompt,
					   .done_ppm = e->u.progress.done_ppm };

	native_send(c, SLUICE_PROGRESS, e->id, &p, NULL, 0, -1);
}

/* The text, and behind it the likeliest tokens where they were asked for. */
static void token(struct conn *c, struct event *e)
{
	const struct token_logprobs *l = e->u.token.logprobs;
	struct sluice_token t = { .struct_size = sizeof(t),
				  .token = e->u.token.token,
				  .index = e->u.token.index,
				  .payload_bytes = e->u.token.bytes };
	struct sluice_likely likely[LOGPROBS_MAX];
	struct buf all = { 0 };

	if (!l) {
		native_send(c, SLUICE_TOKEN, e->id, &t, e->u.token.text, t.payload_bytes, -1);
		return;
	}
	t.logprob = l->logprob;
	t.n_likeliest = l->n;
	for (uint32_t i = 0; i < l->n; i++)
		likely[i] = (struct sluice_likely){ l->ids[i], l->logprobs[i] };
	buf_put(&all, e->u.token.text, e->u.token.bytes);
	buf_put(&all, likely, l->n * sizeof(likely[0]));
	t.payload_bytes = all.n;
	if (all.failed)
		conn_drop(c);
	else
		native_send(c, SLUICE_TOKEN, e->id, &t, all.data, all.n, -1);
	buf_done(&all);
}

static void logits(struct conn *c, struct event *e)
{
	const struct sluice_logits l = { .struct_size = sizeof(l),
					 .first = e->u.logits.first,
					 .n_rows = e->u.logits.n_rows,
					 .n_vocab = e->u.logits.n_vocab,
					 .payload_bytes = (uint64_t)e->u.logits.n_rows *
							  e->u.logits.n_vocab * sizeof(float) };
	int fd = e->u.logits.fd;

	e->u.logits.fd = -1;
	native_send(c, SLUICE_LOGITS, e->id, &l, NULL, l.payload_bytes, fd);
}

static void logprobs(struct conn *c, struct event *e)
{
	const struct sluice_logprobs l = { .struct_size = sizeof(l),
					   .count = e->u.logprobs.n,
					   .payload_bytes = e->u.logprobs.n * sizeof(double) };

	native_send(c, SLUICE_LOGPROBS, e->id, &l, e->u.logprobs.values, l.payload_bytes, -1);
}

static void done(struct conn *c, struct event *e)
{
	const struct request_result *r = e->u.done.figures;
	const struct sluice_done d = {
		.struct_size = sizeof(d),
		.stop = (uint32_t)e->u.done.stop,
		.code = (uint32_t)e->u.done.code,
		.n_prompt = r->n_prompt,
		.n_cached = r->n_cached,
		.n_generated = e->u.done.n_sent,
		.prompt_ns = r->prompt_ns,
		.predict_ns = r->predict_ns,
		.ttft_ns = r->ttft_ns,
		.hits = r->hits,
		.misses = r->misses,
		.bytes_read = r->bytes_read,
		.stall_ns = r->stall_ns,
		.span_ns = r->span_ns,
		.payload_bytes = strlen(e->u.done.why),
		.spec = info_spec(&r->spec),
	};

	native_send(c, SLUICE_DONE, e->id, &d, e->u.done.why, d.payload_bytes, -1);
}

static void model(struct conn *c, struct event *e)
{
	struct sluice_model_info info = *e->u.model.info;

	info.payload_bytes = strlen(e->u.model.path);
	native_send(c, SLUICE_MODEL, e->id, &info, e->u.model.path, info.payload_bytes, -1);
}

static void status(struct conn *c, struct event *e)
{
	struct sluice_status_info info = *e->u.status.info;

	info.payload_bytes = strlen(e->u.status.notes);
	native_send(c, SLUICE_STATUS_REPLY, e->id, &info, e->u.status.notes, info.payload_bytes,
		    -1);
}

static void converted(struct conn *c, uint16_t type, uint64_t id, const void *data, uint64_t bytes)
{
	const struct sluice_converted r = { .struct_size = sizeof(r), .payload_bytes = bytes };

	native_send(c, type, id, &r, data, bytes, -1);
}

static void ids(struct conn *c, struct event *e)
{
	converted(c, SLUICE_TOKENS, e->id, e->u.ids.values,
		  (uint64_t)e->u.ids.n * sizeof(*e->u.ids.values));
}

static void text(struct conn *c, struct event *e)
{
	converted(c, SLUICE_TEXT, e->id, e->u.text.text, e->u.text.bytes);
}

void native_render(struct conn *c, struct event *e)
{
	static void (*const renderers[])(struct conn * c, struct event * e) = {
		[EVENT_REFUSED] = refused, [EVENT_ACCEPTED] = accepted, [EVENT_PROGRESS] = progress,
		[EVENT_TOKEN] = token,	   [EVENT_LOGITS] = logits,	[EVENT_LOGPROBS] = logprobs,
		[EVENT_DONE] = done,	   [EVENT_MODEL] = model,	[EVENT_STATUS] = status,
		[EVENT_IDS] = ids,	   [EVENT_TEXT] = text,
	};

	renderers[e->kind](c, e);
}
