/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/spec_control.h: how much to draft, from what drafts were worth and what columns cost.
 *
 * Pure but for what it remembers: no clock, no files. Cost: the time of a step by its number of
 * columns, as measured (reads of missing experts included), filled up between and beyond what was
 * measured. What disturbs or slows down a machine does so for every number of columns: it goes into a
 * pace that all share, and only what is left over into what a number of columns costs beside the others.
 * Worth: the share of guesses that were right, per sequence, source and class. A draft is worth its
 * column while the tokens expected of a step over its cost rise; what has not been measured for long is
 * taken to cost a little less than it did, so that it is tried again where little can be lost by it. The
 * step's columns go to the sequences whose next guess is the likeliest.
 *
 * Loss is bounded: of each of a sequence's last SPEC_WINDOW tokens it is known how much later it came
 * than it would have without drafts, and no draft is begun by which, were it all wrong, the next token
 * would fall back by more than SPEC_LOSS tokens' times behind one of them. So no SPEC_WINDOW tokens take
 * more than 1.05 of their time. Engine thread.
 */
#ifndef SLUICE_ENGINE_SPEC_CONTROL_H
#define SLUICE_ENGINE_SPEC_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/batch.h"
#include "engine/draft.h"

#define SPEC_COLUMNS_MAX 64 /* step costs are known up to so many */
#define SPEC_WINDOW	 64
#define SPEC_LOSS \
	3.0 /* tokens' times in SPEC_WINDOW: 5 % of it, and a little is left for sources */
#define SPEC_CLASSES (DRAFT_NR * DRAFT_CLASSES)

/* Of the engine. */
struct spec_costs {
	double pace;			    /* of the machine now, of the times below */
	double ns[SPEC_COLUMNS_MAX + 1];    /* of a step by columns; 0: not measured */
	double doubt[SPEC_COLUMNS_MAX + 1]; /* variance of its logarithm */
	double pace_doubt, noise;	    /* ... of the pace's; of one measurement's */
	uint32_t age[SPEC_COLUMNS_MAX + 1]; /* steps since */
	float share[SPEC_CLASSES]; /* of guesses that were right, all requests; < 0: unknown */
};

/* Of a request. */
struct spec_history {
	float share[SPEC_CLASSES];
	uint8_t n
		[SPEC_CLASSES]; /* guesses that it knows of, up to what matters; 0: the engine's share */
	/* how much later than without drafts: the token before the next, and those before it, a ring */
	double late, late_at[SPEC_WINDOW];
	uint32_t at;
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
/* The same of @columns in ns, at the pace of now; 0: not measured. */
double spec_cost_ns(const struct spec_costs *c, uint32_t columns);

/* Of @n guesses the first @right were right. */
void spec_learn(struct spec_costs *c, struct spec_history *h, enum draft_source from,
		const struct draft_guess *guess, uint32_t n, uint32_t right);

/* A step gave @tokens of a sequence and took its share: @cost, in the time of a step of one column. */
void spec_book(struct spec_history *h, uint32_t tokens, double cost);
/* What of its next token's time may be lost, in the time of a step of one column. */
double spec_left(const struct spec_history *h);

#endif
