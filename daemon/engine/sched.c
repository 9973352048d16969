/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/sched.c: the engine thread: load, then steps for as long as there is work.
 *
 * Each turn: take new requests, drop cancelled ones, seat waiting ones, compose a step
 * (compose.c), run it, hand out tokens. With nothing to
 * compute: fill the expert slots from disk, then sleep.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "engine/engine_private.h"
#include "engine/logprobs.h"
#include "engine/numa.h"
#include "engine/saved.h"

static void add(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static void read_counters(const struct engine *e, uint64_t *hits, uint64_t *misses, uint64_t *bytes,
			  uint64_t *stall)
{
	const struct supply_counters *c;
	struct residency_stats r;

	*hits = *misses = *bytes = *stall = 0;
	if (!e->supply)
		return;
	c = supply_counters(e->supply);
	residency_get_stats(e->residency, &r);
	*hits = atomic_load_explicit(&c->hits, memory_order_relaxed);
	*misses = atomic_load_explicit(&c->misses, memory_order_relaxed);
	*stall = atomic_load_explicit(&c->stall_ns, memory_order_relaxed);
	*bytes = r.bytes_read;
}

static void finish(struct engine *e, struct active *a, enum request_stop stop, int error,
		   const char *why)
{
	struct request_result result = { .stop = stop, .error = error };
	uint64_t hits, misses, bytes, stall, now = now_ns();
	struct request *r = a->request;

	if (why)
		err_set(&result.err, error, "%s", why);
	result.n_prompt = a->n_done;
	result.place = (uint32_t)(a - e->active) + 1;
	result.spec = a->spec.counts;
	result.n_cached = a->reuse.n_cached;
	result.n_generated = a->n_generated;
	if (a->timed_ns) {
		uint64_t end = a->prompt_end_ns ? a->prompt_end_ns : now;

		read_counters(e, &hits, &misses, &bytes, &stall);
		result.prompt_ns = end - a->timed_ns;
		result.hits = hits - a->hits;
		result.misses = misses - a->misses;
		result.bytes_read = bytes - a->bytes_read;
		result.stall_ns = stall - a->stall_ns;
		result.span_ns = (a->last_token_ns ? a->last_token_ns : end) - a->timed_ns;
	}
	if (a->n_generated) {
		result.predict_ns = a->last_token_ns - a->prompt_end_ns;
		result.ttft_ns = a->prompt_end_ns - r->submitted_ns;
	}
	histogram_observe(&e->latency[LATENCY_WHOLE], now - r->submitted_ns);
	add(&e->ended[stop], 1);
	if (stop != STOP_ERROR && !a->spoilt)
		reuse_keep(e, a, false);
	engine_device_let(e, a);
	seq_put(e->seqs, a->seq);
	a->seq = NULL;
	a->request = NULL;
	atomic_fetch_sub(&e->n_active, 1);
	engine_finish_request(e, r, &result);
}

/* The engine stops: nobody may take what has come so far for a whole answer. */
static void end_all(struct engine *e)
{
	static const char why[] = "the daemon is stopping";

	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i];

		if (a->request && request_is_cancelled(a->request))
			finish(e, a, STOP_CANCELLED, 0, NULL);
		else if (a->request)
			finish(e, a, STOP_ERROR, -ESHUTDOWN, why);
	}
	waiting_end(e, -ESHUTDOWN, why);
}

static void end_over_time(struct engine *e, struct active *a)
{
	char text[96];

	if (a->n_generated) {
		finish(e, a, STOP_LENGTH, 0, NULL);
		return;
	}
	snprintf(text, sizeof(text),
		 "the prompt was not read in the %llu ms that a request may take",
		 (unsigned long long)(a->request->max_ns / 1000000));
	finish(e, a, STOP_ERROR, -ETIME, text);
}

static void drop_cancelled(struct engine *e)
{
	uint64_t now = now_ns();

	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i];

		if (a->request && request_is_cancelled(a->request))
			finish(e, a, STOP_CANCELLED, 0, NULL);
		else if (a->request && request_is_over_time(a->request, now))
			end_over_time(e, a);
		else if (a->request && a->device_short)
			finish(e, a, STOP_ERROR, a->short_error, a->short_note.text);
	}
	waiting_drop(e, now);
}

