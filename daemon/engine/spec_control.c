/* SPDX-License-Identifier: MIT */
/* daemon/engine/spec_control.c: see spec_control.h. */
#include "engine/spec_control.h"

#include <math.h>
#include <string.h>

#include "base/num.h"

/* of logarithms, so of shares of a time */
#define PACE_DRIFT  (0.02 * 0.02)   /* variance by step: other load, a host's memory */
#define RATIO_DRIFT (0.005 * 0.005) /* ... of what a number of columns costs beside the others */
#define MOST_DOUBT  (0.5 * 0.5)
#define NOISE_LEAST (0.02 * 0.02)
#define NOISE_FIRST (0.06 * 0.06)
#define NOISE_NEW   0.05 /* weight of the newest */
#define MOST_LONGER 0.4	 /* a step that a machine disturbed counts as one that is so much longer */
#define HOPE	    0.7	 /* of the deviation: so much less than measured */

#define PLAIN_STALE  96	  /* steps after which a step without drafts is measured again */
#define COLUMN_GUESS 0.25 /* of a plain step: a further column before any was measured */
#define LEAST_GAIN   1.02 /* that is worth a draft */
#define MOST_RISKED \
	0.55 /* of what may be lost, in one step: else two wrong drafts end all for long */

#define SHARE_NEW     0.05f /* least weight of the newest guess, in a request and in all */
#define SHARE_NEW_ALL 0.03f
#define SHARE_KNOWN   4 /* guesses that what other requests say is worth, */
#define SHARE_EXPECT  2 /* and what a source expects of one that it knows nothing of */

static uint32_t class_of(enum draft_source from, uint32_t class)
{
	return (uint32_t)from * DRAFT_CLASSES + class;
}

void spec_costs_init(struct spec_costs *c)
{
	memset(c, 0, sizeof(*c));
	c->pace = 1;
	c->noise = NOISE_FIRST;
	for (unsigned i = 0; i < SPEC_CLASSES; i++)
		c->share[i] = -1;
}

void spec_history_init(struct spec_history *h)
{
	memset(h, 0, sizeof(*h));
}

/*
 * A measurement is shared out by what is in doubt (a Kalman filter of two states, of which the products
 * of their errors are left out): the pace moves from step to step, what columns cost hardly.
 */
static void take_in(struct spec_costs *c, uint32_t columns, double ns)
{
	double much = log(ns / (c->pace * c->ns[columns])), all, part;

	much = much < MOST_LONGER ? much : MOST_LONGER;
	all = c->pace_doubt + c->doubt[columns] + c->noise;
	part = c->doubt[columns] / all;
	c->ns[columns] *= exp(part * much);
	c->doubt[columns] *= 1 - part;
	part = c->pace_doubt / all;
	c->pace *= exp(part * much);
	c->pace_doubt *= 1 - part;
	c->noise += NOISE_NEW * (much * much - c->noise);
	c->noise = c->noise > NOISE_LEAST ? c->noise : NOISE_LEAST;
}

void spec_cost(struct spec_costs *c, uint32_t columns, uint64_t ns)
{
	if (!columns || columns > SPEC_COLUMNS_MAX || !ns)
		return;
	for (uint32_t i = 1; i <= SPEC_COLUMNS_MAX; i++) {
		c->age[i]++;
		c->doubt[i] = fmin(c->doubt[i] + RATIO_DRIFT, MOST_DOUBT);
	}
	c->pace_doubt += PACE_DRIFT;
	c->age[columns] = 0;
	if (c->ns[columns] > 0) {
		take_in(c, columns, (double)ns);
		return;
	}
	c->ns[columns] = (double)ns / c->pace;
	c->doubt[columns] = c->noise + c->pace_doubt;
}

/* What was measured, in plain steps. */
static double known(const struct spec_costs *c, uint32_t columns, double plain)
{
	return c->ns[columns] > plain ? c->ns[columns] / plain : 1;
}

double spec_cost_ns(const struct spec_costs *c, uint32_t columns)
{
	return columns <= SPEC_COLUMNS_MAX ? c->pace * c->ns[columns] : 0;
}

double spec_cost_of(const struct spec_costs *c, uint32_t columns, uint32_t plain)
{
	uint32_t below = plain, above = columns;
	double base, low, slope;

	if (!plain || columns > SPEC_COLUMNS_MAX || columns < plain || c->ns[plain] <= 0)
		return 0;
	base = c->ns[plain];
	for (uint32_t i = plain + 1; i <= columns; i++)
		if (c->ns[i] > 0)
			below = i;
	low = below == plain ? 1 : known(c, below, base);
	if (below == columns)
		return low;
	while (above <= SPEC_COLUMNS_MAX && !(c->ns[above] > 0))
		above++;
	if (above <= SPEC_COLUMNS_MAX) {
		double high = known(c, above, base);

		slope = high > low ? (high - low) / (above - below) : 0;
	} else {
		slope = below > plain ? (low - 1) / (below - plain) : COLUMN_GUESS / plain;
	}
	return low + slope * (columns - below);
}

/*
 * The most that a step of @columns can be expected to cost, in plain steps, for what may be lost by it: as
 * measured, however long ago; what was not is no dearer than what more columns cost, or than as many plain
 * steps.
 */
static double worst_cost(const struct spec_costs *c, uint32_t columns, uint32_t plain)
{
	uint32_t below = columns, above = columns;
	double guess;

	while (above < SPEC_COLUMNS_MAX && !(c->ns[above] > 0))
		above++;
	while (below > plain && !(c->ns[below] > 0))
		below--;
	guess = c->ns[below] / c->ns[plain] + (double)(columns - below);
	if (c->ns[above] > 0 && c->ns[above] / c->ns[plain] < guess)
		guess = c->ns[above] / c->ns[plain];
	return guess;
}

