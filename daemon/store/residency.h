/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/residency.h: which expert is where. The only place that knows.
 *
 *            load           every part landed
 *  ABSENT ----------> READING ----------> HOST
 *     ^                  | error            | evict (unpinned)
 *     +------------------+------------------+
 *
 * (A device tier adds states of its own beside HOST.)
 *
 * Slots: the arena is cut once into slots of a few size classes (layers of different weight types
 * have experts of different sizes). A slot holds the pieces of one expert, each with its own lead-in
 * so that direct reads land where they are computed from; on several NUMA nodes each node's rows in
 * that node's region of the arena (nodes.h, residency_cut.h).
 *
 * Threads: every call is made by the engine thread, except the three marked "any thread". The
 * reader's threads complete reads through atomics only. Locks: none.
 */
#ifndef SLUICE_STORE_RESIDENCY_H
#define SLUICE_STORE_RESIDENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/nodes.h"

struct arena;
struct model;
struct reader;
struct residency;

typedef uint32_t expert_id_t; /* layer * n_expert + expert */

enum expert_state { EXPERT_ABSENT, EXPERT_READING, EXPERT_HOST };

/*
 * Where the matrices of a pinned expert lie; valid while it is pinned and HOST. Row r of matrix k
 * (enum expert_matrix), when it belongs to node i of the split, is at at[k][i] + r * row_bytes.
 */
struct expert_view {
	const uint8_t *at[3][NODES_MAX];
};

struct residency_stats {		  /* any thread, monotonic except resident_* */
	uint64_t slots, slot_bytes_total; /* with padding */
	uint64_t experts_total, experts_resident, resident_bytes;
	uint64_t loads, bytes_read, load_errors, evictions;
};

/* Least and most budget in bytes that make sense: one wave's slots, and a slot for every expert.
 * Zeros for a dense model. */
struct residency_need {
	uint64_t least_bytes, all_bytes;
};

/* @align: the reader's. @split NULL: one node. Pure arithmetic on the model. */
void residency_need(const struct model *m, uint32_t align, const struct node_split *split,
		    struct residency_need *ret);

/* Bytes of arena for a budget: on several nodes each node's region starts on a page of its own. */
uint64_t residency_arena_bytes(uint64_t budget_bytes, const struct node_split *split);

/*
 * Cuts @budget_bytes of @arena into slots, classes in proportion to their experts' number but
 * never fewer than n_expert_used slots each; at residency_need().all_bytes every expert has one.
 * -ENOSPC and "need at least N bytes" below residency_need().least_bytes, 0 at that and above. The
 * model, the arena and the reader are borrowed. A dense model has no classes and no slots: it may
 * be created (any budget, any arena) or left out; nothing that takes an id may then be called.
 * @split (copied; NULL: one node) says which rows go to which node; regions are bound to their
 * nodes here, before the first touch: a machine that refuses is no error (arena_fallback()).
 */
int residency_create(const struct model *m, struct arena *arena, uint64_t budget_bytes,
		     struct reader *reader, const struct node_split *split, struct residency **ret,
		     struct err *err);
void residency_destroy(struct residency *r); /* after reads have ended; NULL is fine */

uint32_t residency_n_classes(const struct residency *r);
/* RESIDENCY_NO_CLASS for a layer without experts. */
#define RESIDENCY_NO_CLASS UINT32_MAX
uint32_t residency_class_of(const struct residency *r, uint32_t layer);
uint32_t residency_class_slots(const struct residency *r, uint32_t cls);
uint32_t residency_free_slots(const struct residency *r, uint32_t cls);

enum expert_state residency_state(const struct residency *r, expert_id_t id);
bool residency_pinned(const struct residency *r, expert_id_t id);

/* HOST or READING: one more pin, 0. ABSENT: -ENOENT. */
int residency_pin(struct residency *r, expert_id_t id);
void residency_unpin(struct residency *r, expert_id_t id);

/*
 * ABSENT -> READING with one pin: takes a free slot and submits the reads. -ENOSPC: none is free.
 * -EBUSY: not ABSENT, a failed load that is still pinned included.
 */
int residency_load(struct residency *r, expert_id_t id);

/* HOST and unpinned -> ABSENT, its slot free. -EBUSY where pinned or READING, -ENOENT if ABSENT. */
int residency_evict(struct residency *r, expert_id_t id);

/*
 * Any thread, for a pinned expert: 1 landed (acquire: its bytes may be read), 0 still reading,
 * negative: its load failed with this errno. A failed expert stays READING until
 * residency_settle() turns it ABSENT once its last pin is gone.
 */
int residency_landed(const struct residency *r, expert_id_t id);

/* Valid after residency_landed() gave 1. Any thread. */
struct expert_view residency_view(const struct residency *r, expert_id_t id);

/* Books landed and failed loads into the states. Cheap; the engine calls it once per layer. */
void residency_settle(struct residency *r);

/*
 * A word that changes (and is futex-woken) whenever a load lands or fails: load it, check
 * residency_landed(), then futex_wait() on the value seen. Any thread.
 */
_Atomic uint32_t *residency_event_word(struct residency *r);

/* Loads in flight now. */
uint32_t residency_reading(const struct residency *r);

void residency_get_stats(const struct residency *r, struct residency_stats *ret);

#endif