/* Given up: the engine stops, or every request of the step was cancelled. */
bool engine_given_up(void *arg)
{
	const struct engine *e = arg;
	const struct batch *b = e->batch;

	if (atomic_load_explicit(&e->stop, memory_order_relaxed))
		return true;
	for (uint32_t i = 0; i < b->n_runs; i++)
		if (!request_is_cancelled(e->active[e->run_owner[i]].request))
			return false;
	return true;
}

/* It is known what @a takes up: it goes on from there. */
static void begin(struct engine *e, struct active *a)
{
	struct request *r = a->request;

	spec_add(e, a, a->reuse.n_cached);
	if (r->ops->begun)
		r->ops->begun(r, (uint32_t)(a - e->active) + 1, a->n_prompt, a->reuse.n_cached);
}

static void seat(struct engine *e, struct active *a, struct request *r)
{
	struct active kept = *a;

	*a = (struct active){ .request = r,
			      .seq = seq_get(e->seqs),
			      .sampler = kept.sampler, /* keeps its buffers */
			      .spec = kept.spec,
			      .ids = kept.ids,
			      .n_prompt = r->n_tokens,
			      .n_ids = r->n_tokens,
			      .max_tokens = r->max_tokens,
			      .tenant = e->config.prefix_share ? 0 : r->tenant,
			      .number = ++e->n_requests };
	memcpy(a->ids, r->tokens, r->n_tokens * sizeof(*a->ids));
	reuse_begin(e, a);
	sampler_set(&a->sampler, &r->sampling);
	spec_begin(e, a);
	histogram_observe(&e->latency[LATENCY_QUEUE], now_ns() - r->submitted_ns);
	atomic_fetch_add(&e->n_active, 1);
	if (!follow_begin(e, a))
		begin(e, a);
}

static void seat_waiting(struct engine *e)
{
	for (uint32_t i = 0; i < e->config.n_parallel && e->queue_head; i++) {
		struct request **next;

		if (e->active[i].request)
			continue;
		next = waiting_next(e, i);
		if (!next)
			continue;
		if (!room_to_seat(e, (*next)->n_tokens))
			return;
		seat(e, &e->active[i], waiting_take(e, next));
	}
}

bool engine_decoding(const struct active *a)
{
	return a->n_done == a->n_prompt && seq_len(a->seq) + 1 == a->n_ids;
}

void engine_start_clock(struct engine *e, struct active *a)
{
	a->timed_ns = now_ns();
	read_counters(e, &a->hits, &a->misses, &a->bytes_read, &a->stall_ns);
}

/* Prompt token @i, by the row of the one before it. */
static void score(struct engine *e, struct request *r, uint32_t i, const float *row)
{
	struct token_logprobs l;

	if (r->want_logprobs && r->ops->logprob)
		r->ops->logprob(r, i, log_softmax_at(row, e->model->n_vocab, r->tokens[i]));
	if (r->want_prompt_logprobs && r->ops->prompt_logprobs) {
		logits_logprobs(row, e->model->n_vocab, r->tokens[i], engine_n_likely(r), &l);
		r->ops->prompt_logprobs(r, i, &l);
	}
}

/*
 * One row of logits: scores the prompt token that follows, or chooses the next token. A row that
 * holds anything but numbers ends its request after the step; other requests go on.
 */
static void use_row(struct engine *e, uint32_t column, const float *row)
{
	const struct batch_run *run = &e->runs[e->token_run[column]];
	struct active *a = &e->active[e->run_owner[e->token_run[column]]];
	struct request *r = a->request;
	uint32_t at = run->pos + (column - run->first); /* the row's position */
	uint32_t broken;

	if (engine_decoding(a)) {
		spec_row(e, a, column - run->first, row, e->token_error[column]);
		return;
	}
	if (a->no_number)
		return;
	broken = logits_broken(row, e->model->n_vocab);
	if (broken) {
		a->spec.n_picked = 0;
		a->no_number = true;
		a->n_broken = broken;
		return;
	}
	if (at + 1 < a->n_prompt) {
		score(e, r, at + 1, row);
		return;
	}
	if (r->max_tokens) {
		a->spec.n_picked = 0;
		a->spec.n_picked = !engine_pick(e, a, row, &a->spec.picked[0]);
		a->no_number = !a->spec.n_picked;
		a->n_broken = 0;
	}
}

