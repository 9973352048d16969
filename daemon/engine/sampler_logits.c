/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/sampler_logits.c: what changes logits before a token is chosen. See sampler.h for the
 * order and the formulas.
 *
 * Few logits change, so they are copied only where something is on, and the counts of tokens that the
 * past holds are taken back one by one.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/num.h"
#include "engine/sampler.h"

#define PENALTY_LAST_N 64
#define DRY_LAST_N     8192
#define DRY_LENGTH     64

static uint32_t past_n(const struct sampler_past *p)
{
	return p ? p->n_ids + p->n_more : 0;
}

/* Token @back before the pick: 0 is the last. */
static uint32_t past_id(const struct sampler_past *p, uint32_t back)
{
	return back < p->n_more ? p->more[p->n_more - 1 - back]
				: p->ids[p->n_ids - 1 - (back - p->n_more)];
}

static bool has_penalties(const struct sampling *c)
{
	return c->repeat_penalty != 1.0f || c->frequency_penalty != 0.0f ||
	       c->presence_penalty != 0.0f;
}

static void bias(struct sampler *s, uint32_t n)
{
	for (uint32_t i = 0; i < s->config.n_bias; i++) {
		const struct logit_bias *b = &s->config.bias[i];

		if (b->id < n && !isnan(b->bias))
			s->logits[b->id] += b->bias;
	}
}

static void no_end(struct sampler *s, uint32_t n)
{
	for (uint32_t i = 0; i < s->n_ends; i++)
		if (s->ends[i] < n)
			s->logits[s->ends[i]] = -INFINITY;
}

static void penalise(struct sampler *s, uint32_t n, const struct sampler_past *past)
{
	const struct sampling *c = &s->config;
	uint32_t window = past_n(past), last = PENALTY_LAST_N;

	if (c->penalty_last_n)
		last = c->penalty_last_n < 0 ? UINT32_MAX : (uint32_t)c->penalty_last_n;
	window = window < last ? window : last;
	for (uint32_t i = 0; i < window; i++)
		s->counts[past_id(past, i)]++;
	for (uint32_t i = 0; i < window; i++) {
		uint32_t id = past_id(past, i), count = s->counts[id];
		float *x = &s->logits[id];

		s->counts[id] = 0;
		if (!count || id >= n)
			continue;
		*x = *x <= 0.0f ? *x * c->repeat_penalty : *x / c->repeat_penalty;
		*x -= (float)count * c->frequency_penalty + c->presence_penalty;
	}
}

static bool breaks(const struct sampling *c, uint32_t id)
{
	return c->dry_breaks && (c->dry_breaks[id / 8] >> id % 8 & 1);
}

/* How many tokens before @back are those at the end of the past. */
static uint32_t repeated(const struct sampling *c, const struct sampler_past *past, uint32_t back,
			 uint32_t window)
{
	uint32_t n = 0;

	while (n < DRY_LENGTH && back + n < window && past_id(past, back + n) == past_id(past, n) &&
	       !breaks(c, past_id(past, n)))
		n++;
	return n;
}

/* counts[id] is the longest repetition that id would go on. */
static void dry(struct sampler *s, uint32_t n, const struct sampler_past *past)
{
	const struct sampling *c = &s->config;
	uint32_t window = past_n(past), last = DRY_LAST_N;

	if (c->dry_last_n > 0 && (uint32_t)c->dry_last_n < last)
		last = (uint32_t)c->dry_last_n;
	window = window < last ? window : last;
	for (uint32_t back = 1; back < window; back++) {
		uint32_t next = past_id(past, back - 1), length = repeated(c, past, back, window);

		if (length > s->counts[next])
			s->counts[next] = length;
	}
	for (uint32_t back = 0; back < window; back++) {
		uint32_t id = past_id(past, back), length = s->counts[id];

		s->counts[id] = 0;
		if (id < n && length >= c->dry_allowed_length && length)
			s->logits[id] -= c->dry_multiplier *
					 powf(c->dry_base, (float)(length - c->dry_allowed_length));
	}
}

static void keep_sigma(struct sampler *s, uint32_t n)
{
	double sum = 0.0, squares = 0.0, mean, least;
	float max = -INFINITY;
	uint32_t count = 0;

	for (uint32_t i = 0; i < n; i++)
		if (s->logits[i] > -INFINITY) {
			max = fmaxf(max, s->logits[i]);
			sum += (double)s->logits[i];
			count++;
		}
	mean = count ? sum / count : 0.0;
	for (uint32_t i = 0; i < n; i++)
		if (s->logits[i] > -INFINITY)
			squares += ((double)s->logits[i] - mean) * ((double)s->logits[i] - mean);
	if (!count)
		return;
	least = (double)max - (double)s->config.top_n_sigma * sqrt(squares / count);
	for (uint32_t i = 0; i < n; i++)
		if (!((double)s->logits[i] >= least))
			s->logits[i] = -INFINITY;
}

/* The logits of tokens that may come; those of others are -inf. */
static void allow(float *to, const float *logits, uint32_t n, const struct sampler_past *past)
{
	for (uint32_t i = 0; i < n; i += 64) {
		uint64_t bits = i < past->n_allowed ? past->allowed[i / 64] : 0;
		uint32_t end = n - i < 64 ? n - i : 64;

		if (bits == UINT64_MAX && end == 64)
			memcpy(to + i, logits + i, 64 * sizeof(*to));
		else
			for (uint32_t k = 0; k < end; k++)
				to[i + k] = -INFINITY;
		for (uint64_t left = bits == UINT64_MAX && end == 64 ? 0 : bits; left;
		     left &= left - 1) {
			uint32_t k = (uint32_t)__builtin_ctzll(left);

			if (k < end)
				to[i + k] = logits[i + k];
		}
	}
}

static bool may_not_end(const struct sampler *s, const struct sampler_past *past)
{
	return s->n_ends && s->config.min_tokens &&
	       (past ? past->n_generated : 0) < s->config.min_tokens;
}

bool sampler_changes(const struct sampler *s, const struct sampler_past *past)
{
	const struct sampling *c = &s->config;

	return c->n_bias || may_not_end(s, past) || c->top_n_sigma > 0.0f ||
	       (past_n(past) && (has_penalties(c) || c->dry_multiplier != 0.0f));
}

const float *sampler_change(struct sampler *s, const float *logits, uint32_t n,
			    const struct sampler_past *past)
{
	const struct sampling *c = &s->config;
	bool penalties = past_n(past) && has_penalties(c);
	bool repeats = past_n(past) && c->dry_multiplier != 0.0f;
	bool ends = may_not_end(s, past);

	if (!sampler_changes(s, past) && !(past && past->allowed))
		return logits;
	if (past && past->allowed)
		allow(s->logits, logits, n, past);
	else
		memcpy(s->logits, logits, n * sizeof(*logits));
	bias(s, n);
	if (ends)
		no_end(s, n);
	if (penalties)
		penalise(s, n, past);
	if (repeats)
		dry(s, n, past);
	if (c->top_n_sigma > 0.0f)
		keep_sigma(s, n);
	return s->logits;
}
