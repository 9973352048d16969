/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/supply_ahead.c: experts that are read before their layer begins (see supply.h).
 *
 * Each holds a pin from the day it is posted until its layer has begun; then it is useful (there),
 * late (under way) or wasted. It refuses a guess for which no slot can be had that is worth less, or
 * that is beyond the bytes in flight (policy/predict.h). Called by supply.c and ahead.c, engine thread.
 */
#include <string.h>

#include "engine/supply_private.h"

/* Lets go of what was read ahead: a read that goes on keeps its pin, with the fills. */
static void release(struct supply *s, expert_id_t id)
{
	int landed = residency_landed(s->residency, id);

	if (landed < 0)
		supply_forget_failed(s, id);
	else if (landed || supply_is_fill(s, id))
		residency_unpin(s->residency, TIER_HOST, id);
	else
		s->fills[s->n_fills++] = (struct load){ id, false, true };
}

static void waste(struct supply *s, uint32_t at)
{
	expert_id_t id = s->ahead[at];

	supply_count(&s->counters.wasted, 1);
	supply_count(&s->counters.wasted_bytes,
		     residency_load_bytes(s->residency, id / s->n_expert));
	if (!residency_landed(s->residency, id))
		residency_withdraw(s->residency, id);
	release(s, id);
	s->ahead[at] = s->ahead[--s->n_ahead];
}

void supply_drop_ahead(struct supply *s)
{
	while (s->n_ahead)
		waste(s, s->n_ahead - 1);
}

/* They are read again by whoever needs them: a guess's fault is nobody's. */
void supply_drop_failed_ahead(struct supply *s)
{
	for (uint32_t i = 0; i < s->n_ahead;)
		if (residency_landed(s->residency, s->ahead[i]) < 0)
			waste(s, i);
		else
			i++;
}

static struct item *find_item(struct supply *s, expert_id_t id)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->items[i].id == id)
			return &s->items[i];
	return NULL;
}

void supply_judge_ahead(struct supply *s, uint32_t layer)
{
	memset(s->expected + (size_t)layer * s->n_expert, 0, s->n_expert * sizeof(*s->expected));
	for (uint32_t i = 0; i < s->n_ahead;) {
		struct item *item;

		if (s->ahead[i] / s->n_expert != layer) {
			i++;
			continue;
		}
		item = find_item(s, s->ahead[i]);
		if (!item) {
			waste(s, i);
			continue;
		}
		supply_count(item->was_present ? &s->counters.useful : &s->counters.late, 1);
		item->guessed = !item->was_present;
		residency_unpin(s->residency, TIER_HOST, item->id);
		s->ahead[i] = s->ahead[--s->n_ahead];
	}
}

/* What a guess may take the place of: nothing that is needed, or guessed to be. */
static bool gives_way(void *ctx, uint32_t id)
{
	const struct supply *s = ctx;

	return supply_evictable(ctx, id) && !s->expected[id];
}

/* What guesses hold of the class, and are reading. */
static void count_ahead(const struct supply *s, struct predict_tier *t)
{
	for (uint32_t i = 0; i < s->n_ahead; i++) {
		uint32_t layer = s->ahead[i] / s->n_expert;

		t->held += residency_class_of(s->residency, layer) == t->cls;
		if (!residency_landed(s->residency, s->ahead[i]))
			t->in_flight += residency_load_bytes(s->residency, layer);
	}
}

static void post_guess(struct supply *s, struct predict_tier *t, const struct predict_guess *g)
{
	uint32_t victim;

	if (s->n_ahead == s->max_ahead ||
	    !supply_absent(s, g->id / s->n_expert, g->id % s->n_expert))
		return;
	t->free_slots = residency_free_slots(s->residency, TIER_HOST, t->cls);
	victim = predict_slot(t, g);
	if (victim == POLICY_NONE || (victim != PREDICT_FREE_SLOT && supply_evict(s, victim)) ||
	    residency_load(s->residency, g->id, READ_PREDICTED))
		return;
	t->ops->inserted(t->policy, g->id);
	s->ahead[s->n_ahead++] = g->id;
	t->held++;
	t->in_flight += t->expert_bytes;
	supply_count(&s->counters.predicted, 1);
}

static bool all_posted(const struct supply *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->items[i].state == ITEM_WANTED)
			return false;
	return true;
}

void supply_predict(struct supply *s, uint32_t layer, struct predict_guess *guess, uint32_t n,
		    uint64_t most)
{
	uint32_t cls = residency_class_of(s->residency, layer);
	uint64_t bytes = residency_load_bytes(s->residency, layer);
	struct predict_tier t = {
		.ops = s->tier[TIER_HOST].ops,
		.policy = s->tier[TIER_HOST].policy,
		.cls = cls,
		.held_most = predict_held_most(residency_class_slots(s->residency, cls), s->n_used),
		.most = most ? most : predict_bytes_most(bytes, s->n_used),
		.expert_bytes = bytes,
		.evictable = gives_way,
		.ctx = s,
	};

	if (!all_posted(s))
		return;
	memset(s->expected + (size_t)layer * s->n_expert, 0, s->n_expert * sizeof(*s->expected));
	for (uint32_t i = 0; i < n; i++)
		s->expected[guess[i].id] = true;
	count_ahead(s, &t);
	predict_sort(guess, n);
	for (uint32_t i = 0; i < n; i++)
		post_guess(s, &t, &guess[i]);
}

bool supply_absent(const struct supply *s, uint32_t layer, uint32_t expert)
{
	const expert_id_t id = layer * s->n_expert + expert;

	return residency_state(s->residency, TIER_HOST, id) == COPY_ABSENT &&
	       residency_state(s->residency, TIER_DEVICE, id) != COPY_PRESENT;
}

bool supply_lacks(const struct supply *s)
{
	struct residency_stats stats;

	residency_get_stats(s->residency, &stats);
	return stats.experts_resident < stats.experts_total;
}