/* What a sequence's guesses begin with, and how many guesses that is worth. */
static float first_share(const struct spec_costs *c, enum draft_source from, uint32_t class,
			 uint32_t *ret_worth)
{
	const struct draft_ops *source = draft_table[from];
	float all = c->share[class_of(from, class)];

	*ret_worth = source->is_alone || all < 0 ? SHARE_EXPECT : SHARE_KNOWN;
	return source->is_alone || all < 0 ? source->expect(class) : all;
}

float spec_share(const struct spec_costs *c, const struct spec_history *h, enum draft_source from,
		 uint32_t class)
{
	uint32_t i = class_of(from, class), worth;

	return h->n[i] ? h->share[i] : first_share(c, from, class, &worth);
}

double spec_worth(const struct spec_costs *c, const struct spec_history *h, enum draft_source from,
		  const struct draft_guess *guess, uint32_t n)
{
	double tokens = 1, reached = 1, best = 1;

	for (uint32_t i = 0; i < n; i++) {
		double cost = spec_cost_of(c, i + 2, 1);

		reached *= (double)spec_share(c, h, from, guess[i].class);
		tokens += reached;
		if (cost <= 0)
			cost = 1 + COLUMN_GUESS * (i + 1);
		best = tokens / cost > best ? tokens / cost : best;
	}
	return best;
}

void spec_learn(struct spec_costs *c, struct spec_history *h, enum draft_source from,
		const struct draft_guess *guess, uint32_t n, uint32_t right)
{
	for (uint32_t i = 0; i < n && i <= right; i++) {
		uint32_t at = class_of(from, guess[i].class), worth;
		float first = first_share(c, from, guess[i].class, &worth);
		float was = h->n[at] ? h->share[at] : first, is = i < right ? 1 : 0;
		float new = 1.0f / (float)(worth + h->n[at] + 1);

		h->share[at] = was + (new > SHARE_NEW ? new : SHARE_NEW) * (is - was);
		h->n[at] += h->n[at] < UINT8_MAX;
		if (c->share[at] < 0)
			c->share[at] = first;
		c->share[at] += SHARE_NEW_ALL * (is - c->share[at]);
	}
}

void spec_book(struct spec_history *h, uint32_t tokens, double cost)
{
	for (uint32_t i = 0; i < tokens; i++)
		h->late_at[h->at++ % SPEC_WINDOW] = h->late + cost - 1 - i;
	h->late += cost - tokens;
}

double spec_left(const struct spec_history *h)
{
	double best = h->late;

	for (uint32_t i = 0; i < SPEC_WINDOW; i++)
		best = h->late_at[i] < best ? h->late_at[i] : best;
	return SPEC_LOSS - (h->late - best);
}

/* The offer whose next guess is the likeliest to be reached and right; NULL: none is left. */
static struct spec_offer *likeliest(struct spec_offer *offers, uint32_t n, const float *reached,
				    const struct spec_costs *c, float *ret)
{
	struct spec_offer *best = NULL;

	*ret = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct spec_offer *o = &offers[i];
		float p;

		if (o->take == o->n)
			continue;
		p = reached[i] * spec_share(c, o->history, o->from, o->guess[o->take].class);
		if (p > *ret) {
			*ret = p;
			best = o;
		}
	}
	return best;
}

/* The same less what may be hoped for: what is in doubt may have become cheaper. */
static double hoped_cost(const struct spec_costs *c, uint32_t columns, uint32_t plain)
{
	double cost = spec_cost_of(c, columns, plain);

	if (c->ns[columns] > 0)
		cost *= exp(-HOPE * sqrt(c->doubt[columns]));
	return cost > 1 ? cost : 1;
}

void spec_decide(struct spec_costs *c, uint32_t n_plain, struct spec_offer *offers, uint32_t n)
{
	uint32_t best[SPEC_COLUMNS_MAX] = { 0 }, columns = n_plain;
	float reached[SPEC_COLUMNS_MAX], p;
	double tokens = n_plain, best_gain = LEAST_GAIN, left = SPEC_LOSS;
	struct spec_offer *o;

	for (uint32_t i = 0; i < n; i++)
		offers[i].take = 0;
	if (!n || n_plain > SPEC_COLUMNS_MAX || !(c->ns[n_plain] > 0) ||
	    c->age[n_plain] > PLAIN_STALE)
		return;
	for (uint32_t i = 0; i < n; i++) {
		reached[i] = 1;
		left = fmin(left, spec_left(offers[i].history));
	}
	while (columns < SPEC_COLUMNS_MAX && columns - n_plain < DRAFT_STEP_MAX &&
	       (o = likeliest(offers, n, reached, c, &p))) {
		double lost, gain;

		/* what would be lost if all were wrong */
		lost = worst_cost(c, columns + 1, n_plain) - 1;
		if (lost > left || (columns > n_plain && lost > MOST_RISKED * left))
			break;
		o->take++;
		reached[o - offers] = p;
		columns++;
		tokens += p;
		gain = tokens / n_plain / hoped_cost(c, columns, n_plain);
		if (gain <= best_gain)
			continue;
		best_gain = gain;
		for (uint32_t i = 0; i < n; i++)
			best[i] = offers[i].take;
	}
	for (uint32_t i = 0; i < n; i++)
		offers[i].take = best[i];
}
