/* SPDX-License-Identifier: MIT */
/* Description: what each policy keeps, evicts and fills, on hand-made uses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/policy/policy_rig.h"

static void open_policy(const char *spec)
{
	struct err err = { 0 };
	const char *arg;

	if (policy_find(spec, &ops, &arg, &err) || ops->create(&geometry, NULL, &policy, &err))
		fail_msg("%s: %s", spec, err.text);
	step = 0;
}

static void expect_refused(const char *spec, const char *text)
{
	struct err err = { 0 };
	const char *arg;

	assert_true(policy_find(spec, &ops, &arg, &err) < 0);
	if (!strstr(err.text, text))
		fail_msg("%s: '%s' lacks '%s'", spec, err.text, text);
}

static bool not_that(void *ctx, uint32_t id)
{
	return id != *(uint32_t *)ctx;
}

static void test_lru(void **state)
{
	uint32_t spared = 3;

	open_policy("lru");
	assert_int_equal(ops->victim(policy, 0, anything, NULL), POLICY_NONE);
	for (uint32_t id = 0; id < 6; id++)
		assert_int_equal(fill(), id); /* layer order */
	use(0, 1);
	use(2, 4);
	use(1, 5);
	/* 3 was never used; then 0, 2, 4, 1, 5 */
	assert_int_equal(ops->victim(policy, 0, not_that, &spared), 0);
	assert_int_equal(evict(), 3);
	assert_int_equal(evict(), 0);
	assert_int_equal(evict(), 2);
	assert_int_equal(evict(), 4);
	assert_int_equal(evict(), 1);
	assert_int_equal(evict(), 5);
	assert_int_equal(evict(), POLICY_NONE);
	assert_int_equal(fill(), 5); /* what was used last is the best to bring back */
	close_policy();
}

static void test_lfu_keeps_the_frequent(void **state)
{
	open_policy("lfu");
	use(0, 1);
	use(0, 1);
	use(0, 1);
	ops->inserted(policy, 0);
	ops->inserted(policy, 1);
	use(2, 3);
	ops->inserted(policy, 2);
	ops->inserted(policy, 3);
	/* lru would evict 0; among equals the one later in fill order goes */
	assert_int_equal(evict(), 3);
	assert_int_equal(evict(), 2);
	assert_int_equal(evict(), 1);
	close_policy();
}

/* A newcomer worth less than everybody goes first: it passes through one slot. */
static void test_lfu_admission(void **state)
{
	open_policy("lfu");
	for (uint32_t i = 0; i < 20; i++)
		use(0, 1);
	ops->inserted(policy, 0);
	ops->inserted(policy, 1);
	for (uint32_t newcomer = 8; newcomer < 12; newcomer++) {
		use(0, newcomer);
		ops->inserted(policy, newcomer);
		assert_int_equal(evict(), newcomer);
	}
	/* one that keeps coming gets in */
	for (uint32_t i = 0; i < 30; i++)
		use(0, 12);
	ops->inserted(policy, 12);
	assert_int_equal(evict(), 1);
	close_policy();
}

/* Old uses count less, over any number of steps: the weights are scaled back on the way. */
static void test_lfu_decay(void **state)
{
	open_policy("lfu");
	for (uint32_t i = 0; i < 100; i++)
		use(0, 1);
	for (uint32_t i = 0; i < 200; i++)
		use(2, 3);
	for (uint32_t id = 0; id < 4; id++)
		ops->inserted(policy, id);
	assert_int_equal(evict(), 1);
	for (uint32_t i = 0; i < 100000; i++)
		use(2, 3 + i % 2);
	ops->inserted(policy, 4);
	assert_int_equal(evict(), 0);
	assert_int_equal(evict(), 3); /* 4 was used once more, and last */
	assert_int_equal(evict(), 4);
	assert_int_equal(evict(), 2);
	close_policy();
}

/* A prompt's uses are worth what they would be one token after the other. */
static void test_lfu_prompt(void **state)
{
	uint32_t ids[3] = { 0, 1, 2 }, counts[3] = { 512, 400, 112 };

	open_policy("lfu");
	ops->used(policy, ++step, 0, ids, counts, 3);
	for (uint32_t id = 0; id < 3; id++)
		ops->inserted(policy, id);
	assert_int_equal(ops->victim(policy, 0, anything, NULL), 2);
	/* fourteen tokens later the prompt counts less than half */
	for (uint32_t i = 0; i < 14; i++)
		use(2, 3);
	ops->inserted(policy, 3);
	assert_int_equal(evict(), 1);
	assert_int_equal(evict(), 0);
	assert_int_equal(evict(), 3);
	close_policy();
}

