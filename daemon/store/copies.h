/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/copies.h: the books of one tier: which experts have a copy in it, in which slot.
 *
 * An expert can be in several places at once. The disk always has it; each faster tier (host memory;
 * a device's memory) may have a copy, and every tier keeps books of its own, all by this machine:
 *
 *            begin           the bytes are there
 *  ABSENT ----------> FILLING ----------> PRESENT
 *     ^                  | failed            | evict (unpinned)
 *     +------------------+-------------------+
 *
 * A pin keeps a copy where it is: it counts those who read it or wait for it. A FILLING copy that
 * failed stays so until its last pin is gone, since its waiters have to see the failure. Slots come
 * in size classes; a copy's class is that of its expert's layer.
 *
 * Knows nothing of bytes: how a slot is filled, and when, is its owner's (store/residency.c for the
 * host). Owned by the engine thread; copies_status() alone may be called by any thread for a copy
 * that is pinned. Allocates in copies_create() only.
 */
#ifndef SLUICE_STORE_COPIES_H
#define SLUICE_STORE_COPIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define COPIES_NO_SLOT UINT32_MAX

enum copy_state { COPY_ABSENT, COPY_FILLING, COPY_PRESENT };

struct copies;

/*
 * @n_experts ids, id i of class @class_of[i / per_layer] (borrowed), with class_slots[c] slots each. Slots are
 * numbered through all classes. 0 or -ENOMEM.
 */
int copies_create(uint32_t n_experts, uint32_t per_layer, const uint32_t *class_of,
		  uint32_t n_classes, const uint32_t *class_slots, struct copies **ret);
void copies_destroy(struct copies *c); /* NULL is fine */

/*
 * Copies that are there already: @id_of_slot has for each slot an id of its class, none twice, or
 * COPIES_NO_SLOT. They become PRESENT without a pin. Once, before any other call.
 */
void copies_adopt(struct copies *c, const uint32_t *id_of_slot);

enum copy_state copies_state(const struct copies *c, uint32_t id);
/* COPIES_NO_SLOT where ABSENT. */
uint32_t copies_slot(const struct copies *c, uint32_t id);
bool copies_pinned(const struct copies *c, uint32_t id);
uint32_t copies_free_slots(const struct copies *c, uint32_t cls);

/*
 * Of class @cls only the first @n slots are there from now on, at most those of copies_create(). -EBUSY: one
 * of the others is taken, and nothing has changed.
 */
int copies_limit(struct copies *c, uint32_t cls, uint32_t n);

/* PRESENT or FILLING: one more pin, 0. ABSENT: -ENOENT. */
int copies_pin(struct copies *c, uint32_t id);
void copies_unpin(struct copies *c, uint32_t id);

/*
 * ABSENT -> FILLING with one pin, in a free slot (*ret_slot). -ENOSPC: none is free. -EBUSY: not
 * ABSENT, a failed fill that is still pinned included.
 */
int copies_begin(struct copies *c, uint32_t id, uint32_t *ret_slot);

/*
 * How the fill of a slot ended: 0, or -errno. Any one thread, once for each copies_begin(); releases
 * what it wrote to whoever sees it through copies_status().
 */
void copies_filled(struct copies *c, uint32_t slot, int result);

/* For a pinned copy: 1 its bytes may be read (acquire), 0 still filling, -errno it failed. */
int copies_status(const struct copies *c, uint32_t id);

/* PRESENT and unpinned -> ABSENT, its slot free. -EBUSY where pinned or FILLING, -ENOENT if ABSENT. */
int copies_evict(struct copies *c, uint32_t id);

/*
 * Books ended fills into the states: calls changed(arg, id, present) for each expert that became
 * PRESENT, or ABSENT because its fill failed. Cheap where little is filling.
 */
void copies_settle(struct copies *c, void (*changed)(void *arg, uint32_t id, bool present),
		   void *arg);

/* Copies in state FILLING. */
uint32_t copies_filling(const struct copies *c);

#endif
