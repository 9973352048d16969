/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/job.c: a job from its request to the engine, and the engine's side of it, which fills its
 * buffers. See job.h.
 */
#include "serve/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "serve/forms.h"
#include "serve/payload.h"
#include "serve/private.h"

/* Rows are gathered to chunks of about this size, so that few descriptors carry many rows. */
#define CHUNK_BYTES (4u << 20)

/* ---- engine thread ---- */

static void on_begun(struct request *r, uint32_t place, uint32_t n_prompt, uint32_t n_cached)
{
	struct job *j = r->arg;

	atomic_store_explicit(&j->begun, (uint64_t)n_prompt << 32 | n_cached, memory_order_relaxed);
	atomic_store_explicit(&j->begun_ns, now_ns(), memory_order_relaxed);
	/* pairs with the acquire in times_of(), job_events.c */
	atomic_store_explicit(&j->place, place, memory_order_release);
	if (r->want_progress)
		serve_wake(j->serve);
}

static void on_progress(struct request *r, uint32_t n_read, double done)
{
	struct job *j = r->arg;

	/* one word, so that whoever reads it sees both of one moment; only the newest matters */
	atomic_store_explicit(&j->progress, (uint64_t)n_read << 32 | (uint32_t)(done * 1e6),
			      memory_order_relaxed);
	serve_wake(j->serve);
}

static void on_token(struct request *r, uint32_t id)
{
	struct job *j = r->arg;
	uint32_t n = atomic_load_explicit(&j->n_out, memory_order_relaxed);
	uint64_t now = now_ns();

	if (!n)
		atomic_store_explicit(&j->first_ns, now, memory_order_relaxed);
	atomic_store_explicit(&j->newest_ns, now, memory_order_relaxed);
	j->out[n] = id;
	/* pairs with the acquire in next_token(), job_events.c */
	atomic_store_explicit(&j->n_out, n + 1, memory_order_release);
	serve_wake(j->serve);
}

/* Comes before its token, which publishes it. */
static void on_token_logprobs(struct request *r, const struct token_logprobs *l)
{
	struct job *j = r->arg;

	j->token_logprobs[atomic_load_explicit(&j->n_out, memory_order_relaxed)] = *l;
}

static void on_logprob(struct request *r, uint32_t i, double logprob)
{
	struct job *j = r->arg;

	j->logprobs[i - 1] = logprob; /* published by done */
}

/* The job cannot go on for a reason of ours; the engine is asked to stop it. */
static void fail_job(struct job *j, int code)
{
	atomic_store_explicit(&j->fault, code, memory_order_relaxed); /* published by done */
	atomic_store_explicit(&j->req.cancel, true, memory_order_relaxed);
}

static int close_chunk(struct job *j)
{
	uint32_t n = atomic_load_explicit(&j->n_chunks, memory_order_relaxed);
	int rc;

	if (n == j->req.n_tokens || j->chunks[n].fd < 0 || !j->chunks[n].n_rows)
		return 0;
	rc = payload_seal(j->chunks[n].fd);
	if (rc)
		return rc;
	/* pairs with the acquire in next_logits(), job_events.c */
	atomic_store_explicit(&j->n_chunks, n + 1, memory_order_release);
	serve_wake(j->serve);
	return 0;
}

static int add_row(struct job *j, uint32_t position, const float *row)
{
	size_t bytes = (size_t)j->serve->config.model->n_vocab * sizeof(float);
	struct logits_chunk *c =
		&j->chunks[atomic_load_explicit(&j->n_chunks, memory_order_relaxed)];
	uint64_t pending;
	int rc;

	if (c->fd < 0) {
		c->fd = payload_open();
		c->first = position;
		if (c->fd < 0)
			return c->fd;
	}
	pending = atomic_fetch_add_explicit(&j->serve->logits_pending, bytes, memory_order_relaxed);
	if (pending > j->serve->config.logits_pending)
		rc = -ETIMEDOUT;
	else
		rc = payload_append(c->fd, row, bytes);
	if (rc) {
		atomic_fetch_sub_explicit(&j->serve->logits_pending, bytes, memory_order_relaxed);
		return rc;
	}
	c->n_rows++;
	return c->n_rows == j->chunk_rows ? close_chunk(j) : 0;
}

static void on_logits(struct request *r, uint32_t first, uint32_t n, const float *logits, size_t ld)
{
	struct job *j = r->arg;

	if (atomic_load_explicit(&j->fault, memory_order_relaxed))
		return;
	for (uint32_t i = 0; i < n; i++) {
		int rc = add_row(j, first + i, logits + i * ld);

		if (rc) {
			fail_job(j, rc == -ETIMEDOUT ? SLUICE_E_SLOW : SLUICE_E_NO_MEMORY);
			return;
		}
	}
}

