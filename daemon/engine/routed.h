/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/routed.h: which experts a step with drafts used, held until it is known which
 * positions stay.
 *
 * Traces, policies and the counters of uses know only positions that stayed, so that a simulation of
 * the trace and the daemon count the same. What only drafts needed is brought in like all else, but
 * told to nobody before the step's end: then routed_commit() tells what stayed, and counts the rest
 * apart. Memory is taken at start. Engine thread.
 */
#ifndef SLUICE_ENGINE_ROUTED_H
#define SLUICE_ENGINE_ROUTED_H

#include "engine/batch.h"
#include "model/model.h"

struct routed;
struct supply;
struct trace;

/* Bytes that routed_create() takes. */
uint64_t routed_bytes(const struct model *m, uint32_t max_columns);

/* For a model with experts; steps with drafts have at most @max_columns. 0 or -ENOMEM. */
int routed_create(const struct model *m, uint32_t max_columns, struct routed **ret);
void routed_destroy(struct routed *r); /* NULL is fine */

/*
 * A layer's choice: n_expert_used ids of each column, their weights @ld apart.
 * @only_drafts [n_expert]: 0, or for an expert that only drafts use where it was (enum supply_place).
 */
void routed_layer(struct routed *r, const struct batch *b, uint32_t layer, const uint32_t *ids,
		  const float *weights, uint32_t ld, const uint8_t *only_drafts);

/*
 * The step @step has ended, or was given up; kept[i] tokens of run i stay. Tells @trace (NULL: none) and
 * @supply of the layers that began.
 */
void routed_commit(struct routed *r, const struct batch *b, uint64_t step, const uint32_t *kept,
		   struct trace *trace, struct supply *supply);

#endif
