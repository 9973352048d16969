/* SPDX-License-Identifier: MIT */
/* Description: fills beside steps take their share of a processor whatever one costs, and end in any case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "policy/fill_pace.h"

#define MS 1000000ull

/* Steps of @step_ns for @ns, fills of @cost_ns each: how many began. */
static unsigned fills(struct fill_pace *p, uint64_t ns, uint64_t step_ns, uint64_t cost_ns)
{
	uint64_t now = 5 * MS, end = now + ns, spent = 1000 * MS;
	unsigned n = 0;

	fill_pace_begin(p, now, spent);
	for (; now < end; now += step_ns) {
		if (!fill_pace_may(p, now, spent))
			continue;
		spent += cost_ns;
		n++;
	}
	return n;
}

/* Pages that are there: one in every step. Pages to be cleared: a tenth of a processor. */
static void test_share(void **state)
{
	struct fill_pace p;

	assert_int_equal(fills(&p, 1000 * MS, 10 * MS, MS / 5), 100);
	assert_in_range(fills(&p, 10000 * MS, 10 * MS, 4 * MS), 195, 250);
	assert_in_range(fills(&p, 10000 * MS, MS, 4 * MS), 235, 250);
}

/* However dear: ten in a second. */
static void test_floor(void **state)
{
	struct fill_pace p;

	assert_in_range(fills(&p, 10000 * MS, 10 * MS, 50 * MS), 90, 100);
	assert_in_range(fills(&p, 10000 * MS, 10 * MS, 3600000 * MS), 90, 100);
}

/* What fills cost while nobody computed is not rested for; what they cost since then is, once. */
static void test_begin(void **state)
{
	struct fill_pace p;

	fill_pace_begin(&p, 100 * MS, 7000 * MS);
	assert_true(fill_pace_may(&p, 100 * MS, 7000 * MS));
	assert_false(fill_pace_may(&p, 110 * MS, 7002 * MS)); /* from 100 on */
	assert_false(fill_pace_may(&p, 119 * MS, 7002 * MS));
	assert_true(fill_pace_may(&p, 120 * MS, 7002 * MS));
	assert_true(fill_pace_may(&p, 121 * MS, 7002 * MS));
	assert_false(fill_pace_may(&p, 122 * MS, 7010 * MS));
	fill_pace_begin(&p, 131 * MS, 9000 * MS);
	assert_true(fill_pace_may(&p, 131 * MS, 9000 * MS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_floor),
		cmocka_unit_test(test_begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
