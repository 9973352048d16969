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
#include "serve/message.h"

struct conn;
struct serve;

/* A sealed or still growing memfd with consecutive rows of logits. */
struct logits_chunk {
	int fd;
	uint32_t first, n_rows;
};

struct job {
	struct request req; /* req.arg is the job */
	struct serve *serve;
	struct conn *conn; /* main thread; NULL: the client is gone */
	struct job *next;  /* main thread: serve's list */
	uint64_t id;
	uint32_t *prompt;
	bool raw, score;

	uint32_t *out; /* max_tokens ids */
	_Atomic uint32_t n_out;
	double *logprobs;	     /* n_tokens - 1 */
	struct logits_chunk *chunks; /* at most one per prompt token */
	uint32_t chunk_rows;	     /* rows of a full chunk; engine thread */
	_Atomic uint32_t n_chunks;   /* complete ones */
	_Atomic uint64_t progress;   /* tokens read << 32 | parts per million of the work */
	_Atomic int fault;	     /* enum sluice_error_code of our own that cancelled it, or 0 */
	struct request_result result;
	_Atomic bool done;

	/* main thread: what has been sent */
	struct detok detok;
	uint32_t n_sent, n_chunks_sent;
	uint64_t progress_sent;
	bool flushed, logprobs_sent, done_sent;
};

/*
 * A message to be sent: fixed part, payload or descriptor (then owned by who holds this). Memory of
 * the payload belongs to the job or the serve and is valid until the next call.
 */
struct reply {
	uint16_t type;
	union {
		uint32_t struct_size;
		struct sluice_progress progress;
		struct sluice_token token;
		struct sluice_logits logits;
		struct sluice_logprobs logprobs;
		struct sluice_done done;
	} u;
	const void *payload;
	uint64_t payload_bytes;
	int fd; /* -1: none */
};

/*
 * Makes a job from a checked message and its prompt (ids malloc'd, taken over in any case) and
 * submits it. 0, or an enum sluice_error_code and a sentence.
 */
int job_create(struct serve *s, struct conn *conn, const struct message *m, uint32_t *prompt,
	       uint32_t n_prompt, struct job **ret, struct err *err);

/* The next message for the client, or false: nothing (yet). Main thread. */
bool job_next(struct job *j, struct reply *ret);

/* True when the engine is through with it and (unless the client is gone) DONE was handed out. */
bool job_finished(const struct job *j);

/* Only after done. */
void job_destroy(struct job *j);

#endif
