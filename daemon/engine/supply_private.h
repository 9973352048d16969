/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/supply_private.h: what supply.c (a layer's own experts, fills) and supply_ahead.c (experts
 * of layers that come later) share. Nobody else includes it.
 */
#ifndef SLUICE_ENGINE_SUPPLY_PRIVATE_H
#define SLUICE_ENGINE_SUPPLY_PRIVATE_H

#include "engine/supply.h"
#include "policy/rate.h"

enum item_state { ITEM_WANTED, ITEM_PINNED, ITEM_OUT, ITEM_DONE };

struct item {
	expert_id_t id;
	enum item_state state;
	uint8_t tier;			      /* enum tier of the copy that is pinned */
	bool was_present, on_device, guessed; /* guessed: a guess's read was under way */
};

struct supply {
	struct residency *residency;
	struct supply_tier tier[TIER_NR];
	struct expert_view (*device_view)(void *arg, expert_id_t id);
	void *device_arg;
	uint32_t n_expert, n_layers;

	/* the current layer */
	struct item *items;
	uint32_t *ids, *counts; /* for policy->used */
	uint32_t n, n_done, cls, max_used;

	/* read ahead, each with a pin until its layer begins */
	expert_id_t *ahead;
	uint32_t n_ahead, max_ahead, n_used;
	bool *expected; /* by id: guessed to be used, and so no victim for another guess */

	/* pinned loads that no layer waits for, each once: fills, and what a given-up step had begun */
	struct load {
		expert_id_t id;
		bool fill, guess;
	} * fills;
	unsigned n_fills;
	bool (*given_up)(void *arg);
	void *given_up_arg;
	bool fill_ended, fill_waits; /* waits: for the budget */
	bool has_spare;		     /* there may be an expert that a device has too */
	struct byte_rate fill_rate;

	struct supply_counters counters;
	_Atomic uint32_t *uses; /* by id */
};

static inline void supply_count(_Atomic uint64_t *counter, uint64_t by)
{
	/* one writer: no need for a locked add */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* Is @id in the host's memory, and nobody's? @ctx: the supply. */
bool supply_evictable(void *ctx, uint32_t id);

/* Evicts @victim and tells its policy. 0 or -EBUSY. */
int supply_evict(struct supply *s, uint32_t victim);

/* A read failed: the last unpin lets residency forget it, and policy must too. */
void supply_forget_failed(struct supply *s, expert_id_t id);

/* Is it one of the pinned loads that no layer waits for? */
bool supply_is_fill(const struct supply *s, expert_id_t id);

/* ---- supply_ahead.c ---- */

/* No layer will ask for what was read ahead: reads that are not begun are withdrawn. */
void supply_drop_ahead(struct supply *s);

/* Before the layer's items take pins: what was read ahead and failed is forgotten. */
void supply_drop_failed_ahead(struct supply *s);

/* @layer has begun, its items hold pins of their own: what was read for it is useful, late or wasted. */
void supply_judge_ahead(struct supply *s, uint32_t layer);

#endif
