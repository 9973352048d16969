/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/spec_control.h: how much to draft, from what drafts were worth and what columns cost.
 *
 * Pure but for what it remembers: no clock, no files. Cost: the time of a step by its number of
 * columns, as measured (reads of missing experts included), filled up between and beyond what was
 * measured. Worth: the share of guesses that were right, per sequence, source and class. A draft is
 * worth its column while the tokens expected of a step over its cost rise; the step's columns go to
 * the sequences whose next guess is the likeliest.
 *
 * Loss is bounded: a sequence has a credit, in tokens' times; a step that is longer than its tokens
 * would have taken one by one draws on it, a step that is shorter fills it, every token adds a little,
 * and what may be lost is never begun without the credit for it. SPEC_CREDIT and SPEC_CREDIT_TOKEN
 * keep any 64 tokens within 1.05 of their time without drafts. Engine thread.
 */
#ifndef SLUICE_ENGINE_SPEC_CONTROL_H
#define SLUICE_ENGINE_SPEC_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/batch.h"
#include "engine/draft.h"

#define SPEC_COLUMNS_MAX  64	 /* step costs are known up to so many */
#define SPEC_CREDIT	  2.4f	 /* most, in tokens' times */
#define SPEC_CREDIT_TOKEN 0.012f /* for each token: 2.4 + 64 * 0.012 is 5 % of 64 */
#define SPEC_CLASSES	  (DRAFT_NR * DRAFT_CLASSES)

/* Of the engine. */
struct spec_costs {
	double ns[SPEC_COLUMNS_MAX + 1];    /* of a step by columns; 0: not measured */
	uint32_t age[SPEC_COLUMNS_MAX + 1]; /* steps since */
	float share[SPEC_CLASSES]; /* of guesses that were right, all requests; < 0: unknown */
};

/* Of a request. */
struct spec_history {
	float share[SPEC_CLASSES]; /* < 0: the engine's */
	float credit;
};

/* What a place may draft, and what is decided. */
struct spec_offer {
	struct spec_history *history;
	enum draft_source from;
	uint32_t n; /* guesses */
	const struct draft_guess *guess;
	uint32_t take; /* decided */
};

/* Share of guesses of a class that were right lately; what the source expects before there were any. */
float spec_share(const struct spec_costs *c, const struct spec_history *h, enum draft_source from,
		 uint32_t class);

/*
 * What guesses of one source are worth: the most tokens, in the time of a plain step, that a step with some
 * of them is expected to give.
 */
double spec_worth(const struct spec_costs *c, const struct spec_history *h, enum draft_source from,
		  const struct draft_guess *guess, uint32_t n);

void spec_costs_init(struct spec_costs *c);
void spec_history_init(struct spec_history *h);

/* Decides for a step of @n_plain sequences with one token each, of which @n have something to offer. */
void spec_decide(struct spec_costs *c, uint32_t n_plain, struct spec_offer *offers, uint32_t n);

/* A step of decoding alone took @ns with so many columns. */
void spec_cost(struct spec_costs *c, uint32_t columns, uint64_t ns);
/* Time of a step of @columns by what is known, in steps of @plain columns; 0: nothing is known. */
double spec_cost_of(const struct spec_costs *c, uint32_t columns, uint32_t plain);

/* Of @n guesses the first @right were right. */
void spec_learn(struct spec_costs *c, struct spec_history *h, enum draft_source from,
		const struct draft_guess *guess, uint32_t n, uint32_t right);

/* A step gave @tokens of a sequence and took its share: @cost, in the time of a step of one column. */
void spec_book(struct spec_history *h, uint32_t tokens, double cost);

#endif
