/* SPDX-License-Identifier: MIT */
/*
 * Description: what is read ahead, and whether: guesses that are too unlikely, too many or too dear are
 * left; no victim is worth more than the guess; and, by a scripted clock, reading ahead goes on where it
 * pays, stops where it does not, and costs no 64 steps more than 2 %.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "policy/predict.h"

/* A policy for one layer of one class. */
struct policy_rig {
	const struct policy_ops *ops;
	struct policy *policy;
};

static void rig_policy(struct policy_rig *rig, const char *name, uint32_t n_expert, uint32_t slots)
{
	static const uint32_t class_of_layer[1];
	const struct policy_geometry g = { .n_layers = 1,
					   .n_expert = n_expert,
					   .n_expert_used = 4,
					   .n_classes = 1,
					   .class_of_layer = class_of_layer,
					   .class_slots = &slots };
	const char *arg;

	assert_int_equal(policy_find(name, &rig->ops, &arg, NULL), 0);
	assert_int_equal(rig->ops->create(&g, NULL, &rig->policy, NULL), 0);
}

static uint64_t rig_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static void test_parse(void **unused)
{
	static const char *const bad[] = {
		"",	     "on",	    "oracle",	   "oracle:",	 "oracle:2",
		"oracle:-1", "oracle:0.5x", "oracle:0.5:", "oracle:nan", "routers"
	};
	struct predict_choice c;
	struct err err = { { 0 } };

	assert_int_equal(predict_parse("auto", &c, &err), 0);
	assert_int_equal(c.mode, PREDICT_AUTO);
	assert_int_equal(predict_parse("router", &c, &err), 0);
	assert_int_equal(c.mode, PREDICT_ROUTER);
	assert_int_equal(predict_parse("oracle:0.8:/a:b", &c, &err), 0);
	assert_int_equal(c.mode, PREDICT_ORACLE);
	assert_true(c.share > 0.79 && c.share < 0.81);
	assert_string_equal(c.path, "/a:b");
	assert_int_equal(predict_parse("oracle:1", &c, &err), 0);
	assert_null(c.path);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		err_clear(&err);
		assert_int_equal(predict_parse(bad[i], &c, &err), -EINVAL);
		assert_true(err.text[0]);
	}
}

/* ---- one guess ---- */

static bool all_but_even(void *ctx, uint32_t id)
{
	return id % 2;
}

/* Every policy: eight slots, ids 0 to 7 in them, 7 used long ago. */
static void test_slot(void **unused)
{
	static const char *const names[] = { "lfu", "lru" };

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		struct policy_rig rig;
		struct predict_tier t;
		uint32_t one = 1;
		uint64_t step = 0;

		rig_policy(&rig, names[i], 32, 8);
		for (uint32_t id = 0; id < 8; id++)
			rig.ops->inserted(rig.policy, id);
		for (uint32_t id = 7; id < 8; id--)
			rig.ops->used(rig.policy, ++step, 0, &id, &one, 1);
		t = (struct predict_tier){ .ops = rig.ops,
					   .policy = rig.policy,
					   .free_slots = 1,
					   .held_most = 2,
					   .most = 100,
					   .expert_bytes = 40,
					   .evictable = all_but_even };
		struct predict_guess g = { 20, 0.9f };

		assert_int_equal(predict_slot(&t, &g), PREDICT_FREE_SLOT);
		t.held = 2;
		assert_int_equal(predict_slot(&t, &g), POLICY_NONE);
		t.held = 0;
		t.in_flight = 61;
		assert_int_equal(predict_slot(&t, &g), POLICY_NONE);
		t.in_flight = 60;
		t.free_slots = 0;
		assert_int_equal(predict_slot(&t, &g), 7); /* the least that may go */
		g.chance = 0.1f;
		assert_int_equal(predict_slot(&t, &g), POLICY_NONE);
		g.chance = 0.45f;
		for (unsigned k = 0; k < 3; k++)
			for (uint32_t id = 0; id < 8; id++)
				rig.ops->used(rig.policy, ++step, 0, &id, &one, 1);
		/* all are worth more than the chance of one use */
		assert_int_equal(predict_slot(&t, &g), POLICY_NONE);
		rig.ops->destroy(rig.policy);
	}
}

