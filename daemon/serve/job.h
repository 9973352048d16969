/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/job.h: one GENERATE or SCORE on its way through the engine.
 *
 *	      main thread                        engine thread
 *	job_create, engine_submit   ->   progress() token() logits() logprob()   fill the buffers
 *	job_next   <- eventfd            done()                       last touch
 *	job_destroy (after done)
 *
 * All buffers are taken in job_create(), as long as the request can get: the engine's side never
 * allocates (logits go to memfds), never waits and never overflows, however slowly the client
 * reads. Counters are published with release order and read with acquire order.
 */
#ifndef SLUICE_SERVE_JOB_H
#define SLUICE_SERVE_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "serve/ask.h"

struct serve;

/* A sealed or still growing memfd with consecutive rows of logits. */
struct logits_chunk {
	int fd;
	uint32_t first, n_rows;
};

struct job {
	struct request req; /* req.arg is the job */
	struct serve *serve;
	struct job *next; /* main thread: the session's list, or serve's orphans */
	uint64_t id;
	uint32_t *prompt, *draft;
	struct prompt_mark *marks;
	bool raw, score, hide_eog;

	uint32_t *out; /* max_tokens ids */
	_Atomic uint32_t n_out;
	struct token_logprobs *token_logprobs; /* max_tokens of them, NULL: not asked for */
	uint32_t *prompt_logprobs; /* of the prompt's, packed (job_prompt.c); NULL: not asked for */
	struct logit_bias *bias;   /* copies of what sampling points to */
	uint8_t *dry_breaks;
	struct constraint *constraint; /* held; req.form is of it. NULL: none */
	double *logprobs;	       /* n_tokens - 1 */
	struct logits_chunk *chunks;   /* at most one per prompt token */
	uint32_t chunk_rows;	       /* rows of a full chunk; engine thread */
	_Atomic uint32_t n_chunks;     /* complete ones */
	_Atomic uint64_t progress;     /* tokens read << 32 | parts per million of the work */
	_Atomic uint64_t begun;	       /* tokens of the prompt << 32 | those that were known */
	_Atomic uint64_t begun_ns, first_ns, newest_ns; /* 0: not yet */
	_Atomic uint32_t place;
	_Atomic int fault; /* enum sluice_error_code of our own that cancelled it, or 0 */
	struct request_result result;
	_Atomic bool done;

	/* main thread: what has been sent */
	struct detok detok;
	struct stops *stops; /* NULL: none */
	uint32_t n_sent, n_chunks_sent, n_prompt_sent;
	struct token_logprobs unpacked;
	uint64_t progress_sent;
	unsigned n_flushed; /* steps of the end of its text */
	bool logprobs_sent, done_sent, progress_begun;
};

/*
 * Makes a job from a GENERATE or SCORE and its prompt (ids malloc'd, taken over in any case) and
 * submits it. 0, or an enum sluice_error_code and a sentence.
 */
int job_create(struct serve *s, const struct ask *ask, uint32_t *prompt, uint32_t n_prompt,
	       struct job **ret, struct err *err);

/*
 * job_prompt.c: log-probabilities of the prompt's tokens: room for them (0 or -ENOMEM), engine's callback, and
 * the next of them where they are there. They are published by the first token, or by done.
 */
int job_prompt_room(struct job *j);
void job_prompt_take(struct request *r, uint32_t i, const struct token_logprobs *l);
bool job_prompt_next(struct job *j, bool done, struct event *ret);

/* What a -errno of the engine's is to clients: an enum sluice_error_code. */
int job_error(int rc);

/* job_events.c: the next event for the client, or false: nothing (yet). Main thread. */
bool job_next(struct job *j, struct event *ret);

/* The engine is through with it: nothing else touches it any more. */
bool job_is_let_go(const struct job *j);

/* ... and EVENT_DONE was handed out. */
bool job_is_over(const struct job *j);

/* Only after the engine let it go. */
void job_destroy(struct job *j);

#endif
