/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/router.c: see router.h.
 *
 * The order of probabilities is the order of logits, so the choice is made on logits with one scan
 * and an insertion into the k best so far: about k ln(n/k) insertions. For a renormalised router
 * the denominator of the softmax cancels, and the clamp that llama.cpp puts on the sum of the
 * chosen (6.1e-5) cannot act, since the k largest of n probabilities sum to at least k / n.
 */
#include "engine/router.h"

#include <assert.h>
#include <math.h>

#define CLAMP	  6.103515625e-5f /* 2^-14 */
#define LEAST_SUM 1e-20f

static void choose(const float *logits, uint32_t n_expert, uint32_t k, uint32_t *ids, float *best)
{
	uint32_t n = 0;

	for (uint32_t e = 0; e < n_expert; e++) {
		float x = isnan(logits[e]) ? -INFINITY : logits[e];
		uint32_t i;

		if (n == k && !(x > best[k - 1]))
			continue;
		i = n < k ? n++ : k - 1;
		/* strictly greater: an equal logit of a lower id stays in front */
		for (; i > 0 && x > best[i - 1]; i--) {
			best[i] = best[i - 1];
			ids[i] = ids[i - 1];
		}
		best[i] = x;
		ids[i] = e;
	}
}

/* Softmax over all: choice and weights from the logits themselves; see the top of the file. */
static void select_softmax(const struct router_spec *spec, bool renorm, const float *logits,
			   uint32_t n_expert, uint32_t k, uint32_t *ids, float *weights)
{
	float max, chosen = 0.0f, all = 0.0f, factor;

	choose(logits, n_expert, k, ids, weights);
	max = weights[0];
	for (uint32_t i = 0; i < k; i++) {
		weights[i] = expf(weights[i] - max);
		chosen += weights[i];
	}
	if (renorm && (float)k >= CLAMP * (float)n_expert) {
		factor = spec->scale / chosen;
	} else {
		for (uint32_t e = 0; e < n_expert; e++)
			all += expf(logits[e] - max);
		factor = spec->scale / all;
		if (renorm)
			factor /= fmaxf(chosen / all, CLAMP);
	}
	for (uint32_t i = 0; i < k; i++)
		weights[i] *= factor;
}

static void probabilities(enum gating gating, const float *logits, uint32_t n, float *p)
{
	float max = -INFINITY, sum = 0.0f;

	if (gating == GATING_SIGMOID) {
		for (uint32_t e = 0; e < n; e++)
			p[e] = 1.0f / (1.0f + expf(-logits[e]));
		return;
	}
	for (uint32_t e = 0; e < n; e++)
		max = logits[e] > max ? logits[e] : max;
	for (uint32_t e = 0; e < n; e++)
		sum += p[e] = expf(logits[e] - max);
	for (uint32_t e = 0; e < n; e++)
		p[e] /= sum;
}

/* The best score of a group whose probabilities are shares of one softmax, else the best two's sum. */
static float group_score(const struct router_spec *spec, const float *score, uint32_t n)
{
	float first = -INFINITY, second = -INFINITY;

	for (uint32_t e = 0; e < n; e++) {
		if (score[e] > first) {
			second = first;
			first = score[e];
		} else if (score[e] > second) {
			second = score[e];
		}
	}
	return spec->gating == GATING_SIGMOID ? first + second : first;
}

/* Groups that are better than all but n_groups_used - 1 others stay; ties go to the first. */
static void keep_groups(const struct router_spec *spec, float *score, uint32_t n_expert)
{
	uint32_t n = n_expert / spec->n_groups, left = spec->n_groups - spec->n_groups_used;

	for (; left; left--) {
		uint32_t worst = spec->n_groups;
		float least = INFINITY;

		for (uint32_t g = 0; g < spec->n_groups; g++) {
			float s = group_score(spec, score + g * n, n);

			if (s > -INFINITY && s <= least) {
				least = s;
				worst = g;
			}
		}
		for (uint32_t e = 0; worst < spec->n_groups && e < n; e++)
			score[worst * n + e] = -INFINITY;
	}
}

/* Choice by score, weight by probability. */
static void select_scored(const struct router_spec *spec, const float *logits, uint32_t n_expert,
			  uint32_t k, const float *choice_bias, float *scratch, uint32_t *ids,
			  float *weights)
{
	float *p = scratch, *score = scratch + n_expert, sum = 0.0f, factor = spec->scale;

	probabilities(spec->gating, logits, n_expert, p);
	for (uint32_t e = 0; e < n_expert; e++)
		score[e] = p[e] + (choice_bias ? choice_bias[e] : 0.0f);
	if (spec->n_groups > 1)
		keep_groups(spec, score, n_expert);
	choose(score, n_expert, k, ids, weights);
	for (uint32_t i = 0; i < k; i++)
		sum += weights[i] = p[ids[i]];
	if (spec->renorm)
		factor /= fmaxf(sum, LEAST_SUM);
	for (uint32_t i = 0; i < k; i++)
		weights[i] *= factor;
}

void router_select(const struct router_spec *spec, const float *logits, uint32_t n_expert,
		   uint32_t k, const float *choice_bias, float *scratch, uint32_t *ids,
		   float *weights)
{
	bool finite = true, softmax = spec->gating != GATING_SIGMOID;

	assert(k >= 1 && k <= n_expert);
	for (uint32_t e = 0; e < n_expert; e++)
		finite &= isfinite(logits[e]) && (!choice_bias || isfinite(choice_bias[e]));
	if (!finite) {
		choose(logits, n_expert, k, ids, weights);
		for (uint32_t i = 0; i < k; i++)
			weights[i] = NAN;
	} else if (softmax && !choice_bias && spec->n_groups <= 1) {
		select_softmax(spec, spec->renorm || spec->gating == GATING_CHOSEN, logits,
			       n_expert, k, ids, weights);
	} else {
		select_scored(spec, logits, n_expert, k, choice_bias, scratch, ids, weights);
	}
}
