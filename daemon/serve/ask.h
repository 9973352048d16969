/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/ask.h: what a client may ask and what it hears, in no wire's form.
 *
 *	transport (native.c)            session.c
 *	bytes -> struct ask       ->    session_ask()    -> one event at once
 *	bytes <- struct event     <-    session_next()   <- progress, tokens, the end
 *
 * A transport turns what comes over its wire into a struct ask and renders each struct event; it
 * decides nothing. The session decides, and knows neither sockets nor messages. What transports
 * and sessions share with clients are the names of uapi/sluice_proto.h for errors (enum
 * sluice_error_code, the one list of refusals) and the two structs of facts that libsluice has too.
 * Main thread.
 */
#ifndef SLUICE_SERVE_ASK_H
#define SLUICE_SERVE_ASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"
#include "grammar/constraint.h"
#include "model/tokenizer.h"
#include "serve/stops.h"
#include "uapi/sluice_proto.h"
#include "uapi/sluice_status.h"

enum ask_kind {
	ASK_GENERATE,
	ASK_SCORE,
	ASK_CANCEL, /* of the request with this id; no event of its own */
	ASK_MODEL,
	ASK_STATUS,
	ASK_TOKENIZE,
	ASK_DETOKENIZE
};

struct ask {
	enum ask_kind kind;
	uint64_t id; /* chosen by the client; events carry it back */

	/* GENERATE and SCORE: clients with different keys take turns */
	uint64_t client;
	/* Whose cached prefixes the prompt may begin with: a user, a key; 0: of all without one. Marks
	 * say where a next prompt may begin to differ, in tokens of this one; borrowed. */
	uint64_t tenant;
	const struct prompt_mark *marks;
	uint32_t n_marks;
	bool respell; /* ids that stand for a text of the daemon's own making, see struct request */
	bool no_reuse;	 /* no prefix is taken up, and none kept */
	uint32_t place;	 /* 0: any; else the slot that it must have, counted from 1 */
	uint64_t max_ms; /* most time that it may take, 0: as the daemon has it */

	/* The prompt, or what is to be converted: borrowed during session_ask(). */
	const uint8_t *data;
	uint64_t bytes;
	bool is_ids; /* uint32_t ids (unaligned), else text in UTF-8 */
	bool chat;   /* text: one user turn in the model's chat form */
	enum chat_thinking thinking;
	uint32_t system_bytes; /* chat: the first @system_bytes of data are the system text */
	bool special;	       /* text: control tokens written in it count as such */
	/* text: control tokens count in these bytes of it and nowhere else; in order; NULL: as special
	 * says */
	const struct text_span *trusted;
	size_t n_trusted;

	bool raw; /* text that comes back shows control tokens */

	/* GENERATE and SCORE */
	bool want_progress, want_logits, want_logprobs;
	/* GENERATE */
	uint32_t max_tokens; /* cut to what the context holds */
	uint32_t n_untimed;
	bool ignore_eog;
	bool hide_eog; /* raw: the token that ends the answer shows no text all the same */
	const struct stop_text *stops; /* end the answer before the first of them; copied */
	unsigned n_stops;
	struct sampling sampling; /* what it points to is copied */
	uint32_t n_logprobs; /* with each token: 0: none, else 1 + how many likeliest beside it */
	bool want_prompt_logprobs; /* of the prompt's tokens too; needs n_logprobs */
	enum spec_mode spec;
	uint32_t draft_length;
	const uint8_t *draft; /* n_draft uint32_t ids (unaligned), borrowed as @data is */
	uint32_t n_draft;
	struct constraint
		*constraint; /* the form of the answer; borrowed, held as long as it runs */
	/* The same as text (borrowed), compiled before the request begins: FORM_SCHEMA, FORM_GBNF or
	 * FORM_REGEX; FORM_FREE: none. Its ACCEPTED or REFUSED comes later. */
	enum form form;
	bool form_strict;
	const uint8_t *form_text;
	uint32_t form_bytes;
	bool cancelled; /* it was, before it could begin: only its end is heard */
};

/* How a request stands: its prompt as it is computed, and what it took so far. */
struct job_times {
	uint32_t place; /* counted from 1; 0: none yet */
	uint32_t n_prompt, n_cached;
	uint64_t prompt_ns,
		predict_ns; /* from its place to the first token; from there to the newest */
};

enum event_kind {
	EVENT_REFUSED,	/* instead of anything else: the ask was not taken */
	EVENT_ACCEPTED, /* GENERATE, SCORE: others follow with the same id */
	EVENT_PROGRESS,
	EVENT_PROMPT_TOKEN, /* GENERATE with want_prompt_logprobs: each of the prompt's, before the answer's */
	EVENT_TOKEN,
	EVENT_LOGITS,
	EVENT_LOGPROBS,
	EVENT_DONE, /* the last of its id */
	EVENT_MODEL,
	EVENT_STATUS,
	EVENT_IDS,
	EVENT_TEXT
};

/* EVENT_TOKEN: no token, but what was left of a character that never became complete. */
#define EVENT_NO_TOKEN UINT32_MAX

/*
 * What a client hears. Memory that it points to is the session's and valid until the next call of
 * it, but for @owned and the descriptor of logits: event_fini() frees those.
 */
struct event {
	enum event_kind kind;
	uint64_t id;
	union {
		struct {
			int code; /* enum sluice_error_code */
			struct err why;
		} refused;
		struct {
			uint32_t n_prompt, max_tokens, n_ctx; /* as they are held */
		} accepted;
		struct {
			uint32_t n_read, n_prompt, n_cached, done_ppm;
		} progress;
		struct {
			uint32_t token, index;
			const char *text; /* that became complete with it; no NUL */
			size_t bytes;
			const struct token_logprobs *logprobs; /* NULL: not asked for */
			struct job_times times;
		} token;
		struct {
			uint32_t token;
			bool last;
			const struct token_logprobs
				*logprobs; /* NULL: of the first, which nothing is before */
		} prompt_token;
		struct {
			uint32_t first, n_rows, n_vocab;
			int fd; /* a sealed memfd with n_rows * n_vocab floats; -1: taken over */
		} logits;
		struct {
			const double *values;
			uint32_t n;
		} logprobs;
		struct {
			enum request_stop stop;
			int code;		 /* STOP_ERROR: enum sluice_error_code, else 0 */
			const char *why;	 /* STOP_ERROR: a sentence, else empty */
			uint32_t n_sent;	 /* tokens */
			const char *stop_string; /* STOP_EOG: the one that ended it, or NULL */
			const struct request_result *figures;
		} done;
		struct {
			const struct sluice_model_info *info; /* payload_bytes is not set */
			const char *path;		      /* as the daemon was given it */
		} model;
		struct {
			const struct sluice_status_info *info; /* payload_bytes is not set */
			const char *notes; /* what could not be had, one sentence a line */
		} status;
		struct {
			const uint32_t *values;
			uint32_t n;
		} ids;
		struct {
			const char *text;
			size_t bytes;
		} text;
	} u;
	void *owned; /* NULL, or malloc'd */
};

/* Frees what @e owns; it is empty then. */
void event_fini(struct event *e);

/* @e becomes EVENT_REFUSED with @why, or with the code's own sentence where @why is NULL or empty. */
void event_refuse(struct event *e, uint64_t id, int code, const struct err *why);

/* The sentence of an enum sluice_error_code. */
const char *ask_error_text(int code);

#endif
