/* SPDX-License-Identifier: MIT */
/*
 * Description: the sampler: greedy and its ties, what each filter leaves, frequencies against the
 * probabilities, what bias, penalties and repetitions change, the same draws from the same seed, and
 * logits that are not numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sampler.h"

enum { MAX_VOCAB = 600 };

static struct sampler make(uint32_t n, struct sampling config)
{
	struct sampler s = { 0 };

	assert_int_equal(sampler_init(&s, n), 0);
	sampler_set(&s, &config);
	return s;
}

/* What comes before the picks of check_frequencies(). */
static const struct sampler_past *behind;

/* Logits of the probabilities 0.4 0.3 0.2 0.1, not in order. */
static const float four[4] = { -1.60943791f, -0.91629073f, -2.30258509f, -1.20397280f };

/*
 * Draws and compares with @want (probabilities per id, need not sum to 1): zero where zero is
 * expected, else within five standard deviations.
 */
static void check_frequencies(const float *logits, uint32_t n, struct sampling config,
			      const double *want)
{
	const unsigned draws = n > 4 ? 4000 : 40000;
	struct sampler s = make(n, config);
	uint32_t counts[MAX_VOCAB] = { 0 }, id;
	double total = 0;

	for (unsigned i = 0; i < draws; i++) {
		assert_int_equal(sampler_pick_after(&s, logits, n, behind, &id), 0);
		assert_true(id < n);
		counts[id]++;
	}
	for (uint32_t i = 0; i < n; i++)
		total += want[i];
	for (uint32_t i = 0; i < n; i++) {
		double p = want[i] / total, sd = sqrt(p * (1 - p) * draws);

		if (fabs(counts[i] - p * draws) > 5 * sd)
			fail_msg("id %u: drawn %u times, expected %.0f", i, counts[i], p * draws);
	}
	sampler_fini(&s);
}

static uint32_t sampler_next(struct sampler *s, const float *logits, uint32_t n)
{
	uint32_t id = UINT32_MAX;

	assert_int_equal(sampler_pick(s, logits, n, &id), 0);
	return id;
}

static void test_greedy(void **unused)
{
	float logits[5] = { 1, 3, NAN, 3, -INFINITY };
	struct sampler s = make(5, (struct sampling){ .top_k = 3, .seed = 5 });
	uint32_t id;

	assert_int_equal(sampler_pick(&s, logits, 5, &id), 0);
	assert_int_equal(id, 1);
	assert_int_equal(sampler_next(&s, logits, 5), 1);
	logits[4] = INFINITY;
	assert_int_equal(sampler_next(&s, logits, 5), 4);
	/* settings that are no numbers are off */
	sampler_set(&s, &(struct sampling){ .temperature = NAN });
	assert_int_equal(sampler_next(&s, logits, 5), 4);
	sampler_set(&s, &(struct sampling){ .temperature = -1 });
	assert_int_equal(sampler_next(&s, logits, 5), 4);
	sampler_fini(&s);
}

static void test_temperature(void **unused)
{
	double want[4] = { 0.2, 0.4, 0.1, 0.3 }, hot[4];

	check_frequencies(four, 4, (struct sampling){ .temperature = 1, .seed = 1 }, want);
	for (unsigned i = 0; i < 4; i++)
		hot[i] = pow(want[i], 1 / 2.5);
	check_frequencies(four, 4, (struct sampling){ .temperature = 2.5f, .seed = 2 }, hot);
	for (unsigned i = 0; i < 4; i++)
		hot[i] = pow(want[i], 1 / 0.3);
	check_frequencies(four, 4, (struct sampling){ .temperature = 0.3f, .seed = 3 }, hot);
	/* so cold that every other weight is zero */
	check_frequencies(four, 4, (struct sampling){ .temperature = 1e-30f, .seed = 3 },
			  (double[]){ 0, 1, 0, 0 });
}

