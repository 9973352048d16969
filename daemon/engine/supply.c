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
#include "model/model.h"
#include "policy/rate.h"

#define SPIN_NS	  50000 /* a landing that is this near is cheaper to spin for than to sleep for */
#define MAX_FILLS 64
#define LOOK_NS	  5000000 /* how often a wait looks whether the step is still wanted */

enum item_state { ITEM_WANTED, ITEM_PINNED, ITEM_OUT, ITEM_DONE };

struct item {
	expert_id_t id;
	enum item_state state;
	uint8_t tier;		   /* enum tier of the copy that is pinned */
	bool was_present, guessed; /* guessed: a guess's read was under way */
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

	/* read ahead, each with a pin; all for ahead_layer */
	expert_id_t *ahead;
	uint32_t n_ahead, ahead_layer, n_used;
	bool *expected; /* [n_expert]: guessed to be used there, and so no victim for another guess */

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
	s->ahead = calloc(s->n_expert, sizeof(*s->ahead));
	s->expected = calloc(s->n_expert, sizeof(*s->expected));
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

static void count(_Atomic uint64_t *counter, uint64_t by)
{
	/* one writer: no need for a locked add */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
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
	count(&s->counters.stall_ns, ns);
	histogram_observe_fine(&s->counters.stalls, ns);
}

static bool evictable(void *ctx, uint32_t id)
{
	struct supply *s = ctx;

	return residency_state(s->residency, TIER_HOST, id) == COPY_PRESENT &&
	       !residency_pinned(s->residency, TIER_HOST, id);
}

/* Evicts @victim and tells its policy. 0 or -EBUSY. */
static int evict(struct supply *s, uint32_t victim)
{
	const struct supply_tier *host = &s->tier[TIER_HOST];
	int rc = residency_evict(s->residency, TIER_HOST, victim);

	if (!rc)
		host->ops->removed(host->policy, victim);
	return rc;
}

static void drop_ahead(struct supply *s);

/* The same of experts that a device has too: the host can do without them. */
static bool spare(void *ctx, uint32_t id)
{
	struct supply *s = ctx;

	return residency_state(s->residency, TIER_DEVICE, id) == COPY_PRESENT && evictable(ctx, id);
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
			victim = host->ops->victim(host->policy, cls, evictable, s);
		if (victim == POLICY_NONE && s->n_ahead) { /* guesses give way */
			drop_ahead(s);
			victim = host->ops->victim(host->policy, cls, evictable, s);
		}
		if (victim == POLICY_NONE || evict(s, victim))
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

/* A read failed: the last unpin lets residency forget it, and policy must too. */
static void forget_failed(struct supply *s, expert_id_t id)
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

		if (!landed) {
			i++;
			continue;
		}
		if (landed > 0) {
			residency_unpin(s->residency, TIER_HOST, id);
		} else {
			/* a bad file: demand reads will say what is wrong */
			s->fill_ended |= s->fills[i].fill && landed != -ECANCELED;
			forget_failed(s, id);
		}
		count(&s->counters.fills, !s->fills[i].guess);
		s->fills[i] = s->fills[--s->n_fills];
	}
}

static bool is_fill(const struct supply *s, expert_id_t id)
{
	for (unsigned i = 0; i < s->n_fills; i++)
		if (s->fills[i].id == id)
			return true;
	return false;
}

/* Lets go of what was read ahead: a read that goes on keeps its pin, with the fills. */
static void release_ahead(struct supply *s, expert_id_t id)
{
	int landed = residency_landed(s->residency, id);

	if (landed < 0)
		forget_failed(s, id);
	else if (landed || is_fill(s, id))
		residency_unpin(s->residency, TIER_HOST, id);
	else
		s->fills[s->n_fills++] = (struct load){ id, false, true };
}

static void count_wasted(struct supply *s, expert_id_t id)
{
	count(&s->counters.wasted, 1);
	count(&s->counters.wasted_bytes, residency_load_bytes(s->residency, id / s->n_expert));
}

/* Nobody will ask for them: reads that are not begun are withdrawn. */
static void drop_ahead(struct supply *s)
{
	while (s->n_ahead) {
		expert_id_t id = s->ahead[--s->n_ahead];

		count_wasted(s, id);
		if (!residency_landed(s->residency, id))
			residency_withdraw(s->residency, id);
		release_ahead(s, id);
	}
}

/* Those that failed are read again by whoever needs them: a guess's fault is nobody's. */
static void drop_failed_ahead(struct supply *s)
{
	for (uint32_t i = 0; i < s->n_ahead;) {
		if (residency_landed(s->residency, s->ahead[i]) >= 0) {
			i++;
			continue;
		}
		count_wasted(s, s->ahead[i]);
		release_ahead(s, s->ahead[i]);
		s->ahead[i] = s->ahead[--s->n_ahead];
	}
}

