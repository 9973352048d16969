/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/supply.c: see supply.h.
 *
 *   begin:  WANTED --present or in a slot's read--> PINNED --landed--> OUT --released--> DONE
 *              |  no slot free and nothing to evict: stays WANTED until something is released
 *              +--<-- PINNED, when a step that was given up before had withdrawn a part of the read
 */
#include "engine/supply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/futex.h"
#include "engine/supply_private.h"
#include "model/model.h"

#define SPIN_NS	  50000 /* a landing that is this near is cheaper to spin for than to sleep for */
#define MAX_FILLS 64
#define LOOK_NS	  5000000 /* how often a wait looks whether the step is still wanted */

int supply_create(const struct supply_config *config, struct supply **ret)
{
	struct supply *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->residency = config->residency;
	memcpy(s->tier, config->tier, sizeof(s->tier));
	s->device_view = config->device_view;
	s->device_arg = config->device_arg;
	s->n_expert = config->model->n_expert;
	s->n_layers = config->model->n_layers;
	s->max_used = config->max_used;
	s->n_used = config->model->n_expert_used;
	s->fill_rate = rate_make(config->fill_bytes_per_s);
	s->given_up = config->given_up;
	s->given_up_arg = config->given_up_arg;
	s->fills = calloc((size_t)s->n_layers * s->n_expert + 1, sizeof(*s->fills));
	s->uses = calloc((size_t)s->n_layers * s->n_expert + 1, sizeof(*s->uses));
	s->items = calloc(s->max_used, sizeof(*s->items));
	s->ids = calloc(s->max_used, sizeof(*s->ids));
	s->counts = calloc(s->max_used, sizeof(*s->counts));
	s->max_ahead = PREDICT_LAYERS * s->n_expert;
	s->ahead = calloc(s->max_ahead, sizeof(*s->ahead));
	s->expected = calloc((size_t)s->n_layers * s->n_expert + 1, sizeof(*s->expected));
	if (!s->fills || !s->uses || !s->items || !s->ids || !s->counts || !s->ahead ||
	    !s->expected) {
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
	free(s->fills);
	free(s->uses);
	free(s->items);
	free(s->ids);
	free(s->counts);
	free(s->ahead);
	free(s->expected);
	free(s);
}

static void count_uses(_Atomic uint32_t *uses, uint32_t by)
{
	atomic_store_explicit(uses, atomic_load_explicit(uses, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

const _Atomic uint32_t *supply_uses(const struct supply *s)
{
	return s->uses;
}

static void count_stall(struct supply *s, uint64_t ns)
{
	supply_count(&s->counters.stall_ns, ns);
	histogram_observe_fine(&s->counters.stalls, ns);
}

bool supply_evictable(void *ctx, uint32_t id)
{
	struct supply *s = ctx;

	return residency_state(s->residency, TIER_HOST, id) == COPY_PRESENT &&
	       !residency_pinned(s->residency, TIER_HOST, id);
}

int supply_evict(struct supply *s, uint32_t victim)
{
	const struct supply_tier *host = &s->tier[TIER_HOST];
	int rc = residency_evict(s->residency, TIER_HOST, victim);

	if (!rc)
		host->ops->removed(host->policy, victim);
	return rc;
}

/* The same of experts that a device has too: the host can do without them. */
static bool spare(void *ctx, uint32_t id)
{
	struct supply *s = ctx;

	return residency_state(s->residency, TIER_DEVICE, id) == COPY_PRESENT &&
	       supply_evictable(ctx, id);
}

/* Takes a slot for @id, evicting the least worthy where none is free. Pins it. -ENOSPC: later. */
static int bring(struct supply *s, expert_id_t id, uint32_t cls)
{
	const struct supply_tier *host = &s->tier[TIER_HOST];
	int rc = residency_load(s->residency, id, READ_DEMAND);
	uint32_t victim;

	if (rc == -ENOSPC) {
		victim = s->has_spare ? host->ops->victim(host->policy, cls, spare, s)
				      : POLICY_NONE;
		s->has_spare = victim != POLICY_NONE; /* else a search of all, each time */
		if (victim == POLICY_NONE)
			victim = host->ops->victim(host->policy, cls, supply_evictable, s);
		if (victim == POLICY_NONE && s->n_ahead) { /* guesses give way */
			supply_drop_ahead(s);
			victim = host->ops->victim(host->policy, cls, supply_evictable, s);
		}
		if (victim == POLICY_NONE || supply_evict(s, victim))
			return -ENOSPC;
		rc = residency_load(s->residency, id, READ_DEMAND);
	}
	if (!rc)
		host->ops->inserted(host->policy, id);
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
		item->tier = TIER_HOST;
	}
}

void supply_forget_failed(struct supply *s, expert_id_t id)
{
	const struct supply_tier *host = &s->tier[TIER_HOST];

	residency_unpin(s->residency, TIER_HOST, id);
	residency_settle(s->residency);
	if (residency_state(s->residency, TIER_HOST, id) == COPY_ABSENT)
		host->ops->removed(host->policy, id);
}

static void settle_fills(struct supply *s)
{
	for (unsigned i = 0; i < s->n_fills;) {
		expert_id_t id = s->fills[i].id;
		int landed = residency_landed(s->residency, id);
		bool withdrawn = s->fills[i].fill && landed == -ECANCELED;

		if (!landed) {
			i++;
			continue;
		}
		if (landed > 0) {
			residency_unpin(s->residency, TIER_HOST, id);
		} else {
			/* a bad file: demand reads will say what is wrong */
			s->fill_ended |= s->fills[i].fill && !withdrawn;
			supply_forget_failed(s, id);
		}
		supply_count(&s->counters.fills, !s->fills[i].guess && !withdrawn);
		s->fills[i] = s->fills[--s->n_fills];
	}
}

bool supply_is_fill(const struct supply *s, expert_id_t id)
{
	for (unsigned i = 0; i < s->n_fills; i++)
		if (s->fills[i].id == id)
			return true;
	return false;
}

/* Pins the copy in the fastest tier that has one, or that is getting one. */
static void pin(struct supply *s, struct item *item)
{
	for (int t = TIER_NR - 1; t > TIER_DISK; t--) {
		/* on its way to a device: the host's copy serves until it is there */
		if (t != TIER_HOST && residency_state(s->residency, t, item->id) != COPY_PRESENT)
			continue;
		if (residency_pin(s->residency, t, item->id))
			continue;
		item->state = ITEM_PINNED;
		item->tier = (uint8_t)t;
		if (t == TIER_HOST)
			residency_hurry(s->residency, item->id);
		return;
	}
}

/* Tells the policies of uses; those by drafts alone have no count. Returns how many were told. */
static uint32_t tell_used(struct supply *s, uint64_t step, uint32_t layer, const uint32_t *experts,
			  const uint32_t *counts, uint32_t n)
{
	uint32_t told = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (!counts[i])
			continue;
		s->ids[told] = layer * s->n_expert + experts[i];
		count_uses(&s->uses[s->ids[told]], counts[i]);
		s->counts[told++] = counts[i];
	}
	for (int t = TIER_DISK; t < TIER_NR; t++)
		if (s->tier[t].ops)
			s->tier[t].ops->used(s->tier[t].policy, step, layer, s->ids, s->counts,
					     told);
	return told;
}

void supply_begin(struct supply *s, uint64_t step, uint32_t layer, const uint32_t *experts,
		  const uint32_t *counts, uint32_t n)
{
	uint64_t hits = 0, on_device = 0;
	uint32_t told;

	residency_settle(s->residency);
	settle_fills(s);
	supply_drop_failed_ahead(s);
	s->n = n;
	s->n_done = 0;
	s->cls = residency_class_of(s->residency, layer);
	told = tell_used(s, step, layer, experts, counts, n);
	for (uint32_t i = 0; i < n; i++) {
		struct item *item = &s->items[i];

		item->id = layer * s->n_expert + experts[i];
		item->guessed = false;
		item->state = ITEM_WANTED;
		pin(s, item);
		item->was_present = (item->state == ITEM_PINNED && item->tier != TIER_HOST) ||
				    residency_state(s->residency, TIER_HOST, item->id) ==
					    COPY_PRESENT;
		hits += counts[i] && item->was_present;
		item->on_device = item->state == ITEM_PINNED && item->tier == TIER_DEVICE;
		on_device += counts[i] && item->on_device;
	}
	if (s->tier[TIER_DEVICE].ops) {
		supply_count(&s->counters.device_hits, on_device);
		supply_count(&s->counters.device_misses, told - on_device);
	}
	supply_count(&s->counters.hits, hits);
	supply_count(&s->counters.misses, told - hits);
	supply_judge_ahead(s, layer);
	post_wanted(s);
}

enum supply_place supply_where(const struct supply *s, uint32_t index)
{
	const struct item *item = &s->items[index];

	if (item->on_device)
		return SUPPLY_IN_DEVICE;
	return item->was_present ? SUPPLY_IN_HOST : SUPPLY_NOWHERE;
}

void supply_kept(struct supply *s, uint64_t step, uint32_t layer, const uint32_t *experts,
		 const uint32_t *counts, uint32_t n, const struct supply_kept_uses *uses)
{
	if (n)
		tell_used(s, step, layer, experts, counts, n);
	supply_count(&s->counters.hits, uses->hits);
	supply_count(&s->counters.misses, uses->misses);
	supply_count(&s->counters.dropped, uses->dropped);
	if (s->tier[TIER_DEVICE].ops) {
		supply_count(&s->counters.device_hits, uses->on_device);
		supply_count(&s->counters.device_misses,
			     uses->hits + uses->misses - uses->on_device);
	}
}

static void release_out(struct supply *s, int *failed)
{
	bool any = false;

	for (uint32_t i = 0; i < s->n; i++) {
		struct item *item = &s->items[i];

		if (item->state != ITEM_OUT)
			continue;
		if (failed[i])
			supply_forget_failed(s, item->id);
		else
			residency_unpin(s->residency, item->tier, item->id);
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
		landed = item->tier == TIER_HOST ? residency_landed(s->residency, item->id) : 1;
		if (!landed)
			continue;
		/* withdrawn by an earlier step, or a guess's fault: nobody's who needs it */
		if (landed == -ECANCELED || (landed < 0 && item->guessed)) {
			supply_forget_failed(s, item->id);
			item->guessed = false;
			item->state = ITEM_WANTED;
			continue;
		}
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
	futex_wait(word, seen, LOOK_NS);
}

/* Lets go of an item that is pinned, and of its reads that nobody has begun. */
static void abandon_item(struct supply *s, const struct item *item)
{
	bool reading = item->tier == TIER_HOST && residency_landed(s->residency, item->id) <= 0;

	if (reading)
		residency_withdraw(s->residency, item->id);
	/* a load keeps one pin until it has ended, however many steps began and left it */
	if (reading && !supply_is_fill(s, item->id))
		s->fills[s->n_fills++] = (struct load){ item->id, false, false };
	else
		residency_unpin(s->residency, item->tier, item->id);
}

/* Nobody wants the layer any more. */
static int abandon(struct supply *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->items[i].state == ITEM_PINNED)
			abandon_item(s, &s->items[i]);
		s->items[i].state = ITEM_DONE;
	}
	s->n_done = s->n;
	supply_drop_ahead(s);
	settle_fills(s);
	return -ECANCELED;
}

uint32_t supply_present(struct supply *s, uint32_t *ret_indices, int *ret_failed)
{
	release_out(s, ret_failed);
	return collect(s, ret_indices, ret_failed);
}

int32_t supply_next(struct supply *s, uint32_t *ret_indices, int *ret_failed)
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
				count_stall(s, now_ns() - start);
			return (int32_t)n;
		}
		if (s->given_up && s->given_up(s->given_up_arg))
			return abandon(s);
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

