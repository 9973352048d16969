/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/job_events.c: what a job has to tell its client, in order: progress, tokens with the text that
 * may be shown, rows of logits, the end. Reads what the engine's thread published (job.c). See job.h. Main
 * thread.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "serve/job.h"
#include "serve/private.h"

static struct job_times times_of(const struct job *j)
{
	/* pairs with the release in on_begun() */
	struct job_times t = { .place = atomic_load_explicit(&j->place, memory_order_acquire) };
	uint64_t begun = atomic_load_explicit(&j->begun, memory_order_relaxed);
	uint64_t start = atomic_load_explicit(&j->begun_ns, memory_order_relaxed);
	uint64_t first = atomic_load_explicit(&j->first_ns, memory_order_relaxed);
	uint64_t newest = atomic_load_explicit(&j->newest_ns, memory_order_relaxed);

	t.n_prompt = t.place ? (uint32_t)(begun >> 32) : j->req.n_tokens;
	t.n_cached = (uint32_t)begun;
	t.prompt_ns = first > start ? first - start : 0;
	t.predict_ns = newest > first ? newest - first : 0;
	return t;
}

/* Of all that was reported since the last one only the newest, and none after the first token. */
static bool next_progress(struct job *j, struct event *ret)
{
	uint64_t now = atomic_load_explicit(&j->progress, memory_order_relaxed);
	struct job_times t = times_of(j);
	/* as soon as it is known: what is not read again */
	bool first = j->req.want_progress && t.place && t.n_cached && !j->progress_begun;

	if ((now == j->progress_sent && !first) || j->n_sent)
		return false;
	j->progress_begun = true;
	j->progress_sent = now;
	ret->kind = EVENT_PROGRESS;
	ret->u.progress.n_prompt = j->req.n_tokens;
	ret->u.progress.n_cached = (uint32_t)u64_min(t.n_cached, j->req.n_tokens);
	ret->u.progress.n_read = (uint32_t)u64_max(now >> 32, ret->u.progress.n_cached);
	ret->u.progress.done_ppm = (uint32_t)u64_max(
		(uint32_t)now, ret->u.progress.n_cached * (uint64_t)1000000 / j->req.n_tokens);
	return true;
}

/* The text that may be shown of a piece that came, and the end of the request at a stop string. */
static void hold_back(struct job *j, struct event *ret)
{
	if (!j->stops)
		return;
	ret->u.token.bytes =
		stops_push(j->stops, ret->u.token.text, ret->u.token.bytes, &ret->u.token.text);
	if (stops_hit(j->stops))
		atomic_store_explicit(&j->req.cancel, true, memory_order_relaxed);
}

static bool next_token(struct job *j, struct event *ret)
{
	/* pairs with the release in on_token() */
	uint32_t n = atomic_load_explicit(&j->n_out, memory_order_acquire);
	ssize_t len;

	if (j->n_sent == n || (j->stops && stops_hit(j->stops)))
		return false;
	if (j->hide_eog && tokenizer_is_eog(j->serve->config.tokenizer, j->out[j->n_sent]))
		len = detok_flush(&j->detok, j->serve->text, j->serve->text_room);
	else
		len = detok_push(&j->detok, j->out[j->n_sent], j->serve->text, j->serve->text_room);
	ret->kind = EVENT_TOKEN;
	ret->u.token.token = j->out[j->n_sent];
	if (j->token_logprobs)
		ret->u.token.logprobs = &j->token_logprobs[j->n_sent];
	ret->u.token.index = j->n_sent++;
	ret->u.token.times = times_of(j);
	ret->u.token.text = j->serve->text;
	ret->u.token.bytes = len > 0 ? (size_t)len : 0;
	hold_back(j, ret);
	return true;
}

