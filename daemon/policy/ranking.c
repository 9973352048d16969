/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/ranking.c: see ranking.h.
 *
 * Both heaps of a class use one order, "a is worth less than b": the resident heap has the least on
 * top, the absent heap the greatest. pos[id] is the expert's place in whichever heap holds it. The
 * heaps are 4-ary because a use raises a worth: the expert sinks a level per step, and half the
 * levels mean half the cache lines.
 */
#include "policy/ranking.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/num.h"

#define ARITY 4

struct heap {
	uint32_t *items;
	uint32_t n;
	bool least_on_top;
};

struct ranking {
	uint32_t n, n_expert, n_classes;
	uint32_t *class_of_layer;
	struct heap *heaps; /* [2 * class + resident] */
	uint32_t *items;    /* memory of all heaps */
	uint32_t *pos;
	uint32_t *tie; /* lower is worth more */
	double *worth;
	bool *resident;
	uint32_t *frontier; /* scratch of ranking_least: places in a heap */
};

static bool worth_less(const struct ranking *r, uint32_t a, uint32_t b)
{
	if (r->worth[a] != r->worth[b])
		return r->worth[a] < r->worth[b];
	return r->tie[a] > r->tie[b];
}

static bool goes_above(const struct ranking *r, const struct heap *h, uint32_t a, uint32_t b)
{
	return h->least_on_top ? worth_less(r, a, b) : worth_less(r, b, a);
}

/* A layer without experts has ids, but they are in no heap. */
static bool is_expert(const struct ranking *r, uint32_t id)
{
	return r->class_of_layer[id / r->n_expert] != POLICY_NO_CLASS;
}

static struct heap *heap_of(const struct ranking *r, uint32_t id)
{
	uint32_t cls = r->class_of_layer[id / r->n_expert];

	return &r->heaps[2 * cls + r->resident[id]];
}

static void sift_up(struct ranking *r, struct heap *h, uint32_t at)
{
	uint32_t id = h->items[at];

	while (at) {
		uint32_t parent = (at - 1) / ARITY;

		if (!goes_above(r, h, id, h->items[parent]))
			break;
		h->items[at] = h->items[parent];
		r->pos[h->items[at]] = at;
		at = parent;
	}
	h->items[at] = id;
	r->pos[id] = at;
}

static void sift_down(struct ranking *r, struct heap *h, uint32_t at)
{
	uint32_t id = h->items[at];

	for (;;) {
		uint32_t first = at * ARITY + 1, best = first;

		if (first >= h->n)
			break;
		for (uint32_t c = first + 1; c < first + ARITY && c < h->n; c++)
			if (goes_above(r, h, h->items[c], h->items[best]))
				best = c;
		if (!goes_above(r, h, h->items[best], id))
			break;
		h->items[at] = h->items[best];
		r->pos[h->items[at]] = at;
		at = best;
	}
	h->items[at] = id;
	r->pos[id] = at;
}

/* The expert at @at may be out of order with its parent or its children, not with both. */
static void sift(struct ranking *r, struct heap *h, uint32_t at)
{
	if (at && goes_above(r, h, h->items[at], h->items[(at - 1) / ARITY]))
		sift_up(r, h, at);
	else
		sift_down(r, h, at);
}

static void heap_remove(struct ranking *r, struct heap *h, uint32_t id)
{
	uint32_t at = r->pos[id], last = h->items[--h->n];

	if (last == id)
		return;
	h->items[at] = last;
	r->pos[last] = at;
	sift(r, h, at);
}

static void heap_add(struct ranking *r, struct heap *h, uint32_t id)
{
	h->items[h->n] = id;
	sift_up(r, h, h->n++);
}

static int check_geometry(const struct policy_geometry *g, struct err *err)
{
	uint64_t n = (uint64_t)g->n_layers * g->n_expert;

	if (!n || n > UINT32_MAX / 8 || !g->n_classes || g->n_classes > g->n_layers)
		return err_set(err, -EINVAL, "policy: %u layers of %u experts in %u size classes",
			       g->n_layers, g->n_expert, g->n_classes);
	for (uint32_t l = 0; l < g->n_layers; l++)
		if (g->class_of_layer[l] >= g->n_classes && g->class_of_layer[l] != POLICY_NO_CLASS)
			return err_set(err, -EINVAL, "policy: layer %u is of class %u of %u", l,
				       g->class_of_layer[l], g->n_classes);
	return 0;
}

/* Cuts the heaps out of one array: for each class room for all its experts, resident or absent. */
static void cut_heaps(struct ranking *r, const struct policy_geometry *g)
{
	uint32_t *next = r->items;

	for (uint32_t c = 0; c < g->n_classes; c++) {
		uint32_t layers = 0;

		for (uint32_t l = 0; l < g->n_layers; l++)
			layers += g->class_of_layer[l] == c;
		for (uint32_t resident = 0; resident < 2; resident++) {
			r->heaps[2 * c + resident] =
				(struct heap){ .items = next, .least_on_top = resident };
			next += (size_t)layers * g->n_expert;
		}
	}
}

int ranking_create(const struct policy_geometry *g, enum ranking_ties ties, struct ranking **ret,
		   struct err *err)
{
	struct ranking *r;
	int rc = check_geometry(g, err);

