/* SPDX-License-Identifier: MIT */
/* daemon/engine/logprobs.c: see logprobs.h. */
#include "engine/logprobs.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "engine/exp_down.h"

uint32_t logits_broken(const float *logits, uint32_t n)
{
	typedef int32_t vec_int __attribute__((vector_size(16)));
	vec_int count = { 0 };
	uint32_t broken = 0, i;

	for (i = 0; i + 4 <= n; i += 4) {
		vec_int bits;

		memcpy(&bits, logits + i, sizeof(bits));
		count -= (bits & 0x7fffffff) >= (int32_t)F32_INFINITE; /* true is -1 */
	}
	for (; i < n; i++)
		broken += !isfinite(logits[i]);
	return broken + (uint32_t)(count[0] + count[1] + count[2] + count[3]);
}

double log_softmax_at(const float *logits, size_t n, uint32_t id)
{
	double sum[4] = { 0.0 };
	float max = -INFINITY;
	size_t i;

	for (i = 0; i < n; i++)
		max = logits[i] > max ? logits[i] : max;
	for (i = 0; i + 4 <= n; i += 4) {
		vec x;

		memcpy(&x, logits + i, sizeof(x));
		x = exp_down(x - max);
		for (unsigned j = 0; j < 4; j++)
			sum[j] += (double)x[j];
	}
	for (; i < n; i++)
		sum[0] += (double)exp_down((vec){ logits[i] - max })[0];
	return (double)logits[id] - (double)max - log((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

void logits_logprobs(const float *logits, uint32_t n, uint32_t id, uint32_t top,
		     struct token_logprobs *ret)
{
	double of_id = log_softmax_at(logits, n, id), sum = (double)logits[id] - of_id;

	ret->logprob = (float)of_id;
	ret->rank = 1;
	for (uint32_t i = 0; i < n; i++)
		ret->rank += logits[i] > logits[id];
	ret->n = 0;
	for (uint32_t i = 0; i < n && top; i++) {
		uint32_t at = ret->n;

		if (at == top && !(logits[i] > logits[ret->ids[top - 1]]))
			continue;
		at -= at == top;
		for (; at && logits[i] > logits[ret->ids[at - 1]]; at--)
			ret->ids[at] = ret->ids[at - 1];
		ret->ids[at] = i;
		ret->n += ret->n < top;
	}
	for (uint32_t i = 0; i < ret->n; i++)
		ret->logprobs[i] = (float)((double)logits[ret->ids[i]] - sum);
}
