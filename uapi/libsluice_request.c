/* SPDX-License-Identifier: MIT */
/*
 * uapi/libsluice_request.c: requests that run: generating and scoring. One at a time on a connection: a call
 * sends its request and hands on the replies until the last. See sluice.h.
 */
#include "sluice.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "libsluice_prompt.h"
#include "libsluice_structs.h"
#include "libsluice_wire.h"

void sluice_cancel(struct sluice *s)
{
	uint64_t id = atomic_load_explicit(&s->open_id, memory_order_acquire);
	struct {
		struct sluice_msg head;
		struct sluice_ask_cancel cancel;
	} packet = {
		.head = { .size = sizeof(packet), .type = SLUICE_CANCEL, .id = id },
		.cancel = { .struct_size = sizeof(packet.cancel) },
	};
	int saved = errno;

	/* One packet, one call: safe beside a thread that receives, and in a signal handler. */
	if (id)
		send(s->fd, &packet, sizeof(packet), MSG_NOSIGNAL);
	errno = saved; /* where the daemon is gone, the receiver will see that */
}

/* What a running request hands its messages to. */
struct sinks {
	sluice_token_fn on_token;
	sluice_logits_fn on_logits;
	sluice_progress_fn on_progress;
	void *arg, *progress_arg;
	double **ret_logprobs;
	size_t n_logprobs; /* in it */
};

/* -EPROTO where what comes behind the text does not fit, else what the callback says. */
static int sink_token(struct sinks *k, const struct sluice__reply *r)
{
	struct sluice_likely likeliest[SLUICE_LOGPROBS_MAX];
	struct sluice_piece piece = { .struct_size = sizeof(piece),
				      .text = (const char *)r->payload,
				      .bytes = r->payload_bytes };
	struct sluice_token t;

	sluice__copy_fixed(r, &t, sizeof(t));
	piece.token = t.token;
	piece.index = t.index;
	piece.logprob = t.logprob;
	if (t.n_likeliest) {
		size_t bytes = t.n_likeliest * sizeof(likeliest[0]);

		if (t.n_likeliest > SLUICE_LOGPROBS_MAX || bytes > piece.bytes)
			return -EPROTO;
		piece.bytes -= bytes;
		memcpy(likeliest, piece.text + piece.bytes, bytes);
		piece.likeliest = likeliest;
		piece.n_likeliest = t.n_likeliest;
	}
	return k->on_token && k->on_token(k->arg, &piece) ? 1 : 0;
}

/* -EPROTO where the rows do not fit their payload, else what the callback says. */
static int sink_logits(struct sinks *k, const struct sluice__reply *r)
{
	struct sluice_logits l;

	sluice__copy_fixed(r, &l, sizeof(l));
	if ((uint64_t)l.n_rows * l.n_vocab > UINT64_MAX / sizeof(float) ||
	    (uint64_t)l.n_rows * l.n_vocab * sizeof(float) != r->payload_bytes)
		return -EPROTO;
	return k->on_logits ? k->on_logits(k->arg, l.first, l.n_rows, l.n_vocab,
					   (const float *)(const void *)r->payload) != 0
			    : 0;
}

static int sink_progress(struct sinks *k, const struct sluice__reply *r)
{
	struct sluice_progress p;

	sluice__copy_fixed(r, &p, sizeof(p));
	p.struct_size = sizeof(p); /* as much as there is here, whatever came */
	return k->on_progress ? k->on_progress(k->progress_arg, &p) : 0;
}

void sluice_on_progress(struct sluice *s, sluice_progress_fn fn, void *arg)
{
	s->on_progress = fn;
	s->progress_arg = arg;
}

/* The flag that asks for progress, where somebody wants it and the daemon knows it. */
static uint32_t want_progress(const struct sluice *s, struct sinks *k)
{
	k->on_progress = s->on_progress;
	k->progress_arg = s->progress_arg;
	return s->on_progress && s->welcome.version >= 2 ? SLUICE_PROGRESS_OUT : 0;
}

