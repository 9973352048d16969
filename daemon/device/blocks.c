/* SPDX-License-Identifier: MIT */
/* daemon/device/blocks.c: see blocks.h. */
#include "device/blocks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/num.h"

static uint32_t load(const _Atomic uint32_t *at)
{
	return atomic_load_explicit(at, memory_order_relaxed);
}

/* One writer: the engine's thread. */
static void add(_Atomic uint32_t *at, uint32_t by)
{
	atomic_store_explicit(at, load(at) + by, memory_order_relaxed);
}

uint64_t blocks_for(uint64_t block_bytes, uint64_t item_bytes, uint64_t items)
{
	return div_ceil(item_bytes * items, block_bytes);
}

int blocks_init(struct blocks *b, uint64_t block_bytes, const struct blocks_region *regions,
		uint32_t n_regions, uint32_t kept, const struct blocks_ops *ops, void *ctx)
{
	uint64_t at = 0, bytes;

	*b = (struct blocks){ .block_bytes = block_bytes,
			      .n_regions = n_regions,
			      .ops = ops,
			      .ctx = ctx,
			      .kept = kept,
			      .others = UINT32_MAX };
	b->regions = calloc((size_t)n_regions + 1, sizeof(*b->regions));
	if (!b->regions)
		return -ENOMEM;
	for (uint32_t i = 0; i < n_regions; i++) {
		struct blocks_region *r = &b->regions[i];

		r->item_bytes = regions[i].item_bytes;
		r->items = regions[i].items;
		r->slots = regions[i].slots;
		if (u64_mul_overflow(r->item_bytes, r->items, &bytes) ||
		    at + div_ceil(bytes, block_bytes) > UINT32_MAX / 2) {
			blocks_fini(b);
			return -EOVERFLOW;
		}
		r->first = (uint32_t)at;
		r->n = (uint32_t)div_ceil(bytes, block_bytes);
		at += r->n;
	}
	b->n = (uint32_t)at;
	b->mapped = calloc((size_t)b->n + 1, sizeof(*b->mapped));
	b->users = calloc((size_t)b->n + 1, sizeof(*b->users));
	if (b->mapped && b->users)
		return 0;
	blocks_fini(b);
	return -ENOMEM;
}

void blocks_fini(struct blocks *b)
{
	free(b->regions);
	free(b->mapped);
	free(b->users);
	b->regions = NULL;
	b->mapped = NULL;
	b->users = NULL;
	b->n = b->n_regions = 0;
}

uint64_t blocks_at(const struct blocks *b, uint32_t region, uint32_t item)
{
	const struct blocks_region *r = &b->regions[region];

	return r->first * b->block_bytes + item * r->item_bytes;
}

uint32_t blocks_held(const struct blocks *b)
{
	return load(&b->held);
}

static uint32_t limit(const struct blocks *b)
{
	return b->most < b->others ? b->most : b->others;
}

/* Blocks that lie somewhere. */
static uint32_t used(const struct blocks *b)
{
	return load(&b->held) - b->spare;
}

uint32_t blocks_most(const struct blocks *b)
{
	return limit(b);
}

uint32_t blocks_room(const struct blocks *b)
{
	return limit(b) > used(b) ? limit(b) - used(b) : 0;
}

uint32_t blocks_of_slots(const struct blocks *b)
{
	return b->of_slots;
}

uint32_t blocks_left(const struct blocks *b)
{
	const uint32_t of_sequences = used(b) - b->of_slots;

	return limit(b) > of_sequences ? limit(b) - of_sequences : 0;
}

/* ---- memory behind addresses ---- */

/* One more block: spare. */
static int take(struct blocks *b, struct err *err)
{
	const int rc = b->ops->take(b->ctx, err);

	if (rc == -ENOMEM) { /* others have it: no more than this for now */
		b->others = load(&b->held);
		return -ENOSPC;
	}
	if (rc)
		return rc;
	add(&b->held, 1);
	b->spare++;
	return 0;
}

int blocks_keep(struct blocks *b, struct err *err)
{
	int rc = 0;

	while (!rc && b->spare < b->kept && load(&b->held) < limit(b))
		rc = take(b, err);
	return rc == -ENOSPC ? 0 : rc;
}