static void on_done(struct request *r, const struct request_result *result)
{
	struct job *j = r->arg;
	struct serve *s = j->serve;

	if (r->want_logits && !atomic_load_explicit(&j->fault, memory_order_relaxed) &&
	    close_chunk(j))
		fail_job(j, SLUICE_E_NO_MEMORY);
	j->result = *result;
	/* pairs with the acquire in job_next(), job_events.c; the job may be freed right after it */
	atomic_store_explicit(&j->done, true, memory_order_release);
	serve_wake(s);
}

static const struct request_ops generate_ops = { .begun = on_begun,
						 .progress = on_progress,
						 .token = on_token,
						 .token_logprobs = on_token_logprobs,
						 .prompt_logprobs = job_prompt_take,
						 .done = on_done };
static const struct request_ops score_ops = {
	.progress = on_progress, .logits = on_logits, .logprob = on_logprob, .done = on_done
};

/* ---- main thread ---- */

int job_error(int rc)
{
	switch (rc) {
	case -EINVAL:
		return SLUICE_E_INVALID;
	case -E2BIG:
		return SLUICE_E_TOO_LONG;
	case -EBUSY:
		return SLUICE_E_BUSY;
	case -ESHUTDOWN:
		return SLUICE_E_SHUTDOWN;
	case -ETIME:
		return SLUICE_E_BUSY;
	case -ENOMEM:
		return SLUICE_E_NO_MEMORY;
	default:
		return SLUICE_E_INTERNAL;
	}
}

static int take_buffers(struct job *j)
{
	struct request *r = &j->req;

	if (r->max_tokens) {
		j->out = calloc(r->max_tokens, sizeof(*j->out));
		if (!j->out)
			return -ENOMEM;
	}
	if (r->n_logprobs) {
		j->token_logprobs = calloc((size_t)r->max_tokens + 1, sizeof(*j->token_logprobs));
		if (!j->token_logprobs)
			return -ENOMEM;
	}
	if (r->want_prompt_logprobs && job_prompt_room(j))
		return -ENOMEM;
	if (r->want_logprobs) {
		j->logprobs = calloc(r->n_tokens, sizeof(*j->logprobs));
		if (!j->logprobs)
			return -ENOMEM;
	}
	if (r->want_logits) {
		j->chunks = calloc(r->n_tokens, sizeof(*j->chunks));
		if (!j->chunks)
			return -ENOMEM;
		for (uint32_t i = 0; i < r->n_tokens; i++)
			j->chunks[i].fd = -1;
	}
	return 0;
}

/* A copy of @bytes bytes; NULL where there are none, or no memory: then *failed. */
static void *copy_of(const void *data, size_t bytes, bool *failed)
{
	void *copy = bytes ? malloc(bytes) : NULL;

	if (copy)
		memcpy(copy, data, bytes);
	*failed |= bytes && !copy;
	return copy;
}

/* What the sampling points to lives as long as the request. */
static int copy_sampling(struct job *j)
{
	struct sampling *s = &j->req.sampling;
	size_t map = s->dry_breaks ? (j->serve->config.model->n_vocab + 7) / 8 : 0;
	bool failed = false;

	s->bias = j->bias = copy_of(s->bias, s->n_bias * sizeof(*s->bias), &failed);
	s->dry_breaks = j->dry_breaks = copy_of(s->dry_breaks, map, &failed);
	return failed ? -ENOMEM : 0;
}

static void fill_request(struct job *j, const struct ask *ask, uint32_t n_ctx)
{
	struct request *r = &j->req;

	r->arg = j;
	r->tokens = j->prompt;
	atomic_init(&r->cancel, ask->cancelled);
	r->want_progress = ask->want_progress;
	r->client = ask->client;
	r->tenant = ask->tenant;
	r->marks = j->marks;
	r->n_marks = j->marks ? ask->n_marks : 0;
	r->respell = ask->respell || !ask->is_ids;
	r->no_reuse = ask->no_reuse;
	r->place = ask->place;
	r->max_ns = j->serve->config.request_ns;
	if (ask->max_ms && (!r->max_ns || ask->max_ms < r->max_ns / 1000000))
		r->max_ns = u64_min(ask->max_ms, UINT64_MAX / 1000000) * 1000000;
	if (ask->kind == ASK_SCORE) {
		j->score = true;
		r->ops = &score_ops;
		r->want_logits = ask->want_logits;
		r->want_logprobs = ask->want_logprobs;
		return;
	}
	j->raw = ask->raw;
	j->hide_eog = ask->hide_eog;
	r->ops = &generate_ops;
	r->max_tokens = ask->max_tokens;
	if (j->serve->config.request_tokens)
		r->max_tokens = (uint32_t)u64_min(r->max_tokens, j->serve->config.request_tokens);
	if (r->n_tokens <= n_ctx && r->max_tokens > n_ctx - r->n_tokens)
		r->max_tokens = n_ctx - r->n_tokens;
	r->n_untimed = ask->n_untimed;
	r->ignore_eog = ask->ignore_eog;
	r->sampling = ask->sampling;
	r->n_logprobs = ask->n_logprobs;
	r->want_prompt_logprobs = ask->want_prompt_logprobs;
	r->spec = ask->spec;
	r->draft_length = ask->draft_length;
	r->draft = j->draft;
	r->n_draft = j->draft ? ask->n_draft : 0;
}