/* Prompts that come beside those that decode make none of their uses older than a token of theirs does. */
static void test_lfu_company(void **state)
{
	uint32_t ids[2] = { 2, 3 }, counts[2] = { 512, 512 };

	open_policy("lfu");
	for (uint32_t i = 0; i < 12; i++)
		use(0, 1);
	for (uint32_t i = 0; i < 8; i++)
		ops->used(policy, ++step, 0, ids, counts, 2);
	use(4, 5);
	for (uint32_t id = 0; id < 6; id++)
		ops->inserted(policy, id);
	assert_int_equal(evict(), 5); /* used once, and late */
	assert_int_equal(evict(), 4);
	assert_int_equal(evict(), 1);
	assert_int_equal(evict(), 0);
	close_policy();
}

static void test_lfu_fill(void **state)
{
	open_policy("lfu");
	use(5, 6);
	use(5, 6);
	use(6, 7);
	assert_int_equal(fill(), 6);
	assert_int_equal(fill(), 5);
	assert_int_equal(fill(), 7);
	/* the unused: expert 0 of every layer, then expert 1 */
	assert_int_equal(fill(), 0);
	assert_int_equal(fill(), EXPERTS);
	assert_int_equal(fill(), 2 * EXPERTS);
	assert_int_equal(fill(), 3 * EXPERTS);
	assert_int_equal(fill(), 1);
	close_policy();
}

/* An absent expert is worth a move only where it is worth more than the one it would push out. */
static void test_admit(void **state)
{
	open_policy("lfu");
	use(1, 2);
	use(1, 3);
	assert_true(ops->admit(policy, 1, 2));
	assert_true(ops->admit(policy, 3, 2)); /* later, so less decayed */
	assert_false(ops->admit(policy, 2, 1));
	assert_false(ops->admit(policy, 4, 5)); /* neither was used: no reason to move */
	assert_false(ops->admit(policy, 4, 3));
	close_policy();
	open_policy("lru");
	use(1, 2);
	use(3, 3);
	assert_true(ops->admit(policy, 3, 1));
	assert_false(ops->admit(policy, 1, 3));
	assert_false(ops->admit(policy, 4, 5));
	close_policy();
}

/* Of layer 0, but for one where it is told. */
static bool of_layer_0(void *ctx, uint32_t id)
{
	return id < EXPERTS && (!ctx || id != *(uint32_t *)ctx);
}

/* All slots are taken: by two experts of layer 0 and by others that nobody uses and that stay. */
static void open_full(uint32_t a, uint32_t b)
{
	open_policy("vram");
	for (uint32_t id = 3 * EXPERTS; id < 3 * EXPERTS + 6; id++)
		ops->inserted(policy, id);
	ops->inserted(policy, a);
	ops->inserted(policy, b);
}

/* A newcomer takes the place of the least one by a margin; a free slot has no such price. */
static void test_vram_promotes(void **state)
{
	struct policy_filter f = { of_layer_0, of_layer_0, NULL };
	struct policy_move move;
	uint32_t spared = 1;

	open_full(0, 1);
	assert_false(ops->promote(policy, 0, false, &f, &move)); /* nothing was used yet */
	for (uint32_t i = 0; i < 400; i++) {
		use(2, 3);
		use(0, 1);
	}
	assert_false(ops->promote(policy, 0, false, &f, &move));
	assert_true(ops->promote(policy, 0, true, &f, &move));
	assert_int_equal(move.victim, POLICY_NONE);
	for (uint32_t i = 0; i < 6; i++)
		use(2, 3);
	assert_true(ops->promote(policy, 0, false, &f, &move));
	assert_int_equal(move.id, 2);
	assert_int_equal(move.victim, 1);
	f = (struct policy_filter){ of_layer_0, not_that, &spared };
	spared = 2;
	f = (struct policy_filter){ not_that, of_layer_0, &spared };
	assert_true(ops->promote(policy, 0, false, &f, &move));
	assert_int_equal(move.id, 3);
	close_policy();
}

/* Experts that are used in runs are worth what they were used of late, others what they were used at all. */
static void test_vram_foretells(void **state)
{
	const struct policy_filter f = { of_layer_0, of_layer_0, NULL };
	struct policy_move move;
	uint32_t random = 1, pair;

	for (int runs = 0; runs < 2; runs++) {
		open_full(0, 1);
		for (uint32_t i = 0; i < 600; i++) { /* 0 and 1 half of the time */
			random = random * 1664525u + 1013904223u;
			pair = (runs ? i / 20 : random >> 16) % 6;
			pair = pair < 3 ? 0 : pair - 2;
			use(2 * pair, 2 * pair + 1);
		}
		for (uint32_t i = 0; i < 5; i++)
			use(6, 7);
		assert_int_equal(ops->promote(policy, 0, false, &f, &move), runs);
		assert_true(!runs || move.id >= 6);
		close_policy();
	}
}

