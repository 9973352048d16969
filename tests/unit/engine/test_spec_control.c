/* SPDX-License-Identifier: MIT */
/*
 * Description: how much is drafted: nothing before a step's cost is known, more where guesses are right
 * and columns cheap, nothing where they are not, and again when that changes; the likeliest sequence
 * first; and whatever happens, no 64 tokens take more than 1.05 of their time without drafts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "engine/spec_control.h"

#define PLAIN_NS 10000000.0

static uint64_t state;

static double uniform(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (double)(state >> 40) * 0x1p-24;
}

/* A sequence whose guesses are right with probability @share, where a column costs @column steps. */
struct world {
	struct spec_costs costs;
	struct spec_history history;
	double share, column;
	double jitter;	     /* of the times that are seen */
	double ns, plain_ns; /* so far */
	uint64_t tokens, drafted;
	double loss[4096]; /* running sum of time lost, in plain steps, after each token */
	unsigned n;
};

static void start(struct world *w, double share, double column)
{
	memset(w, 0, sizeof(*w));
	spec_costs_init(&w->costs);
	spec_history_init(&w->history);
	w->share = share;
	w->column = column;
}

static void step(struct world *w)
{
	struct draft_guess guess[DRAFT_MAX] = { { 0 } };
	struct spec_offer o = {
		.history = &w->history, .from = DRAFT_NGRAM, .n = DRAFT_MAX, .guess = guess
	};
	uint32_t right = 0, kept;
	double cost;

	spec_decide(&w->costs, 1, &o, 1);
	cost = 1 + w->column * o.take;
	while (right < DRAFT_MAX && uniform() < w->share)
		right++;
	kept = 1 + (right < o.take ? right : o.take);
	spec_cost(&w->costs, 1 + o.take,
		  (uint64_t)(PLAIN_NS * cost * (1 + w->jitter * (2 * uniform() - 1))));
	/* what was not drafted is measured as well: the first guess */
	spec_learn(&w->costs, &w->history, DRAFT_NGRAM, guess, o.take ? o.take : 1,
		   o.take ? kept - 1 : right > 0);
	spec_book(&w->history, kept, o.take ? spec_cost_of(&w->costs, 1 + o.take, 1) : 1);
	w->ns += cost;
	w->tokens += kept;
	w->drafted += o.take;
	for (uint32_t i = 0; i < kept && w->n < ARRAY_LEN(w->loss); i++)
		w->loss[w->n++] = w->ns - (double)(w->tokens - kept + 1 + i);
}

static void run(struct world *w, unsigned steps)
{
	for (unsigned i = 0; i < steps; i++)
		step(w);
}

/* No token comes later than 1.05 of 64 tokens' time after what came 64 tokens before. */
static void assert_bounded(const struct world *w)
{
	for (unsigned i = 0; i < w->n; i++)
		for (unsigned k = i + 1; k < w->n && k <= i + 64; k++)
			assert_true(w->loss[k] - w->loss[i] <= 0.05 * 64 + 1e-6);
}

static void test_bound(void **unused)
{
	static struct world w;

	for (unsigned i = 0; i < 600; i++) {
		state = i;
		start(&w, (i % 10) / 10.0, 0.05 + 0.15 * (i / 10 % 6));
		run(&w, 300);
		w.share = uniform(); /* the text changes, and what a column costs */
		run(&w, 300);
		assert_bounded(&w);
	}
}

/* Guesses that are never right, by a clock that is disturbed: no 64 tokens below 0.95 of the speed without. */
static void test_never_right(void **unused)
{
	static struct world w;

	for (unsigned i = 0; i < 20; i++) {
		state = 100 + i;
		start(&w, 0, 0.05 + 0.1 * i);
		w.jitter = 0.02 * (i % 4);
		run(&w, 2000);
		for (unsigned k = 0; k + 64 < w.n; k++)
			assert_true(64 / (64 + w.loss[k + 64] - w.loss[k]) >= 0.95);
		assert_true((double)w.tokens / w.ns >= 0.97);
	}
}

static void test_worth(void **unused)
{
	static struct world w;

	state = 1;
	start(&w, 1, 0.1);
	step(&w);
	assert_int_equal(w.drafted, 0); /* nothing is known of costs */
	run(&w, 200);
	assert_true((double)w.tokens / w.ns > 3); /* 8 tokens of a step that costs 1.7 */
	start(&w, 0, 0.3);
	run(&w, 600);
	assert_true(w.ns < 1.03 * (double)w.tokens);
	start(&w, 0.9, 0.25);
	run(&w, 600);
	assert_true((double)w.tokens / w.ns > 1.5);
	start(&w, 0.9, 1.2); /* right, and yet not worth a column */
	run(&w, 600);
	assert_true(w.ns < 1.03 * (double)w.tokens);
}