static void test_filters(void **unused)
{
	const struct sampling t = { .temperature = 1, .seed = 4 };
	struct sampling c;

	c = t;
	c.top_k = 1;
	check_frequencies(four, 4, c, (double[]){ 0, 1, 0, 0 });
	c.top_k = 2;
	check_frequencies(four, 4, c, (double[]){ 0, 4, 0, 3 });
	c.top_k = 4;
	check_frequencies(four, 4, c, (double[]){ 2, 4, 1, 3 });
	c.top_k = 9;
	check_frequencies(four, 4, c, (double[]){ 2, 4, 1, 3 });
	c = t;
	c.top_p = 0.75f; /* 0.4 + 0.3 do not reach it */
	check_frequencies(four, 4, c, (double[]){ 2, 4, 0, 3 });
	c.top_p = 0.65f;
	check_frequencies(four, 4, c, (double[]){ 0, 4, 0, 3 });
	c.top_p = 1e-6f;
	check_frequencies(four, 4, c, (double[]){ 0, 1, 0, 0 });
	c.top_p = 0; /* off */
	check_frequencies(four, 4, c, (double[]){ 2, 4, 1, 3 });
	c.top_p = NAN;
	check_frequencies(four, 4, c, (double[]){ 2, 4, 1, 3 });
	c = t;
	c.min_p = 0.45f;
	check_frequencies(four, 4, c, (double[]){ 2, 4, 0, 3 });
	c.min_p = 7;
	check_frequencies(four, 4, c, (double[]){ 0, 1, 0, 0 });
	c.min_p = NAN;
	check_frequencies(four, 4, c, (double[]){ 2, 4, 1, 3 });
}

static void test_order(void **unused)
{
	struct sampling c = { .temperature = 2, .top_k = 3, .top_p = 0.7f, .seed = 6 };

	/* of 4:3:2 the first two are 0.78: top-p after top-k, and before the temperature */
	check_frequencies(four, 4, c, (double[]){ 0, sqrt(4), 0, sqrt(3) });
	c = (struct sampling){ .temperature = 2, .top_p = 0.95f, .min_p = 0.6f, .seed = 7 };
	check_frequencies(four, 4, c, (double[]){ 0, sqrt(4), 0, sqrt(3) });
}

static int descending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* The first of the largest, of rows of any length that lie anywhere. */
static void check_first(const float *logits, uint32_t n)
{
	struct sampler s = make(n, (struct sampling){ 0 });
	uint32_t id, first;

	for (uint32_t from = 0; from + 40 < n; from++)
		for (uint32_t length = 1; length <= 40; length++) {
			const float *row = logits + from;

			first = 0;
			for (uint32_t i = 1; i < length; i++)
				if (row[i] > row[first])
					first = i;
			assert_int_equal(sampler_pick(&s, row, length, &id), 0);
			assert_int_equal(id, first);
		}
	sampler_fini(&s);
}

/* On a large vocabulary with many ties every pick lies within what sorting says is left. */
static void test_large(void **unused)
{
	float logits[MAX_VOCAB], sorted[MAX_VOCAB];
	uint64_t state = 17;

	for (unsigned i = 0; i < MAX_VOCAB; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		logits[i] = sorted[i] = (float)(state >> 58) * 0.1f;
	}
	check_first(logits, MAX_VOCAB);
	qsort(sorted, MAX_VOCAB, sizeof(*sorted), descending);
	for (uint32_t k = 1; k < MAX_VOCAB; k = k * 3 + 1) {
		double want[MAX_VOCAB] = { 0 }, p[MAX_VOCAB] = { 0 }, sum = 0, total = 0;
		uint32_t left = k;

		/* ties at the border: the lowest ids */
		for (unsigned i = 0; i < MAX_VOCAB; i++)
			if (logits[i] > sorted[k - 1]) {
				want[i] = exp(logits[i]);
				left--;
			}
		for (unsigned i = 0; i < MAX_VOCAB && left; i++)
			if (logits[i] == sorted[k - 1]) {
				want[i] = exp(logits[i]);
				left--;
			}
		check_frequencies(logits, MAX_VOCAB,
				  (struct sampling){ .temperature = 1, .top_k = k, .seed = k },
				  want);
		/* the same set by top-p alone: its probability, a little less */
		for (unsigned i = 0; i < MAX_VOCAB; i++) {
			p[i] = exp(logits[i]);
			total += p[i];
			sum += want[i];
		}
		check_frequencies(logits, MAX_VOCAB,
				  (struct sampling){ .temperature = 1,
						     .top_p = (float)((sum - 0.3) / total),
						     .seed = k },
				  want);
	}
}

