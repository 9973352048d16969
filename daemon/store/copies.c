/* SPDX-License-Identifier: MIT */
/* daemon/store/copies.c: see copies.h. */
#include "store/copies.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct copy {
	uint32_t slot; /* COPIES_NO_SLOT: ABSENT */
	uint32_t pins;
	uint8_t state; /* enum copy_state */
};

struct copy_slot {
	uint32_t cls, next_free;
	bool taken;
	/* 0 filling, 1 there, negative failed; released by copies_filled(), acquired by _status() */
	_Atomic int status;
};

struct copy_class {
	uint32_t first_free, n_free;
	uint32_t first, n; /* slots */
};

struct copies {
	struct copy *copy; /* by expert id */
	struct copy_slot *slot;
	struct copy_class *cls;
	const uint32_t *class_of; /* by layer, borrowed */
	uint32_t per_layer, n_classes, n_slots;
	uint32_t *filling; /* ids in state FILLING */
	uint32_t n_filling;
};

static void cut_slots(struct copies *c, uint32_t n_classes, const uint32_t *class_slots)
{
	uint32_t at = 0;

	for (uint32_t k = 0; k < n_classes; k++) {
		uint32_t end = at + class_slots[k];

		c->cls[k] = (struct copy_class){
			.first_free = at, .n_free = class_slots[k], .first = at, .n = class_slots[k]
		};
		for (; at < end; at++) {
			c->slot[at].cls = k;
			c->slot[at].next_free = at + 1 < end ? at + 1 : COPIES_NO_SLOT;
		}
	}
}

int copies_create(uint32_t n_experts, uint32_t per_layer, const uint32_t *class_of,
		  uint32_t n_classes, const uint32_t *class_slots, struct copies **ret)
{
	struct copies *c = calloc(1, sizeof(*c));
	size_t n_slots = 0;

	for (uint32_t k = 0; k < n_classes; k++)
		n_slots += class_slots[k];
	if (!c)
		return -ENOMEM;
	c->class_of = class_of;
	c->per_layer = per_layer;
	c->n_classes = n_classes;
	c->n_slots = (uint32_t)n_slots;
	c->copy = calloc((size_t)n_experts + 1, sizeof(*c->copy));
	c->filling = calloc((size_t)n_experts + 1, sizeof(*c->filling));
	c->slot = calloc(n_slots + 1, sizeof(*c->slot));
	c->cls = calloc((size_t)n_classes + 1, sizeof(*c->cls));
	if (!c->copy || !c->filling || !c->slot || !c->cls) {
		copies_destroy(c);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n_experts; i++)
		c->copy[i].slot = COPIES_NO_SLOT;
	cut_slots(c, n_classes, class_slots);
	*ret = c;
	return 0;
}

void copies_destroy(struct copies *c)
{
	if (!c)
		return;
	free(c->copy);
	free(c->filling);
	free(c->slot);
	free(c->cls);
	free(c);
}

void copies_adopt(struct copies *c, const uint32_t *id_of_slot)
{
	for (uint32_t k = 0; k < c->n_classes; k++)
		c->cls[k] = (struct copy_class){ .first_free = COPIES_NO_SLOT,
						 .first = c->cls[k].first,
						 .n = c->cls[k].n };
	/* from the end, so that the first free slot is the first again */
	for (uint32_t i = c->n_slots; i-- > 0;) {
		struct copy_class *cls = &c->cls[c->slot[i].cls];
		uint32_t id = id_of_slot[i];

		if (id == COPIES_NO_SLOT) {
			c->slot[i].next_free = cls->first_free;
			cls->first_free = i;
			cls->n_free++;
			continue;
		}
		c->copy[id].slot = i;
		c->copy[id].state = COPY_PRESENT;
		c->slot[i].taken = true;
		atomic_store_explicit(&c->slot[i].status, 1, memory_order_relaxed);
	}
}

enum copy_state copies_state(const struct copies *c, uint32_t id)
{
	return (enum copy_state)c->copy[id].state;
}

