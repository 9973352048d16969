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

/*
 * A logit that is not finite makes every weight NaN, chosen or not: the token ends in NaN instead of
 * an answer from fewer experts. The ids stay distinct and in range.
 */
static void test_not_numbers(void **unused)
{
	static const float kinds[] = { NAN, INFINITY, -INFINITY };

	for (uint32_t k = 1; k <= 6; k++)
		for (unsigned kind = 0; kind < 3; kind++)
			for (uint32_t many = 1; many <= 6; many++)
				for (unsigned renorm = 0; renorm < 2; renorm++) {
					float logits[6] = { 0, 1, -5, 3, 2, 4 }, weights[6];
					uint32_t ids[6], seen = 0;

					/* the least likely first */
					for (uint32_t i = 0; i < many; i++)
						logits[(2 + i) % 6] = kinds[kind];
					router_select(logits, 6, k, renorm, 1, ids, weights);
					for (uint32_t i = 0; i < k; i++) {
						assert_true(ids[i] < 6 && !(seen >> ids[i] & 1));
						seen |= 1u << ids[i];
						assert_true(isnan(weights[i]));
					}
				}
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
