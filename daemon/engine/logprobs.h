/* SPDX-License-Identifier: MIT */
/* daemon/engine/logprobs.h: what a row of logits says beside the token that is picked from it. */
#ifndef SLUICE_ENGINE_LOGPROBS_H
#define SLUICE_ENGINE_LOGPROBS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/request.h"

/*
 * Log-probabilities of @id and of the @top <= LOGPROBS_MAX likeliest of @n logits (equal ones by id),
 * as log_softmax_at() gives them, and @id's rank. Any thread.
 */
void logits_logprobs(const float *logits, uint32_t n, uint32_t id, uint32_t top,
		     struct token_logprobs *ret);

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
