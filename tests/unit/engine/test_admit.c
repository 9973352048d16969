/* SPDX-License-Identifier: MIT */
/*
 * Description: turns: who was served least is next, nobody saves up turns, within a client the first to come is
 * first.
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
