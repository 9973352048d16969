/* SPDX-License-Identifier: MIT */
/*
 * Description: shares of the experts follow the bandwidth that the nodes have left, never exceed
 * their memory, and always sum to the whole; background reads give way to a busy memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "policy/placement.h"

#define GIB (1ull << 30)

static void check_sum(const struct node_split *p)
{
	uint32_t sum = 0;

	assert_in_range(p->n, 1, NODES_SPLIT);
	for (uint32_t i = 0; i < p->n; i++) {
		assert_true(p->share[i] > 0);
		sum += p->share[i];
	}
	assert_int_equal(sum, NODES_SHARE);
}

static void test_one_node(void **state)
{
	struct bandwidth_node b = { .id = 3, .workers = 2, .free_bytes = GIB, .in_use = -1 };
	struct node_split p;

	(void)state;
	placement_choose(&b, 1, GIB / 2, &p);
	check_sum(&p);
	assert_int_equal(p.n, 1);
	assert_int_equal(p.node[0], 3);
	placement_choose(&b, 0, GIB, &p); /* nothing known: no cut, anywhere */
	check_sum(&p);
	assert_int_equal(p.node[0], -1);
}

static void test_equal_and_unequal(void **state)
{
	struct bandwidth_node b[2] = {
		{ .id = 0, .workers = 8, .free_bytes = 100 * GIB, .in_use = -1 },
		{ .id = 1, .workers = 8, .free_bytes = 100 * GIB, .in_use = -1 },
	};
	struct node_split p;

	(void)state;
	placement_choose(b, 2, 64 * GIB, &p);
	check_sum(&p);
	assert_int_equal(p.n, 2);
	assert_int_equal(p.share[0], NODES_SHARE / 2);
	b[0].workers = 4; /* no peak known: as many rows as hands */
	placement_choose(b, 2, 64 * GIB, &p);
	assert_in_range(p.share[0], NODES_SHARE / 3 - 1, NODES_SHARE / 3 + 1);
	b[0].peak_bytes_per_s = 100e9;
	placement_choose(b, 2, 64 * GIB, &p); /* only one peak known: not used */
	assert_in_range(p.share[0], NODES_SHARE / 3 - 1, NODES_SHARE / 3 + 1);
	b[1].peak_bytes_per_s = 300e9;
	placement_choose(b, 2, 64 * GIB, &p);
	assert_in_range(p.share[0], NODES_SHARE / 4 - 1, NODES_SHARE / 4 + 1);
	b[1].in_use = 2.0 / 3; /* a neighbour takes two thirds of it */
	placement_choose(b, 2, 64 * GIB, &p);
	assert_in_range(p.share[0], NODES_SHARE / 2 - 2, NODES_SHARE / 2 + 2);
	b[1].in_use = 7; /* nonsense counts as almost nothing left */
	placement_choose(b, 2, 64 * GIB, &p);
	check_sum(&p);
	assert_true(p.share[0] > NODES_SHARE / 2 && p.n == 2);
}

static void test_full_nodes(void **state)
{
	struct bandwidth_node b[3] = {
		{ .id = 0, .workers = 8, .free_bytes = 10 * GIB, .in_use = -1 },
		{ .id = 1, .workers = 8, .free_bytes = 100 * GIB, .in_use = -1 },
		{ .id = 2, .workers = 0, .free_bytes = 500 * GIB, .in_use = -1 },
	};
	struct node_split p;

	(void)state;
	placement_choose(b, 3, 40 * GIB, &p);
	check_sum(&p);
	assert_int_equal(p.n, 2); /* nothing on the expander while there is room elsewhere */
	assert_in_range(p.share[0], NODES_SHARE / 4 - 1, NODES_SHARE / 4 + 1);
	placement_choose(b, 3, 220 * GIB, &p);
	check_sum(&p);
	assert_int_equal(p.n, 3);
	assert_in_range(p.share[2], NODES_SHARE / 2 - 2, NODES_SHARE / 2 + 2);
	placement_choose(b, 3, 2000 * GIB, &p); /* more than there is: the ratio of what there is */
	check_sum(&p);
}

static void test_random(void **state)
{
	struct bandwidth_node b[70];
	struct node_split p;

	(void)state;
	srand(7);
	for (int round = 0; round < 20000; round++) {
		uint32_t n = (uint32_t)rand() % (round % 10 ? 9 : 70);

		for (uint32_t i = 0; i < n; i++)
			b[i] = (struct bandwidth_node){
				.id = (int32_t)i,
				.workers = (uint32_t)rand() % 3,
				.free_bytes = rand() % 5 ? (uint64_t)rand() << 10 : 0,
				.peak_bytes_per_s = rand() % 3 ? rand() : 0,
				.in_use = rand() % 3 ? rand() / (double)RAND_MAX : -1,
			};
		placement_choose(b, n, (uint64_t)rand() << 8, &p);
		check_sum(&p);
		assert_in_range(placement_fill_depth(b, n, 16), 1, 16);
	}
}

static void test_fill_depth(void **state)
{
	struct bandwidth_node b[2] = { { .workers = 1, .in_use = -1 },
				       { .workers = 0, .in_use = 0.99 } };

	(void)state;
	assert_int_equal(placement_fill_depth(b, 2, 16), 16); /* unknown, and nobody works on 1 */
	b[0].in_use = 0.5;
	assert_int_equal(placement_fill_depth(b, 2, 16), 16);
	b[0].in_use = 0.7;
	assert_in_range(placement_fill_depth(b, 2, 16), 8, 9);
	b[0].in_use = 0.95;
	assert_int_equal(placement_fill_depth(b, 2, 16), 1);
	assert_int_equal(placement_fill_depth(b, 2, 0), 0);
	assert_int_equal(placement_fill_depth(NULL, 0, 16), 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_node),   cmocka_unit_test(test_equal_and_unequal),
		cmocka_unit_test(test_full_nodes), cmocka_unit_test(test_random),
		cmocka_unit_test(test_fill_depth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
