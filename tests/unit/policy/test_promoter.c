/* SPDX-License-Identifier: MIT */
/*
 * Description: what a promoter moves never exceeds its bytes per second or per token, classes come in turn,
 * an idle machine counts the seconds alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/num.h"
#include "policy/promoter.h"

#define CLASSES 3

static const uint64_t class_bytes[CLASSES] = { 100, 70, 30 };
static uint32_t asked[CLASSES], n_free[CLASSES];
static bool wants[CLASSES];

static bool promote(struct policy *p, uint32_t cls, bool has_free,
		    const struct policy_filter *filter, struct policy_move *ret)
{
	asked[cls]++;
	*ret = (struct policy_move){ cls, has_free ? POLICY_NONE : 50 + cls };
	return wants[cls];
}

static const struct policy_ops ops = { .name = "test", .promote = promote };

static uint32_t free_slots(void *ctx, uint32_t cls)
{
	return n_free[cls];
}

static struct promoter open_promoter(uint64_t per_s, uint64_t per_token, bool only_free)
{
	const struct promoter_config c = { .ops = &ops,
					   .n_classes = CLASSES,
					   .class_bytes = class_bytes,
					   .free_slots = free_slots,
					   .bytes_per_s = per_s,
					   .bytes_per_token = per_token,
					   .only_free = only_free };
	struct promoter p;

	promoter_init(&p, &c);
	for (int k = 0; k < CLASSES; k++) {
		wants[k] = true;
		n_free[k] = asked[k] = 0;
	}
	return p;
}

static uint64_t moves(struct promoter *p, bool idle, uint32_t most)
{
	struct policy_move move;
	uint64_t bytes = 0;
	uint32_t cls;

	for (uint32_t n = 0; n < most && promoter_next(p, idle, &move, &cls); n++) {
		assert_int_equal(move.id, cls);
		bytes += class_bytes[cls];
	}
	return bytes;
}

static void test_tokens(void **state)
{
	struct promoter p = open_promoter(0, 17, false);
	uint64_t moved = 0, tokens = 0;

	assert_int_equal(moves(&p, false, 10), 0);
	for (uint32_t i = 0; i < 1000; i++) {
		const uint32_t n = i % 50 ? 1 : 40; /* a prompt now and then */

		tokens += n;
		promoter_step(&p, n, i);
		moved += moves(&p, false, 100);
		assert_true(moved <= 17 * tokens);
	}
	assert_true(moved > 17 * tokens * 8 / 10);
}

static void test_seconds(void **state)
{
	struct promoter p = open_promoter(1000, 0, false);
	uint64_t moved = 0, now = 1;

	promoter_step(&p, 1, now);
	assert_int_equal(moves(&p, true, 10), 0);
	for (uint32_t i = 0; i < 2000; i++) {
		now += i % 100 ? 10000000 : 3000000000;
		promoter_step(&p, i % 2, now);
		moved += moves(&p, i % 2 == 0, 100);
		assert_true((double)moved <= (double)(now - 1) * 1e-6);
	}
	assert_true(moved > 10000);
	/* what was not used for long is no burst */
	promoter_step(&p, 1, now += 1000000000000);
	assert_true(moves(&p, false, 100) <= 250);
	assert_true(promoter_wait_ns(&p) > 0);
}

static void test_both(void **state)
{
	struct promoter p = open_promoter(1000000, 1000, false);
	uint32_t before;

	promoter_step(&p, 1, 1);
	promoter_step(&p, 1, 1000001); /* a millisecond: 1000 bytes of seconds, 2000 of tokens */
	assert_in_range(moves(&p, false, 1000), 900, 1000);
	promoter_step(&p, 0, 2000001);
	assert_in_range(moves(&p, true, 1000), 900, 1100); /* idle: the seconds alone */
	before = asked[0];
	promoter_step(&p, 0, 1000000000);
	moves(&p, true, 6);
	assert_int_equal(asked[0] - before, 2); /* in turn */
	wants[1] = wants[2] = false;
	assert_int_equal(moves(&p, true, 2), 200);
}

static void test_only_free(void **state)
{
	struct promoter p = open_promoter(0, 0, true);

	assert_int_equal(moves(&p, false, 10), 0);
	n_free[2] = 1;
	assert_int_equal(moves(&p, false, 10), 300);
	assert_int_equal(asked[0] + asked[1], 0);
	p = open_promoter(0, 0, false); /* no bound at all */
	assert_int_equal(moves(&p, false, 300), 20000);
	assert_int_equal(promoter_wait_ns(&p), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_seconds),
		cmocka_unit_test(test_both),
		cmocka_unit_test(test_only_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