/* Random guesses never take what may not go, nor more than their share of slots and bytes. */
static void test_fuzzed(void **unused)
{
	uint64_t state = 7;

	for (unsigned round = 0; round < 200; round++) {
		struct policy_rig rig;
		struct predict_tier t;
		uint32_t slots = 4 + (uint32_t)(rig_random(&state) % 20), one = 1;
		bool present[64] = { false };

		rig_policy(&rig, round % 2 ? "lfu" : "lru", 64, slots);
		t = (struct predict_tier){ .ops = rig.ops,
					   .policy = rig.policy,
					   .free_slots = slots,
					   .held_most = predict_held_most(slots, 4),
					   .most = predict_bytes_most(1 << 20, 4),
					   .expert_bytes = 1 << 20,
					   .evictable = all_but_even };
		for (unsigned i = 1; i < 200; i++) {
			struct predict_guess g = { (uint32_t)(rig_random(&state) % 64),
						   (float)(rig_random(&state) % 100) / 100 };
			uint32_t id = (uint32_t)(rig_random(&state) % 64), at;

			rig.ops->used(rig.policy, i, 0, &id, &one, 1);
			if (present[g.id])
				continue;
			at = predict_slot(&t, &g);
			if (at == POLICY_NONE)
				continue;
			assert_true(g.chance >= 0.3f && t.held < t.held_most);
			if (at == PREDICT_FREE_SLOT) {
				assert_true(t.free_slots > 0);
				t.free_slots--;
			} else {
				assert_true(present[at] && at % 2);
				present[at] = false;
				rig.ops->removed(rig.policy, at);
			}
			present[g.id] = true;
			rig.ops->inserted(rig.policy, g.id);
			t.held = (t.held + 1) % (t.held_most + 1);
		}
		rig.ops->destroy(rig.policy);
	}
	assert_int_equal(predict_held_most(8, 8), 0);
	assert_int_equal(predict_held_most(4, 8), 0);
	assert_int_equal(predict_held_most(28, 8), 10);
}

static void test_sort_and_coin(void **unused)
{
	struct predict_guess g[] = { { 3, 0.5f }, { 1, 0.9f }, { 2, 0.5f } };
	unsigned heads = 0;

	predict_sort(g, 3);
	assert_int_equal(g[0].id, 1);
	assert_int_equal(g[1].id, 2);
	assert_int_equal(g[2].id, 3);
	for (uint32_t i = 0; i < 10000; i++) {
		bool coin = predict_coin(i % 7, i, i % 40, i % 256, 0.8);

		assert_int_equal(coin, predict_coin(i % 7, i, i % 40, i % 256, 0.8));
		heads += coin;
		assert_false(predict_coin(1, i, 2, 3, 0));
		assert_true(predict_coin(1, i, 2, 3, 1));
	}
	assert_in_range(heads, 7800, 8200);
}

static void test_ranks(void **unused)
{
	struct predict_ranks r;

	predict_ranks_init(&r, 8);
	assert_true(r.share[0][0] > r.share[0][7] && r.share[0][7] > r.share[0][8]);
	for (unsigned i = 0; i < 1000; i++) {
		predict_ranks_learn(&r, true, 9, i % 4 > 0);
		predict_ranks_learn(&r, false, 0, false);
		predict_ranks_learn(&r, true, PREDICT_RANKS, true); /* nothing */
	}
	assert_true(r.share[1][9] > 0.65f && r.share[1][9] < 0.85f);
	assert_true(r.share[0][0] < 0.01f && r.share[1][0] > 0.5f);
	assert_int_equal(predict_ranks_of(8, 256), 12);
	assert_int_equal(predict_ranks_of(8, 9), 9);
	assert_int_equal(predict_ranks_of(1, 4), 2);
	assert_int_equal(predict_ranks_of(128, 256), PREDICT_RANKS);
}

/* ---- does it pay: a clock that is scripted ---- */

struct world {
	struct predict_control c;
	double factor; /* of a step's time with guesses */
	double noise;
	uint64_t state;
	double lost[8192]; /* running sum, in steps without */
	unsigned n, with;
};

static void start(struct world *w, double factor, double noise)
{
	memset(w, 0, sizeof(*w));
	predict_control_init(&w->c);
	w->factor = factor;
	w->noise = noise;
	w->state = 3;
}

static void steps(struct world *w, unsigned n, double stall)
{
	for (unsigned i = 0; i < n; i++) {
		bool on = predict_control_on(&w->c);
		double u = (double)(rig_random(&w->state) % 1000) / 1000 - 0.5;
		double time = 10e6 * (on ? w->factor : 1), seen = time * (1 + w->noise * u);
		struct predict_step s = { .ns = (uint64_t)seen,
					  .stall_ns = (uint64_t)(seen * stall),
					  .columns = 1,
					  .posted = on ? 10 : 0,
					  .useful = on ? 8 : 0 };

		w->with += on;
		w->lost[w->n] = (w->n ? w->lost[w->n - 1] : 0) + time / 10e6 - 1;
		w->n++;
		predict_control_learn(&w->c, &s);
	}
}