static void test_seed(void **unused)
{
	struct sampling c = { .temperature = 1.5f, .min_p = 0.01f, .seed = 42 };
	struct sampler a = make(4, c), b = make(4, c);
	unsigned same = 0;

	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(sampler_next(&a, four, 4), sampler_next(&b, four, 4));
	/* from the start again */
	sampler_set(&a, &c);
	sampler_set(&b, &c);
	assert_int_equal(sampler_next(&a, four, 4), sampler_next(&b, four, 4));
	c.seed = 43;
	sampler_set(&b, &c);
	for (unsigned i = 0; i < 1000; i++)
		same += sampler_next(&a, four, 4) == sampler_next(&b, four, 4);
	assert_true(same < 500);
	sampler_fini(&a);
	sampler_fini(&b);
	sampler_fini(&(struct sampler){ 0 });
}

static void test_not_numbers(void **unused)
{
	float logits[4] = { NAN, -INFINITY, 1, NAN };
	const struct sampling settings[] = {
		{ 0 },
		{ .temperature = 1 },
		{ .temperature = 1, .top_k = 1 },
		{ .temperature = 1, .top_k = 2, .top_p = 0.5f, .min_p = 0.5f },
		{ .temperature = 1, .top_p = 0.9f },
	};

	for (unsigned i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		struct sampler s = make(4, settings[i]);
		uint32_t id = 77;

		logits[2] = 1;
		assert_int_equal(sampler_pick(&s, logits, 4, &id), 0);
		assert_int_equal(id, 2);
		logits[2] = INFINITY;
		assert_int_equal(sampler_pick(&s, logits, 4, &id), 0);
		assert_int_equal(id, 2);
		logits[2] = -INFINITY;
		id = 77;
		assert_int_equal(sampler_pick(&s, logits, 4, &id), -EDOM);
		assert_int_equal(id, 77);
		sampler_fini(&s);
	}
}

static void filters_of_shape(void **state)
{
	struct sampling c = { .temperature = 1, .seed = 3, .typical_p = 0.4f };

	/* -log p is 1.61, 0.92, 2.30, 1.20, the entropy 1.28 */
	check_frequencies(four, 4, c, (double[]){ 0.2, 0, 0, 0.3 });
	c.top_p = 0.5f; /* of what is left: 0.6 of it */
	check_frequencies(four, 4, c, (double[]){ 0, 0, 0, 1 });
	/* mean -1.51, standard deviation 0.52 */
	c = (struct sampling){ .temperature = 1, .seed = 3, .top_n_sigma = 1 };
	check_frequencies(four, 4, c, (double[]){ 0, 0.4, 0, 0.3 });
	c = (struct sampling){
		.temperature = 1, .seed = 3, .xtc_probability = 1, .xtc_threshold = 0.15f
	};
	check_frequencies(four, 4, c, (double[]){ 0.2, 0, 0.1, 0 });
	c.xtc_probability = 0.5f;
	check_frequencies(four, 4, c,
			  (double[]){ 0.1 + 0.2 / 0.3 / 2, 0.2, 0.05 + 0.1 / 0.3 / 2, 0.15 });
	c.xtc_threshold = 0.35f; /* one alone stays */
	check_frequencies(four, 4, c, (double[]){ 0.2, 0.4, 0.1, 0.3 });
	c.xtc_threshold = 0.6f;
	check_frequencies(four, 4, c, (double[]){ 0.2, 0.4, 0.1, 0.3 });
}