/* What is left of a character that never became complete, then what may be a stop string no more. */
static bool next_flush(struct job *j, struct event *ret)
{
	unsigned last = j->score ? 0 : j->stops ? 2 : 1;

	while (j->n_flushed < last) {
		ret->kind = EVENT_TOKEN;
		ret->u.token.token = EVENT_NO_TOKEN;
		ret->u.token.index = j->n_sent;
		ret->u.token.times = times_of(j);
		ret->u.token.text = j->serve->text;
		if (j->n_flushed++) {
			ret->u.token.bytes = stops_flush(j->stops, &ret->u.token.text);
		} else {
			ssize_t len = detok_flush(&j->detok, j->serve->text, j->serve->text_room);

			ret->u.token.bytes = len > 0 ? (size_t)len : 0;
			hold_back(j, ret);
		}
		if (ret->u.token.bytes)
			return true;
	}
	return false;
}

static bool next_logits(struct job *j, struct event *ret)
{
	struct logits_chunk *c;
	uint64_t bytes;

	/* pairs with the release in close_chunk() */
	if (j->n_chunks_sent == atomic_load_explicit(&j->n_chunks, memory_order_acquire))
		return false;
	c = &j->chunks[j->n_chunks_sent++];
	bytes = (uint64_t)c->n_rows * j->serve->config.model->n_vocab * sizeof(float);
	atomic_fetch_sub_explicit(&j->serve->logits_pending, bytes, memory_order_relaxed);
	ret->kind = EVENT_LOGITS;
	ret->u.logits.first = c->first;
	ret->u.logits.n_rows = c->n_rows;
	ret->u.logits.n_vocab = j->serve->config.model->n_vocab;
	ret->u.logits.fd = c->fd;
	c->fd = -1;
	return true;
}

static bool next_logprobs(struct job *j, struct event *ret)
{
	if (j->logprobs_sent || !j->logprobs || j->result.stop == STOP_ERROR ||
	    j->result.stop == STOP_CANCELLED)
		return false;
	j->logprobs_sent = true;
	ret->kind = EVENT_LOGPROBS;
	ret->u.logprobs.values = j->logprobs;
	ret->u.logprobs.n = j->req.n_tokens - 1;
	return true;
}

static int result_error(int rc)
{
	if (rc == -EIO || rc == -ESTALE || rc == -ENODATA)
		return SLUICE_E_IO;
	return job_error(rc);
}

static void last_event(struct job *j, struct event *ret)
{
	int fault = atomic_load_explicit(&j->fault, memory_order_relaxed);
	const struct request_result *r = &j->result;
	const char *hit = j->stops ? stops_hit(j->stops) : NULL;

	ret->kind = EVENT_DONE;
	ret->u.done.stop = fault ? STOP_ERROR : r->stop;
	ret->u.done.code = 0;
	ret->u.done.why = "";
	ret->u.done.n_sent = j->n_sent;
	ret->u.done.figures = r;
	ret->u.done.stop_string = hit;
	if (hit) { /* it was us who cancelled it */
		ret->u.done.stop = STOP_EOG;
	} else if (fault) {
		ret->u.done.code = fault;
		ret->u.done.why = fault == SLUICE_E_SLOW
					  ? "the client did not take its logits in time"
					  : ask_error_text(fault);
	} else if (r->stop == STOP_ERROR) {
		ret->u.done.code = result_error(r->error);
		ret->u.done.why = r->err.text[0] ? r->err.text : ask_error_text(ret->u.done.code);
	}
}

bool job_next(struct job *j, struct event *ret)
{
	/* Before the counters: what came before done() is then visible. Pairs with on_done(). */
	bool done = atomic_load_explicit(&j->done, memory_order_acquire);

	memset(ret, 0, sizeof(*ret));
	ret->id = j->id;
	if (next_progress(j, ret) || job_prompt_next(j, done, ret) || next_token(j, ret) ||
	    next_logits(j, ret))
		return true;
	if (!done || j->done_sent)
		return false;
	if (next_flush(j, ret) || next_logprobs(j, ret))
		return true;
	last_event(j, ret);
	j->done_sent = true;
	return true;
}
