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

#define CLAMP 6.103515625e-5f /* 2^-14 */

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

void router_select(const float *logits, uint32_t n_expert, uint32_t k, bool renorm, float scale,
		   uint32_t *ids, float *weights)
{
	float max, chosen = 0.0f, all = 0.0f, factor;
	bool finite = true;

	assert(k >= 1 && k <= n_expert);
	choose(logits, n_expert, k, ids, weights);
	for (uint32_t e = 0; e < n_expert; e++)
		finite &= isfinite(logits[e]) != 0;
	if (!finite) {
		for (uint32_t i = 0; i < k; i++)
			weights[i] = NAN;
		return;
	}
	max = weights[0];
	for (uint32_t i = 0; i < k; i++) {
		weights[i] = expf(weights[i] - max);
		chosen += weights[i];
	}
	if (renorm && (float)k >= CLAMP * (float)n_expert) {
		factor = scale / chosen;
	} else {
		for (uint32_t e = 0; e < n_expert; e++)
			all += expf(logits[e] - max);
		factor = scale / all;
		if (renorm)
			factor /= fmaxf(chosen / all, CLAMP);
	}
	for (uint32_t i = 0; i < k; i++)
		weights[i] *= factor;
}