static void biases(void **state)
{
	static const struct logit_bias all[] = {
		{ 2, 0.69314718f }, { 1, -INFINITY }, { 9, 100 }, { 3, NAN }
	};
	struct sampling c = { .temperature = 1, .seed = 3, .bias = all, .n_bias = 4 };

	check_frequencies(four, 4, c, (double[]){ 0.2, 0, 0.2, 0.3 });
}

static void penalties(void **state)
{
	static const float logits[4] = { 1, 2, -1, 0.5f };
	static const uint32_t ids[] = { 0, 2, 1 }, more[] = { 1, 2 };
	const struct sampler_past past = {
		.ids = ids, .more = more, .n_ids = 3, .n_more = 2, .n_generated = 1
	};
	struct sampling c = { .temperature = 1,
			      .seed = 3,
			      .repeat_penalty = 2,
			      .frequency_penalty = 0.25f,
			      .presence_penalty = 0.5f };

	behind = &past;
	check_frequencies(logits, 4, c,
			  (double[]){ exp(0.5 - 0.75), exp(1.0 - 1.0), exp(-2.0 - 1.0), exp(0.5) });
	c.penalty_last_n = 2;
	check_frequencies(logits, 4, c,
			  (double[]){ exp(1), exp(1.0 - 0.75), exp(-2.0 - 0.75), exp(0.5) });
	c.penalty_last_n = -1;
	c.repeat_penalty = 0; /* off */
	check_frequencies(logits, 4, c,
			  (double[]){ exp(0.25), exp(2.0 - 1.0), exp(-1.0 - 1.0), exp(0.5) });
	c.temperature = 0; /* the counts of the pick before are gone */
	for (unsigned i = 0; i < 3; i++) {
		struct sampler s = make(4, c);
		uint32_t id;

		for (unsigned k = 0; k < 3; k++) {
			assert_int_equal(sampler_pick_after(&s, logits, 4, &past, &id), 0);
			assert_int_equal(id, 1);
		}
		sampler_fini(&s);
	}
	behind = NULL;
}

static void repetitions(void **state)
{
	/* 1 2 3 0 1 2 3: 0 would go on three tokens */
	static const uint32_t ids[] = { 1, 2, 3, 0, 1, 2, 3 };
	static const float logits[4] = { 1, 1, 1, 1 };
	static const uint8_t breaks = 1 << 2;
	struct sampler_past past = { .ids = ids, .n_ids = 7 };
	struct sampling c = { .temperature = 1, .seed = 3, .dry_multiplier = 0.5f, .dry_base = 2 };

	behind = &past;
	check_frequencies(logits, 4, c, (double[]){ exp(-1), 1, 1, 1 });
	c.dry_allowed_length = 4;
	check_frequencies(logits, 4, c, (double[]){ 1, 1, 1, 1 });
	c.dry_allowed_length = 3;
	check_frequencies(logits, 4, c, (double[]){ exp(-0.5), 1, 1, 1 });
	c.dry_breaks = &breaks; /* 3 alone repeats */
	check_frequencies(logits, 4, c, (double[]){ 1, 1, 1, 1 });
	c.dry_allowed_length = 1;
	check_frequencies(logits, 4, c, (double[]){ exp(-0.5), 1, 1, 1 });
	c.dry_last_n = 4;
	check_frequencies(logits, 4, c, (double[]){ 1, 1, 1, 1 });
	behind = NULL;
}