static int map(struct blocks *b, struct blocks_region *r, uint32_t at, struct err *err)
{
	int rc = b->spare ? 0 : take(b, err);

	rc = rc ? rc : b->ops->map(b->ctx, at, err);
	if (rc)
		return rc;
	b->spare--;
	b->mapped[at] = true;
	b->of_slots += r->slots;
	add(&r->n_mapped, 1);
	return 0;
}

/* One that cannot be unmapped stays where it is, and is used there again. */
static int unmap(struct blocks *b, struct blocks_region *r, uint32_t at, struct err *err)
{
	const int rc = b->ops->unmap(b->ctx, at, err);

	if (rc)
		return rc;
	b->spare++;
	b->mapped[at] = false;
	b->of_slots -= r->slots;
	add(&r->n_mapped, (uint32_t)-1);
	return 0;
}

/* The blocks of @item: [*ret_first, return). */
static uint32_t span(const struct blocks *b, const struct blocks_region *r, uint32_t item,
		     uint32_t *ret_first)
{
	*ret_first = r->first + (uint32_t)(item * r->item_bytes / b->block_bytes);
	return r->first + (uint32_t)div_ceil((item + 1) * r->item_bytes, b->block_bytes);
}

/* Those of [first, end) that nobody uses are spare. */
static void unmap_unused(struct blocks *b, struct blocks_region *r, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++)
		if (b->mapped[i] && !b->users[i])
			unmap(b, r, i, NULL);
}

/* ---- sequences ---- */

uint32_t blocks_lacks(const struct blocks *b, uint32_t region, uint32_t item, const bool *counted)
{
	uint32_t first, end = span(b, &b->regions[region], item, &first), n = 0;

	for (uint32_t i = first; i < end; i++)
		n += !b->mapped[i] && !(counted && counted[i]);
	return n;
}

uint32_t blocks_count(const struct blocks *b, uint32_t region, uint32_t item, bool *counted)
{
	const uint32_t n = blocks_lacks(b, region, item, counted);
	uint32_t first, end = span(b, &b->regions[region], item, &first);

	for (uint32_t i = first; i < end; i++)
		counted[i] = true;
	return n;
}

uint32_t blocks_take(const struct blocks *b, uint32_t region, uint32_t item)
{
	uint32_t first;

	return b->regions[region].item_bytes ? span(b, &b->regions[region], item, &first) - first
					     : 0;
}

int blocks_hold(struct blocks *b, uint32_t region, uint32_t item, struct err *err)
{
	struct blocks_region *r = &b->regions[region];
	uint32_t first, end, lacks = 0;
	int rc = 0;

	assert(!r->slots && item < r->items);
	end = span(b, r, item, &first);
	for (uint32_t i = first; i < end; i++)
		lacks += !b->mapped[i];
	if (lacks > blocks_room(b))
		return -ENOSPC;
	for (uint32_t i = first; i < end && !rc; i++)
		rc = b->mapped[i] ? 0 : map(b, r, i, err);
	if (rc) {
		unmap_unused(b, r, first, end);
		return rc;
	}
	for (uint32_t i = first; i < end; i++)
		b->users[i]++;
	return 0;
}

void blocks_let(struct blocks *b, uint32_t region, uint32_t item, uint64_t now_ns)
{
	struct blocks_region *r = &b->regions[region];
	uint32_t first, end = span(b, r, item, &first);

	for (uint32_t i = first; i < end; i++) {
		assert(b->users[i]);
		b->users[i]--;
	}
	unmap_unused(b, r, first, end);
	b->freed_ns = now_ns;
}

/* ---- slots ---- */

static uint32_t slots_in(const struct blocks *b, const struct blocks_region *r, uint32_t n_mapped)
{
	return (uint32_t)u64_min(n_mapped * b->block_bytes / r->item_bytes, r->items);
}

uint32_t blocks_slots(const struct blocks *b, uint32_t region)
{
	const struct blocks_region *r = &b->regions[region];

	return r->item_bytes ? slots_in(b, r, load(&r->n_mapped)) : 0;
}

