/* SPDX-License-Identifier: MIT */
/* daemon/engine/routed.c: see routed.h. */
#include "engine/routed.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/supply.h"
#include "trace/record.h"

struct routed {
	uint32_t n_layers, n_expert, n_used, max_columns;
	uint32_t *ids;	      /* [layer][column][n_used] */
	float *weights;	      /* the same */
	uint8_t *only_drafts; /* [layer][n_expert] */
	bool *seen;	      /* [layer]: it routed in this step */

	uint32_t *list, *counts, *place; /* [n_expert]: one layer's commit */
};

uint64_t routed_bytes(const struct model *m, uint32_t max_columns)
{
	uint64_t uses = (uint64_t)m->n_layers * max_columns * m->n_expert_used;

	if (!m->n_expert)
		return 0;
	return uses * (sizeof(uint32_t) + sizeof(float)) +
	       (uint64_t)m->n_layers * (m->n_expert + sizeof(bool)) +
	       3ull * m->n_expert * sizeof(uint32_t);
}

int routed_create(const struct model *m, uint32_t max_columns, struct routed **ret)
{
	struct routed *r = calloc(1, sizeof(*r));
	size_t uses = (size_t)m->n_layers * max_columns * m->n_expert_used;

	if (!r)
		return -ENOMEM;
	r->n_layers = m->n_layers;
	r->n_expert = m->n_expert;
	r->n_used = m->n_expert_used;
	r->max_columns = max_columns;
	r->ids = calloc(uses, sizeof(*r->ids));
	r->weights = calloc(uses, sizeof(*r->weights));
	r->only_drafts = calloc(m->n_layers, m->n_expert);
	r->seen = calloc(m->n_layers, sizeof(*r->seen));
	r->list = calloc(m->n_expert, sizeof(*r->list));
	r->counts = calloc(m->n_expert, sizeof(*r->counts));
	r->place = calloc(m->n_expert, sizeof(*r->place));
	if (!r->ids || !r->weights || !r->only_drafts || !r->seen || !r->list || !r->counts ||
	    !r->place) {
		routed_destroy(r);
		return -ENOMEM;
	}
	*ret = r;
	return 0;
}

void routed_destroy(struct routed *r)
{
	if (!r)
		return;
	free(r->ids);
	free(r->weights);
	free(r->only_drafts);
	free(r->seen);
	free(r->list);
	free(r->counts);
	free(r->place);
	free(r);
}

static size_t use_of(const struct routed *r, uint32_t layer, uint32_t column)
{
	return ((size_t)layer * r->max_columns + column) * r->n_used;
}

void routed_layer(struct routed *r, const struct batch *b, uint32_t layer, const uint32_t *ids,
		  const float *weights, uint32_t ld, const uint8_t *only_drafts)
{
	assert(b->n_tokens <= r->max_columns);
	for (uint32_t c = 0; c < b->n_tokens; c++) {
		size_t at = use_of(r, layer, c);

		memcpy(r->ids + at, ids + (size_t)c * r->n_used, r->n_used * sizeof(*ids));
		memcpy(r->weights + at, weights + (size_t)c * ld, r->n_used * sizeof(*weights));
	}
	memcpy(r->only_drafts + (size_t)layer * r->n_expert, only_drafts, r->n_expert);
	r->seen[layer] = true;
}

static void tell_trace(const struct routed *r, const struct batch *b, uint64_t step,
		       const uint32_t *kept, uint32_t layer, struct trace *trace)
{
	for (uint32_t i = 0; i < b->n_runs; i++) {
		const struct batch_run *run = &b->runs[i];

		for (uint32_t k = 0; k < kept[i]; k++) {
			size_t at = use_of(r, layer, run->first + k);

			trace_decoded(trace, step, run->number, run->pos + k, layer, r->ids + at,
				      r->weights + at, r->n_used);
		}
	}
}

/* The experts that kept drafts used beyond those that were told before, and how often. */
static uint32_t gather(struct routed *r, const struct batch *b, const uint32_t *kept,
		       uint32_t layer)
{
	uint32_t n = 0;

	memset(r->place, 0, r->n_expert * sizeof(*r->place));
	for (uint32_t i = 0; i < b->n_runs; i++) {
		const struct batch_run *run = &b->runs[i];

		for (uint32_t k = run->count - run->drafted; k < kept[i]; k++) {
			const uint32_t *ids = r->ids + use_of(r, layer, run->first + k);

			for (uint32_t u = 0; u < r->n_used; u++) {
				uint32_t e = ids[u];

				if (!r->place[e]) {
					r->list[n] = e;
					r->counts[n++] = 0;
					r->place[e] = n;
				}
				r->counts[r->place[e] - 1]++;
			}
		}
	}
	return n;
}

/* Uses by policy and counters: an expert that a sure token needed too has been counted already. */
static void tell_supply(struct routed *r, const struct batch *b, uint64_t step,
			const uint32_t *kept, uint32_t layer, struct supply *supply)
{
	const uint8_t *only = r->only_drafts + (size_t)layer * r->n_expert;
	uint32_t n = gather(r, b, kept, layer), all = 0;
	struct supply_kept_uses uses = { 0 };

	for (uint32_t i = 0; i < n; i++) {
		uses.hits += only[r->list[i]] > SUPPLY_NOWHERE;
		uses.misses += only[r->list[i]] == SUPPLY_NOWHERE;
		uses.on_device += only[r->list[i]] == SUPPLY_IN_DEVICE;
	}
	for (uint32_t e = 0; e < r->n_expert; e++)
		all += only[e] != 0;
	uses.dropped = all - uses.hits - uses.misses;
	supply_kept(supply, step, layer, r->list, r->counts, n, &uses);
}

void routed_commit(struct routed *r, const struct batch *b, uint64_t step, const uint32_t *kept,
		   struct trace *trace, struct supply *supply)
{
	for (uint32_t layer = 0; layer < r->n_layers; layer++) {
		if (!r->seen[layer])
			continue;
		r->seen[layer] = false;
		if (trace)
			tell_trace(r, b, step, kept, layer, trace);
		tell_supply(r, b, step, kept, layer, supply);
	}
}
