/* SPDX-License-Identifier: MIT */
/*
 * Description: turns: who was served least is next, nobody saves up turns, within a client the first to come is
 * first. Pace: the tokens of a step settle where it takes the target, whatever a token costs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "engine/admit.h"

static void test_turns(void **unused)
{
	struct turns t;
	uint32_t a, b, c;

	assert_int_equal(turns_init(&t, 4), 0);
	a = turns_enter(&t, 7);
	b = turns_enter(&t, 9);
	assert_int_not_equal(a, b);
	assert_int_equal(turns_enter(&t, 7), a);
	assert_true(turns_before(&t, a, 1, b, 2)); /* nobody was served: who came first */
	assert_false(turns_before(&t, a, 2, b, 1));
	turns_serve(&t, a, 100);
	assert_true(turns_before(&t, b, 9, a, 1));
	assert_true(turns_before(&t, a, 1, a, 3)); /* of one client: in order */
	turns_serve(&t, b, 60);
	/* a third one starts where the least served of the others is */
	c = turns_enter(&t, 11);
	assert_false(turns_before(&t, c, 5, b, 2));
	assert_true(turns_before(&t, c, 5, a, 1));
	/* who left and comes back has no credit for its absence */
	turns_leave(&t, c);
	turns_serve(&t, b, 1000);
	c = turns_enter(&t, 11);
	assert_false(turns_before(&t, c, 9, a, 1));
	turns_leave(&t, c);
	turns_leave(&t, a);
	turns_leave(&t, b);
	turns_leave(&t, a);
	assert_int_equal(t.n, 0);
	turns_fini(&t);
}

/* Two clients, one with many requests and one with few: each gets half. */
static void test_shares(void **unused)
{
	struct turns t;
	uint32_t greedy, modest, got[2] = { 0, 0 };

	assert_int_equal(turns_init(&t, 64), 0);
	greedy = turns_enter(&t, 1);
	for (unsigned i = 1; i < 30; i++)
		turns_enter(&t, 1);
	modest = turns_enter(&t, 2);
	for (unsigned i = 0; i < 200; i++) {
		bool first = turns_before(&t, greedy, i % 30, modest, 30);

		got[!first]++;
		turns_serve(&t, first ? greedy : modest, 10);
	}
	assert_in_range(got[0], 99, 101);
	turns_fini(&t);
}

/* A machine: a step takes so long, and so much more per prompt token. */
static uint64_t step_ns(uint32_t decoding, uint32_t prompt)
{
	return 10000000 + decoding * 500000ull + prompt * 200000ull;
}

static void learn(struct pace *p, uint32_t n, uint32_t n_prompt, bool full, uint64_t ns)
{
	const struct pace_step s = { n, n, n_prompt, full, ns };

	pace_learn(p, &s);
}

static void test_pace(void **unused)
{
	static const uint64_t targets[] = { 0, 15000000, 40000000, 1000000 };

	for (unsigned i = 0; i < 4; i++) {
		uint64_t target = targets[i] ? targets[i] : 2 * step_ns(4, 0), ns = 0, plain = 0;
		struct pace p;

		pace_init(&p, targets[i]);
		assert_int_equal(pace_tokens(&p, 0), UINT32_MAX);
		for (unsigned step = 0; step < 200; step++) {
			uint32_t n = pace_tokens(&p, 4);

			if (!targets[i] && step == 0)
				assert_int_equal(n, 0); /* a plain step comes first */
			plain += !n;
			n = n > 512 ? 512 : n;
			if (n)
				ns = step_ns(4, n);
			learn(&p, 4, n, true, step_ns(4, n));
		}
		if (i == 3) { /* cannot be met: prompts go on all the same */
			assert_int_equal(pace_tokens(&p, 4), PACE_LEAST);
			continue;
		}
		assert_in_range(ns, target * 9 / 10, target * 11 / 10);
		assert_true(targets[i] ? plain == 0 : plain >= 2 && plain <= 5);
	}
}

/* A step that was not full says nothing about more tokens; one that was late does. */
static void test_pace_short(void **unused)
{
	struct pace p;

	pace_init(&p, 50000000);
	learn(&p, 1, 5, false, 1000000);
	assert_int_equal(pace_tokens(&p, 1), PACE_FIRST);
	learn(&p, 1, 40, false, 100000000);
	assert_int_equal(pace_tokens(&p, 1), 20);
	learn(&p, 0, 512, true, 900000000); /* nobody decoded: nobody waited */
	assert_int_equal(pace_tokens(&p, 1), 20);
}

/* Where few tokens cost nearly what many do the default is gone beyond by half; one that was given is not. */
static void test_pace_few(void **unused)
{
	static const uint64_t targets[] = { 0, 20000000 };

	for (unsigned i = 0; i < 2; i++) {
		uint64_t plain = 10000000, ns = 0;
		struct pace p;

		pace_init(&p, targets[i]);
		learn(&p, 4, 0, true, plain);
		for (unsigned step = 0; step < 40; step++) {
			uint32_t n = pace_tokens(&p, 4);

			ns = plain + (n ? 9000000 + n * 200000ull : 0);
			learn(&p, 4, n, true, ns);
		}
		if (i) /* 8 tokens take 20.6 ms */
			assert_int_equal(pace_tokens(&p, 4), PACE_LEAST);
		else
			assert_in_range(ns, 28000000, 32000000);
	}
}

/* One decodes and seven come: their chunks are those of a step of eight, from the first one on. */
static void test_pace_of_all(void **unused)
{
	uint64_t ns = 0;
	struct pace p;

	pace_init(&p, 0);
	learn(&p, 8, 0, true, step_ns(8, 0));
	learn(&p, 1, 0, true, step_ns(1, 0));
	for (unsigned step = 0; step < 8; step++) {
		struct pace_step s = { .n_decoding = 1, .n_all = 8, .full = true };

		s.n_prompt = pace_tokens(&p, 1);
		s.ns = ns = step_ns(1, s.n_prompt);
		pace_learn(&p, &s);
	}
	assert_in_range(ns, 2 * step_ns(8, 0) * 98 / 100, 2 * step_ns(8, 0) * 102 / 100);
	/* alone with one that reads it is twice the step of two, or what few tokens take */
	learn(&p, 2, 0, true, step_ns(2, 0));
	for (unsigned step = 0; step < 8; step++) {
		struct pace_step s = { .n_decoding = 1, .n_all = 2, .full = true };

		s.n_prompt = pace_tokens(&p, 1);
		s.ns = ns = step_ns(1, s.n_prompt);
		pace_learn(&p, &s);
	}
	assert_int_equal(pace_tokens(&p, 1), PACE_FEW);
	assert_in_range(ns, 2 * step_ns(2, 0), 3 * step_ns(2, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turns),	 cmocka_unit_test(test_shares),
		cmocka_unit_test(test_pace),	 cmocka_unit_test(test_pace_short),
		cmocka_unit_test(test_pace_few), cmocka_unit_test(test_pace_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