static void assert_bounded(const struct world *w)
{
	for (unsigned i = 0; i + 64 < w->n; i++)
		if (w->lost[i + 64] - w->lost[i] > 0.02 * 64)
			fail_msg("%.2f: %.3f steps lost in 64 from %u on", w->factor,
				 w->lost[i + 64] - w->lost[i], i);
}

static void test_control(void **unused)
{
	static struct world w;

	start(&w, 0.7, 0.2); /* it pays */
	steps(&w, 1000, 0.4);
	assert_true(w.with > 800 && w.c.gain > 1.2);
	start(&w, 1.15, 0.2); /* it does not */
	steps(&w, 4000, 0.4);
	assert_true(w.with < 150);
	assert_bounded(&w);
	start(&w, 1.5, 0.2); /* not at all */
	steps(&w, 4000, 0.4);
	assert_true(w.with < 80);
	assert_bounded(&w);
	start(&w, 1.0, 0.3);
	steps(&w, 4000, 0.4);
	assert_bounded(&w);
	start(&w, 0.7, 0.2); /* nothing waits: nobody asks */
	steps(&w, 1000, 0.01);
	assert_int_equal(w.with, 0);
}

/* What paid and does not any more is left soon, and found again. */
static void test_changes(void **unused)
{
	static struct world w;
	unsigned with;

	start(&w, 0.7, 0.1);
	steps(&w, 300, 0.4);
	assert_int_equal(w.c.phase, PREDICT_ON);
	w.factor = 1.3;
	steps(&w, 700, 0.4);
	with = w.with;
	steps(&w, 100, 0.4);
	assert_true(w.with - with < 20);
	w.factor = 0.7;
	steps(&w, 2000, 0.4);
	with = w.with;
	steps(&w, 100, 0.4);
	assert_true(w.with - with > 60);
}

/* Guesses that became wrong are looked at again at once, not when their time is over. */
static void test_wrong_guesses(void **unused)
{
	static struct world w;
	unsigned i;

	start(&w, 0.7, 0.1);
	steps(&w, 100, 0.4);
	assert_int_equal(w.c.phase, PREDICT_ON);
	for (i = 0; i < 200 && w.c.phase == PREDICT_ON; i++) {
		struct predict_step s = { 10000000, 4000000, 1, 10, 1 };

		predict_control_learn(&w.c, &s);
	}
	assert_true(i < 60);
	assert_int_equal(w.c.phase, PREDICT_TRIAL);
}

/* Steps of many tokens: most experts are used, until it turns out that there are favourites. */
static void test_crowd(void **unused)
{
	struct predict_crowd c;
	float few = predict_crowd_share(17, 8, 256), many = predict_crowd_share(256, 8, 256);

	assert_true(predict_crowd_share(1, 8, 256) > 0.03f &&
		    predict_crowd_share(1, 8, 256) < 0.032f);
	assert_true(few > 0.4f && few < 0.45f && many > 0.999f && many <= 1);
	assert_false(predict_is_crowd(17, few));
	assert_true(predict_is_crowd(256, many));
	assert_false(predict_is_crowd(PREDICT_TOKENS, 1)); /* the router is asked for so few */
	predict_crowd_init(&c);
	assert_true(predict_crowd_chance(&c, many) > 0.99f);
	assert_true(predict_crowd_chance(&c, few) == 0);
	for (unsigned i = 0; i < 200; i++)
		predict_crowd_learn(&c, many, 100, 30);
	assert_true(predict_crowd_chance(&c, many) == 0); /* most reads would be for nothing */
	predict_crowd_learn(&c, many, 0, 0);		  /* says nothing */
	assert_true(c.right > 0.29f && c.right < 0.31f);
	for (unsigned i = 0; i < 200; i++)
		predict_crowd_learn(&c, many, 100, 100);
	assert_true(predict_crowd_chance(&c, many) > 0.99f); /* and again */
	for (unsigned i = 0; i < 200; i++)
		predict_crowd_learn(&c, 0.8f, 10, 10);
	assert_true(predict_crowd_chance(&c, many) <= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),	      cmocka_unit_test(test_slot),
		cmocka_unit_test(test_fuzzed),	      cmocka_unit_test(test_sort_and_coin),
		cmocka_unit_test(test_ranks),	      cmocka_unit_test(test_control),
		cmocka_unit_test(test_crowd),	      cmocka_unit_test(test_changes),
		cmocka_unit_test(test_wrong_guesses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
