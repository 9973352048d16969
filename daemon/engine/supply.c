/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/supply.c: see supply.h.
 *
 *   begin:  WANTED --present or in a slot's read--> PINNED --landed--> OUT --released--> DONE
 *              |  no slot free and nothing to evict: stays WANTED until something is released
 */
#include "engine/supply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/futex.h"
#include "model/model.h"

#define SPIN_NS	  50000 /* a landing that is this near is cheaper to spin for than to sleep for */
#define MAX_FILLS 64

enum item_state { ITEM_WANTED, ITEM_PINNED, ITEM_OUT, ITEM_DONE };

struct item {
	expert_id_t id;
	enum item_state state;
};

struct supply {
	struct residency *residency;
	const struct policy_ops *ops;
	struct policy *policy;
	uint32_t n_expert, n_layers;

	/* the current layer */
	struct item *items;
	uint32_t *ids; /* the items' ids, for policy->used */
	uint32_t n, n_done, cls, max_used;

	expert_id_t fills[MAX_FILLS];
	unsigned n_fills;
	bool fill_ended;

	struct supply_counters counters;
};

int supply_create(const struct model *m, struct residency *r, const struct policy_ops *ops,
		  struct policy *policy, uint32_t max_used, struct supply **ret)
{
	struct supply *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->residency = r;
	s->ops = ops;
	s->policy = policy;
	s->n_expert = m->n_expert;
	s->n_layers = m->n_layers;
	s->max_used = max_used;
	s->items = calloc(max_used, sizeof(*s->items));
	s->ids = calloc(max_used, sizeof(*s->ids));
	if (!s->items || !s->ids) {
		supply_destroy(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

void supply_destroy(struct supply *s)
{
	if (!s)
		return;
	free(s->items);
	free(s->ids);
	free(s);
}

static void count(_Atomic uint64_t *counter, uint64_t by)
{
	/* one writer: no need for a locked add */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static bool evictable(void *ctx, uint32_t id)
{
	struct supply *s = ctx;

	return residency_state(s->residency, id) == EXPERT_HOST &&
	       !residency_pinned(s->residency, id);
}

/* Takes a slot for @id, evicting the least worthy where none is free. Pins it. -ENOSPC: later. */
static int bring(struct supply *s, expert_id_t id, uint32_t cls)
{
	int rc = residency_load(s->residency, id);
	uint32_t victim;

	if (rc == -ENOSPC) {
		victim = s->ops->victim(s->policy, cls, evictable, s);
		if (victim == POLICY_NONE)
			return -ENOSPC;
		rc = residency_evict(s->residency, victim);
		if (rc)
			return -ENOSPC;
		s->ops->removed(s->policy, victim);
		rc = residency_load(s->residency, id);
	}
	if (!rc)
		s->ops->inserted(s->policy, id);
	return rc;
}

/* Posts reads for as many wanted experts as slots can be had for. */
static void post_wanted(struct supply *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct item *item = &s->items[i];

		if (item->state != ITEM_WANTED)
			continue;
		if (bring(s, item->id, s->cls))
			return; /* every slot is in use: the next release makes room */
		item->state = ITEM_PINNED;
	}
}

/* A read failed: the last unpin lets residency forget it, and policy must too. */
static void forget_failed(struct supply *s, expert_id_t id)
{
	residency_unpin(s->residency, id);
	residency_settle(s->residency);
	if (residency_state(s->residency, id) == EXPERT_ABSENT)
		s->ops->removed(s->policy, id);
}

static void settle_fills(struct supply *s)
{
	for (unsigned i = 0; i < s->n_fills;) {
		expert_id_t id = s->fills[i];
		int landed = residency_landed(s->residency, id);

		if (!landed) {
			i++;
			continue;
		}
		if (landed > 0) {
			residency_unpin(s->residency, id);
		} else {
			s->fill_ended = true; /* a bad file: demand reads will say what is wrong */
			forget_failed(s, id);
		}
		s->fills[i] = s->fills[--s->n_fills];
		count(&s->counters.fills, 1);
	}
}

void supply_begin(struct supply *s, uint64_t step, uint32_t layer, const uint32_t *experts,
		  const uint32_t *counts, uint32_t n)
{
	uint64_t hits = 0;

	residency_settle(s->residency);
	settle_fills(s);
	s->n = n;
	s->n_done = 0;
	s->cls = residency_class_of(s->residency, layer);
	for (uint32_t i = 0; i < n; i++)
		s->ids[i] = layer * s->n_expert + experts[i];
	s->ops->used(s->policy, step, layer, s->ids, counts, n);
	for (uint32_t i = 0; i < n; i++) {
		struct item *item = &s->items[i];

		item->id = s->ids[i];
		item->state = ITEM_WANTED;
		if (residency_state(s->residency, item->id) == EXPERT_HOST)
			hits++;
		if (!residency_pin(s->residency, item->id))
			item->state = ITEM_PINNED;
	}
	count(&s->counters.hits, hits);
	count(&s->counters.misses, n - hits);
	post_wanted(s);
}

static void release_out(struct supply *s, int *failed)
{
	bool any = false;

	for (uint32_t i = 0; i < s->n; i++) {
		struct item *item = &s->items[i];

		if (item->state != ITEM_OUT)
			continue;
		if (failed[i])
			forget_failed(s, item->id);
		else
			residency_unpin(s->residency, item->id);
		item->state = ITEM_DONE;
		s->n_done++;
		any = true;
	}
	if (any && s->n_done < s->n) {
		residency_settle(s->residency);
		post_wanted(s);
	}
}

static uint32_t collect(struct supply *s, uint32_t *ret_indices, int *ret_failed)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		struct item *item = &s->items[i];
		int landed;

		if (item->state != ITEM_PINNED)
			continue;
		landed = residency_landed(s->residency, item->id);
		if (!landed)
			continue;
		item->state = ITEM_OUT;
		ret_failed[i] = landed < 0 ? landed : 0;
		ret_indices[n++] = i;
	}
	return n;
}

/* Until *word leaves @seen: spins a little, then sleeps; the time counts as a stall. */
static void wait_event(_Atomic uint32_t *word, uint32_t seen)
{
	uint64_t until = now_ns() + SPIN_NS;

	while (now_ns() < until) {
		for (int i = 0; i < 32; i++)
			cpu_relax();
		if (atomic_load_explicit(word, memory_order_acquire) != seen)
			return;
	}
	futex_wait(word, seen, 0);
}

uint32_t supply_next(struct supply *s, uint32_t *ret_indices, int *ret_failed)
{
	_Atomic uint32_t *word = residency_event_word(s->residency);
	uint64_t start = 0;
	uint32_t n;

	release_out(s, ret_failed);
	while (s->n_done < s->n) {
		uint32_t seen = atomic_load_explicit(word, memory_order_acquire);

		n = collect(s, ret_indices, ret_failed);
		if (n) {
			if (start)
				count(&s->counters.stall_ns, now_ns() - start);
			return n;
		}
		if (!start)
			start = now_ns();
		/* fills may hold the last slots of the class: their landing makes them evictable */
		settle_fills(s);
		residency_settle(s->residency);
		post_wanted(s);
		wait_event(word, seen);
	}
	return 0;
}

struct expert_view supply_view(const struct supply *s, uint32_t index)
{
	return residency_view(s->residency, s->items[index].id);
}

bool supply_fill(struct supply *s, unsigned in_flight)
{
	uint32_t n_classes = residency_n_classes(s->residency);
	bool posted = true;

	residency_settle(s->residency);
	settle_fills(s);
	if (s->fill_ended)
		return s->n_fills > 0;
	if (in_flight > MAX_FILLS)
		in_flight = MAX_FILLS;
	while (posted && s->n_fills < in_flight) {
		posted = false;
		for (uint32_t c = 0; c < n_classes && s->n_fills < in_flight; c++) {
			uint32_t id;

			if (!residency_free_slots(s->residency, c))
				continue;
			id = s->ops->next_fill(s->policy, c);
			if (id == POLICY_NONE || residency_load(s->residency, id))
				continue;
			s->ops->inserted(s->policy, id);
			s->fills[s->n_fills++] = id;
			posted = true;
		}
	}
	return s->n_fills > 0 || posted;
}

void supply_drain(struct supply *s)
{
	_Atomic uint32_t *word = residency_event_word(s->residency);

	for (;;) {
		uint32_t seen = atomic_load_explicit(word, memory_order_acquire);

		settle_fills(s);
		residency_settle(s->residency);
		if (!residency_reading(s->residency))
			return;
		futex_wait(word, seen, 100000000);
	}
}

const struct supply_counters *supply_counters(const struct supply *s)
{
	return &s->counters;
}
