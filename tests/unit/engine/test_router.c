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
	float weights[MAX_USED], scratch[ROUTER_SCRATCH(MAX_EXPERTS)];
	double want[MAX_USED];

	reference(logits, n, k, renorm, scale, want_ids, want);
	router_select(
		&(struct router_spec){ .gating = GATING_SOFTMAX, .renorm = renorm, .scale = scale },
		logits, n, k, NULL, scratch, ids, weights);
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
					router_select(
						&(struct router_spec){ .gating = GATING_SOFTMAX,
								       .renorm = renorm,
								       .scale = 1 },
						logits, 6, k, NULL, NULL, ids, weights);
					for (uint32_t i = 0; i < k; i++) {
						assert_true(ids[i] < 6 && !(seen >> ids[i] & 1));
						seen |= 1u << ids[i];
						assert_true(isnan(weights[i]));
					}
				}
}

/* Sigmoid, a bias for the choice, groups: by the rules as written, in double. */
static void reference_scored(const struct router_spec *spec, const float *logits, uint32_t n,
			     uint32_t k, const float *bias, uint32_t *ids, double *weights)
{
	double p[MAX_EXPERTS], score[MAX_EXPERTS], sum = 0, all = 0;
	uint32_t size = n / spec->n_groups;
	bool kept[MAX_EXPERTS] = { false };

	for (uint32_t e = 0; e < n; e++)
		all += exp(logits[e]);
	for (uint32_t e = 0; e < n; e++) {
		p[e] = spec->gating == GATING_SIGMOID ? 1 / (1 + exp(-logits[e]))
						      : exp(logits[e]) / all;
		score[e] = p[e] + bias[e];
	}
	for (uint32_t i = 0; i < spec->n_groups_used; i++) {
		uint32_t best = spec->n_groups;
		double most = -INFINITY;

		for (uint32_t g = 0; g < spec->n_groups; g++) {
			double a = -INFINITY, b = -INFINITY;

			for (uint32_t e = g * size; e < (g + 1) * size; e++) {
				b = score[e] > a ? a : fmax(b, score[e]);
				a = fmax(a, score[e]);
			}
			if (spec->gating != GATING_SIGMOID)
				b = 0;
			if (!kept[g] && a + b > most) {
				most = a + b;
				best = g;
			}
		}
		kept[best] = true;
	}
	for (uint32_t i = 0; i < k; i++) {
		uint32_t best = n;

		for (uint32_t e = 0; e < n; e++)
			if (kept[e / size] && (best == n || score[e] > score[best]))
				best = e;
		ids[i] = best;
		weights[i] = p[best];
		sum += p[best];
		score[best] = -INFINITY;
	}
	for (uint32_t i = 0; i < k; i++)
		weights[i] *= spec->scale / (spec->renorm ? sum : 1);
}

static void test_scored(void **unused)
{
	enum { N = 64, K = 6 };
	float logits[N], bias[N], weights[K], scratch[ROUTER_SCRATCH(N)];
	uint32_t ids[K], want_ids[K];
	double want[K];

	for (unsigned run = 0; run < 200; run++) {
		const struct router_spec spec = {
			.gating = run & 1 ? GATING_SIGMOID : GATING_SOFTMAX,
			.renorm = run & 2,
			.scale = 1.5f,
			.n_groups = run & 4 ? 8 : 1,
			.n_groups_used = run & 4 ? 3 : 1,
		};

		for (unsigned e = 0; e < N; e++) {
			logits[e] = 4 * random_float();
			bias[e] = 0.3f * random_float();
		}
		reference_scored(&spec, logits, N, K, bias, want_ids, want);
		router_select(&spec, logits, N, K, bias, scratch, ids, weights);
		for (unsigned i = 0; i < K; i++) {
			assert_int_equal(ids[i], want_ids[i]);
			assert_true(fabs(weights[i] - want[i]) < 1e-5 * fmax(1, want[i]));
		}
	}
	logits[3] = NAN;
	router_select(&(struct router_spec){ .gating = GATING_SIGMOID, .scale = 1 }, logits, N, K,
		      bias, scratch, ids, weights);
	assert_true(isnan(weights[0]) && isnan(weights[K - 1]));
}

/* Softmax over the chosen alone is the softmax over all, renormed. */
static void test_chosen(void **unused)
{
	const struct router_spec chosen = { .gating = GATING_CHOSEN, .scale = 1 };
	float logits[12], weights[4];
	uint32_t ids[4];
	double sum = 0;

	for (unsigned e = 0; e < 12; e++)
		logits[e] = 5 * random_float();
	router_select(&chosen, logits, 12, 4, NULL, NULL, ids, weights);
	for (unsigned i = 0; i < 4; i++)
		sum += exp(logits[ids[i]]);
	for (unsigned i = 0; i < 4; i++)
		assert_true(fabs(weights[i] - exp(logits[ids[i]]) / sum) < 1e-6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scored),	    cmocka_unit_test(test_chosen),
		cmocka_unit_test(test_choice),	    cmocka_unit_test(test_ties),
		cmocka_unit_test(test_not_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
