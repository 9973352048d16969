/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/supply.h: brings a layer's experts, in waves where the budget is small, and says on
 * which unit each is computed.
 *
 * The one place where policy (what is worth keeping) and residency (what is where) meet. For each
 * layer of a step the engine thread says which experts are needed; supply pins those present, posts
 * reads for the missing ones before anything is computed, and hands out experts as they are ready.
 * Where the slots cannot hold all, the rest follow as computed ones are released. Each tier has a
 * policy instance of its own. Background fills come behind all demand and keep to a byte budget.
 *
 * A failed read fails that expert for this step only: supply_next() reports it, the caller fails
 * the requests that needed it. Engine thread, and while it runs a step whichever thread of the team
 * has the unit: one at a time. No allocation after supply_create().
 */
#ifndef SLUICE_ENGINE_SUPPLY_H
#define SLUICE_ENGINE_SUPPLY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/policy.h"
#include "policy/predict.h"
#include "store/residency.h"

struct supply;

struct supply_counters { /* monotonic; written by the engine thread, read by any */
	_Atomic uint64_t hits, misses, stall_ns, fills;
	struct histogram stalls;  /* fine: each wait that stall_ns counts */
	_Atomic uint64_t dropped; /* uses by drafts alone that did not stay: in no other counter */
	/* reads ahead of a layer: all; there in time; still under way when asked for; not asked for */
	_Atomic uint64_t predicted, useful, late, wasted;
	_Atomic uint64_t wasted_bytes;
	/* of these uses, the experts that lay in a device's slot, and the others; drafts are not in it */
	_Atomic uint64_t device_hits, device_misses;
};

/* Who decides what a tier keeps. ops NULL: the tier is not there. */
struct supply_tier {
	const struct policy_ops *ops;
	struct policy *policy;
};

/* What computes an expert: the unit whose tier has the copy that supply pinned. */
enum unit { UNIT_HOST, UNIT_DEVICE };

struct supply_config {
	const struct model *model;
	struct residency *residency;
	struct supply_tier tier[TIER_NR]; /* TIER_HOST is needed */
	/* Where the host reads an expert that lies in a device's slot; NULL: the device computes it. */
	struct expert_view (*device_view)(void *arg, expert_id_t id);
	void *device_arg;
	uint32_t max_used;	   /* most distinct experts of one layer in one step */
	uint64_t fill_bytes_per_s; /* of background fills; 0: no bound */
	/* Asked while supply_next() waits: true where nobody wants the step any more. NULL: never. */
	bool (*given_up)(void *arg);
	void *given_up_arg;
};

/* Borrows what @config points to. 0 or -ENOMEM. */
int supply_create(const struct supply_config *config, struct supply **ret);
/* No reads may be in flight (supply_drain). NULL is fine. */
void supply_destroy(struct supply *s);

/*
 * Layer @layer of step @step needs the experts @experts (numbers in the layer, distinct), each for
 * counts[i] tokens; 0: for drafts alone, of which policy and counters hear nothing yet. Posts what
 * can be posted and returns. What a background fill is reading already goes ahead of the other
 * fills. Cannot fail: a fault shows in supply_next().
 */
void supply_begin(struct supply *s, uint64_t step, uint32_t layer, const uint32_t *experts,
		  const uint32_t *counts, uint32_t n);

/*
 * The indices (into the list given to supply_begin) that are ready to compute, each exactly once
 * over the layer: waits until there is at least one. Those handed out before are released by this
 * call: their slots may be reused. Returns 0 when all have been handed out. ret_failed[i] is set
 * to -errno for indices whose read failed (then there is nothing to compute). -ECANCELED: the step
 * was given up; what was pinned is let go, reads that are not begun are withdrawn, and the layer is
 * over.
 */
int32_t supply_next(struct supply *s, uint32_t *ret_indices, int *ret_failed);

/*
 * The same without waiting: 0 where nothing is there yet, or all have been handed out. Experts that lack a slot wait
 * for supply_next().
 */
uint32_t supply_present(struct supply *s, uint32_t *ret_indices, int *ret_failed);

/*
 * A layer that comes later, of this step or the next, is likely to use these experts (ids as policies
 * number them, of that layer): reads of those that are absent are posted behind all demand, as far as
 * policy, free slots and bytes in flight (@most; 0: what is usual) allow (policy/predict.h). Sorts @guess.
 * They keep their slots until that layer begins; whatever was said of it before is forgotten, but for what is
 * read already.
 * Between layers or after supply_begin(); nothing is done where that could not post all.
 */
void supply_predict(struct supply *s, uint32_t layer, struct predict_guess *guess, uint32_t n,
		    uint64_t most);

/* Is any expert absent from host memory, so that a guess could be of use? */
bool supply_lacks(const struct supply *s);
/* Is this one? */
bool supply_absent(const struct supply *s, uint32_t layer, uint32_t expert);

/* Where was index i of the current layer when it began? */
enum supply_place { SUPPLY_NOWHERE = 1, SUPPLY_IN_HOST, SUPPLY_IN_DEVICE };
enum supply_place supply_where(const struct supply *s, uint32_t index);

/*
 * After a step with drafts: what those that stayed used of a layer, experts and counts as in
 * supply_begin(). Of the experts that only drafts had needed: how many kept ones were in memory, how
 * many were not, and those that no kept position used; of the hits those in the device.
 */
struct supply_kept_uses {
	uint32_t hits, misses, dropped, on_device;
};
void supply_kept(struct supply *s, uint64_t step, uint32_t layer, const uint32_t *experts,
		 const uint32_t *counts, uint32_t n, const struct supply_kept_uses *uses);

/* Where index i of the current layer is computed; only while it is handed out and did not fail. */
enum unit supply_unit(const struct supply *s, uint32_t index);
/* Where the host reads it; of UNIT_HOST only. */
struct expert_view supply_view(const struct supply *s, uint32_t index);

/*
 * Background fill of host slots: books finished fills and posts new ones while slots are free,
 * keeping at most @in_flight reading and to the byte budget at @now_ns. Returns true while there is
 * something left to fill or in flight.
 */
bool supply_fill(struct supply *s, unsigned in_flight, uint64_t now_ns);

/* Steps begin: fills that are not begun give way to what these need, and are to be posted anew. */
void supply_withdraw_fills(struct supply *s);

/* Nanoseconds until the byte budget lets another fill begin; 0: it does, or nothing is to fill. */
uint64_t supply_fill_wait_ns(const struct supply *s, uint64_t now_ns);

/*
 * More experts lie in a device's slots than before: their host copies are the first to give way, since
 * nobody needs both.
 */
void supply_device_changed(struct supply *s);

/* Waits until no read is in flight. */
void supply_drain(struct supply *s);

const struct supply_counters *supply_counters(const struct supply *s);

/* Uses of each expert by tokens that stayed, by id; they only grow, and wrap. Any thread. */
const _Atomic uint32_t *supply_uses(const struct supply *s);

#endif
