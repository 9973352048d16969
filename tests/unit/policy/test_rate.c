/* SPDX-License-Identifier: MIT */
/* Description: a bound on bytes per second keeps its rate over any pattern of moves, allows one move at once, and says how long to wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "policy/rate.h"

#define MS 1000000ull

static void test_no_bound(void **state)
{
	struct byte_rate b = rate_make(0);

	for (int i = 0; i < 10; i++)
		assert_true(rate_take(&b, 5, UINT64_MAX));
	assert_int_equal(rate_wait_ns(&b, 5), 0);
}

/* Moves of any size, tried at any times: never more than the rate, the burst and one move. */
static void test_rate_holds(void **state)
{
	for (unsigned seed = 1; seed <= 20; seed++) {
		const uint64_t rate = 1000 * 1000, largest = 400 * 1000;
		struct byte_rate b = rate_make(rate);
		uint64_t now = 7 * MS, start = now, moved = 0;

		srand(seed);
		for (int i = 0; i < 5000; i++) {
			uint64_t bytes = 1 + (uint64_t)rand() % largest;

			now += (uint64_t)rand() % (3 * MS);
			if (rate_take(&b, now, bytes))
				moved += bytes;
			assert_true((double)moved <= 1e-9 * (double)(now - start) * (double)rate +
							     0.25 * (double)rate + (double)largest);
		}
		/* and it is used: what is asked for is far more than the rate */
		assert_true((double)moved > 0.9e-9 * (double)(now - start) * (double)rate);
	}
}

static void test_wait(void **state)
{
	struct byte_rate b = rate_make(1000);
	uint64_t now = MS, wait;

	assert_true(rate_take(&b, now, 1250)); /* larger than the bucket of 250 */
	assert_false(rate_take(&b, now, 1));
	wait = rate_wait_ns(&b, now);
	assert_in_range(wait, 999 * MS, 1001 * MS);
	assert_false(rate_take(&b, now + wait - 2 * MS, 1));
	assert_true(rate_take(&b, now + wait, 1));
}

/* A long pause fills the bucket once, not for every second of the pause. */
static void test_pause(void **state)
{
	struct byte_rate b = rate_make(1000);
	uint64_t now = MS, moved = 0;

	assert_true(rate_take(&b, now, 1000));
	now += 3600 * 1000 * MS;
	while (rate_take(&b, now, 10))
		moved += 10;
	assert_int_equal(moved, 250);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_bound),
		cmocka_unit_test(test_rate_holds),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_pause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
