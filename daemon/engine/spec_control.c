/* SPDX-License-Identifier: MIT */
/* daemon/engine/spec_control.c: see spec_control.h. */
#include "engine/spec_control.h"

#include <string.h>

#include "base/num.h"

#define COST_NEW      0.1   /* weight of the newest measurement */
#define COST_SHORTER  0.3   /* ... of one that is shorter */
#define COST_STALE    128   /* steps after which what was measured is trusted less and less */
#define PLAIN_STALE   96    /* steps after which a step without drafts is measured again */
#define COLUMN_GUESS  0.25  /* of a plain step: a further column before any was measured */
#define SHARE_NEW     0.15f /* weight of the newest guess, in a request and in all */
#define SHARE_NEW_ALL 0.03f
#define LEAST_GAIN    1.02 /* that is worth a draft */

static uint32_t class_of(enum draft_source from, uint32_t class)
{
	return (uint32_t)from * DRAFT_CLASSES + class;
}

void spec_costs_init(struct spec_costs *c)
{
	memset(c, 0, sizeof(*c));
	for (unsigned i = 0; i < SPEC_CLASSES; i++)
		c->share[i] = -1;
}

void spec_history_init(struct spec_history *h)
{
	for (unsigned i = 0; i < SPEC_CLASSES; i++)
		h->share[i] = -1;
	h->credit = SPEC_CREDIT;
}

/*
 * What a measurement moves an estimate by. A machine only ever disturbs to one side: shorter times are
 * believed sooner, and one that is far too long counts as a little too long.
 */
static double take_in(double was, double ns)
{
	if (ns < was)
		return COST_SHORTER * (ns - was);
	return COST_NEW * ((ns < 1.5 * was ? ns : 1.5 * was) - was);
}

void spec_cost(struct spec_costs *c, uint32_t columns, uint64_t ns)
{
	if (!columns || columns > SPEC_COLUMNS_MAX)
		return;
	for (uint32_t i = 1; i <= SPEC_COLUMNS_MAX; i++)
		c->age[i]++;
	if (c->ns[columns] > 0 && c->age[columns] < 4 * COST_STALE)
		c->ns[columns] += take_in(c->ns[columns], (double)ns);
	else
		c->ns[columns] = (double)ns;
	c->age[columns] = 0;
}

/* What was measured, in plain steps; what lies above one is forgotten slowly, to be tried again. */
static double known(const struct spec_costs *c, uint32_t columns, double plain)
{
	double more = c->ns[columns] / plain - 1;

	if (c->age[columns] > COST_STALE)
		more *= (double)COST_STALE / c->age[columns];
	return more > 0 ? 1 + more : 1;
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

float spec_share(const struct spec_costs *c, const struct spec_history *h, enum draft_source from,
		 uint32_t class)
{
	uint32_t i = class_of(from, class);

	if (h->share[i] >= 0)
		return h->share[i];
	return c->share[i] >= 0 ? c->share[i] : draft_table[from]->expect(class);
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
		uint32_t at = class_of(from, guess[i].class);
		float was = spec_share(c, h, from, guess[i].class), is = i < right ? 1 : 0;

		h->share[at] = was + SHARE_NEW * (is - was);
		if (c->share[at] < 0)
			c->share[at] = was;
		c->share[at] += SHARE_NEW_ALL * (is - c->share[at]);
	}
}

void spec_book(struct spec_history *h, uint32_t tokens, double cost)
{
	h->credit += (float)(tokens - cost) + SPEC_CREDIT_TOKEN * (float)tokens;
	if (h->credit > SPEC_CREDIT)
		h->credit = SPEC_CREDIT;
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

void spec_decide(struct spec_costs *c, uint32_t n_plain, struct spec_offer *offers, uint32_t n)
{
	uint32_t best[SPEC_COLUMNS_MAX] = { 0 }, columns = n_plain;
	float reached[SPEC_COLUMNS_MAX], p, credit = SPEC_CREDIT;
	double tokens = n_plain, best_gain = LEAST_GAIN;
	struct spec_offer *o;

	for (uint32_t i = 0; i < n; i++)
		offers[i].take = 0;
	if (!n || n_plain > SPEC_COLUMNS_MAX || !(c->ns[n_plain] > 0) ||
	    c->age[n_plain] > PLAIN_STALE)
		return;
	for (uint32_t i = 0; i < n; i++) {
		reached[i] = 1;
		credit = offers[i].history->credit < credit ? offers[i].history->credit : credit;
	}
	while (columns < SPEC_COLUMNS_MAX && columns - n_plain < DRAFT_STEP_MAX &&
	       (o = likeliest(offers, n, reached, c, &p))) {
		double cost = spec_cost_of(c, columns + 1, n_plain), gain;

		/* what would be lost if all were wrong */
		if (worst_cost(c, columns + 1, n_plain) - 1 > credit)
			break;
		o->take++;
		reached[o - offers] = p;
		columns++;
		tokens += p;
		gain = tokens / n_plain / cost;
		if (gain <= best_gain)
			continue;
		best_gain = gain;
		for (uint32_t i = 0; i < n; i++)
			best[i] = offers[i].take;
	}
	for (uint32_t i = 0; i < n; i++)
		offers[i].take = best[i];
}
