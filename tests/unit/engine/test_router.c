/* SPDX-License-Identifier: MIT */
/*
 * Description: the router's choice against a full sort and softmax in double; ties, numbers that
 * are none, and every size from one expert to 512.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/router.h"

enum { MAX_EXPERTS = 512, MAX_USED = 512 };

static uint64_t state = 3;

static float random_float(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (float)((double)(state >> 40) * 0x1p-23 - 1.0);
}

/* The k largest by repeated search: first place wins among equals. */
static void reference(const float *logits, uint32_t n, uint32_t k, bool renorm, float scale,
		      uint32_t *ids, double *weights)
{
	bool taken[MAX_EXPERTS] = { false };
	double all = 0, chosen = 0, max = -INFINITY;

	for (uint32_t e = 0; e < n; e++)
		max = fmax(max, logits[e]);
	for (uint32_t e = 0; e < n; e++)
		all += exp(logits[e] - max);
	for (uint32_t i = 0; i < k; i++) {
		uint32_t best = n;

		for (uint32_t e = 0; e < n; e++)
			if (!taken[e] && (best == n || logits[e] > logits[best]))
				best = e;
		taken[best] = true;
		ids[i] = best;
		weights[i] = exp(logits[best] - max) / all;
		chosen += weights[i];
	}
	for (uint32_t i = 0; i < k; i++)
		weights[i] *= scale / (renorm ? fmax(chosen, 6.103515625e-5) : 1.0);
}

static void compare(const float *logits, uint32_t n, uint32_t k, bool renorm, float scale)
{
	uint32_t ids[MAX_USED], want_ids[MAX_USED];
	float weights[MAX_USED];
	double want[MAX_USED];

	reference(logits, n, k, renorm, scale, want_ids, want);
	router_select(logits, n, k, renorm, scale, ids, weights);
	assert_memory_equal(ids, want_ids, k * sizeof(*ids));
	for (uint32_t i = 0; i < k; i++)
		assert_true(fabs(weights[i] - want[i]) <= 1e-5 * want[i] + 1e-30);
}

static void test_choice(void **unused)
{
	static const uint32_t sizes[][2] = { { 1, 1 },	  { 2, 1 },	{ 8, 2 },
					     { 8, 8 },	  { 128, 8 },	{ 256, 8 },
					     { 512, 10 }, { 512, 512 }, { 60, 4 } };
	float logits[MAX_EXPERTS];

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		for (unsigned round = 0; round < 50; round++) {
			for (uint32_t e = 0; e < sizes[i][0]; e++)
				logits[e] = random_float() * (float)(1 + round);
			compare(logits, sizes[i][0], sizes[i][1], round & 1, round & 2 ? 2.5f : 1);
		}
}

static void test_ties(void **unused)
{
	float logits[MAX_EXPERTS];

	/* few values, so nearly everything is equal to something */
	for (unsigned round = 0; round < 50; round++) {
		for (uint32_t e = 0; e < 64; e++)
			logits[e] = floorf(random_float() * 3);
		compare(logits, 64, 10, true, 1);
	}
	memset(logits, 0, sizeof(logits));
	compare(logits, 512, 10, true, 1);
}

static void test_not_numbers(void **unused)
{
	float logits[6] = { NAN, 1, -INFINITY, NAN, 2, -INFINITY }, weights[6];
	uint32_t ids[6];

	router_select(logits, 6, 2, true, 1, ids, weights);
	assert_int_equal(ids[0], 4);
	assert_int_equal(ids[1], 1);
	assert_true(fabsf(weights[0] + weights[1] - 1) < 1e-6f);
	/* more than there are numbers: the ids stay distinct and in range */
	router_select(logits, 6, 6, true, 1, ids, weights);
	for (unsigned i = 0; i < 6; i++) {
		assert_true(ids[i] < 6);
		for (unsigned k = 0; k < i; k++)
			assert_int_not_equal(ids[i], ids[k]);
	}
	for (unsigned i = 2; i < 6; i++)
		assert_true(weights[i] == 0);
	for (unsigned i = 0; i < 6; i++)
		logits[i] = NAN;
	router_select(logits, 6, 3, true, 1, ids, weights);
	assert_true(isnan(weights[0]));
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ids[i], i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_ties),
		cmocka_unit_test(test_not_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