/* decoder_logits_fn: hands whole stretches of one request's rows to it, then uses each row. */
static void on_logits(void *arg, const uint32_t *columns, uint32_t n, const float *logits,
		      size_t ld)
{
	struct engine *e = arg;

	for (uint32_t i = 0; i < n;) {
		uint32_t run = e->token_run[columns[i]], k = 1;
		struct active *a = &e->active[e->run_owner[run]];
		struct request *r = a->request;
		uint32_t at = e->runs[run].pos + (columns[i] - e->runs[run].first);

		while (i + k < n && e->token_run[columns[i + k]] == run)
			k++;
		if (r->want_logits && r->ops->logits && at < a->n_prompt)
			r->ops->logits(r, at, k, logits + i * ld, ld);
		for (uint32_t j = 0; j < k; j++)
			use_row(e, columns[i + j], logits + (i + j) * ld);
		i += k;
	}
}

static int run_error(const struct engine *e, const struct batch_run *run)
{
	for (uint32_t t = run->first; t < run->first + run->count - run->drafted; t++)
		if (e->token_error[t])
			return e->token_error[t];
	return 0;
}

/* A read failed: says what is wrong with the file where that can be seen. */
static void fail_read(struct engine *e, struct active *a, int error)
{
	struct err why = { { 0 } };
	char text[512];

	if (decoder_device_error(e->decoder)[0]) {
		snprintf(text, sizeof(text), "the device failed: %.400s",
			 decoder_device_error(e->decoder));
		finish(e, a, STOP_ERROR, error, text);
		return;
	}
	if (!reader_check_files(e->reader, &why))
		err_clear(&why);
	snprintf(text, sizeof(text), "reading an expert's weights: %s%s%.400s", strerror(-error),
		 why.text[0] ? ": " : "", why.text);
	finish(e, a, STOP_ERROR, error, text);
}

/* The model's numbers are none: nothing that could follow would mean anything. */
static void fail_not_finite(struct engine *e, struct active *a)
{
	char text[160], some[64] = "";

	if (a->request->form && !a->n_broken) {
		finish(e, a, STOP_ERROR, -EDOM,
		       "the answer's form leaves no token that may come here: it nests too deep, is "
		       "too ambiguous, or a logit bias excludes what is left");
		return;
	}
	if (a->n_broken && a->n_broken < e->model->n_vocab)
		snprintf(some, sizeof(some), " for %u of the %u tokens of its vocabulary",
			 a->n_broken, e->model->n_vocab);
	snprintf(text, sizeof(text),
		 "the model gave no finite logit%s: its weights or its state are broken", some);
	finish(e, a, STOP_ERROR, -EDOM, text);
}

static void hand_out_token(struct engine *e, struct active *a, uint32_t k, uint64_t now)
{
	struct request *r = a->request;
	uint32_t id = a->spec.picked[k];

	a->ids[a->n_ids++] = id;
	spec_add(e, a, a->n_ids);
	engine_observe_token(e, a, now);
	a->n_generated++;
	a->last_token_ns = now;
	add(&e->n_generated, 1);
	if (r->n_logprobs && r->ops->token_logprobs)
		r->ops->token_logprobs(r, &a->logprobs[k]);
	if (r->ops->token)
		r->ops->token(r, id);
	if (!r->ignore_eog && tokenizer_is_eog(e->tokenizer, id))
		finish(e, a, STOP_EOG, 0, NULL);
	else if (a->n_generated == r->max_tokens)
		finish(e, a, STOP_LENGTH, 0, NULL);
}

static void after_step(struct engine *e, const struct batch *b, uint64_t step_ns)
{
	uint64_t now;

	spec_after_step(e, b);
	spec_read_prompts(e, b, step_ns);
	now = now_ns();
	for (uint32_t i = 0; i < b->n_runs; i++) {
		struct active *a = &e->active[e->run_owner[i]];
		int error = run_error(e, &b->runs[i]);

		follow_serve(e, a, b->runs[i].count);
		if (error) {
			fail_read(e, a, error);
			continue;
		}
		if (a->no_number) {
			fail_not_finite(e, a);
			continue;
		}
		if (a->n_done < a->n_prompt) {
			add(&e->n_prefilled, a->n_in_step);
			a->n_done += a->n_in_step;
			spec_add(e, a, a->n_done);
			a->n_in_step = 0;
			progress_step(e, a);
			reuse_reached(e, a);
			if (a->n_done < a->n_prompt)
				continue;
			a->prompt_end_ns = now;
			if (!a->timed_ns) /* the whole prompt is untimed: only generation counts */
				engine_start_clock(e, a);
			if (!a->request->max_tokens) {
				finish(e, a, STOP_LENGTH, 0, NULL);
				continue;
			}
		}
		for (uint32_t k = 0; k < a->spec.n_picked && a->request; k++)
			hand_out_token(e, a, k, now);
	}
	spec_guess(e, b);
}

