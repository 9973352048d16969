/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/sampler.h: from logits to the next token.
 *
 * Order: top-k, then top-p (of what top-k left, at temperature 1), then min-p (relative to the
 * most probable), then temperature and one draw. Temperature 0 is greedy: the largest logit, the
 * lowest id among equals. The same seed and logits give the same tokens. Logits that are NaN or
 * -inf are never chosen: whoever excludes a token sets its logit to -inf. That the model itself gave
 * no such logit is for the caller to ask first (logits_broken).
 *
 * One sampler per sequence; engine thread. Memory is taken by sampler_init() only.
 */
#ifndef SLUICE_ENGINE_SAMPLER_H
#define SLUICE_ENGINE_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

struct sampler_candidate {
	float logit;
	uint32_t id;
};

struct sampler {
	struct sampling config;
	uint32_t n_vocab;
	struct sampler_candidate *candidates; /* n_vocab of them, owned */
	uint64_t random[4];		      /* xoshiro256** */
};

/* Takes the candidate list; the settings are greedy until sampler_set(). 0 or -ENOMEM. */
int sampler_init(struct sampler *s, uint32_t n_vocab);
void sampler_fini(struct sampler *s); /* a zeroed sampler is fine */

/*
 * New settings, and the random numbers from the start of their seed. Settings that are not numbers
 * or out of range are taken as off (temperature: greedy).
 */
void sampler_set(struct sampler *s, const struct sampling *config);

/*
 * Picks from @n <= n_vocab logits. 0 and *ret_id, or -EDOM where no logit is a number above -inf.
 * Draws one random number per pick where the temperature is above 0.
 */
int sampler_pick(struct sampler *s, const float *logits, uint32_t n, uint32_t *ret_id);

/*
 * How many of @n logits are infinite or not a number: 0 for a model whose weights and state are
 * sound. Any thread; costs a fraction of a greedy pick.
 */
uint32_t logits_broken(const float *logits, uint32_t n);

/*
 * Natural log of softmax(logits)[id], the sum in double; NaN where a logit is NaN or all are -inf.
 * Exponentials are f32 (relative error 3e-7 each, and so of the sum). Any thread.
 */
double log_softmax_at(const float *logits, size_t n, uint32_t id);

#endif
