/* SPDX-License-Identifier: MIT */
/*
 * Description: experts, cache and the rest fit into what this process may take; what was asked for
 * and cannot fit is refused with both numbers and the option; defaults are lowered, never what was
 * asked for; an unknown machine starts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/budget.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

#define TOKEN_BYTES 4096 /* of cache */

static uint64_t cache_bytes(const void *arg, uint32_t n_parallel, uint32_t n_ctx)
{
	return (uint64_t)TOKEN_BYTES * n_parallel * n_ctx;
}

static struct limits limits;

/* A model of 700 MiB of experts, 30 of dense weights and 100 of buffers in @room. */
static struct budget_ask in_room(uint64_t room)
{
	memset(&limits, 0, sizeof(limits));
	limits.machine_bytes = limits.limit_bytes = 24 * GIB;
	limits.available_bytes = 22 * GIB;
	limits.room_bytes = room;
	limits.huge_room_bytes = LIMITS_UNKNOWN;
	snprintf(limits.memory_from, sizeof(limits.memory_from),
		 room == LIMITS_UNKNOWN ? "unknown" : "cgroup /sys/fs/cgroup/box");
	return (struct budget_ask){ .limits = &limits,
				    .least_bytes = 20 * MIB,
				    .all_bytes = 700 * MIB,
				    .dense_bytes = 30 * MIB,
				    .buffer_bytes = 100 * MIB,
				    .cache_bytes = cache_bytes,
				    .n_ctx = 16384,
				    .n_parallel = 4 };
}

static struct budget choose(const struct budget_ask *ask)
{
	struct err err = { { 0 } };
	struct budget b;

	if (budget_choose(ask, &b, &err))
		fail_msg("refused: %s", err.text);
	return b;
}

/* Refused, and the sentence has all of @parts (NULL at the end). */
static void refused(const struct budget_ask *ask, const char *const *parts)
{
	struct err err = { { 0 } };
	struct budget b;

	assert_int_equal(budget_choose(ask, &b, &err), -ENOSPC);
	for (; *parts; parts++)
		if (!strstr(err.text, *parts))
			fail_msg("no \"%s\" in: %s", *parts, err.text);
}

#define REFUSED(ask, ...) refused(ask, (const char *const[]){ __VA_ARGS__, NULL })

static void test_all_fits(void **state)
{
	struct budget_ask ask = in_room(22 * GIB);
	struct budget b = choose(&ask);

	assert_int_equal(b.expert_bytes, 700 * MIB);
	assert_int_equal(b.n_ctx, 16384);
	assert_int_equal(b.n_parallel, 4);
	assert_int_equal(b.room_bytes, 22 * GIB);
	assert_string_equal(b.note, "");
}

/* What is left after the rest and a margin: half a gibibyte, an eighth of a small group. */
static void test_default_budget(void **state)
{
	struct budget_ask ask = in_room(8 * GIB);
	struct budget b;

	ask.all_bytes = 20 * GIB;
	b = choose(&ask);
	assert_int_equal(b.expert_bytes, (8192 - 130 - 256 - 512) * MIB);
	ask = in_room(400 * MIB);
	ask.n_ctx = 2048;
	ask.n_parallel = 1;
	b = choose(&ask);
	assert_int_equal(b.expert_bytes, (400 - 130 - 8 - 50) * MIB);
	assert_string_equal(b.note, "");
}

/* In 400 MiB the default cache of 256 MiB would leave nothing: sequences first, then the context. */
static void test_defaults_are_lowered(void **state)
{
	struct budget_ask ask = in_room(400 * MIB);
	struct budget b = choose(&ask);

	assert_int_equal(b.n_parallel, 1);
	assert_int_equal(b.n_ctx, 16384);
	assert_int_equal(b.expert_bytes, (400 - 130 - 64 - 50) * MIB);
	assert_non_null(strstr(b.note, "4 sequences with a context of 16384 tokens"));
	assert_non_null(strstr(b.note, "KV cache"));
	assert_non_null(strstr(b.note, "--parallel"));

	ask = in_room(250 * MIB);
	b = choose(&ask);
	assert_int_equal(b.n_parallel, 1);
	assert_int_equal(b.n_ctx, 8192);
	assert_true(b.expert_bytes >= 20 * MIB);

	/* a budget that was asked for has its part too */
	ask = in_room(400 * MIB);
	ask.host_budget = 220 * MIB;
	b = choose(&ask);
	assert_int_equal(b.expert_bytes, 220 * MIB);
	assert_int_equal(b.n_ctx, 8192);

	/* what was asked for is not lowered */
	ask = in_room(400 * MIB);
	ask.ctx_given = ask.parallel_given = true;
	REFUSED(&ask, "KV cache of 4 sequences", "context of 16384 tokens", "256.00 MiB",
		"400.00 MiB", "--ctx", "--parallel", "cgroup /sys/fs/cgroup/box");
	ask.parallel_given = false;
	assert_int_equal(choose(&ask).n_parallel, 1);
	ask = in_room(400 * MIB);
	ask.parallel_given = true;
	b = choose(&ask);
	assert_int_equal(b.n_parallel, 4);
	assert_int_equal(b.n_ctx, 4096);
}

