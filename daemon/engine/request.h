/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/request.h: what is asked of the engine, how its tokens are chosen, and what comes back.
 *
 * A request is the submitter's memory: handed over with engine_submit(), not touched until done() but for
 * cancel, freed by who submitted it. Its callbacks come on the engine thread and must not block.
 */
#ifndef SLUICE_ENGINE_REQUEST_H
#define SLUICE_ENGINE_REQUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What drafts tokens, see draft.h; and which of it a request or the daemon wants. */
enum draft_source { DRAFT_GIVEN, DRAFT_NGRAM, DRAFT_MTP, DRAFT_NR };
enum spec_mode { SPEC_DEFAULT, SPEC_AUTO, SPEC_OFF, SPEC_NGRAM, SPEC_MTP };

/* Does an engine of this mode keep a prediction head? */
static inline bool spec_wants_head(enum spec_mode mode)
{
	return mode != SPEC_OFF && mode != SPEC_NGRAM;
}

/* Of the steps in which a request, or all, decoded and no prompt was read. */
struct spec_counts {
	uint64_t drafted[DRAFT_NR], accepted[DRAFT_NR]; /* tokens */
	uint64_t steps, columns,
		tokens;	   /* of a sequence each: a step of three counts three times */
	uint64_t plain_ns; /* what its tokens would have taken without drafts, as plain steps did */
	uint64_t step_ns;  /* what the steps took */
};

enum request_stop { STOP_EOG, STOP_LENGTH, STOP_CANCELLED, STOP_ERROR, STOP_NR };

struct logit_bias {
	uint32_t id;
	float bias; /* added to the logit; -INFINITY: never chosen */
};

/* How a token is chosen from logits; zero everywhere is greedy. Order and formulas: sampler.h. */
struct sampling {
	float temperature; /* 0: greedy */
	uint32_t top_k;	   /* 0: off */
	float top_p;	   /* 1 (or 0): off */
	float min_p;	   /* 0: off */
	uint64_t seed;

	float repeat_penalty;			   /* 1 (or 0): off */
	float frequency_penalty, presence_penalty; /* 0: off */
	int32_t penalty_last_n; /* tokens that the penalties look at; 0: 64, -1: all */
	uint32_t min_tokens;	/* before so many were generated, none that ends the answer */
	const struct logit_bias *bias; /* of different tokens; as long as the request */
	uint32_t n_bias;

	float typical_p;		      /* 1 (or 0): off */
	float top_n_sigma;		      /* 0 or less: off */
	float xtc_probability, xtc_threshold; /* a probability of 0 or a threshold over 0.5: off */
	float dry_multiplier, dry_base;	      /* 0: off; 0: 1.75 */
	uint32_t dry_allowed_length;	      /* 0: 2 */
	int32_t dry_last_n;		      /* tokens that it looks at; 0 or -1: all */
	const uint8_t *dry_breaks; /* a bit for each token: ends a repetition; NULL: none does */
};

#define LOGPROBS_MAX 20

/* A generated token and the likeliest in its place, by the model's own logits: no sampling in it. */
struct token_logprobs {
	float logprob; /* natural */
	uint32_t rank; /* 1: no token is likelier */
	uint32_t n;
	uint32_t ids[LOGPROBS_MAX]; /* likeliest first */
	float logprobs[LOGPROBS_MAX];
};

struct request_result {
	enum request_stop stop;
	int error;	   /* STOP_ERROR: -errno; -ESHUTDOWN where engine_destroy() cut it */
	struct err err;	   /* STOP_ERROR: a sentence */
	uint32_t n_prompt; /* tokens of the prompt that were read, or taken from the cache */
	uint32_t n_cached; /* of them: taken from the cache */
	uint32_t n_generated;
	uint32_t place;	     /* where it was computed, counted from 1; 0: nowhere */
	uint64_t prompt_ns;  /* from the first timed prompt token's step to the end of the prompt */
	uint64_t predict_ns; /* from the first generated token to the last */
	uint64_t ttft_ns;    /* submit to first token */
	/* the engine's counters over the timed part (all requests together) */
	uint64_t hits, misses, bytes_read, stall_ns, span_ns;
	struct spec_counts spec;
};

/* Where a next request may begin to differ: after the first @at tokens of the prompt. */
enum mark_kind {
	MARK_SYSTEM, /* behind system text and tools */
	MARK_USER,   /* the end of a real user's message */
	MARK_PROMPT, /* before the last generation prompt */
};

