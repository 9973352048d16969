/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/router.h: which experts a token uses, from the router's logits.
 *
 * Formulas: docs/models.md 2.4, MoE. Pure function, any thread, no allocation.
 */
#ifndef SLUICE_ENGINE_ROUTER_H
#define SLUICE_ENGINE_ROUTER_H

#include <stdint.h>

#include "model/model.h"

/* Floats of scratch that router_select wants. */
#define ROUTER_SCRATCH(n_expert) (2 * (size_t)(n_expert))

/*
 * Chooses @k of @n_expert (1 <= k <= n_expert) by @logits as @spec says. ids[] come in descending
 * order of what the choice is made by (probability, plus @choice_bias where it is not NULL, within
 * the groups that are used), equal ones by ascending id; weights[i] belongs to ids[i] and is the
 * probability without the bias, divided by the sum of the chosen with spec->renorm, times
 * spec->scale. Where a logit is infinite or not a number all weights are NaN, for then the choice
 * means nothing; ids are distinct and < n_expert even so (NaN ranks last).
 */
void router_select(const struct router_spec *spec, const float *logits, uint32_t n_expert,
		   uint32_t k, const float *choice_bias, float *scratch, uint32_t *ids,
		   float *weights);

#endif