static void test_cache_is_refused(void **state)
{
	struct budget_ask ask = in_room(22 * GIB);
	struct err err = { { 0 } };
	struct budget b;

	ask.n_ctx = 262144;
	ask.n_parallel = 64;
	ask.ctx_given = ask.parallel_given = true;
	REFUSED(&ask, "KV cache", "context of 262144 tokens", "64.00 GiB", "22.00 GiB", "--ctx");
	/* a model without experts as well */
	ask.least_bytes = ask.all_bytes = 0;
	REFUSED(&ask, "KV cache", "64.00 GiB", "22.00 GiB");
	ask.n_parallel = 1;
	assert_int_equal(choose(&ask).expert_bytes, 0);
	/* one sequence is one */
	ask = in_room(400 * MIB);
	ask.n_parallel = 1;
	ask.n_ctx = 262144;
	ask.ctx_given = true;
	REFUSED(&ask, "KV cache of 1 sequence with");
	assert_int_equal(budget_choose(&ask, &b, &err), -ENOSPC);
	assert_null(strstr(err.text, "--prefix-cache"));
	/* what was asked for to be reused is named: no fewer sequences make it less */
	ask.prefix_bytes = 1 * GIB;
	REFUSED(&ask, "(1.00 GiB of it for --prefix-cache)",
		"lower --prefix-cache, --ctx or --parallel");
}

static void test_budget_is_refused(void **state)
{
	struct budget_ask ask = in_room(600 * MIB);

	ask.n_ctx = 2048;
	ask.n_parallel = 1;
	ask.percent = 100;
	REFUSED(&ask, "--host-budget", "700.00 MiB", "600.00 MiB", "at most --host-budget 456M");
	ask.percent = 0;
	ask.host_budget = 500 * MIB;
	REFUSED(&ask, "--host-budget", "500.00 MiB", "600.00 MiB", "at most --host-budget 456M");
	ask.host_budget = 456 * MIB; /* and what the sentence says works, with less room too */
	assert_int_equal(choose(&ask).expert_bytes, 456 * MIB);
	limits.room_bytes -= 6 * MIB;
	assert_int_equal(choose(&ask).expert_bytes, 456 * MIB);
	limits.room_bytes--;
	REFUSED(&ask, "--host-budget", "at most --host-budget 449M");
	/* the slack is for advice alone: what fits to the byte is taken */
	ask = in_room(600 * MIB);
	ask.n_ctx = 2048;
	ask.n_parallel = 1;
	ask.host_budget = 462 * MIB;
	assert_int_equal(choose(&ask).expert_bytes, 462 * MIB);
	/* more than all experts is all experts */
	ask.host_budget = 1ull << 50;
	REFUSED(&ask, "700.00 MiB");
	ask = in_room(22 * GIB);
	ask.host_budget = 22 * GIB;
	assert_int_equal(choose(&ask).expert_bytes, 700 * MIB);
	/* and less than the least nothing */
	ask.host_budget = 20 * MIB - 1;
	REFUSED(&ask, "need at least 20971520 bytes", "--host-budget");
	ask.host_budget = 1;
	REFUSED(&ask, "the expert budget of 1 bytes");
}

/* Advice leaves 4 MiB or a hundredth, in whole MiB. */
static void test_sure_room(void **state)
{
	(void)state;
	assert_int_equal(budget_sure_room(0), 0);
	assert_int_equal(budget_sure_room(4 * MIB), 0);
	assert_int_equal(budget_sure_room(4 * MIB + 1), 1);
	assert_int_equal(budget_sure_room(400 * MIB), 396 * MIB);
	assert_int_equal(budget_sure_room(400 * MIB + 100), 395 * MIB + 100);
	assert_int_equal(budget_sure_room(600 * MIB), 594 * MIB);
	assert_int_equal(budget_sure_room(650 * MIB), 643 * MIB);
	assert_int_equal(budget_sure_room(100 * GIB), 99 * GIB);
	assert_int_equal(budget_sure_room(LIMITS_UNKNOWN), LIMITS_UNKNOWN);
	assert_true(budget_sure_room(LIMITS_UNKNOWN - 1) < LIMITS_UNKNOWN - 1);
}