/* Of its slots, how large a share would have memory behind @n_mapped blocks. */
static double share(const struct blocks *b, const struct blocks_region *r, uint32_t n_mapped)
{
	return (double)slots_in(b, r, n_mapped) / r->items;
}

uint32_t blocks_victim(const struct blocks *b, uint32_t *ret_slots)
{
	uint32_t best = BLOCKS_NONE;
	double most = 0;

	for (uint32_t i = 0; i < b->n_regions; i++) {
		const struct blocks_region *r = &b->regions[i];
		const uint32_t n = load(&r->n_mapped);
		double has;

		if (!r->slots || !n)
			continue;
		/* a block in which no slot is whole goes first */
		has = slots_in(b, r, n) == slots_in(b, r, n - 1) ? 2 : share(b, r, n);
		if (best != BLOCKS_NONE && has <= most)
			continue;
		best = i;
		most = has;
		*ret_slots = slots_in(b, r, n - 1);
	}
	return best;
}

int blocks_shrink(struct blocks *b, uint32_t region, struct err *err)
{
	struct blocks_region *r = &b->regions[region];

	assert(r->slots && load(&r->n_mapped));
	return unmap(b, r, r->first + load(&r->n_mapped) - 1, err);
}

/* The region of slots that has the least share; the same one until it has a whole slot more. */
static struct blocks_region *neediest(struct blocks *b)
{
	struct blocks_region *best = NULL;
	double least = 0;

	for (uint32_t i = 0; i < b->n_regions; i++) {
		struct blocks_region *r = &b->regions[i];
		double has;

		if (!r->slots || load(&r->n_mapped) == r->n)
			continue;
		has = share(b, r, load(&r->n_mapped));
		if (best && has >= least)
			continue;
		best = r;
		least = has;
	}
	return best;
}

/* Blocks that slots leave: what sequences have, or what is kept for one. */
static uint32_t left_to_sequences(const struct blocks *b)
{
	const uint32_t of_sequences = used(b) - b->of_slots;

	return b->kept > of_sequences ? b->kept : of_sequences;
}

uint32_t blocks_grow(struct blocks *b, uint64_t now_ns)
{
	struct blocks_region *r = neediest(b);

	if (!r || b->of_slots + left_to_sequences(b) >= limit(b) ||
	    (b->freed_ns && now_ns < b->freed_ns + BLOCKS_REST_NS) ||
	    map(b, r, r->first + load(&r->n_mapped), NULL))
		return BLOCKS_NONE;
	return (uint32_t)(r - b->regions);
}

/* ---- limits ---- */

void blocks_limit(struct blocks *b, uint32_t n)
{
	b->most = n;
}

uint32_t blocks_trim(struct blocks *b)
{
	uint32_t over, wanted;

	while (load(&b->held) > limit(b) && b->spare) {
		b->ops->drop(b->ctx);
		b->spare--;
		add(&b->held, (uint32_t)-1);
	}
	over = load(&b->held) > limit(b) ? load(&b->held) - limit(b) : 0;
	wanted = b->of_slots + left_to_sequences(b) > limit(b)
			 ? b->of_slots + left_to_sequences(b) - limit(b)
			 : 0;
	return (uint32_t)u64_max(over, u64_min(wanted, b->of_slots));
}

bool blocks_poll(struct blocks *b, uint64_t now_ns)
{
	if (b->polled_ns && now_ns < b->polled_ns + BLOCKS_POLL_NS)
		return false;
	b->polled_ns = now_ns;
	return true;
}

void blocks_told(struct blocks *b, uint64_t free_bytes, uint64_t margin)
{
	const uint64_t held = load(&b->held);
	uint64_t more;

	if (free_bytes < margin) {
		const uint64_t less = div_ceil(margin - free_bytes, b->block_bytes);

		b->others = (uint32_t)(held > less ? held - less : 0);
		return;
	}
	more = (free_bytes - margin) / b->block_bytes;
	if (b->others == UINT32_MAX || (more < 2 && held + more < b->most))
		return; /* one more would be asked for again soon, unless it is the last */
	b->others = held + more >= b->most ? UINT32_MAX : (uint32_t)(held + more);
}