static void set_state(struct engine *e, enum engine_state state)
{
	uint64_t one = 1;

	atomic_store_explicit(&e->state, state, memory_order_release);
	if (write(e->state_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is readable anyhow */
}

static int load(struct engine *e)
{
	int rc =
		weights_load(e->weights, e->model, e->reader, e->config.ops, &e->stop, &e->failure);

	if (!rc && !e->device_dense)
		weights_narrow(e->weights, e->model);
	if (!rc && e->device)
		rc = engine_load_device(e);
	if (!rc)
		spec_load(e);
	if (!rc && e->arena)
		rc = arena_prefault_start(e->arena);
	if (rc)
		err_set(&e->failure, rc, "loading the model: %s", strerror(-rc));
	/* before it is ready: until the first fill() nobody could tell that from a fill that has ended */
	atomic_store(&e->filling, !rc && e->supply && !e->config.no_fill);
	set_state(e, rc ? ENGINE_FAILED : ENGINE_READY);
	return rc;
}

/*
 * A device that is lost takes with it what sequences had there, and an answer does not go on with the CPU's
 * bits behind the device's: those who have begun end, by name. Who has nothing there yet goes on.
 */
static int lose_device(struct engine *e)
{
	err_set(&e->lost_note, -EIO,
		"the device was lost (%.300s): the CPU computes alone until the next start",
		e->memory_failed ? e->short_note.text : decoder_device_error(e->decoder));
	e->memory_failed = false;
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i];

		if (a->request && (seq_len(a->seq) || a->n_generated))
			finish(e, a, STOP_ERROR, -EIO, e->lost_note.text);
		a->device_short = false;
	}
	return engine_lose_device(e);
}

/* 0, or -errno and e->failure: there is nothing left to compute with. */
static int run(struct engine *e, const struct batch *b)
{
	uint32_t n_read = b->n_tokens - e->n_decoding - b->n_drafted;
	uint64_t start = now_ns(), ns;

	e->batch = b;
	if (decoder_step(e->decoder, b, ++e->step, on_logits, e, e->token_error)) {
		for (uint32_t i = 0; i < b->n_runs; i++)
			e->active[e->run_owner[i]].spoilt = true;
		spec_step_given_up(e, b);
		return 0;
	}
	ns = now_ns() - start;
	pace_learn(&e->pace, &(struct pace_step){ .n_decoding = e->n_decoding,
						  .n_all = e->n_seated,
						  .n_prompt = n_read,
						  .n_tail = e->n_tail,
						  .ns = ns,
						  .waits = e->bite_waits });
	after_step(e, b, ns);
	return engine_device_gone(e, decoder_device_error(e->decoder)[0] != '\0') ? lose_device(e)
										  : 0;
}

void *engine_main(void *arg)
{
	struct engine *e = arg;
	struct batch b;
	int rc;

	pthread_setname_np(pthread_self(), "sluice-engine");
	rc = load(e);
	if (!rc)
		team_pin_caller(e->team);
	while (!rc && !atomic_load(&e->stop)) {
		waiting_take_inbox(e);
		drop_cancelled(e);
		saved_turn(e);
		follow_turn(e, begin);
		seat_waiting(e);
		places_publish(e);
		compose_step(e, &b);
		if (!b.n_tokens) {
			if (e->memory_failed && engine_device_gone(e, true))
				rc = lose_device(e);
			else
				engine_idle(e);
			continue;
		}
		engine_fill(e);
		rc = run(e, &b);
		engine_check_trace(e);
		add(&e->n_steps, 1);
	}
	while (rc && !atomic_load(&e->stop)) { /* failed: refuse what still comes in */
		waiting_end(e, rc, e->failure.text);
		usleep(20000);
	}
	end_all(e);
	saved_end(e);
	reader_cancel_queued(
		e->reader); /* what is in flight is waited for, what is not is let go */
	engine_drain_device(e);
	if (e->supply)
		supply_drain(e->supply);
	spec_drain(e);
	return NULL;
}