uint32_t copies_slot(const struct copies *c, uint32_t id)
{
	return c->copy[id].slot;
}

bool copies_pinned(const struct copies *c, uint32_t id)
{
	return c->copy[id].pins > 0;
}

uint32_t copies_free_slots(const struct copies *c, uint32_t cls)
{
	return c->cls[cls].n_free;
}

int copies_limit(struct copies *c, uint32_t cls, uint32_t n)
{
	struct copy_class *k = &c->cls[cls];

	assert(n <= k->n);
	for (uint32_t i = n; i < k->n; i++)
		if (c->slot[k->first + i].taken)
			return -EBUSY;
	k->first_free = COPIES_NO_SLOT;
	k->n_free = 0;
	while (n-- > 0) {
		if (c->slot[k->first + n].taken)
			continue;
		c->slot[k->first + n].next_free = k->first_free;
		k->first_free = k->first + n;
		k->n_free++;
	}
	return 0;
}

int copies_pin(struct copies *c, uint32_t id)
{
	if (c->copy[id].state == COPY_ABSENT)
		return -ENOENT;
	c->copy[id].pins++;
	return 0;
}

void copies_unpin(struct copies *c, uint32_t id)
{
	assert(c->copy[id].pins);
	c->copy[id].pins--;
}

int copies_begin(struct copies *c, uint32_t id, uint32_t *ret_slot)
{
	struct copy_class *cls = &c->cls[c->class_of[id / c->per_layer]];
	struct copy *copy = &c->copy[id];
	struct copy_slot *slot;

	if (copy->state != COPY_ABSENT)
		return -EBUSY;
	if (!cls->n_free)
		return -ENOSPC;
	copy->slot = cls->first_free;
	slot = &c->slot[copy->slot];
	cls->first_free = slot->next_free;
	cls->n_free--;
	slot->taken = true;
	copy->state = COPY_FILLING;
	copy->pins = 1;
	c->filling[c->n_filling++] = id;
	/* whoever fills is handed the slot after this, and that handover orders the store */
	atomic_store_explicit(&slot->status, 0, memory_order_relaxed);
	*ret_slot = copy->slot;
	return 0;
}

void copies_filled(struct copies *c, uint32_t slot, int result)
{
	atomic_store_explicit(&c->slot[slot].status, result ? result : 1, memory_order_release);
}

int copies_status(const struct copies *c, uint32_t id)
{
	return atomic_load_explicit(&c->slot[c->copy[id].slot].status, memory_order_acquire);
}

static void free_slot(struct copies *c, struct copy *copy)
{
	struct copy_slot *slot = &c->slot[copy->slot];
	struct copy_class *cls = &c->cls[slot->cls];

	slot->next_free = cls->n_free ? cls->first_free : COPIES_NO_SLOT;
	slot->taken = false;
	cls->first_free = copy->slot;
	cls->n_free++;
	copy->slot = COPIES_NO_SLOT;
	copy->state = COPY_ABSENT;
}

int copies_evict(struct copies *c, uint32_t id)
{
	struct copy *copy = &c->copy[id];

	if (copy->state == COPY_ABSENT)
		return -ENOENT;
	if (copy->state == COPY_FILLING || copy->pins)
		return -EBUSY;
	free_slot(c, copy);
	return 0;
}

void copies_settle(struct copies *c, void (*changed)(void *arg, uint32_t id, bool present),
		   void *arg)
{
	for (uint32_t i = 0; i < c->n_filling;) {
		uint32_t id = c->filling[i];
		struct copy *copy = &c->copy[id];
		int status = copies_status(c, id);

		if (status == 0 || (status < 0 && copy->pins)) {
			i++;
			continue;
		}
		if (status > 0)
			copy->state = COPY_PRESENT;
		else
			free_slot(c, copy);
		c->filling[i] = c->filling[--c->n_filling];
		changed(arg, id, status > 0);
	}
}

uint32_t copies_filling(const struct copies *c)
{
	return c->n_filling;
}
