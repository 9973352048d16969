/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/sampler.h: from logits to the next token.
 *
 * The order is llama.cpp's documented one; what is off is left out. First the logits change:
 *
 *  form		tokens that the answer's form does not allow here (matcher.h) to -inf
 *  bias		added (OpenAI's logit_bias); min_tokens: tokens that end the answer to -inf
 *  penalties		of each token that the last penalty_last_n of prompt and answer hold, c times:
 *			x / repeat or, x <= 0, x * repeat (Keskar et al. 2019, CTRL), then
 *			- c * frequency - presence (OpenAI)
 *  DRY			of each token that would go on a repetition of L >= allowed_length tokens:
 *			- multiplier * base^(L - allowed_length) (p-e-w, text-generation-webui 5677);
 *			L up to 64, within the last 8192 tokens
 *  top-n-sigma		only logits >= max - n * standard deviation stay (Tang et al. 2024)
 *
 * Temperature 0 is greedy from here: the largest logit, the lowest id among equals. Else, each among
 * what is left and at temperature 1:
 *
 *  top-k		the k largest
 *  typical-p		those whose -log p is nearest to the entropy, until they have typical_p
 *			together (Meister et al. 2022)
 *  top-p		the likeliest until they have top_p together (Holtzman et al. 2019)
 *  min-p		those with at least min_p of the likeliest's probability (Nguyen et al. 2024)
 *  XTC			with xtc_probability: of those with at least xtc_threshold all but the least
 *			likely go (p-e-w, text-generation-webui 6335)
 *
 * then temperature and one draw. What came before is given with each pick, and random numbers follow
 * each other by pick (XTC takes one more): so picks one after another are the same however many
 * positions a step computed. The same seed, logits and past give the same tokens. Logits that are NaN or
 * -inf are never chosen: whoever excludes a token sets its logit to -inf. That the model itself gave
 * no such logit is for the caller to ask first (logits_broken).
 *
 * One sampler per sequence; engine thread. Memory is taken by sampler_init() only.
 */
#ifndef SLUICE_ENGINE_SAMPLER_H
#define SLUICE_ENGINE_SAMPLER_H

#include <stdint.h>

#include "engine/request.h"

struct sampler_candidate {
	float logit;
	uint32_t id;
};

struct sampler {
	struct sampling config;
	uint32_t n_vocab;
	struct sampler_candidate *candidates; /* n_vocab of them, owned */
	float *logits;			      /* n_vocab, changed ones; owned */
	uint32_t *counts;		      /* n_vocab, 0 between picks; owned */
	const uint32_t *ends; /* tokens that end an answer (min_tokens), sampler_ends() */
	uint32_t n_ends;
	uint64_t random[4]; /* xoshiro256** */
};

/* What came before a pick: @ids, then @more (picked in the same step). Borrowed during the pick. */
struct sampler_past {
	const uint32_t *ids, *more;
	uint32_t n_ids, n_more;
	uint32_t n_generated; /* of them, the answer's */
	const uint64_t
		*allowed; /* a bit for each of the first @n_allowed tokens; NULL: all may come */
	uint32_t n_allowed;
};

/* What sampler_init() takes. */
static inline uint64_t sampler_bytes(uint32_t n_vocab)
{
	return (uint64_t)n_vocab *
	       (sizeof(struct sampler_candidate) + sizeof(float) + sizeof(uint32_t));
}

/* Takes its lists; the settings are greedy until sampler_set(). 0 or -ENOMEM. */
int sampler_init(struct sampler *s, uint32_t n_vocab);
void sampler_fini(struct sampler *s); /* a zeroed sampler is fine */

/* Which tokens end an answer: borrowed as long as the sampler. */
void sampler_ends(struct sampler *s, const uint32_t *ids, uint32_t n);

/*
 * New settings, and the random numbers from the start of their seed. Settings that are not numbers
 * or out of range are taken as off (temperature: greedy).
 */
void sampler_set(struct sampler *s, const struct sampling *config);

/*
 * Picks from @n <= n_vocab logits, behind @past (NULL: nothing came before). 0 and *ret_id, or -EDOM where no logit is a number above -inf.
 * Draws random numbers where the temperature is above 0: one per pick, two with XTC.
 */
int sampler_pick_after(struct sampler *s, const float *logits, uint32_t n,
		       const struct sampler_past *past, uint32_t *ret_id);
static inline int sampler_pick(struct sampler *s, const float *logits, uint32_t n, uint32_t *ret_id)
{
	return sampler_pick_after(s, logits, n, NULL, ret_id);
}

/* Whether anything but the form changes the logits. */
bool sampler_changes(const struct sampler *s, const struct sampler_past *past);
/*
 * Form, bias, penalties, DRY and top-n-sigma (sampler_logits.c): the logits to pick from, @logits itself or
 * s->logits. For sampler_pick_after().
 */
const float *sampler_change(struct sampler *s, const float *logits, uint32_t n,
			    const struct sampler_past *past);

#endif
