/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/router.h: which experts a token uses, from the router's logits.
 *
 * Formula: docs/models.md 2.4, MoE: softmax over all experts in f32, the k largest, divided by
 * their sum where the model says so. Pure function, any thread, no allocation.
 */
#ifndef SLUICE_ENGINE_ROUTER_H
#define SLUICE_ENGINE_ROUTER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Chooses @k of @n_expert (1 <= k <= n_expert) by @logits. ids[] come in descending probability,
 * equal ones by ascending id; weights[i] belongs to ids[i] and is p / sum of the chosen p with
 * @renorm, p without, times @scale. Where a logit is infinite or not a number all weights are NaN,
 * for then the choice means nothing; ids are distinct and < n_expert even so (NaN ranks last).
 */
void router_select(const float *logits, uint32_t n_expert, uint32_t k, bool renorm, float scale,
		   uint32_t *ids, float *weights);

#endif