/* What a prompt used decides when it is over, whatever was used before it. */
static void test_vram_repin(void **state)
{
	const uint32_t ids[4] = { 2, 3, 4, 5 }, counts[4] = { 30, 20, 10, 4 };
	const struct policy_filter f = { of_layer_0, of_layer_0, NULL };
	struct policy_move move;

	open_full(0, 1);
	for (uint32_t i = 0; i < 1000; i++)
		use(0, 1);
	ops->repin(policy); /* there was no prompt */
	assert_false(ops->promote(policy, 0, false, &f, &move));
	ops->used(policy, ++step, 0, ids, counts, 4);
	assert_false(ops->promote(policy, 0, false, &f, &move));
	ops->repin(policy);
	for (uint32_t i = 0; i < 2; i++) {
		assert_true(ops->promote(policy, 0, false, &f, &move));
		assert_int_equal(move.id, ids[i]);
		assert_int_equal(move.victim, 1 - i);
		ops->removed(policy, move.victim);
		ops->inserted(policy, move.id);
	}
	assert_false(ops->promote(policy, 0, false, &f, &move));
	close_policy();
}

/* Nothing of it is lost where weights grow beyond what numbers hold. */
static void test_vram_long(void **state)
{
	const struct policy_filter f = { of_layer_0, of_layer_0, NULL };
	struct policy_move move;

	open_full(0, 1);
	for (uint32_t i = 0; i < 20000; i++)
		use(i % 4 ? 2 : 0, i % 3 ? 3 : 1);
	assert_true(ops->promote(policy, 0, false, &f, &move));
	assert_int_equal(move.id, 2);
	assert_int_equal(move.victim, 0);
	close_policy();
}

static bool nothing(void *ctx, uint32_t id)
{
	return false;
}

/* The same lots for the same seed, all of them sooner or later. */
static void test_random_draws(void **state)
{
	const struct policy_filter f = { anything, anything, NULL },
				   none = { nothing, anything, NULL };
	uint32_t first[64], seen = 0;
	struct policy_move move;

	for (int round = 0; round < 2; round++) {
		open_policy("random");
		for (uint32_t id = 0; id < 8; id++)
			ops->inserted(policy, id);
		for (uint32_t i = 0; i < 64; i++) {
			use(i % LAYERS * EXPERTS + i % 7, i % LAYERS * EXPERTS + 7);
			first[i] = round ? first[i] : POLICY_NONE;
			if (!ops->promote(policy, 0, false, &f, &move))
				move.id = POLICY_NONE;
			else
				seen |= 1u << move.id;
			if (round)
				assert_int_equal(first[i], move.id);
			first[i] = move.id;
			if (move.id == POLICY_NONE)
				continue;
			ops->removed(policy, move.victim);
			ops->inserted(policy, move.id);
		}
		assert_false(ops->promote(policy, 0, true, &none, &move));
		close_policy();
	}
	assert_true(__builtin_popcount(seen) > 8);
}

static void test_names(void **state)
{
	expect_refused("", "no policy is called ''");
	expect_refused("lf", "no policy is called 'lf': there are lfu, ");
	expect_refused("lf", ", random[:SEED], ");
	expect_refused("lf", "static:FILE");
	for (const struct policy_ops *const *row = policy_table; *row; row++)
		expect_refused("lf", (*row)->name); /* a new one needs no line here */
	expect_refused("random:", "takes a number");
	expect_refused("random:x", "takes a number, not 'x'");
	expect_refused("random:-1", "takes a number");
	expect_refused("lfus", "no policy is called 'lfus'");
	expect_refused("lru:x", "takes no argument");
	expect_refused("lfu:", "takes no argument");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lru),	      cmocka_unit_test(test_lfu_keeps_the_frequent),
		cmocka_unit_test(test_lfu_admission), cmocka_unit_test(test_lfu_decay),
		cmocka_unit_test(test_lfu_prompt),    cmocka_unit_test(test_lfu_company),
		cmocka_unit_test(test_lfu_fill),      cmocka_unit_test(test_admit),
		cmocka_unit_test(test_names),	      cmocka_unit_test(test_vram_promotes),
		cmocka_unit_test(test_random_draws),  cmocka_unit_test(test_vram_foretells),
		cmocka_unit_test(test_vram_repin),    cmocka_unit_test(test_vram_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
