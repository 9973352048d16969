/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/batch.h: the tokens of one step.
 *
 * A step takes one or more runs: consecutive tokens of one sequence (a prompt chunk, or one token
 * to decode and behind it drafts of those that may follow). Columns of every activation matrix are
 * the tokens in this order. Filled by the scheduler, constant during the step.
 *
 * Drafts may turn out wrong. What they write to the KV cache lies behind the sequence's length once
 * that is cut back; recurrent state must not change by them at all: a block reads past them with a
 * copy, and leaves what it needs to make the step up in the run's @store. A later run of the
 * sequence begins by replaying the first @replay of them, those that were right.
 */
#ifndef SLUICE_ENGINE_BATCH_H
#define SLUICE_ENGINE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#define DRAFT_MAX      7  /* drafted tokens of one sequence in a step */
#define DRAFT_STEP_MAX 32 /* of all sequences together */

struct seq;

struct batch_run {
	struct seq *seq; /* each sequence at most once per step */
	uint32_t first;	 /* column of its first token */
	uint32_t count;
	uint32_t pos;	 /* absolute position of its first token: the sequence's length so far */
	uint32_t number; /* of the request, for traces */

	uint32_t drafted; /* the last so many of @count may be taken back; < count */
	uint32_t replay;  /* drafts of the run before that stayed and are not in the state yet */
	float *store;	  /* of the sequence, see replay.h; NULL: never drafted for */
};

struct batch {
	uint32_t n_tokens, n_runs;
	uint32_t n_drafted;	/* of all runs */
	const uint32_t *tokens; /* n_tokens ids, < n_vocab */
	const struct batch_run *runs;
	const bool *want_logits;    /* per token */
	const float *const *hidden; /* per token, of a prediction head: the vector before it */
};

#endif
