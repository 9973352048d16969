/* SPDX-License-Identifier: MIT */
/*
 * Description: what a prediction head reads of prompts takes its share of their steps and no more, whatever a
 * column costs; it finds out that a column has become dear, and that it is cheap again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/num.h"
#include "engine/mtp_budget.h"

/* Of the head: so much for each step of it, and for each column. */
static uint64_t cost_of(uint32_t columns, double fixed, double each)
{
	uint32_t steps = (columns + MTP_BATCH - 1) / MTP_BATCH;

	return (uint64_t)(fixed * steps + each * columns);
}

/* Steps that take so long; returns what the head read of the last. */
static uint32_t read_prompts(struct mtp_budget *b, unsigned steps, double step_ns, double fixed,
			     double each, double *ret_share)
{
	uint32_t n = 0;
	double all = 0;

	for (unsigned i = 0; i < steps; i++) {
		uint64_t ns;

		n = mtp_budget_columns(b, (uint64_t)step_ns);
		ns = cost_of(n, fixed, each);
		all += (double)ns;
		mtp_budget_learn(b, n, ns);
	}
	*ret_share = all / (steps * step_ns);
	return n;
}

static void test_share(void **unused)
{
	static const double each[] = { 1e3, 1e4, 1e5, 1e6, 1e7 };
	double share;

	for (unsigned i = 0; i < ARRAY_LEN(each); i++)
		for (unsigned k = 0; k < ARRAY_LEN(each); k++) {
			struct mtp_budget b = { { 0 } };
			uint32_t n;

			read_prompts(&b, 20, 1e9, each[k], each[i], &share);
			n = read_prompts(&b, 200, 1e9, each[k], each[i], &share);
			print_message("%g a step, %g a column: %u, %.4f\n", each[k], each[i], n,
				      share);
			assert_true(share <= 1.05 * MTP_PROMPT_SHARE);
			/* half a size may be left over */
			if (cost_of(4, each[k], each[i]) <= MTP_PROMPT_SHARE * 1e9)
				assert_true(n >= 4 && cost_of(2 * n, each[k], each[i]) >
							      0.9 * MTP_PROMPT_SHARE * 1e9);
		}
}

/* Nothing is known: little is read at first, and a step that it would hold up is not held up twice. */
static void test_first(void **unused)
{
	struct mtp_budget b = { { 0 } };

	assert_int_equal(mtp_budget_columns(&b, 1000000), 4);
	mtp_budget_learn(&b, 4, 1000000);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(mtp_budget_columns(&b, 1000000), 0);
	assert_true(mtp_budget_columns(&b, 1000000000) > 4);
	mtp_budget_learn(&b, 0, 5);
}

static void test_changes(void **unused)
{
	struct mtp_budget b = { { 0 } };
	double share;
	uint32_t before = read_prompts(&b, 50, 1e9, 1e5, 1e5, &share);

	assert_true(before >= 256);
	read_prompts(&b, 50, 1e9, 1e5, 1e7, &share);
	assert_true(share < 4 * MTP_PROMPT_SHARE);
	read_prompts(&b, 50, 1e9, 1e5, 1e7, &share);
	assert_true(share <= 1.2 * MTP_PROMPT_SHARE);
	read_prompts(&b, 600, 1e9, 1e5, 1e5, &share);
	assert_int_equal(read_prompts(&b, 1, 1e9, 1e5, 1e5, &share), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_first),
		cmocka_unit_test(test_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