static int sink_logprobs(struct sinks *k, const struct sluice__reply *r)
{
	if (!k->ret_logprobs || *k->ret_logprobs)
		return 0;
	*k->ret_logprobs = malloc(r->payload_bytes + 1);
	if (!*k->ret_logprobs)
		return -ENOMEM;
	memcpy(*k->ret_logprobs, r->payload, r->payload_bytes);
	k->n_logprobs = r->payload_bytes / sizeof(double);
	return 0;
}

static int finish(const struct sluice__reply *r, struct sluice_done *ret,
		  struct sluice_fault *fault)
{
	sluice__copy_fixed(r, ret, sizeof(*ret));
	if (ret->stop != SLUICE_STOP_ERROR)
		return 0;
	return sluice__fail_refused(fault, ret->code, r->payload, r->payload_bytes);
}

/* Hands on replies until DONE. A callback that wants no more is not called again. */
static int run_request(struct sluice *s, struct sinks *k, struct sluice_done *ret,
		       struct sluice_fault *fault)
{
	bool stopped = false, done = false;
	uint64_t id = s->last_id;
	int rc = 0;

	atomic_store_explicit(&s->open_id, id, memory_order_release);
	while (!rc && !done) {
		struct sluice__reply r;
		int wish = 0;

		rc = sluice__next_reply(s, id, &r, fault);
		if (rc)
			break;
		if (r.head.type == SLUICE_DONE) {
			rc = finish(&r, ret, fault);
			done = true;
		} else if (r.head.type == SLUICE_TOKEN && !stopped) {
			wish = sink_token(k, &r);
		} else if (r.head.type == SLUICE_LOGITS && !stopped) {
			wish = sink_logits(k, &r);
		} else if (r.head.type == SLUICE_PROGRESS && !stopped) {
			wish = sink_progress(k, &r) != 0;
		} else if (r.head.type == SLUICE_LOGPROBS) {
			wish = sink_logprobs(k, &r);
		}
		sluice__drop_reply(&r);
		if (wish == -EPROTO)
			rc = sluice__fail_protocol(fault);
		else if (wish == -ENOMEM && r.head.type == SLUICE_LOGPROBS)
			rc = sluice__fail(fault, -ENOMEM, "out of memory");
		if (wish && !stopped) {
			stopped = true;
			sluice_cancel(s);
		}
	}
	atomic_store_explicit(&s->open_id, 0, memory_order_release);
	return rc;
}

/* Sends @how for @p and hands on what comes. *done is set to the counts, to 0 where none came. */
static int generate(struct sluice *s, const struct sluice_prompt *prompt,
		    const struct sluice_settings *how, struct sinks *k, struct sluice_done *done,
		    struct sluice_fault *fault)
{
	struct sluice__parts p = sluice__split_prompt(prompt);
	struct sluice_ask_generate g = {
		.struct_size = sizeof(g),
		.flags = p.flags | how->flags,
		.payload_bytes = p.a_bytes + p.b_bytes,
		.max_tokens = how->max_tokens,
		.n_untimed = how->n_untimed,
		.temperature = how->temperature,
		.top_k = how->top_k,
		.top_p = how->top_p,
		.min_p = how->min_p,
		.seed = how->seed,
		.system_bytes = (uint32_t)p.a_bytes,
		.spec = how->spec,
		.draft_length = how->draft_length,
		.repeat_penalty = how->repeat_penalty,
		.frequency_penalty = how->frequency_penalty,
		.presence_penalty = how->presence_penalty,
		.penalty_last_n = how->penalty_last_n,
		.min_tokens = how->min_tokens,
		.typical_p = how->typical_p,
		.top_n_sigma = how->top_n_sigma,
		.xtc_probability = how->xtc_probability,
		.xtc_threshold = how->xtc_threshold,
		.dry_multiplier = how->dry_multiplier,
		.dry_base = how->dry_base,
		.dry_allowed_length = how->dry_allowed_length,
		.dry_last_n = how->dry_last_n,
		.n_logprobs = how->n_logprobs,
	};
	void *joined = NULL;
	int rc = sluice__join_tail(how, &p.b, &p.b_bytes, &g, &joined);