	if (rc)
		return rc;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->n = g->n_layers * g->n_expert;
	r->n_expert = g->n_expert;
	r->n_classes = g->n_classes;
	r->class_of_layer = calloc(g->n_layers, sizeof(*r->class_of_layer));
	r->heaps = calloc(2 * (size_t)g->n_classes, sizeof(*r->heaps));
	r->items = calloc(2 * (size_t)r->n, sizeof(*r->items));
	r->pos = calloc(r->n, sizeof(*r->pos));
	r->tie = calloc(r->n, sizeof(*r->tie));
	r->worth = calloc(r->n, sizeof(*r->worth));
	r->resident = calloc(r->n, sizeof(*r->resident));
	r->frontier = calloc(r->n, sizeof(*r->frontier));
	if (!r->class_of_layer || !r->heaps || !r->items || !r->pos || !r->tie || !r->worth ||
	    !r->resident || !r->frontier) {
		ranking_destroy(r);
		return -ENOMEM;
	}
	for (uint32_t l = 0; l < g->n_layers; l++)
		r->class_of_layer[l] = g->class_of_layer[l];
	cut_heaps(r, g);
	for (uint32_t id = 0; id < r->n; id++) {
		uint32_t layer = id / g->n_expert, expert = id % g->n_expert;

		r->tie[id] = ties == TIES_SPREAD ? expert * g->n_layers + layer : id;
		if (is_expert(r, id))
			heap_add(r, heap_of(r, id), id);
	}
	*ret = r;
	return 0;
}

void ranking_destroy(struct ranking *r)
{
	if (!r)
		return;
	free(r->class_of_layer);
	free(r->heaps);
	free(r->items);
	free(r->pos);
	free(r->tie);
	free(r->worth);
	free(r->resident);
	free(r->frontier);
	free(r);
}

uint32_t ranking_size(const struct ranking *r)
{
	return r->n;
}

double ranking_worth(const struct ranking *r, uint32_t id)
{
	return r->worth[id];
}

void ranking_set(struct ranking *r, uint32_t id, double worth)
{
	assert(id < r->n && worth == worth);
	if (r->worth[id] == worth)
		return;
	r->worth[id] = worth;
	if (!is_expert(r, id))
		return;
	sift(r, heap_of(r, id), r->pos[id]);
}

void ranking_scale(struct ranking *r, double factor)
{
	for (uint32_t id = 0; id < r->n; id++)
		r->worth[id] *= factor;
	/* Those that underflowed to the same worth are now ordered by rank: restore the heaps. */
	for (uint32_t i = 0; i < 2 * r->n_classes; i++)
		for (uint32_t at = r->heaps[i].n; at-- > 0;)
			sift_down(r, &r->heaps[i], at);
}

void ranking_place(struct ranking *r, uint32_t id, bool resident)
{
	assert(id < r->n && is_expert(r, id));
	if (r->resident[id] == resident)
		return;
	heap_remove(r, heap_of(r, id), id);
	r->resident[id] = resident;
	heap_add(r, heap_of(r, id), id);
}

bool ranking_resident(const struct ranking *r, uint32_t id)
{
	return r->resident[id];
}

/* The frontier is a binary heap of places in @h, the place whose expert comes first in its order on top. */
static void frontier_push(struct ranking *r, const struct heap *h, uint32_t *n, uint32_t place)
{
	uint32_t at = (*n)++;

	while (at && goes_above(r, h, h->items[place], h->items[r->frontier[(at - 1) / 2]])) {
		r->frontier[at] = r->frontier[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	r->frontier[at] = place;
}

static uint32_t frontier_pop(struct ranking *r, const struct heap *h, uint32_t *n)
{
	uint32_t top = r->frontier[0], last = r->frontier[--*n], at = 0;

	for (;;) {
		uint32_t c = 2 * at + 1;

		if (c >= *n)
			break;
		if (c + 1 < *n &&
		    goes_above(r, h, h->items[r->frontier[c + 1]], h->items[r->frontier[c]]))
			c++;
		if (!goes_above(r, h, h->items[r->frontier[c]], h->items[last]))
			break;
		r->frontier[at] = r->frontier[c];
		at = c;
	}
	r->frontier[at] = last;
	return top;
}

/*
 * Walks a heap in its order without changing it: the next in order is always a child of one already
 * seen. Usually the top is allowed and nothing is walked at all.
 */
static uint32_t first_allowed(struct ranking *r, const struct heap *h, policy_evictable_fn allowed,
			      void *ctx)
{
	uint32_t n = 0;

	if (h->n)
		frontier_push(r, h, &n, 0);
	while (n) {
		uint32_t place = frontier_pop(r, h, &n), first = place * ARITY + 1;

		if (allowed(ctx, h->items[place]))
			return h->items[place];
		for (uint32_t c = first; c < first + ARITY && c < h->n; c++)
			frontier_push(r, h, &n, c);
	}
	return POLICY_NONE;
}

uint32_t ranking_least(struct ranking *r, uint32_t cls, policy_evictable_fn evictable, void *ctx)
{
	return first_allowed(r, &r->heaps[2 * cls + 1], evictable, ctx);
}

uint32_t ranking_best(struct ranking *r, uint32_t cls, policy_evictable_fn may_come, void *ctx)
{
	return first_allowed(r, &r->heaps[2 * cls], may_come, ctx);
}

bool ranking_promote(struct ranking *r, uint32_t cls, bool has_free, double margin,
		     const struct policy_filter *filter, struct policy_move *ret)
{
	struct policy_move move = { ranking_best(r, cls, filter->may_come, filter->ctx),
				    POLICY_NONE };

	if (move.id == POLICY_NONE)
		return false;
	if (!has_free) {
		move.victim = ranking_least(r, cls, filter->may_go, filter->ctx);
		if (move.victim == POLICY_NONE ||
		    !(r->worth[move.id] > margin * r->worth[move.victim]))
			return false;
	}
	*ret = move;
	return true;
}

uint32_t ranking_best_absent(const struct ranking *r, uint32_t cls)
{
	const struct heap *h = &r->heaps[2 * cls];

	return h->n ? h->items[0] : POLICY_NONE;
}
