/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/residency.h: which expert is where. The only place that knows.
 *
 * Tiers, slowest first: the disk, which has every expert always; host memory; a device's memory. An
 * expert has a copy or none in each of the faster ones, with books per tier (copies.h draws the
 * states). A tier that this machine does not have holds nothing: every copy in it is ABSENT.
 *
 * Host slots: the arena is cut once into slots of a few size classes (layers of different weight
 * types have experts of different sizes). A slot holds the pieces of one expert, each with its own
 * lead-in so that direct reads land where they are computed from; on several NUMA nodes each node's
 * rows in that node's region of the arena (base/nodes.h, residency_cut.h).
 *
 * Demand, prediction and background fill share the reader's one queue and differ in their class.
 *
 * Threads: every call is made by the engine thread, except those marked "any thread". The reader's
 * threads complete reads through atomics only. Locks: the reader's, in residency_hurry() alone.
 */
#ifndef SLUICE_STORE_RESIDENCY_H
#define SLUICE_STORE_RESIDENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/divide.h"
#include "base/err.h"
#include "store/copies.h"
#include "base/nodes.h"
#include "store/reader.h"

struct arena;
struct model;
struct residency;
struct warm;

typedef uint32_t expert_id_t; /* layer * n_expert + expert */

enum tier { TIER_DISK, TIER_HOST, TIER_DEVICE, TIER_NR };

/*
 * Where the matrices of a pinned host copy lie; valid while it is pinned and PRESENT. Row r of matrix k
 * (enum expert_matrix), when it belongs to node i of the split, is at at[k][i] + r * row_bytes. NULL
 * for a gate that experts do not have.
 */
struct expert_view {
	const uint8_t *at[3][NODES_SPLIT];
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

/*
 * The size classes of slots in their order, into @shares and per layer into @class_of_layer (may be
 * NULL), each with room for m->n_layers; slots is left 0 (base/divide.h fills it). Returns their
 * number, 0 for a dense model or without memory.
 */
uint32_t residency_shares(const struct model *m, uint32_t align, const struct node_split *split,
			  struct slot_share *shares, uint32_t *class_of_layer);

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

/*
 * What residency_create() would make of a budget, without memory: a hash of where every byte lies, the slots
 * and their bytes. 0 or -errno and a sentence. Zeros for a dense model.
 */
struct residency_layout {
	uint64_t hash, slot_bytes_total;
	uint32_t n_slots;
};
int residency_layout(const struct model *m, uint32_t align, uint64_t budget_bytes,
		     const struct node_split *split, struct residency_layout *ret, struct err *err);

/*
 * The slots' marks are @warm's (borrowed) from here on; @arena is the one given to residency_create(), kept
 * memory. With @taken the marks are another process's: slots that are whole become PRESENT, each expert
 * once; where a read may still be under way, new pages are put under it, and what shares them is given up.
 * Once, before the first load. 0 or -errno and a sentence: then nothing of the memory may be used.
 */
int residency_keep(struct residency *r, struct warm *warm, struct arena *arena, bool taken,
		   struct err *err);

uint32_t residency_n_classes(const struct residency *r); /* of the host's slots */
/* RESIDENCY_NO_CLASS for a layer without experts. */
#define RESIDENCY_NO_CLASS UINT32_MAX
uint32_t residency_class_of(const struct residency *r, uint32_t layer);
uint32_t residency_class_slots(const struct residency *r, uint32_t cls);
/* The class with its slots. Any thread. */
struct slot_share residency_class(const struct residency *r, uint32_t cls);
uint32_t residency_free_slots(const struct residency *r, enum tier tier, uint32_t cls);

/* Copies in one tier; the calls of copies.h. The disk's are always PRESENT and need no pin. */
enum copy_state residency_state(const struct residency *r, enum tier tier, expert_id_t id);
bool residency_pinned(const struct residency *r, enum tier tier, expert_id_t id);
int residency_pin(struct residency *r, enum tier tier, expert_id_t id);
void residency_unpin(struct residency *r, enum tier tier, expert_id_t id);
int residency_evict(struct residency *r, enum tier tier, expert_id_t id);

/*
 * The books of a device's slots, numbered through all classes; @class_of (by layer) and @class_slots are
 * copied. Once, before any copy is there. What the slots hold, and how it comes there, is the caller's:
 * begin takes a free slot (ABSENT -> FILLING) and pins the copy and its source in host memory, which must be
 * PRESENT (-ENOENT otherwise; -ENOSPC, -EBUSY as copies_begin()); done takes both pins off and makes the
 * copy PRESENT, or ABSENT where @result is not 0. 0 or -ENOMEM.
 */
int residency_add_device(struct residency *r, const uint32_t *class_of, uint32_t n_classes,
			 const uint32_t *class_slots);
/* As copies_limit(): of the device's slots of class @cls the first @n are there. */
int residency_device_limit(struct residency *r, uint32_t cls, uint32_t n);
int residency_device_begin(struct residency *r, expert_id_t id);
void residency_device_done(struct residency *r, expert_id_t id, int result);
/* Of a copy in the device; COPIES_NO_SLOT where ABSENT. */
uint32_t residency_device_slot(const struct residency *r, expert_id_t id);

/*
 * Disk to host: ABSENT -> FILLING with one pin: takes a free slot and submits the reads in @cls.
 * -ENOSPC: no slot is free. -EBUSY: not ABSENT, a failed load that is still pinned included.
 */
int residency_load(struct residency *r, expert_id_t id, enum read_class cls);

/* A host copy that is being read is waited for now: what of it is still queued becomes demand. */
void residency_hurry(struct residency *r, expert_id_t id);

/* Nobody waits for this load any more: what of it is not begun ends with -ECANCELED. */
void residency_withdraw(struct residency *r, expert_id_t id);

/* Bytes that residency_load() would read for an expert of this layer. */
uint64_t residency_load_bytes(const struct residency *r, uint32_t layer);

/*
 * Any thread, for a pinned host copy: 1 landed (acquire: its bytes may be read), 0 still reading,
 * negative: its load failed with this errno. A failed copy stays FILLING until residency_settle()
 * turns it ABSENT once its last pin is gone.
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

/* Loads from disk in flight or queued now. */
uint32_t residency_reading(const struct residency *r);

void residency_get_stats(const struct residency *r, struct residency_stats *ret);

#endif