	if (rc == -EINVAL)
		return sluice__fail(
			fault, rc,
			"too many biases, or DRY's texts are too long or without a NUL at "
			"their end");
	if (rc == -EDOM)
		return sluice__fail(fault, -EINVAL,
				    "a form needs its kind and a text of 1 to %u bytes",
				    SLUICE_FORM_MAX);
	if (rc)
		return sluice__fail(fault, rc, "no memory for what comes behind the prompt");
	g.flags |= want_progress(s, k);
	if (s->welcome.version < 2) /* which reuses nothing */
		g.flags &= ~SLUICE_NO_REUSE;
	rc = sluice__send_request(s, SLUICE_GENERATE, &g, p.a, p.a_bytes, p.b, p.b_bytes, fault);
	free(joined);
	return rc ? rc : run_request(s, k, done, fault);
}

int sluice_generate(struct sluice *s, const struct sluice_prompt *prompt,
		    const struct sluice_settings *settings, sluice_token_fn on_token, void *arg,
		    struct sluice_done *ret, struct sluice_fault *fault)
{
	struct sinks k = { .on_token = on_token, .arg = arg };
	struct sluice_settings how;
	struct sluice_prompt p;
	struct sluice_done done = { 0 };
	int rc = ret ? sluice__check_room(&sluice__done_kind, ret, fault) : 0;

	if (rc)
		return rc;
	rc = sluice__take_prompt(prompt, &p, fault);
	if (!rc)
		rc = sluice__take(&sluice__settings_kind, &how, settings, fault);
	if (!rc)
		rc = sluice__check_flags(how.flags,
					 SLUICE_IGNORE_EOG | SLUICE_RAW | SLUICE_NO_REUSE,
					 "flags of struct sluice_settings", fault);
	if (!rc)
		rc = generate(s, &p, &how, &k, &done, fault);
	if (ret)
		sluice__give(&sluice__done_kind, ret, &done);
	return rc;
}

/* As generate(), for the question @q, whose flags say what to send back. */
static int score(struct sluice *s, const struct sluice_prompt *prompt, uint32_t flags,
		 struct sinks *k, struct sluice_done *done, struct sluice_fault *fault)
{
	struct sluice__parts p = sluice__split_prompt(prompt);
	struct sluice_ask_score q = { .struct_size = sizeof(q),
				      .flags = p.flags | flags,
				      .payload_bytes = p.a_bytes + p.b_bytes };
	int rc;

	q.flags |= want_progress(s, k);
	rc = sluice__send_request(s, SLUICE_SCORE, &q, p.a, p.a_bytes, p.b, p.b_bytes, fault);
	return rc ? rc : run_request(s, k, done, fault);
}

int sluice_score(struct sluice *s, const struct sluice_prompt *prompt, sluice_logits_fn on_logits,
		 void *arg, double **ret_logprobs, struct sluice_done *ret,
		 struct sluice_fault *fault)
{
	double *logprobs = NULL;
	struct sinks k = { .on_logits = on_logits,
			   .arg = arg,
			   .ret_logprobs = ret_logprobs ? &logprobs : NULL };
	struct sluice_done done = { 0 };
	struct sluice_prompt p;
	int rc = ret ? sluice__check_room(&sluice__done_kind, ret, fault) : 0;

	if (rc)
		return rc;
	rc = sluice__take_prompt(prompt, &p, fault);
	if (!rc)
		rc = score(s, &p,
			   (on_logits ? SLUICE_LOGITS_OUT : 0) |
				   (ret_logprobs ? SLUICE_LOGPROBS_OUT : 0),
			   &k, &done, fault);
	/* callers go by n_prompt */
	if (!rc && ret_logprobs && done.stop != SLUICE_STOP_CANCELLED &&
	    (!logprobs || k.n_logprobs + 1 != done.n_prompt))
		rc = sluice__fail_protocol(fault);
	if (ret)
		sluice__give(&sluice__done_kind, ret, &done);
	if (rc || !ret_logprobs) {
		free(logprobs);
		return rc;
	}
	*ret_logprobs = logprobs;
	return 0;
}