/* An explicit size above what there is, although the model's experts would fit. */
static void test_excess_is_refused(void **state)
{
	struct budget_ask ask = in_room(8 * GIB);

	ask.host_budget = 100 * GIB;
	REFUSED(&ask, "--host-budget", "100.00 GiB", "8.00 GiB", "700.00 MiB", "cgroup /sys/fs");
	ask.host_budget = 8 * GIB;
	assert_int_equal(choose(&ask).expert_bytes, 700 * MIB);
	ask = in_room(LIMITS_UNKNOWN);
	ask.host_budget = 100 * GIB;
	assert_int_equal(choose(&ask).expert_bytes, 700 * MIB);
}

static void test_model_is_refused(void **state)
{
	struct budget_ask ask = in_room(160 * MIB);

	REFUSED(&ask, "130.00 MiB", "20.00 MiB", "160.00 MiB", "smaller model");
	ask = in_room(0);
	REFUSED(&ask, "0 B");
	ask = in_room(100 * MIB);
	ask.least_bytes = ask.all_bytes = 0;
	REFUSED(&ask, "130.00 MiB", "100.00 MiB");
}

/* Nothing is known: it starts, with what it assumed; what was asked for is taken as it is. */
static void test_unknown(void **state)
{
	struct budget_ask ask = in_room(LIMITS_UNKNOWN);
	struct budget b = choose(&ask);

	assert_true(b.expert_bytes >= ask.least_bytes && b.expert_bytes <= ask.all_bytes);
	assert_non_null(strstr(b.note, "unknown"));
	assert_non_null(strstr(b.note, "assuming"));
	assert_true(b.room_bytes <= LIMITS_ASSUME_MOST);
	ask.least_bytes = 100 * GIB;
	ask.all_bytes = 200 * GIB;
	assert_int_equal(choose(&ask).expert_bytes, 100 * GIB);
	ask.percent = 100;
	assert_int_equal(choose(&ask).expert_bytes, 200 * GIB);
}

/* Experts in the pool of huge pages take nothing of the rest; dense weights may lie there too. */
static void test_huge_pages(void **state)
{
	struct budget_ask ask = in_room(500 * MIB);

	ask.n_ctx = 2048;
	ask.n_parallel = 1;
	ask.all_bytes = 20 * GIB;
	limits.huge_free = limits.huge_total = 1024; /* 2 GiB */
	assert_int_equal(choose(&ask).expert_bytes, 2 * GIB);
	ask.host_budget = 2 * GIB;
	assert_int_equal(choose(&ask).expert_bytes, 2 * GIB);
	ask.host_budget = 2 * GIB + 1;
	REFUSED(&ask, "2.00 GiB", "500.00 MiB", "at most --host-budget 2048M");
	/* a control group's bound on them counts */
	ask.host_budget = 2 * GIB;
	limits.huge_room_bytes = GIB;
	REFUSED(&ask, "2.00 GiB", "at most --host-budget 1024M");
	/* 90 MiB of memory beside a pool that holds the dense weights: 100 of buffers do not fit */
	ask = in_room(90 * MIB);
	limits.huge_free = limits.huge_total = 1024;
	REFUSED(&ask, "130.00 MiB");
	limits.room_bytes = 112 * MIB;
	ask.n_ctx = 2048;
	ask.n_parallel = 1;
	ask.host_budget = GIB;
	assert_int_equal(choose(&ask).expert_bytes, 700 * MIB);
}

/* Sums that do not fit 64 bits are too much, not little. */
static void test_overflow(void **state)
{
	struct budget_ask ask = in_room(22 * GIB);

	ask.dense_bytes = UINT64_MAX - 5;
	REFUSED(&ask, "22.00 GiB");
	ask = in_room(22 * GIB);
	ask.n_ctx = UINT32_MAX;
	ask.n_parallel = UINT32_MAX;
	ask.ctx_given = ask.parallel_given = true;
	REFUSED(&ask, "KV cache");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_fits),
		cmocka_unit_test(test_default_budget),
		cmocka_unit_test(test_defaults_are_lowered),
		cmocka_unit_test(test_cache_is_refused),
		cmocka_unit_test(test_budget_is_refused),
		cmocka_unit_test(test_sure_room),
		cmocka_unit_test(test_excess_is_refused),
		cmocka_unit_test(test_model_is_refused),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_huge_pages),
		cmocka_unit_test(test_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
