/* SPDX-License-Identifier: MIT */
/* Description: hit rates of the policies on published traces (SHARED/traces) and on a made one. */
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
#include "tests/unit/data.h"
#include "trace/sim.h"

enum { MADE_LAYERS = 4, MADE_EXPERTS = 32, MADE_USED = 4, MADE_PROMPT = 28 };

static const char *const traces[] = { "qwen.route.csv", "gemma.route.csv", "gptoss.route.csv",
				      "kimi-linear.jsonl", "olmoe.jsonl" };

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

static void make_row(FILE *f, uint32_t *random, int layer, int token)
{
	uint32_t seen = 0;

	fprintf(f, "%c %d 0 %d", token < MADE_PROMPT ? 'p' : 'd', layer, token);
	for (int n = 0; n < MADE_USED;) {
		uint32_t expert;

		*random = *random * 1664525u + 1013904223u;
		expert = (*random >> 27) * (*random >> 22 & 31) / 31;
		expert = (expert * 7 + (uint32_t)layer * 5) % MADE_EXPERTS;
		if (seen & 1u << expert)
			continue;
		seen |= 1u << expert;
		fprintf(f, " %u", expert);
		n++;
	}
	fputc('\n', f);
}

/*
 * Writes a trace at @path (mkstemp's template) where some experts are asked for more often than
 * others, as in real models: a prompt in one step, then 300 tokens decoded one by one.
 */
static void make_trace(char *path)
{
	FILE *f = fdopen(mkstemp(path), "w");
	uint32_t random = 12345;

	assert_non_null(f);
	fprintf(f, "route_trace v1\ngeometry %d %d %d\ndata\n", MADE_LAYERS, MADE_EXPERTS,
		MADE_USED);
	fprintf(f, "step 0\n");
	for (int layer = 0; layer < MADE_LAYERS; layer++)
		for (int token = 0; token < MADE_PROMPT; token++)
			make_row(f, &random, layer, token);
	for (int step = 1; step <= 300; step++) {
		fprintf(f, "step %d\n", step);
		for (int layer = 0; layer < MADE_LAYERS; layer++)
			make_row(f, &random, layer, MADE_PROMPT + step - 1);
	}
	fclose(f);
}

