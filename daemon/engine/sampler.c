/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/sampler.c: see sampler.h.
 *
 * Candidates are compared by (logit descending, id ascending), a total order, so every selection
 * is deterministic. With top-k a heap of k does; top-p alone pops a heap of all until enough
 * probability is reached, which for peaked distributions is far cheaper than sorting 250000.
 */
#include "engine/sampler.h"

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/exp_down.h"

static uint64_t splitmix64(uint64_t *x)
{
	uint64_t z = (*x += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, unsigned k)
{
	return x << k | x >> (64 - k);
}

static uint64_t xoshiro256ss(uint64_t s[4])
{
	uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

/* Uniform in [0, 1), 53 bits. */
static double uniform(struct sampler *s)
{
	return (double)(xoshiro256ss(s->random) >> 11) * 0x1p-53;
}

int sampler_init(struct sampler *s, uint32_t n_vocab)
{
	struct sampling greedy = { 0 };

	s->n_vocab = n_vocab;
	s->candidates = calloc(n_vocab, sizeof(*s->candidates));
	s->logits = calloc(n_vocab, sizeof(*s->logits));
	s->counts = calloc(n_vocab, sizeof(*s->counts));
	if (!s->candidates || !s->logits || !s->counts) {
		sampler_fini(s);
		return -ENOMEM;
	}
	sampler_set(s, &greedy);
	return 0;
}

void sampler_fini(struct sampler *s)
{
	free(s->candidates);
	free(s->logits);
	free(s->counts);
	s->candidates = NULL;
	s->logits = NULL;
	s->counts = NULL;
}

void sampler_ends(struct sampler *s, const uint32_t *ids, uint32_t n)
{
	s->ends = ids;
	s->n_ends = n;
}

static void or_off(float *value, bool fits, float off)
{
	*value = fits ? *value : off;
}

void sampler_set(struct sampler *s, const struct sampling *config)
{
	uint64_t seed = config->seed;

	s->config = *config;
	for (unsigned i = 0; i < 4; i++)
		s->random[i] = splitmix64(&seed);
	/* comparisons with NaN are false, so these also turn NaN into off */
	if (!(config->temperature > 0.0f))
		s->config.temperature = 0.0f;
	if (!(config->top_p > 0.0f && config->top_p < 1.0f))
		s->config.top_p = 1.0f;
	if (!(config->min_p > 0.0f))
		s->config.min_p = 0.0f;
	if (s->config.min_p > 1.0f)
		s->config.min_p = 1.0f;
	or_off(&s->config.repeat_penalty, config->repeat_penalty > 0.0f, 1.0f);
	or_off(&s->config.frequency_penalty, isfinite(config->frequency_penalty), 0.0f);
	or_off(&s->config.presence_penalty, isfinite(config->presence_penalty), 0.0f);
	or_off(&s->config.typical_p, config->typical_p > 0.0f && config->typical_p < 1.0f, 1.0f);
	or_off(&s->config.top_n_sigma, config->top_n_sigma > 0.0f, 0.0f);
	or_off(&s->config.xtc_probability,
	       config->xtc_probability > 0.0f && config->xtc_threshold <= 0.5f, 0.0f);
	or_off(&s->config.xtc_threshold, config->xtc_threshold > 0.0f, 0.0f);
	or_off(&s->config.dry_multiplier, isfinite(config->dry_multiplier), 0.0f);
	or_off(&s->config.dry_base, config->dry_base > 0.0f, 1.75f);
	if (!s->config.dry_allowed_length)
		s->config.dry_allowed_length = 2;
}

/* From @i on the first of @n logits that is above @least; @n: none is. Most are not: sixteen are passed over at once. */
static uint32_t next_above(const float *logits, uint32_t i, uint32_t n, float least)
{
	typedef uint64_t vec_words __attribute__((vector_size(16)));
	const vec bar = { least, least, least, least };

	for (; i + 16 <= n; i += 16) {
		vec x[4];
		vec_words any;

		memcpy(x, logits + i, sizeof(x));
		any = (vec_words)((x[0] > bar) | (x[1] > bar) | (x[2] > bar) | (x[3] > bar));
		if (any[0] | any[1])
			break;
	}
	while (i < n && !(logits[i] > least))
		i++;
	return i;
}

static int pick_greedy(const float *logits, uint32_t n, uint32_t *ret_id)
{
	uint32_t best = next_above(logits, 0, n, -INFINITY);

	if (best == n)
		return -EDOM;
	for (uint32_t i = best; i < n; i = next_above(logits, i + 1, n, logits[best]))
		best = i;
	*ret_id = best;
	return 0;
}

/* The same of the tokens that a form allows: what it does not allow is not even looked at. */
static int pick_greedy_of(const float *logits, uint32_t n, const struct sampler_past *past,
			  uint32_t *ret_id)
{
	float max = -INFINITY;
	uint32_t best = 0;

	n = n < past->n_allowed ? n : past->n_allowed;
	for (uint32_t at = 0; at < n; at += 64)
		for (uint64_t left = past->allowed[at / 64]; left; left &= left - 1) {
			uint32_t i = at + (uint32_t)__builtin_ctzll(left);

			if (i < n && logits[i] > max) {
				max = logits[i];
				best = i;
			}
		}
	if (max == -INFINITY)
		return -EDOM;
	*ret_id = best;
	return 0;
}

/* True where a comes before b. */
static bool before(struct sampler_candidate a, struct sampler_candidate b)
{
	return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Heap with the first in order (or, with @last, the last in order) at the root. */
static void sift_down(struct sampler_candidate *c, uint32_t n, uint32_t i, bool last)
{
	struct sampler_candidate x = c[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && before(c[child + 1], c[child]) != last)
			child++;
		if (before(c[child], x) == last)
			break;
		c[i] = c[child];
		i = child;
	}
	c[i] = x;
}

static void heapify(struct sampler_candidate *c, uint32_t n, bool last)
{
	for (uint32_t i = n / 2; i-- > 0;)
		sift_down(c, n, i, last);
}

/* Infinite logits would make the differences below NaN. */
static struct sampler_candidate candidate(const float *logits, uint32_t id)
{
	return (struct sampler_candidate){ .logit = fminf(logits[id], FLT_MAX), .id = id };
}

/* Every candidate, in the order of ids; returns how many. */
static uint32_t gather_all(struct sampler *s, const float *logits, uint32_t n_logits)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_logits; i++)
		if (logits[i] > -INFINITY)
			s->candidates[n++] = candidate(logits, i);
	return n;
}