static void first_tokens(void **state)
{
	static const uint32_t ends[] = { 1, 3 };
	struct sampler_past past = { .n_generated = 1 };
	struct sampling c = { .temperature = 1, .seed = 3, .min_tokens = 2 };
	struct sampler s = make(4, c);
	uint32_t id;

	sampler_ends(&s, ends, 2);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(sampler_pick_after(&s, four, 4, i & 1 ? &past : NULL, &id), 0);
		assert_true(id == 0 || id == 2);
	}
	past.n_generated = 2;
	c.temperature = 0;
	sampler_set(&s, &c);
	assert_int_equal(sampler_pick_after(&s, four, 4, &past, &id), 0);
	assert_int_equal(id, 1);
	sampler_fini(&s);
}

/* Only what the form allows is picked, and nothing beyond what it knows; none: an error. */
static void allowed_tokens(void **state)
{
	static const uint64_t bits[] = { 0xf0f0f0f0f0f0f0f0u, UINT64_MAX, 0, 5 };
	struct sampler_past past = { .allowed = bits, .n_allowed = 200 };
	struct sampling c = { .temperature = 5, .seed = 3 };
	struct sampler s = make(300, c);
	float logits[300];
	uint32_t id;

	for (uint32_t i = 0; i < 300; i++)
		logits[i] = (float)(i % 7);
	for (unsigned i = 0; i < 500; i++) {
		assert_int_equal(sampler_pick_after(&s, logits, 300, &past, &id), 0);
		assert_true(id < 200 && (bits[id / 64] >> id % 64 & 1));
	}
	c.temperature = 0;
	sampler_set(&s, &c);
	assert_int_equal(sampler_pick_after(&s, logits, 300, &past, &id), 0);
	assert_int_equal(id, 6); /* the first of the largest that are allowed */
	past.allowed = (const uint64_t[]){ 0, 0, 0, 0 };
	assert_int_equal(sampler_pick_after(&s, logits, 300, &past, &id), -EDOM);
	sampler_fini(&s);
}

/* Picks one after another are the same however the past is cut into what was and what this step has. */
static void same_by_position(void **state)
{
	struct sampling c = { .temperature = 1,
			      .seed = 9,
			      .repeat_penalty = 1.3f,
			      .frequency_penalty = 0.1f,
			      .dry_multiplier = 1,
			      .xtc_probability = 0.5f,
			      .xtc_threshold = 0.05f,
			      .typical_p = 0.9f,
			      .top_n_sigma = 3,
			      .top_p = 0.95f };
	struct sampler a = make(50, c), b = make(50, c);
	uint32_t ids[300] = { 7 };
	float logits[50];

	for (uint32_t n = 1; n < 300; n++) {
		uint32_t step = n % 5 < n ? n % 5 : 0, one, two;
		const struct sampler_past all = { .ids = ids, .n_ids = n, .n_generated = n - 1 };
		const struct sampler_past cut = { .ids = ids,
						  .more = ids + n - step,
						  .n_ids = n - step,
						  .n_more = step,
						  .n_generated = n - 1 };

		for (uint32_t i = 0; i < 50; i++)
			logits[i] = sinf((float)(i * n));
		assert_int_equal(sampler_pick_after(&a, logits, 50, &all, &one), 0);
		assert_int_equal(sampler_pick_after(&b, logits, 50, &cut, &two), 0);
		assert_int_equal(one, two);
		ids[n] = one;
	}
	sampler_fini(&a);
	sampler_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greedy),	    cmocka_unit_test(test_temperature),
		cmocka_unit_test(test_filters),	    cmocka_unit_test(test_order),
		cmocka_unit_test(test_large),	    cmocka_unit_test(test_seed),
		cmocka_unit_test(test_not_numbers), cmocka_unit_test(filters_of_shape),
		cmocka_unit_test(biases),	    cmocka_unit_test(penalties),
		cmocka_unit_test(repetitions),	    cmocka_unit_test(first_tokens),
		cmocka_unit_test(same_by_position), cmocka_unit_test(allowed_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
