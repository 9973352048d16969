/* SPDX-License-Identifier: MIT */
/*
 * Description: places for threads are allowed CPUs, each once, cores before their siblings and
 * sorted by node; too many threads get none. Rows are dealt to nodes without gaps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>

#include "engine/numa.h"
#include "engine/topology.h"

static void test_places(void **state)
{
	struct cpu_place place[CPU_SETSIZE];
	struct limits limits;
	cpu_set_t set;
	unsigned allowed;

	(void)state;
	limits_read(NULL, &limits);
	allowed = limits.allowed_cpus;
	assert_true(allowed >= 1 && topology_cores() >= 1 && topology_cores() <= allowed);
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (unsigned n = 1; n <= allowed; n++) {
		assert_int_equal(topology_choose(n, place), 0);
		for (unsigned i = 0; i < n; i++) {
			assert_true(CPU_ISSET(place[i].cpu, &set));
			for (unsigned k = 0; k < i; k++) {
				assert_int_not_equal(place[i].cpu, place[k].cpu);
				assert_true(place[k].node <= place[i].node);
			}
		}
	}
	assert_int_equal(topology_choose(allowed + 1, place), -ENOSPC);
	assert_int_equal(place[allowed].cpu, -1);
	assert_int_equal(place[0].node, -1);
}

static uint32_t two_nodes(void *arg, struct bandwidth_node *ret, uint32_t max)
{
	const double *in_use = arg;

	assert_true(max >= 2);
	for (int32_t i = 0; i < 2; i++)
		ret[i] = (struct bandwidth_node){ .id = i,
						  .free_bytes = UINT64_MAX,
						  .peak_bytes_per_s = 100e9,
						  .in_use = in_use[i] };
	return 2;
}

/* What the caller measures decides; threads that are pinned nowhere count for nobody. */
static void test_split(void **state)
{
	double in_use[2] = { 0.5, 0 };
	struct engine_config c = { .bandwidth = two_nodes, .bandwidth_arg = in_use };
	struct bandwidth_node nodes[NODES_KNOWN];
	struct node_split s;
	struct team *team;

	(void)state;
	assert_int_equal(team_create(1, false, &team, NULL), 0);
	assert_int_equal(nodes_describe(&c, team, nodes), 2);
	assert_int_equal(nodes[0].workers + nodes[1].workers, 0);
	s = nodes_split(c.numa, nodes, 2, NULL, 1 << 30);
	assert_int_equal(s.n, 2); /* nobody works anywhere: as good as expanders */
	assert_int_equal(s.node[1], 1);
	assert_int_equal(s.share[0] + s.share[1], NODES_SHARE);
	c.numa = ENGINE_NUMA_OFF;
	s = nodes_split(c.numa, nodes, 2, NULL, 1 << 30);
	assert_int_equal(s.n, 1);
	assert_int_equal(s.node[0], -1);
	for (c.numa = 1; c.numa <= NODES_SPLIT; c.numa++) {
		uint64_t row = 0, first, end;

		s = nodes_split(c.numa, nodes, 2, NULL, 1 << 30);
		assert_int_equal(s.n, c.numa);
		for (uint32_t i = 0; i < s.n; i++) {
			node_split_rows(&s, 777, i, &first, &end);
			assert_int_equal(first, row);
			assert_true(end >= first);
			row = end;
		}
		assert_int_equal(row, 777);
	}
	team_destroy(team);
}

static uint32_t small_nodes(void *arg, struct bandwidth_node *ret, uint32_t max)
{
	for (int32_t i = 0; i < 2; i++)
		ret[i] = (struct bandwidth_node){ .id = i,
						  .free_bytes = (i ? 3ull : 1ull) << 30,
						  .peak_bytes_per_s = 100e9 };
	return 2;
}

/* Nodes whose files tell of less than the machine has: their sizes do not bound the shares. */
static void test_small_view(void **state)
{
	struct limits limits = { .available_bytes = LIMITS_UNKNOWN };
	struct bandwidth_node nodes[2];
	struct node_split s;

	(void)state;
	assert_int_equal(small_nodes(NULL, nodes, 2), 2);
	s = nodes_split(ENGINE_NUMA_AUTO, nodes, 2, &limits,
			6ull << 30); /* nothing else known: as full as they are large */
	assert_int_equal(s.n, 2);
	assert_true(s.share[0] >= NODES_SHARE / 4 - 1 && s.share[0] <= NODES_SHARE / 4 + 1);
	limits.available_bytes = 3ull << 30; /* the machine tells less: the nodes are right */
	assert_int_equal(nodes_split(ENGINE_NUMA_AUTO, nodes, 2, &limits, 6ull << 30).share[0],
			 s.share[0]);
	limits.available_bytes = 16ull << 30;
	s = nodes_split(ENGINE_NUMA_AUTO, nodes, 2, &limits, 6ull << 30);
	assert_int_equal(s.n, 2);
	assert_int_equal(s.share[0], NODES_SHARE / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_small_view),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
