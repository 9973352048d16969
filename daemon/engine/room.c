/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/room.c: who has pages of the KV memory, and who gives way where they are short.
 *
 * The first to come goes on: pages are taken from those who came last. A sequence that is paused
 * keeps its place, its tokens and its sampler; what it knows is read again when there is room, and
 * since the bits do not depend on how tokens are cut into steps, it goes on as if nothing had been.
 * There are always pages for one sequence of the whole context. On a device memory is asked for beside pages
 * (device_memory.c), and who has none there waits alike. Engine thread, before a step.
 */
#include "base/num.h"
#include "engine/engine_private.h"

static uint32_t n_free(struct engine *e)
{
	return seq_pool_pages(e->seqs)->n_free;
}

static void give_way(struct engine *e, struct active *a)
{
	reuse_keep(e, a, true);
	engine_device_let(e, a);
	seq_cut(a->seq, 0);
	spec_forget(e, a);
	a->paused = true;
	atomic_fetch_add(&e->n_paused, 1);
}

/* Who came last of those that have pages and no run in the step yet. */
static struct active *last_to_come(struct engine *e)
{
	struct active *last = NULL;

	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		struct active *a = &e->active[i];

		if (a->request && !a->paused && seq_len(a->seq) && !e->in_step[i] &&
		    (!last || a->request->came > last->request->came))
			last = a;
	}
	return last;
}

/* Pages and memory of a device for @n tokens of @a, as far as they are there. */
static enum device_memory take(struct engine *e, struct active *a, uint32_t n)
{
	enum device_memory got;

	if (!n || !reuse_make_free(e, seq_lacks(a->seq, n)))
		return DEVICE_LACKS;
	got = engine_device_hold(e, a, n);
	return got == DEVICE_HAS && seq_reserve(a->seq, n) ? DEVICE_LACKS : got;
}

bool room_make(struct engine *e, struct active *a, uint32_t n)
{
	enum device_memory got;
	struct active *last;

	while ((got = take(e, a, n)) != DEVICE_HAS) {
		a->waits = got == DEVICE_WAITS;
		if (a->waits)
			return false;
		last = got == DEVICE_ENDS ? NULL : last_to_come(e); /* who ends takes from nobody */
		if (!last || last->request->came < a->request->came)
			last = a;
		give_way(e, last);
		if (last == a)
			return false;
	}
	a->waits = false;
	return true;
}

/* Tokens that @a may have with the pages that are free. */
static uint32_t fits(struct engine *e, const struct active *a, uint32_t n)
{
	uint32_t lacks = seq_lacks(a->seq, n), page = KV_BLOCK, end;

	if (reuse_make_free(e, lacks))
		return n;
	end = (seq_len(a->seq) + n + page - 1) / page - (lacks - n_free(e));
	return end * page > seq_len(a->seq) ? end * page - seq_len(a->seq) : 0;
}

uint32_t room_for(struct engine *e, struct active *a, uint32_t n)
{
	enum device_memory got;
	struct active *last;
	uint32_t some;

	for (;;) {
		some = fits(e, a, n);
		got = take(e, a, some);
		if (got != DEVICE_LACKS)
			break;
		last = last_to_come(e);
		if (!last || last->request->came <= a->request->came)
			break;
		give_way(e, last);
	}
	if (got == DEVICE_HAS)
		return some;
	if (got == DEVICE_LACKS && engine_device_alone(e, a))
		give_way(e, a);
	else if (!seq_len(a->seq)) /* whoever has not begun keeps nothing from others */
		engine_device_let(e, a);
	return 0;
}

static uint32_t blocks_of(uint32_t n)
{
	return (uint32_t)div_ceil(n, KV_BLOCK);
}

bool room_to_seat(struct engine *e, uint32_t n)
{
	uint64_t promised = 0, all = seq_pool_pages(e->seqs)->n;
	bool alone = true;

	if (!all)
		return true; /* a model without a cache */
	for (uint32_t i = 0; i < e->config.n_parallel; i++) {
		const struct active *a = &e->active[i];

		if (!a->request)
			continue;
		if (a->paused)
			return false;
		alone = false;
		promised += blocks_of(a->n_ids + 1);
	}
	return alone || (promised + blocks_of(n + 1) <= all && engine_device_could_seat(e, n + 1));
}

void room_resume(struct engine *e)
{
	for (;;) {
		struct active *first = NULL;
		bool others = false;

		for (uint32_t i = 0; i < e->config.n_parallel; i++) {
			struct active *a = &e->active[i];

			if (!a->request)
				continue;
			if (!a->paused)
				others = true;
			else if (!first || a->request->came < first->request->came)
				first = a;
		}
		/* with some pages to spare, so that it is not paused again at once */
		if (!first || (others && (!reuse_make_free(e, blocks_of(first->n_ids) + 2) ||
					  !engine_device_could_seat(e, first->n_ids + 1))))
			return;
		first->paused = false;
		reuse_resume(e, first);
	}
}