/* For several budgets: nothing beats Belady, and the default beats LRU. */
static void check_order(const char *path)
{
	static const unsigned shares[] = { 6, 12, 25, 50 };
	char belady[DATA_PATH + 16];
	struct route_trace *t = read_path(path);
	double sum_lru = 0, sum_lfu = 0;

	snprintf(belady, sizeof(belady), "belady:%s", path);
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

/* With a slot for every expert only first uses miss; filled before, nothing does. */
static void check_all_slots(const char *path)
{
	struct route_trace *t = read_path(path);
	uint32_t least, all, distinct = 0;
	struct sim_result cold, warm;
	bool *seen;

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

static void test_order(void **state)
{
	char path[DATA_PATH];

	for (size_t i = 0; i < ARRAY_LEN(traces); i++)
		check_order(shared_trace(traces[i], path));
}

static void test_all_slots(void **state)
{
	char path[DATA_PATH];

	for (size_t i = 0; i < ARRAY_LEN(traces); i++)
		check_all_slots(shared_trace(traces[i], path));
}

/* The same of a trace made here, its least budget, and the refusals of budgets and of an empty order. */
static void test_made(void **state)
{
	char path[] = "/tmp/sluice-test-XXXXXX";
	struct sim_options o = { .policy = "lru", .slots = MADE_USED - 1 };
	struct sim_result a, b;
	struct err err = { 0 };
	struct route_trace *t;
	uint32_t least, all;

	make_trace(path);
	check_order(path);
	check_all_slots(path);
	t = read_path(path);
	unlink(path);
	sim_slots(t, &least, &all);
	assert_int_equal(least, MADE_USED);
	a = run(t, "lfu", least, false);
	b = run(t, "lfu", least, false);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_true(a.waves > 0);
	assert_int_equal(a.all.steps, 301);
	assert_int_equal(a.decode.steps, 300);
	assert_int_equal(sim_run(t, &o, &a, &err), -EINVAL);
	assert_non_null(strstr(err.text, "3 slots are too few"));
	route_trace_destroy(t);
}

/* The same run twice gives the same counts, and the least budget works, in waves. */
static void test_least(void **state)
{
	struct route_trace *t;
	struct sim_result a, b;
	char path[DATA_PATH];
	uint32_t least, all;

	shared_trace("qwen.route.csv", path);
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
	char list[] = "/tmp/sluice-test-XXXXXX", path[DATA_PATH], spec[64];
	struct route_trace *t = read_path(shared_trace("olmoe.jsonl", path));
	FILE *f = fdopen(mkstemp(list), "w");
	struct sim_result r, lru;
	uint32_t counts[16 * 64] = { 0 };

	assert_non_null(f);
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

/* @steps of @tokens each over two layers; token after token takes the next four of the first @among experts. */
static struct route_trace *prompts(unsigned steps, unsigned tokens, unsigned among)
{
	char path[] = "/tmp/sim-XXXXXX";
	FILE *f = fdopen(mkstemp(path), "w");
	struct route_trace *t;

	fprintf(f, "route_trace v1\ngeometry 2 %d %d\ndata\n", MADE_EXPERTS, MADE_USED);
	for (unsigned s = 0; s < steps; s++) {
		fprintf(f, "step %u\n", s);
		for (unsigned layer = 0; layer < 2; layer++)
			for (unsigned i = 0; i < tokens; i++) {
				fprintf(f, "p %u 0 %u", layer, s * tokens + i);
				for (unsigned k = 0; k < MADE_USED; k++)
					fprintf(f, " %u", (i * MADE_USED + k) % among);
				fputc('\n', f);
			}
	}
	fclose(f);
	t = read_path(path);
	unlink(path);
	return t;
}

static struct sim_result ahead(const struct route_trace *t, bool predict)
{
	const struct sim_options o = { .policy = "lfu", .slots = 48, .predict_prompts = predict };
	struct sim_result r;
	struct err err = { 0 };

	if (sim_run(t, &o, &r, &err))
		fail_msg("%s", err.text);
	return r;
}

/* Steps of many tokens read what is missing of the next layer, unless that is not what they use. */
static void test_prompts_ahead(void **state)
{
	struct route_trace *t = prompts(20, 28, MADE_EXPERTS);
	struct sim_result off = ahead(t, false), on = ahead(t, true);

	assert_int_equal(off.predicted.reads, 0);
	assert_true(on.predicted.reads >= 100);
	assert_int_equal(on.predicted.useful, on.predicted.reads);
	assert_true(on.all.hits >= off.all.hits + on.predicted.reads / 2);
	assert_int_equal(on.all.hits + on.all.misses, off.all.hits + off.all.misses);
	route_trace_destroy(t);
	t = prompts(20, 28, MADE_USED); /* favourites: none of the others is used */
	on = ahead(t, true);
	assert_true(on.predicted.reads > 0 && on.predicted.reads < 100);
	assert_int_equal(on.predicted.wasted, on.predicted.reads - on.predicted.useful);
	assert_int_equal(on.all.misses, 2 * MADE_USED - on.predicted.useful);
	route_trace_destroy(t);
	t = prompts(20, 16, MADE_EXPERTS); /* no crowd */
	assert_int_equal(ahead(t, true).predicted.reads, 0);
	route_trace_destroy(t);
}

static void test_refused(void **state)
{
	struct sim_options o = { .policy = "lru", .slots = 11 };
	struct sim_result r;
	struct route_trace *t;
	struct err err = { 0 };
	char path[DATA_PATH];

	shared_trace("qwen.route.csv", path);
	t = read_path(path);
	assert_int_equal(sim_run(t, &o, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "11 slots are too few"));
	route_trace_destroy(t);
	err_clear(&err);
	shared_trace("397b.freq", path);
	t = read_path(path);
	o.slots = 1000;
	assert_int_equal(sim_run(t, &o, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "has no order"));
	route_trace_destroy(t);
}

/* The second half of a trace, with @fills experts a layer for each token (0: every miss takes a slot). */
static struct sim_result on_device(const struct route_trace *t, const char *policy, double share,
				   double fills)
{
	struct sim_options o = { .policy = policy, .device_fills = fills, .judge_after = 0.5 };
	struct sim_result r;
	struct err err = { 0 };
	uint32_t least, all;

	sim_slots(t, &least, &all);
	o.slots = (uint32_t)u64_max(least, (uint64_t)(share / 100 * all + 0.5));
	if (sim_run(t, &o, &r, &err))
		fail_msg("%s: %s", policy, err.text);
	assert_true(fills <= 0 || (r.fills && r.fill_bytes <= r.allowed_bytes));
	return r;
}

struct counted {
	uint32_t id, uses;
};

static int by_uses(const void *a, const void *b)
{
	const struct counted *x = a, *y = b;

	if (x->uses != y->uses)
		return x->uses < y->uses ? 1 : -1;
	return x->id < y->id ? -1 : 1;
}

/* Experts by their uses in the first half, into a file of mkstemp's @path. */
static void rank_first_half(const struct route_trace *t, char *path)
{
	const uint64_t first = t->rows[0].step, last = t->rows[t->n_rows - 1].step;
	const uint64_t end = first + (last - first + 1) / 2;
	const uint32_t n = t->n_layers * t->n_expert;
	struct counted *c = calloc(n, sizeof(*c));
	FILE *f = fdopen(mkstemp(path), "w");

	assert_true(c && f);
	for (uint32_t id = 0; id < n; id++)
		c[id].id = id;
	for (size_t k = 0; k < t->n_rows && t->rows[k].step < end; k++)
		for (uint32_t u = 0; u < t->rows[k].n; u++)
			c[t->rows[k].layer * t->n_expert + t->uses[t->rows[k].first + u].expert]
				.uses++;
	qsort(c, n, sizeof(*c), by_uses);
	for (uint32_t i = 0; i < n && c[i].uses; i++)
		fprintf(f, "%u %u\n", c[i].id / t->n_expert, c[i].id % t->n_expert);
	fclose(f);
	free(c);
}

static double judged(const struct route_trace *t, const char *policy, double share, double fills)
{
	const struct sim_result r = on_device(t, policy, share, fills);

	return 100 * sim_hit_rate(&r.judged);
}

/*
 * A device's slots on published traces, judged on their second halves: vram hits as often as lru, as the
 * first half's ranking kept (static) and as plain lfu with the same fills, everywhere. The oracle (Belady with
 * a fill for every miss) is beside. What comes in keeps to the budget.
 */
static void test_device(void **state)
{
	static const double shares[] = { 6, 10, 25 }, fills[] = { 0.25, 0.5, 1 };

	for (size_t i = 0; i < ARRAY_LEN(traces); i++) {
		char path[DATA_PATH], list[] = "/tmp/sluice-test-XXXXXX", kept[64];
		char oracle[DATA_PATH + 16];
		struct route_trace *t = read_path(shared_trace(traces[i], path));

		rank_first_half(t, list);
		snprintf(kept, sizeof(kept), "static:%s", list);
		snprintf(oracle, sizeof(oracle), "belady:%s", path);
		for (size_t k = 0; k < 9; k++) {
			const double s = shares[k / 3], f = fills[k % 3];
			const double vram = judged(t, "vram", s, f), lru = judged(t, "lru", s, f);
			const double keep = judged(t, kept, s, f);
			const double plain = judged(t, "lfu-plain", s, f);

			print_message("| %s | %g %% | %g | %.2f | %.2f | %.2f | %.2f | %.2f |\n",
				      traces[i], s, f, vram, lru, keep, plain,
				      judged(t, oracle, s, 0));
			assert_true(vram >= lru && vram >= keep && vram >= plain);
		}
		unlink(list);
		route_trace_destroy(t);
	}
}

/* Uses drawn by lot: who lies in slots makes no difference, fills are stopped; real ones go on. */
static void test_stops(void **state)
{
	struct sim_options o = { .policy = "vram",
				 .slots = 64,
				 .fill = true,
				 .device_fills = 0.5,
				 .device = { .fixed_ns = 1000, .cpu = 1e9, .link = 1e8 },
				 .device_control = true };
	char path[] = "/tmp/sluice-test-XXXXXX", shared[DATA_PATH];
	FILE *f = fdopen(mkstemp(path), "w");
	struct err err = { 0 };
	struct sim_result r, again;
	struct route_trace *t;
	uint32_t random = 7, used[4];

	assert_non_null(f);
	fprintf(f, "route_trace v1\ngeometry 4 32 4\ndata\n");
	for (int step = 0; step < 1500; step++) {
		fprintf(f, "step %d\n", step);
		for (int layer = 0; layer < 4; layer++) {
			fprintf(f, "d %d 0 %d", layer, step);
			for (int i = 0, k; i < 4; i += k == i) {
				random = random * 1664525u + 1013904223u;
				used[i] = random >> 27;
				for (k = 0; k < i && used[k] != used[i]; k++)
					;
				if (k == i)
					fprintf(f, " %u", used[i]);
			}
			fputc('\n', f);
		}
	}
	fclose(f);
	t = read_path(path);
	unlink(path);
	assert_int_equal(sim_run(t, &o, &r, &err), 0);
	print_message("by lot: %llu stops, gain %.4f, %llu fills\n", (unsigned long long)r.stops,
		      r.fill_gain, (unsigned long long)r.fills);
	assert_true(r.stops >= 2 && r.decode_ns > 0 && r.fill_bytes <= r.allowed_bytes);
	o.device_control = false;
	assert_int_equal(sim_run(t, &o, &again, &err), 0);
	assert_true(again.fills > 2 * r.fills);
	route_trace_destroy(t);

	t = read_path(shared_trace("kimi-linear.jsonl", shared));
	o.slots = t->n_layers * t->n_expert / 10;
	o.fill = false;
	o.device_control = true;
	o.device = (struct layer_rates){ .fixed_ns = 160e3, .cpu = 1, .link = 25e9 };
	assert_int_equal(sim_run(t, &o, &r, &err), 0);
	print_message("kimi: %llu stops, gain %.4f\n", (unsigned long long)r.stops, r.fill_gain);
	assert_int_equal(r.stops, 0);
	route_trace_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_made),	    cmocka_unit_test(test_order),
		cmocka_unit_test(test_all_slots),   cmocka_unit_test(test_least),
		cmocka_unit_test(test_static_list), cmocka_unit_test(test_prompts_ahead),
		cmocka_unit_test(test_refused),	    cmocka_unit_test(test_device),
		cmocka_unit_test(test_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