struct prompt_mark {
	uint32_t at;
	enum mark_kind kind;
};

struct request;
struct matcher; /* grammar/matcher.h */

struct request_ops {
	/*
	 * It has a place (counted from 1), and of its @n_prompt tokens @n_cached are known already: a
	 * prompt that stands for its text may have other tokens than were asked for. Before all others.
	 * NULL: not wanted.
	 */
	void (*begun)(struct request *r, uint32_t place, uint32_t n_prompt, uint32_t n_cached);
	/*
	 * Reading the prompt: @n_read of its tokens went through all layers, @done (0 to 1) of the
	 * work is done. After each step that read some, before its tokens, and now and then within
	 * one. Only where want_progress. NULL otherwise.
	 */
	void (*progress)(struct request *r, uint32_t n_read, double done);
	/* A token was generated (the end-of-generation token included). NULL: not wanted. */
	void (*token)(struct request *r, uint32_t id);
	/* Of the token that comes next. Only where n_logprobs. NULL otherwise. */
	void (*token_logprobs)(struct request *r, const struct token_logprobs *l);
	/*
	 * Logits of the prompt positions [first, first + n): row i at logits + i * ld, n_vocab floats.
	 * Valid during the call. Only where want_logits. NULL otherwise.
	 */
	void (*logits)(struct request *r, uint32_t first, uint32_t n, const float *logits,
		       size_t ld);
	/* Log-probability (natural) of prompt token i given those before, 1 <= i < n. Only where
	 * want_logprobs. NULL otherwise. */
	void (*logprob)(struct request *r, uint32_t i, double logprob);
	/* The same with the likeliest in its place, as many as n_logprobs says. Only where
	 * want_prompt_logprobs. NULL otherwise. */
	void (*prompt_logprobs)(struct request *r, uint32_t i, const struct token_logprobs *l);
	/* Last call for this request: the owner may free it after that. Never NULL. */
	void (*done)(struct request *r, const struct request_result *result);
};

/* Owned by the submitter, untouched between engine_submit() and done() except cancel. */
struct request {
	const struct request_ops *ops;
	void *arg;
	const uint32_t *tokens; /* prompt, >= 1 ids < n_vocab; n_tokens + max_tokens <= n_ctx */
	uint32_t n_tokens;
	uint32_t max_tokens; /* 0: score or prefill only */
	uint32_t n_untimed;  /* the first so many prompt tokens are not timed (bench at depth) */
	uint64_t max_ns;     /* from engine_submit() on, 0: no bound. Then an answer that has begun
			      * ends as if it had max_tokens, and before that comes -ETIME */
	uint64_t
		client; /* whose it is: clients take turns, whatever number of requests they have */
	uint64_t tenant; /* whose cached prefixes it sees and adds to; 0: of all without a name */
	const struct prompt_mark *marks; /* ascending; none: the prompt's own tokens are gone by */
	uint32_t n_marks;
	bool respell; /* the prompt stands for its text: cached tokens with the same bytes will do, and
			* it may come to other numbers of tokens than n_tokens */
	bool no_reuse;	/* read it all, and keep nothing of it */
	uint32_t place; /* 0: any; else the place that it must have, counted from 1 */
	struct sampling sampling;
	bool ignore_eog, want_progress, want_logits, want_logprobs, want_prompt_logprobs;
	uint32_t n_logprobs; /* 0: none; else 1 + how many likeliest, up to LOGPROBS_MAX */
	enum spec_mode spec;
	uint32_t draft_length; /* 0: as it pays; else so many in every step (experiments, tests) */
	const uint32_t *draft; /* the expected answer, ids < n_vocab: drafts come from it alone */
	uint32_t n_draft;      /* 0: none */
	/* The form that the answer is held to, at its beginning; its vocabulary is the model's. NULL: any
	 * answer. The engine moves it with each token; drafts that it does not allow are wrong ones. */
	struct matcher *form;
	_Atomic bool cancel; /* set by any thread; seen before the next step */

	/* private to the engine */
	struct request *next;
	uint64_t submitted_ns, came;
	uint32_t turn;
};

/* Does it want something of every position of its prompt? Then all of it is read. */
static inline bool request_wants_rows(const struct request *r)
{
	return r->want_logits || r->want_logprobs || r->want_prompt_logprobs;
}

#endif