/* The layer that they were read for has begun: its items hold pins of their own. */
static void judge_ahead(struct supply *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct item *item = &s->items[i];
		uint32_t at = 0;

		while (at < s->n_ahead && s->ahead[at] != item->id)
			at++;
		if (at == s->n_ahead)
			continue;
		count(item->was_present ? &s->counters.useful : &s->counters.late, 1);
		item->guessed = !item->was_present;
		residency_unpin(s->residency, TIER_HOST, item->id);
		s->ahead[at] = s->ahead[--s->n_ahead];
	}
	drop_ahead(s);
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
	if (s->n_ahead && s->ahead_layer != layer) /* of a step that was given up */
		drop_ahead(s);
	drop_failed_ahead(s);
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
		on_device += counts[i] && item->state == ITEM_PINNED && item->tier == TIER_DEVICE;
	}
	if (s->tier[TIER_DEVICE].ops) {
		count(&s->counters.device_hits, on_device);
		count(&s->counters.device_misses, told - on_device);
	}
	count(&s->counters.hits, hits);
	count(&s->counters.misses, told - hits);
	if (s->n_ahead)
		judge_ahead(s);
	post_wanted(s);
}

bool supply_was_present(const struct supply *s, uint32_t index)
{
	return s->items[index].was_present;
}

void supply_kept(struct supply *s, uint64_t step, uint32_t layer, const uint32_t *experts,
		 const uint32_t *counts, uint32_t n, const struct supply_kept_uses *uses)
{
	if (n)
		tell_used(s, step, layer, experts, counts, n);
	count(&s->counters.hits, uses->hits);
	count(&s->counters.misses, uses->misses);
	count(&s->counters.dropped, uses->dropped);
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
			forget_failed(s, item->id);
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
	if (reading && !is_fill(s, item->id))
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
	drop_ahead(s);
	settle_fills(s);
	return -ECANCELED;
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

/* What a guess may take the place of: nothing that is needed, or guessed to be. */
static bool gives_way(void *ctx, uint32_t id)
{
	const struct supply *s = ctx;

	return evictable(ctx, id) &&
	       (id / s->n_expert != s->ahead_layer || !s->expected[id % s->n_expert]);
}

static uint64_t bytes_ahead(const struct supply *s)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < s->n_ahead; i++)
		if (!residency_landed(s->residency, s->ahead[i]))
			bytes += residency_load_bytes(s->residency, s->ahead_layer);
	return bytes;
}

static void post_guess(struct supply *s, struct predict_tier *t, const struct predict_guess *g)
{
	uint32_t victim;

	if (residency_state(s->residency, TIER_HOST, g->id) != COPY_ABSENT ||
	    residency_state(s->residency, TIER_DEVICE, g->id) == COPY_PRESENT)
		return;
	t->held = s->n_ahead;
	t->free_slots = residency_free_slots(s->residency, TIER_HOST, t->cls);
	victim = predict_slot(t, g);
	if (victim == POLICY_NONE || (victim != PREDICT_FREE_SLOT && evict(s, victim)) ||
	    residency_load(s->residency, g->id, READ_PREDICTED))
		return;
	t->ops->inserted(t->policy, g->id);
	s->ahead[s->n_ahead++] = g->id;
	t->in_flight += t->expert_bytes;
	count(&s->counters.predicted, 1);
}

static bool all_posted(const struct supply *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->items[i].state == ITEM_WANTED)
			return false;
	return true;
}

void supply_predict(struct supply *s, uint32_t layer, struct predict_guess *guess, uint32_t n)
{
	uint32_t cls = residency_class_of(s->residency, layer);
	uint64_t bytes = residency_load_bytes(s->residency, layer);
	struct predict_tier t = {
		.ops = s->tier[TIER_HOST].ops,
		.policy = s->tier[TIER_HOST].policy,
		.cls = cls,
		.held_most = predict_held_most(residency_class_slots(s->residency, cls), s->n_used),
		.most = predict_bytes_most(bytes, s->n_used),
		.expert_bytes = bytes,
		.evictable = gives_way,
		.ctx = s,
	};

	if (!all_posted(s))
		return;
	if (s->ahead_layer != layer)
		drop_ahead(s);
	s->ahead_layer = layer;
	memset(s->expected, 0, s->n_expert * sizeof(*s->expected));
	for (uint32_t i = 0; i < n; i++)
		s->expected[guess[i].id % s->n_expert] = true;
	t.in_flight = bytes_ahead(s);
	predict_sort(guess, n);
	for (uint32_t i = 0; i < n; i++)
		post_guess(s, &t, &guess[i]);
}

bool supply_lacks(const struct supply *s)
{
	struct residency_stats stats;

	residency_get_stats(s->residency, &stats);
	return stats.experts_resident < stats.experts_total;
}

bool supply_absent(const struct supply *s, uint32_t layer, uint32_t expert)
{
	const expert_id_t id = layer * s->n_expert + expert;

	return residency_state(s->residency, TIER_HOST, id) == COPY_ABSENT &&
	       residency_state(s->residency, TIER_DEVICE, id) != COPY_PRESENT;
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

uint64_t supply_fill_wait_ns(const struct supply *s, uint64_t now_ns)
{
	return s->fill_waits ? rate_wait_ns(&s->fill_rate, now_ns) : 0;
}

void supply_drain(struct supply *s)
{
	_Atomic uint32_t *word = residency_event_word(s->residency);

	drop_ahead(s);
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