/* Refusals that need the context's length. */
static int check_length(const struct ask *ask, uint32_t n_prompt, uint32_t n_ctx, struct err *err)
{
	bool grows = ask->kind == ASK_GENERATE && ask->max_tokens;

	if (n_prompt + (grows ? 1 : 0) > n_ctx)
		return err_set(err, SLUICE_E_TOO_LONG,
			       "the prompt has %u tokens%s, the context holds %u (sluiced --ctx)",
			       n_prompt, grows ? " and no room for an answer" : "", n_ctx);
	if (ask->kind == ASK_GENERATE && ask->n_untimed > n_prompt)
		return err_set(err, SLUICE_E_INVALID, "n_untimed is longer than the prompt");
	return 0;
}

/* Address space that the engine's thread fills: nothing is allocated there. */
static int take_form(struct job *j, const struct ask *ask)
{
	if (!ask->constraint || j->score)
		return 0;
	j->constraint = constraint_hold(ask->constraint);
	return forms_matcher(j->serve->forms, j->constraint, &j->req.form);
}

int job_create(struct serve *s, const struct ask *ask, uint32_t *prompt, uint32_t n_prompt,
	       struct job **ret, struct err *err)
{
	struct job *j = NULL;
	size_t row = (size_t)s->config.model->n_vocab * sizeof(float);
	uint32_t n_ctx = engine_n_ctx(s->config.engine);
	int rc;

	rc = check_length(ask, n_prompt, n_ctx, err);
	if (rc)
		goto out_prompt;
	rc = SLUICE_E_NO_MEMORY;
	j = calloc(1, sizeof(*j));
	if (!j)
		goto out_prompt;
	j->serve = s;
	j->id = ask->id;
	j->prompt = prompt;
	if (ask->n_draft) {
		j->draft = malloc((size_t)ask->n_draft * sizeof(*j->draft));
		if (!j->draft)
			goto out_job;
		memcpy(j->draft, ask->draft, (size_t)ask->n_draft * sizeof(*j->draft));
	}
	j->chunk_rows = row < CHUNK_BYTES ? (uint32_t)(CHUNK_BYTES / row) : 1;
	j->req.n_tokens = n_prompt;
	if (ask->n_marks) {
		j->marks = malloc(ask->n_marks * sizeof(*j->marks));
		if (!j->marks)
			goto out_job;
		memcpy(j->marks, ask->marks, ask->n_marks * sizeof(*j->marks));
	}
	fill_request(j, ask, n_ctx);
	if (take_buffers(j) || copy_sampling(j) || take_form(j, ask))
		goto out_job;
	if (ask->n_stops) {
		j->stops = stops_create(ask->stops, ask->n_stops, s->text_room);
		if (!j->stops)
			goto out_job;
	}
	detok_init(&j->detok, s->config.tokenizer, j->raw);
	rc = engine_submit(s->config.engine, &j->req, err);
	if (rc) {
		rc = job_error(rc);
		goto out_job;
	}
	*ret = j;
	return 0;
out_job:
	job_destroy(j);
	prompt = NULL;
out_prompt:
	free(prompt);
	return err_set(err, rc, "%s", ask_error_text(rc));
}

bool job_is_let_go(const struct job *j)
{
	return atomic_load_explicit(&j->done, memory_order_acquire);
}

bool job_is_over(const struct job *j)
{
	return j->done_sent;
}

void job_destroy(struct job *j)
{
	size_t row = (size_t)j->serve->config.model->n_vocab * sizeof(float);

	for (uint32_t i = 0; j->chunks && i < j->req.n_tokens; i++) {
		if (j->chunks[i].fd < 0)
			continue;
		close(j->chunks[i].fd);
		atomic_fetch_sub_explicit(&j->serve->logits_pending, j->chunks[i].n_rows * row,
					  memory_order_relaxed);
	}
	if (j->req.form)
		forms_give_back(j->serve->forms, j->constraint, j->req.form);
	constraint_put(j->constraint);
	stops_destroy(j->stops);
	free(j->chunks);
	free(j->logprobs);
	free(j->token_logprobs);
	free(j->prompt_logprobs);
	free(j->bias);
	free(j->dry_breaks);
	free(j->out);
	free(j->prompt);
	free(j->marks);
	free(j->draft);
	free(j);
}
