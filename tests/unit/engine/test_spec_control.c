/* SPDX-License-Identifier: MIT */
/*
 * Description: how much is drafted: nothing before a step's cost is known, more where guesses are right
 * and columns cheap, nothing where they are not, and again when that changes; the likeliest sequence
 * first; on costs as measured, beside a clock that is disturbed and drifts, at least 0.93 of what the best
 * length gives; and whatever happens, no 64 tokens take more than 1.05 of their time without drafts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
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
	const double *table; /* of costs by columns; NULL: @column each */
	double jitter;	     /* of the times that are seen */
	double pace, drift;  /* of the machine: a logarithm, and what it moves by */
	enum draft_source from;
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
	w->from = DRAFT_NGRAM;
}

static double cost_of(const struct world *w, uint32_t columns)
{
	return w->table ? w->table[columns - 1] : 1 + w->column * (columns - 1);
}

static void step(struct world *w)
{
	struct draft_guess guess[DRAFT_MAX] = { { 0 } };
	struct spec_offer o = {
		.history = &w->history, .from = w->from, .n = DRAFT_MAX, .guess = guess
	};
	uint32_t right = 0, kept;
	double cost;

	spec_decide(&w->costs, 1, &o, 1);
	cost = cost_of(w, 1 + o.take);
	w->pace = 0.99 * w->pace + w->drift * (2 * uniform() - 1);
	while (right < DRAFT_MAX && uniform() < w->share)
		right++;
	kept = 1 + (right < o.take ? right : o.take);
	spec_cost(
		&w->costs, 1 + o.take,
		(uint64_t)(PLAIN_NS * cost * exp(w->pace) * (1 + w->jitter * (2 * uniform() - 1))));
	/* what was not drafted is measured as well: the first guess */
	spec_learn(&w->costs, &w->history, w->from, guess, o.take ? o.take : 1,
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

/* The most that drafts can give: over all lengths. */
static double possible(const struct world *w)
{
	double best = 1, tokens = 0, reached = 1;

	for (uint32_t k = 0; k <= DRAFT_MAX; k++, reached *= w->share) {
		tokens += reached;
		best = fmax(best, tokens / cost_of(w, k + 1));
	}
	return best;
}

/*
 * A daemon that serves request after request of 128 tokens, with drafts of which another share is right each
 * time; costs as measured on two levels (35B shape, 8 layers, two threads).
 */
static void test_near_best(void **unused)
{
	static const double tables[2][8] = {
		{ 1, 1.43, 1.85, 2.40, 3.01, 3.29, 3.84, 4.23 },
		{ 1, 1.42, 2.07, 2.52, 3.16, 3.33, 3.95, 4.24 },
	};
	static const double shares[] = { 0, 0.5, 0.7, 0.9 };
	static struct world w;

	for (unsigned level = 0; level < 2; level++) {
		double tokens[4] = { 0 }, ns[4] = { 0 }, best[4];

		for (unsigned seed = 0; seed < 20; seed++) {
			state = 1000 * level + seed;
			start(&w, 0, 0);
			w.table = tables[level];
			w.jitter = 0.17; /* a deviation of 10 % */
			w.drift = 0.025;
			w.from = DRAFT_GIVEN;
			for (unsigned i = 0; i < 16; i++) {
				unsigned k = i / 4 % 2 ? 3 - i % 4 : i % 4;

				spec_history_init(&w.history);
				w.share = shares[k];
				w.ns = 0;
				w.tokens = 0;
				while (w.tokens < 128)
					step(&w);
				tokens[k] += (double)w.tokens;
				ns[k] += w.ns;
				best[k] = possible(&w);
			}
		}
		for (unsigned k = 0; k < 4; k++) {
			print_message("level %u, %.1f right: %.3f of %.3f\n", level, shares[k],
				      tokens[k] / ns[k], best[k]);
			assert_true(tokens[k] / ns[k] >= 0.93 * best[k]);
		}
	}
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
	/* whoever can lose no more holds all back: they wait for the same step */
	spec_book(&h[2], 1, 1 + SPEC_LOSS);
	assert_true(fabs(spec_left(&h[2])) < 1e-9);
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
	assert_true(fabs(spec_cost_of(&c, 5, 1) - 3) < 1e-9);
	assert_true(fabs(spec_cost_of(&c, 3, 1) - 2) < 1e-9);
	assert_true(fabs(spec_cost_of(&c, 7, 1) - 4) < 1e-9);
	assert_true(spec_cost_of(&c, SPEC_COLUMNS_MAX + 1, 1) == 0);
	spec_cost(&c, 0, 5); /* neither counts */
	spec_cost(&c, SPEC_COLUMNS_MAX + 1, 5);
	assert_true(fabs(spec_cost_of(&c, 5, 1) - 3) < 1e-9);
}

/* A machine that becomes slower does so for every number of columns. */
static void test_pace(void **unused)
{
	struct spec_costs c;

	spec_costs_init(&c);
	for (unsigned i = 0; i < 40; i++)
		spec_cost(&c, 1 + i % 2, i % 2 ? 14000000 : 10000000);
	assert_true(fabs(spec_cost_of(&c, 2, 1) - 1.4) < 0.01);
	for (unsigned i = 0; i < 60; i++)
		spec_cost(&c, 2, 21000000);
	assert_true(fabs(spec_cost_of(&c, 2, 1) - 1.4) < 0.15);
	assert_true(fabs(spec_cost_ns(&c, 2) - 21000000) < 1000000);
	assert_true(fabs(spec_cost_ns(&c, 1) - 15000000) < 2000000);
}

/* What may be lost in 64 tokens, and is known again when they have passed. */
static void test_left(void **unused)
{
	struct spec_history h;

	spec_history_init(&h);
	assert_true(fabs(spec_left(&h) - SPEC_LOSS) < 1e-9);
	spec_book(&h, 1, 2.5);
	assert_true(fabs(spec_left(&h) - (SPEC_LOSS - 1.5)) < 1e-9);
	spec_book(&h, 2, 1.5); /* half a token's time won */
	assert_true(fabs(spec_left(&h) - (SPEC_LOSS - 1)) < 1e-9);
	for (unsigned i = 0; i < SPEC_WINDOW - 4; i++)
		spec_book(&h, 1, 1);
	assert_true(fabs(spec_left(&h) - (SPEC_LOSS - 1)) < 1e-9);
	spec_book(&h, 1, 1);
	assert_true(fabs(spec_left(&h) - SPEC_LOSS) < 1e-9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_costs),	    cmocka_unit_test(test_worth),
		cmocka_unit_test(test_on_and_off),  cmocka_unit_test(test_shared),
		cmocka_unit_test(test_sources),	    cmocka_unit_test(test_bound),
		cmocka_unit_test(test_never_right), cmocka_unit_test(test_near_best),
		cmocka_unit_test(test_pace),	    cmocka_unit_test(test_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