enum unit supply_unit(const struct supply *s, uint32_t index)
{
	return s->items[index].tier == TIER_DEVICE && !s->device_view ? UNIT_DEVICE : UNIT_HOST;
}

struct expert_view supply_view(const struct supply *s, uint32_t index)
{
	if (s->items[index].tier == TIER_DEVICE)
		return s->device_view(s->device_arg, s->items[index].id);
	return residency_view(s->residency, s->items[index].id);
}

/* One fill of class @cls, if there is one and the budget has room for it. */
static bool post_fill(struct supply *s, uint32_t cls, uint64_t now_ns)
{
	const struct supply_tier *host = &s->tier[TIER_HOST];
	uint32_t id;

	if (!residency_free_slots(s->residency, TIER_HOST, cls))
		return false;
	id = host->ops->next(host->policy, cls);
	if (id == POLICY_NONE)
		return false;
	if (!rate_take(&s->fill_rate, now_ns,
		       residency_load_bytes(s->residency, id / s->n_expert))) {
		s->fill_waits = true;
		return false;
	}
	if (residency_load(s->residency, id, READ_FILL))
		return false;
	host->ops->inserted(host->policy, id);
	s->fills[s->n_fills++] = (struct load){ id, true, false };
	return true;
}

bool supply_fill(struct supply *s, unsigned in_flight, uint64_t now_ns)
{
	uint32_t n_classes = residency_n_classes(s->residency);
	bool posted = true;

	residency_settle(s->residency);
	settle_fills(s);
	s->fill_waits = false;
	if (s->fill_ended)
		return s->n_fills > 0;
	if (in_flight > MAX_FILLS)
		in_flight = MAX_FILLS;
	while (posted && s->n_fills < in_flight) {
		posted = false;
		for (uint32_t c = 0; c < n_classes && s->n_fills < in_flight; c++)
			posted |= post_fill(s, c, now_ns);
	}
	return s->n_fills > 0 || posted || s->fill_waits;
}

void supply_withdraw_fills(struct supply *s)
{
	for (unsigned i = 0; i < s->n_fills; i++)
		if (s->fills[i].fill)
			residency_withdraw(s->residency, s->fills[i].id);
	settle_fills(s);
}

uint64_t supply_fill_wait_ns(const struct supply *s, uint64_t now_ns)
{
	return s->fill_waits ? rate_wait_ns(&s->fill_rate, now_ns) : 0;
}

void supply_drain(struct supply *s)
{
	_Atomic uint32_t *word = residency_event_word(s->residency);

	supply_drop_ahead(s);
	for (;;) {
		uint32_t seen = atomic_load_explicit(word, memory_order_acquire);

		settle_fills(s);
		residency_settle(s->residency);
		if (!residency_reading(s->residency))
			return;
		futex_wait(word, seen, 100000000);
	}
}

void supply_device_changed(struct supply *s)
{
	s->has_spare = true;
}

const struct supply_counters *supply_counters(const struct supply *s)
{
	return &s->counters;
}
