/* SPDX-License-Identifier: MIT */
/* Description: hit rates of the policies on published traces (needs SHARED/traces) and by hand. */
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
#include "policy/sim.h"

static const char *const traces[] = { "qwen.route.csv", "gemma.route.csv", "gptoss.route.csv",
				      "kimi-linear.jsonl", "olmoe.jsonl" };

static void shared_path(char *path, size_t len, const char *name)
{
	const char *shared = getenv("SHARED");

	snprintf(path, len, "%s/traces/%s", shared ? shared : "../shared", name);
}

static struct route_trace *read_path(const char *path)
{
	struct err err = { 0 };
	struct route_trace *t;

	if (trace_read(path, &t, &err))
		fail_msg("%s", err.text);
	return t;
}

static struct sim_result run(const struct route_trace *t, const char *policy, uint32_t slots,
			     bool fill)
{
	struct sim_options o = { .policy = policy, .slots = slots, .fill = fill };
	struct sim_result r;
	struct err err = { 0 };

	if (sim_run(t, &o, &r, &err))
		fail_msg("%s: %s", policy, err.text);
	return r;
}

static double rate(const struct route_trace *t, const char *policy, uint32_t slots)
{
	struct sim_result r = run(t, policy, slots, false);

	return sim_hit_rate(&r.all);
}

/* For every trace and several budgets: nothing beats Belady, and the default beats LRU. */
static void test_order(void **state)
{
	static const unsigned shares[] = { 6, 12, 25, 50 };

	for (size_t i = 0; i < ARRAY_LEN(traces); i++) {
		char path[4096], belady[4200];
		struct route_trace *t;
		double sum_lru = 0, sum_lfu = 0;

		shared_path(path, sizeof(path), traces[i]);
		snprintf(belady, sizeof(belady), "belady:%s", path);
		t = read_path(path);
		for (size_t k = 0; k < ARRAY_LEN(shares); k++) {
			uint32_t slots = t->n_layers * t->n_expert * shares[k] / 100;
			double lru = rate(t, "lru", slots), lfu = rate(t, "lfu", slots);
			double best = rate(t, belady, slots);

			assert_true(best >= lru && best >= lfu);
			assert_true(lfu >= lru - 0.001);
			sum_lru += lru;
			sum_lfu += lfu;
		}
		assert_true(sum_lfu > sum_lru + 0.02);
		route_trace_destroy(t);
	}
}

/* With a slot for every expert only first uses miss; filled before, nothing does. */
static void test_all_slots(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(traces); i++) {
		char path[4096];
		struct route_trace *t;
		uint32_t least, all, distinct = 0;
		struct sim_result cold, warm;
		bool *seen;

		shared_path(path, sizeof(path), traces[i]);
		t = read_path(path);
		sim_slots(t, &least, &all);
		assert_int_equal(all, t->n_layers * t->n_expert);
		seen = calloc(all, sizeof(*seen));
		for (size_t k = 0; k < t->n_rows; k++)
			for (uint32_t u = 0; u < t->rows[k].n; u++) {
				uint32_t id = t->rows[k].layer * t->n_expert +
					      t->uses[t->rows[k].first + u].expert;

				distinct += !seen[id];
				seen[id] = true;
			}
		cold = run(t, "lfu", all, false);
		warm = run(t, "lru", all, true);
		assert_int_equal(cold.all.misses, distinct);
		assert_int_equal(warm.all.misses, 0);
		assert_int_equal(warm.all.hits, cold.all.hits + cold.all.misses);
		assert_int_equal(cold.evictions + warm.evictions, 0);
		free(seen);
		route_trace_destroy(t);
	}
}

/* The same run twice gives the same counts, and the least budget works, in waves. */
static void test_least(void **state)
{
	struct route_trace *t;
	struct sim_result a, b;
	char path[4096];
	uint32_t least, all;

	shared_path(path, sizeof(path), "qwen.route.csv");
	t = read_path(path);
	sim_slots(t, &least, &all);
	assert_int_equal(least, 12); /* two sizes of experts, 6 used */
	a = run(t, "lfu", least, false);
	b = run(t, "lfu", least, false);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(a.n_classes, 2);
	assert_true(a.waves > 0); /* the prompt's 28 tokens do not fit at once */
	assert_int_equal(a.all.steps, 129);
	assert_int_equal(a.decode.steps, 128);
	route_trace_destroy(t);
}

/* A list made from a frequency table keeps what is on it. */
static void test_static_list(void **state)
{
	char list[] = "/tmp/sluice-test-XXXXXX", path[4096], spec[64];
	FILE *f = fdopen(mkstemp(list), "w");
	struct route_trace *t;
	struct sim_result r, lru;
	uint32_t counts[16 * 64] = { 0 };

	assert_non_null(f);
	shared_path(path, sizeof(path), "olmoe.jsonl");
	t = read_path(path);
	for (size_t k = 0; k < t->n_rows; k++)
		for (uint32_t u = 0; u < t->rows[k].n; u++)
			counts[t->rows[k].layer * 64 + t->uses[t->rows[k].first + u].expert]++;
	for (uint32_t id = 0; id < 16 * 64; id++)
		if (counts[id] >= 75)
			fprintf(f, "%u %u\n", id / 64, id % 64);
	fclose(f);
	snprintf(spec, sizeof(spec), "static:%s", list);
	r = run(t, spec, 256, true);
	unlink(list);
	lru = run(t, "lru", 256, true);
	assert_true(sim_hit_rate(&r.all) > sim_hit_rate(&lru.all));
	route_trace_destroy(t);
}

static void test_refused(void **state)
{
	struct sim_options o = { .policy = "lru", .slots = 11 };
	struct sim_result r;
	struct route_trace *t;
	struct err err = { 0 };
	char path[4096];

	shared_path(path, sizeof(path), "qwen.route.csv");
	t = read_path(path);
	assert_int_equal(sim_run(t, &o, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "slots leave 5"));
	route_trace_destroy(t);
	err_clear(&err);
	shared_path(path, sizeof(path), "397b.freq");
	t = read_path(path);
	o.slots = 1000;
	assert_int_equal(sim_run(t, &o, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "has no order"));
	route_trace_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),	cmocka_unit_test(test_all_slots),
		cmocka_unit_test(test_least),	cmocka_unit_test(test_static_list),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