/* The k first in order, sorted; returns how many there are. */
static uint32_t gather_top_k(struct sampler *s, const float *logits, uint32_t n_logits, uint32_t k)
{
	struct sampler_candidate *c = s->candidates;
	uint32_t n = 0;

	for (uint32_t i = 0;; i++) {
		struct sampler_candidate x;

		/* ids ascend: an equal logit comes after those already kept */
		i = next_above(logits, i, n_logits, n == k ? c[0].logit : -INFINITY);
		if (i == n_logits)
			break;
		x = candidate(logits, i);
		if (n < k) {
			c[n++] = x;
			if (n == k)
				heapify(c, n, true);
		} else {
			c[0] = x;
			sift_down(c, n, 0, true);
		}
	}
	if (n < k)
		heapify(c, n, true);
	/* taking the last in order away again and again leaves them sorted, first in front */
	for (uint32_t left = n; left > 1; left--) {
		struct sampler_candidate x = c[0];

		c[0] = c[left - 1];
		c[left - 1] = x;
		sift_down(c, left - 1, 0, true);
	}
	return n;
}

static double weight(struct sampler_candidate c, float max, float inverse)
{
	float x = (c.logit - max) * inverse;

	return (double)exp_down((vec){ x, x, x, x })[0];
}

static double sum_weights(const struct sampler_candidate *c, uint32_t n, float max, float inverse)
{
	double sum[4] = { 0.0 };
	uint32_t i;

	for (i = 0; i + 4 <= n; i += 4) {
		vec x = { c[i].logit, c[i + 1].logit, c[i + 2].logit, c[i + 3].logit };

		x = exp_down((x - max) * inverse);
		for (unsigned j = 0; j < 4; j++)
			sum[j] += (double)x[j];
	}
	for (; i < n; i++)
		sum[0] += weight(c[i], max, inverse);
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* What was taken from a heap lies at its end, the first one last. */
static void to_front(struct sampler_candidate *c, uint32_t n)
{
	for (uint32_t i = 0; i < n / 2; i++) {
		struct sampler_candidate x = c[i];

		c[i] = c[n - 1 - i];
		c[n - 1 - i] = x;
	}
}

/* Keeps the fewest first candidates whose probabilities reach p; @sorted: they are in order. */
static uint32_t keep_top_p(struct sampler_candidate *c, uint32_t n, float max, float p, bool sorted)
{
	double total = sum_weights(c, n, max, 1.0f), sum = 0.0, least;
	uint32_t kept = 0, left = 0;

	if (sorted) {
		while (kept < n && sum < (double)p * total)
			sum += weight(c[kept++], max, 1.0f);
		return kept;
	}
	/* all that are lighter than this weigh less than 1 - p together: they are never reached */
	least = 0.999 * (1.0 - (double)p) * total / n;
	for (uint32_t i = 0; i < n; i++)
		if (weight(c[i], max, 1.0f) >= least)
			c[left++] = c[i];
	n = left;
	heapify(c, n, false);
	while (kept < n && sum < (double)p * total) {
		struct sampler_candidate x = c[0];

		sum += weight(x, max, 1.0f);
		kept++;
		c[0] = c[n - kept];
		c[n - kept] = x;
		sift_down(c, n - kept, 0, false);
	}
	to_front(c, n);
	return kept;
}

static uint32_t keep_min_p(struct sampler_candidate *c, uint32_t n, float max, float p)
{
	float least = max + logf(p);
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++)
		if (c[i].logit >= least)
			c[kept++] = c[i];
	return kept;
}

