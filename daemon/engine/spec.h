/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/spec.h: speculation: several tokens of a sequence out of one step, none of them changed.
 *
 * A step may carry behind a sequence's last token drafts of those that follow (draft.h). The sampler
 * then goes through the rows in order: it picks at a position as it would have without drafts, from
 * the same bits and with the same random number, and goes on to the next row only where the pick is
 * the draft. So the picks are the answer, whatever was drafted. How much to draft is spec_control.c's.
 *
 * What was drafted wrong leaves no trace: the KV cache is cut back, recurrent state never had it
 * (replay.h), and routing is told of what stayed (routed.h). A drafted position that could not be
 * computed (a failed read, a number that is none) counts as wrong: if its token was right it comes
 * again, as the sequence's last token, and says then what is broken. Engine thread.
 */
#ifndef SLUICE_ENGINE_SPEC_H
#define SLUICE_ENGINE_SPEC_H

#include "engine/batch.h"
#include "engine/draft.h"
#include "engine/memory.h"
#include "engine/spec_control.h"
#include "engine/status.h"

struct engine;
struct active;
struct spec;

/* Does @a's request draft from this source? */
bool spec_wants(const struct active *a, enum draft_source from);

/* Of a place; sources and store live as long as the engine. */
struct speculation {
	void *source[DRAFT_NR];
	float *store;

	/* the request */
	enum spec_mode mode;
	uint32_t replay;    /* drafts that stayed and are not in the recurrent state yet */
	uint32_t n_added;   /* tokens that sources have heard of */
	uint64_t source_ns; /* what making the drafts of the next step took */
	float source_cost;  /* ... takes as a rule, in plain steps; 0: not known yet */
	struct spec_counts counts;
	struct spec_history history;

	/* the step that runs */
	enum draft_source from;
	uint32_t n_draft;
	bool offered;		/* draft[0] is a guess, drafted or not */
	bool guessed[DRAFT_NR]; /* by source: first[] is its first guess, of the others too */
	struct draft_guess first[DRAFT_NR];
	struct draft_guess draft[DRAFT_MAX];
	uint32_t picked[DRAFT_MAX + 1], n_picked;
	bool open; /* the pick before this row was the draft */
};

/* Bytes that spec_create() takes with these sizes. */
uint64_t spec_bytes(const struct memory_ask *ask, unsigned threads, uint32_t n_parallel,
		    uint32_t n_ctx);

/* The prediction head that @e is to draft with; NULL: none. */
const struct model *spec_head(const struct engine *e);

/* For e's places, which exist. 0 or -ENOMEM. */
int spec_create(struct engine *e);
void spec_destroy(struct engine *e); /* after spec_drain() */
void spec_drain(struct engine *e);   /* ends the reads of a head */

/* Reads a head's weights, after the model's own. A head that cannot be read is left out. */
void spec_load(struct engine *e);
bool spec_keeps_hidden(const struct engine *e);

/* @a's request begins. */
void spec_begin(struct engine *e, struct active *a);
/*
 * The first @n of @a's tokens are known, by reading, from a cache or by an answer that has grown:
 * sources hear of those that they have not heard of.
 */
void spec_add(struct engine *e, struct active *a, uint32_t n);

/*
 * Before a step: how much is drafted for each place that decodes, in their speculation. Where somebody
 * @reads in it nothing is: such a step takes long anyway, and says nothing of what columns cost.
 */
void spec_plan(struct engine *e, bool reads);

/* Puts what is drafted for @a behind the last run of @b, which is its; there is room for it. */
void spec_put(struct engine *e, struct active *a, struct batch *b);

/*
 * One row of logits of a decoding place, for its token @k of the step: picks, or leaves it. Rows come
 * in order. @error: of the row's token.
 */
void spec_row(struct engine *e, struct active *a, uint32_t k, const float *row, int error);

/* After the step, before tokens are handed out: positions that stay, counters, costs. */
void spec_after_step(struct engine *e, const struct batch *b);

/* Instead of it, where the step was given up: what has been counted of it comes into the trace. */
void spec_step_given_up(struct engine *e, const struct batch *b);

/* After a step that took so long, before its tokens are handed out: sources that have to compute read prompts. */
void spec_read_prompts(struct engine *e, const struct batch *b, uint64_t step_ns);

/* After the tokens were handed out: sources that have to compute guess for the next step. */
void spec_guess(struct engine *e, const struct batch *b);

/* @a's sequence begins anew with what is known of it: nothing is pending. */
void spec_forget(struct engine *e, struct active *a);

/* Where the decoder tells of steps with drafts; NULL for dense models. */
struct routed *spec_routed(const struct engine *e);

/* Brings the recurrent state of @a's sequence up to its length, before it is copied. */
void spec_settle(struct engine *e, struct active *a);

/* What engine_get_status() tells; any thread. */
void spec_get_counts(const struct engine *e, struct spec_counts *ret);
void spec_get_columns(const struct engine *e, struct column_cost ret[ENGINE_COLUMNS]);

#endif
