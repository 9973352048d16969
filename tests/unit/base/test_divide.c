/* SPDX-License-Identifier: MIT */
/*
 * Description: a budget becomes slots: never below the least, never above the budget or the experts,
 * everything at the sum of all, more bytes never fewer slots in all, and sums that overflow refuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/divide.h"
#include "base/num.h"

static void test_bounds(void **state)
{
	struct slot_share s[] = {
		{ .slot_bytes = 1000, .experts = 64, .least = 4 },
		{ .slot_bytes = 1500, .experts = 128, .least = 4 },
		{ .slot_bytes = 7, .experts = 3, .least = 3 },
	};
	uint64_t least = divide_least_bytes(s, 3), all = divide_all_bytes(s, 3), last = 0, taken;
	struct err err = { { 0 } };

	(void)state;
	assert_int_equal(least, 4 * 1000 + 4 * 1500 + 21);
	assert_int_equal(all, 64 * 1000 + 128 * 1500 + 21);
	assert_int_equal(divide_budget(s, 3, least - 1, &taken, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "need at least 10021 bytes"));
	for (uint64_t budget = least; budget <= all + 2000; budget += 37) {
		uint64_t sum = 0;

		assert_int_equal(divide_budget(s, 3, budget, &taken, NULL), 0);
		for (unsigned i = 0; i < 3; i++) {
			assert_true(s[i].slots >= s[i].least && s[i].slots <= s[i].experts);
			sum += s[i].slots * s[i].slot_bytes;
		}
		assert_int_equal(sum, taken);
		assert_true(taken <= budget && taken + 1500 > u64_min(budget, all));
		assert_true(taken + 1500 > last); /* more never gives much less */
		last = taken;
	}
	assert_int_equal(last, all);
}

/* Slots of equal worth: a number of slots is divided by the same rule. */
static void test_number_of_slots(void **state)
{
	struct slot_share s[] = {
		{ .slot_bytes = 1, .experts = 90, .least = 8 },
		{ .slot_bytes = 1, .experts = 30, .least = 8 },
	};
	uint64_t taken;

	(void)state;
	assert_int_equal(divide_budget(s, 2, 60, &taken, NULL), 0);
	assert_int_equal(taken, 60);
	assert_int_equal(s[0].slots + s[1].slots, 60);
	assert_true(s[0].slots > s[1].slots);
	assert_int_equal(divide_budget(s, 0, 5, &taken, NULL), 0);
	assert_int_equal(taken, 0);
}

static void test_overflow(void **state)
{
	struct slot_share s[] = { { .slot_bytes = 1ull << 40, .experts = 1ull << 30, .least = 1 },
				  { .slot_bytes = 1ull << 40, .experts = 1ull << 30, .least = 8 } };
	uint64_t taken;

	(void)state;
	assert_int_equal(divide_all_bytes(s, 2), UINT64_MAX);
	assert_int_equal(divide_budget(s, 2, 100ull << 40, &taken, NULL), 0);
	assert_true(taken <= 100ull << 40);
	s[0].least = 1ull << 30;
	assert_int_equal(divide_budget(s, 2, UINT64_MAX - 1, &taken, NULL), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_number_of_slots),
		cmocka_unit_test(test_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
