/* SPDX-License-Identifier: MIT */
/*
 * Description: slots of the module: quota, bounds, foreign slots, and a random run against a plain
 * model.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kmod/slot.h"

static const int owners[5];

static void table_init(struct slot_table *table, __u32 nr, __u32 quota)
{
	memset(table, 0, sizeof(*table));
	table->nr = nr;
	table->quota = quota;
}

static void test_quota_and_space(void **state)
{
	struct slot_table t;
	__u32 slot, i;

	table_init(&t, 32, 16);
	for (i = 0; i < 16; i++) {
		assert_int_equal(slot_take(&t, &owners[0], &slot), 0);
		assert_int_equal(slot, i);
	}
	slot = 99;
	assert_int_equal(slot_take(&t, &owners[0], &slot), -EDQUOT);
	for (i = 16; i < 32; i++)
		assert_int_equal(slot_take(&t, &owners[1], &slot), 0);
	slot = 99;
	assert_int_equal(slot_take(&t, &owners[2], &slot), -ENOSPC);
	assert_int_equal(slot, 99); /* set on success only */
	assert_int_equal(slot_count(&t, NULL), 0);
	slot_drop(&t, 5);
	assert_int_equal(slot_count(&t, NULL), 1);
	assert_int_equal(slot_take(&t, &owners[2], &slot), 0);
	assert_int_equal(slot, 5);
}

static void test_foreign_and_wrong_slots(void **state)
{
	struct slot_table t;
	__u32 slot;

	table_init(&t, 32, 16);
	assert_int_equal(slot_take(&t, &owners[0], &slot), 0);
	assert_int_equal(slot_check(&t, &owners[0], slot), 0);
	assert_int_equal(slot_check(&t, &owners[1], slot), -EPERM);
	assert_int_equal(slot_check(&t, &owners[0], slot + 1), -ENOENT);
	assert_int_equal(slot_check(&t, &owners[0], 32), -EINVAL);
	assert_int_equal(slot_check(&t, &owners[0], UINT32_MAX), -EINVAL);
	slot_drop(&t, slot);
	assert_int_equal(slot_check(&t, &owners[0], slot), -ENOENT);
}

/* 10^5 random steps of five owners; a plain array says what should be. */
static void test_random_run(void **state)
{
	int model[32], held[5] = { 0 }, taken = 0, i, steps;
	unsigned int seed = 4;
	struct slot_table t;

	table_init(&t, 32, 16);
	memset(model, -1, sizeof(model));
	for (steps = 0; steps < 100000; steps++) {
		int who = rand_r(&seed) % 5, rc, want;
		__u32 slot = rand_r(&seed) % 34;

		if (rand_r(&seed) % 100 < 55) {
			want = held[who] >= 16 ? -EDQUOT : taken == 32 ? -ENOSPC : 0;
			rc = slot_take(&t, &owners[who], &slot);
			assert_int_equal(rc, want);
			if (rc)
				continue;
			assert_true(slot < 32);
			assert_int_equal(model[slot], -1);
			model[slot] = who;
			held[who]++;
			taken++;
			continue;
		}
		want = slot >= 32	    ? -EINVAL
		       : model[slot] == -1  ? -ENOENT
		       : model[slot] != who ? -EPERM
					    : 0;
		rc = slot_check(&t, &owners[who], slot);
		assert_int_equal(rc, want);
		if (rc)
			continue;
		slot_drop(&t, slot);
		model[slot] = -1;
		held[who]--;
		taken--;
	}
	for (i = 0; i < 5; i++)
		assert_int_equal(slot_count(&t, &owners[i]), held[i]);
	assert_int_equal(slot_count(&t, NULL), 32 - taken);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quota_and_space),
		cmocka_unit_test(test_foreign_and_wrong_slots),
		cmocka_unit_test(test_random_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