/* Off where it does not pay, on again when it does. */
static void test_on_and_off(void **unused)
{
	static struct world w;
	uint64_t drafted;

	state = 2;
	start(&w, 0, 0.2);
	run(&w, 400);
	drafted = w.drafted;
	run(&w, 200);
	assert_true(w.drafted - drafted < 20);
	w.share = 0.95;
	run(&w, 100);
	drafted = w.drafted;
	run(&w, 100);
	assert_true(w.drafted - drafted > 200);
	w.share = 0;
	run(&w, 300);
	drafted = w.drafted;
	run(&w, 200);
	assert_true(w.drafted - drafted < 20);
	assert_bounded(&w);
}

/* Several share a step's columns: the likelier gets more, one without guesses none. */
static void test_shared(void **unused)
{
	struct draft_guess guess[DRAFT_MAX] = { { 0 } };
	struct spec_history h[3];
	struct spec_offer o[3];
	struct spec_costs c;

	spec_costs_init(&c);
	spec_cost(&c, 3, 10000000);
	spec_cost(&c, 8, 14000000);
	for (unsigned i = 0; i < 3; i++) {
		spec_history_init(&h[i]);
		o[i] = (struct spec_offer){ .history = &h[i],
					    .from = DRAFT_NGRAM,
					    .n = i == 2 ? 0 : DRAFT_MAX,
					    .guess = guess };
	}
	for (unsigned k = 0; k < 40; k++) {
		spec_learn(&c, &h[0], DRAFT_NGRAM, guess, 1, 1);
		spec_learn(&c, &h[1], DRAFT_NGRAM, guess, 1, k % 3 == 0);
	}
	spec_decide(&c, 3, o, 3);
	assert_true(o[0].take > o[1].take);
	assert_int_equal(o[2].take, 0);
	/* whoever has no credit left holds all back: they wait for the same step */
	h[2].credit = 0;
	spec_decide(&c, 3, o, 3);
	assert_int_equal(o[0].take + o[1].take, 0);
}

/* A source that is a little less sure at first but goes on is worth more than one that breaks off. */
static void test_sources(void **unused)
{
	struct draft_guess same[7] = { { 0 } }, falling[7];
	struct spec_history h;
	struct spec_costs c;

	spec_costs_init(&c);
	spec_history_init(&h);
	for (unsigned i = 0; i < 7; i++)
		falling[i] = (struct draft_guess){ .class = i };
	for (unsigned k = 0; k < 60; k++) {
		spec_learn(&c, &h, DRAFT_NGRAM, same, 1, k % 10 > 0);
		spec_learn(&c, &h, DRAFT_MTP, falling, 1, 1);
		spec_learn(&c, &h, DRAFT_MTP, falling + 1, 1, k % 2);
		spec_learn(&c, &h, DRAFT_MTP, falling + 2, 1, 0);
	}
	for (uint32_t i = 1; i <= 8; i++)
		spec_cost(&c, i, 1000000 + 100000 * (i - 1));
	assert_true(spec_worth(&c, &h, DRAFT_NGRAM, same, 7) >
		    1.2 * spec_worth(&c, &h, DRAFT_MTP, falling, 7));
	/* with one guess of each the surer one is */
	assert_true(spec_worth(&c, &h, DRAFT_NGRAM, same, 1) <
		    spec_worth(&c, &h, DRAFT_MTP, falling, 1));
	assert_true(spec_worth(&c, &h, DRAFT_NGRAM, same, 0) == 1);
}

/* Costs between what was measured, and beyond. */
static void test_costs(void **unused)
{
	struct spec_costs c;

	spec_costs_init(&c);
	assert_true(spec_cost_of(&c, 2, 1) == 0);
	spec_cost(&c, 1, 1000);
	assert_true(spec_cost_of(&c, 1, 1) == 1);
	assert_true(spec_cost_of(&c, 2, 1) > 1);
	spec_cost(&c, 5, 3000);
	assert_true(spec_cost_of(&c, 5, 1) == 3);
	assert_true(spec_cost_of(&c, 3, 1) == 2);
	assert_true(spec_cost_of(&c, 7, 1) == 4);
	assert_true(spec_cost_of(&c, SPEC_COLUMNS_MAX + 1, 1) == 0);
	spec_cost(&c, 0, 5); /* neither counts */
	spec_cost(&c, SPEC_COLUMNS_MAX + 1, 5);
	assert_true(spec_cost_of(&c, 5, 1) == 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_costs),	    cmocka_unit_test(test_worth),
		cmocka_unit_test(test_on_and_off),  cmocka_unit_test(test_shared),
		cmocka_unit_test(test_sources),	    cmocka_unit_test(test_bound),
		cmocka_unit_test(test_never_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