/*
 * Those nearest to the entropy, until they have p together. While they are put in order a candidate's
 * logit is its distance, negative, and its own is in s->logits, which nothing else needs any more.
 */
static uint32_t keep_typical(struct sampler *s, uint32_t n, float max, float p)
{
	struct sampler_candidate *c = s->candidates;
	double total = sum_weights(c, n, max, 1.0f), entropy = 0.0, sum = 0.0;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		double q = weight(c[i], max, 1.0f) / total;

		entropy -= q > 0.0 ? q * log(q) : 0.0;
	}
	for (uint32_t i = 0; i < n; i++) {
		double surprise = log(total) - ((double)c[i].logit - (double)max);

		s->logits[c[i].id] = c[i].logit;
		c[i].logit = -(float)fabs(surprise - entropy);
	}
	heapify(c, n, false);
	while (kept < n && sum < (double)p) {
		struct sampler_candidate x = c[0];

		x.logit = s->logits[x.id];
		sum += weight(x, max, 1.0f) / total;
		kept++;
		c[0] = c[n - kept];
		c[n - kept] = x;
		sift_down(c, n - kept, 0, false);
	}
	to_front(c, n);
	return kept;
}

/* Of those over the threshold, two or more, only the least likely stays: the last in order. */
static uint32_t exclude_top(struct sampler *s, uint32_t n, float max)
{
	struct sampler_candidate *c = s->candidates, least = { 0 };
	double total, over;
	uint32_t n_over = 0, kept = 0;

	if (uniform(s) >= (double)s->config.xtc_probability)
		return n;
	total = sum_weights(c, n, max, 1.0f);
	over = (double)s->config.xtc_threshold * total;
	for (uint32_t i = 0; i < n; i++)
		if (weight(c[i], max, 1.0f) >= over && (!n_over++ || before(least, c[i])))
			least = c[i];
	if (n_over < 2)
		return n;
	for (uint32_t i = 0; i < n; i++)
		if (c[i].id == least.id || weight(c[i], max, 1.0f) < over)
			c[kept++] = c[i];
	return kept;
}

static float largest(const struct sampler_candidate *c, uint32_t n)
{
	float max = -INFINITY;

	for (uint32_t i = 0; i < n; i++)
		max = fmaxf(max, c[i].logit);
	return max;
}

static uint32_t draw(struct sampler *s, uint32_t n, float max)
{
	const struct sampler_candidate *c = s->candidates;
	float inverse = fminf(1.0f / s->config.temperature, FLT_MAX);
	double at = uniform(s) * sum_weights(c, n, max, inverse), sum = 0.0;
	uint32_t heaviest = 0;

	for (uint32_t i = 0; i < n; i++) {
		sum += weight(c[i], max, inverse);
		if (at < sum)
			return c[i].id;
		if (c[i].logit > c[heaviest].logit)
			heaviest = i;
	}
	return c[heaviest].id; /* rounding left the draw beyond the end */
}

int sampler_pick_after(struct sampler *s, const float *logits, uint32_t n_logits,
		       const struct sampler_past *past, uint32_t *ret_id)
{
	const struct sampling *config = &s->config;
	bool sorted = config->top_k && config->top_k < n_logits;
	float max;
	uint32_t n;

	assert(n_logits <= s->n_vocab);
	if (config->temperature == 0.0f && past && past->allowed && !sampler_changes(s, past))
		return pick_greedy_of(logits, n_logits, past, ret_id);
	logits = sampler_change(s, logits, n_logits, past);
	if (config->temperature == 0.0f)
		return pick_greedy(logits, n_logits, ret_id);
	n = sorted ? gather_top_k(s, logits, n_logits, config->top_k)
		   : gather_all(s, logits, n_logits);
	if (n == 0)
		return -EDOM;
	max = largest(s->candidates, n);
	if (config->typical_p < 1.0f) {
		n = keep_typical(s, n, max, config->typical_p);
		max = largest(s->candidates, n);
		sorted = false;
	}
	if (config->top_p < 1.0f)
		n = keep_top_p(s->candidates, n, max, config->top_p, sorted);
	if (config->min_p > 0.0f)
		n = keep_min_p(s->candidates, n, max, config->min_p);
	if (config->xtc_probability > 0.0f) {
		n = exclude_top(s, n, max);
		max = largest(s->candidates, n);
	}
	*ret_id = draw(s, n, max);
	return 0;
}
