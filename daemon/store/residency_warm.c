/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/residency_warm.c: residency over memory that outlives its process: what of it is taken over, see
 * residency.h. Engine thread, before the first load.
 *
 * A process that is killed leaves reads behind that the kernel goes on with. They land in slots whose mark says
 * filling: a slot like that must not be given to another expert as it is. Its pages are replaced, by whole
 * huge pages, since only those leave the file while somebody still writes to them; slots that share one of these
 * pages lose their expert too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "model/model.h"
#include "store/arena.h"
#include "store/residency_impl.h"
#include "store/warm.h"

static uint64_t hash_class(const struct slot_class *c, uint64_t h)
{
	h = hash64(&c->n_pieces, sizeof(c->n_pieces), h);
	h = hash64(c->node, sizeof(c->node), h);
	h = hash64(c->at, sizeof(c->at), h);
	h = hash64(c->node_bytes, sizeof(c->node_bytes), h);
	return hash64(&c->n_slots, sizeof(c->n_slots), h);
}

static uint64_t hash_split(const struct node_split *split, uint64_t h)
{
	h = hash64(split->node, split->n * sizeof(split->node[0]), h);
	return hash64(split->share, split->n * sizeof(split->share[0]), h);
}

int residency_layout(const struct model *m, uint32_t align, uint64_t budget_bytes,
		     const struct node_split *split, struct residency_layout *ret, struct err *err)
{
	struct slot_class *classes = calloc((size_t)m->n_layers + 1, sizeof(*classes));
	uint32_t *of = calloc((size_t)m->n_layers + 1, sizeof(*of)), n;
	struct node_split one = node_split_one();
	struct residency_layout l = { 0 };
	int rc = -ENOMEM;

	if (!split)
		split = &one;
	if (!classes || !of) {
		err_set(err, rc, "no memory for the layout");
		goto out;
	}
	n = cut_classes(m, align, split, classes, of);
	rc = cut_divide(m, classes, n, budget_bytes, &l.slot_bytes_total, err);
	if (rc)
		goto out;
	l.hash = hash64(of, m->n_layers * sizeof(*of), hash_split(split, align));
	for (uint32_t k = 0; k < n; k++) {
		l.n_slots += classes[k].n_slots;
		l.hash = hash_class(&classes[k], l.hash);
	}
	*ret = l;
out:
	free(classes);
	free(of);
	return rc;
}

/* Of the pieces of memory of ARENA_RENEW bytes: which are to be replaced. */
struct hull {
	const uint8_t *base;
	uint64_t n;
	bool *old;
	bool any;
};

/* Does any piece under slot @s have to go? With @mark: all of them do. */
static bool look(const struct residency *r, const struct slot *s, struct hull *hull, bool mark)
{
	const struct slot_class *c = &r->classes[s->cls];
	bool found = false;

	for (uint32_t i = 0; i < r->split.n; i++) {
		uint64_t at = (uint64_t)(r->class_base[s->cls * NODES_SPLIT + i] - hull->base) +
			      s->index * c->node_bytes[i];
		uint64_t end = at + c->node_bytes[i];

		for (uint64_t k = at / ARENA_RENEW; c->node_bytes[i] && k * ARENA_RENEW < end;
		     k++) {
			found |= hull->old[k];
			hull->old[k] |= mark;
		}
	}
	return found;
}

/* The expert that a slot has, of its class and in the model; COPIES_NO_SLOT: none. */
static uint32_t whole_expert(const struct residency *r, const struct warm *w, const struct slot *s)
{
	const struct model *m = r->model;
	uint32_t id;

	if (warm_get(w, s->number, &id) != WARM_WHOLE ||
	    id >= (uint64_t)m->n_layers * m->n_expert ||
	    r->class_of_layer[id / m->n_expert] != s->cls)
		return COPIES_NO_SLOT;
	return id;
}

/* Takes new pages for what may be written to, and gives up what shares them. */
static int renew(struct residency *r, struct warm *w, struct arena *arena, struct hull *hull)
{
	uint32_t id;
	int rc = 0;

	for (uint32_t i = 0; i < r->n_slots; i++)
		if (warm_get(w, i, &id) == WARM_FILLING) {
			look(r, &r->slots[i], hull, true);
			hull->any = true;
		}
	/* what is whole there is lost; what is filling stays marked so until its pages are replaced */
	for (uint32_t i = 0; hull->any && i < r->n_slots; i++)
		if (warm_get(w, i, &id) == WARM_WHOLE && look(r, &r->slots[i], hull, false))
			warm_set(w, i, WARM_EMPTY, 0);
	for (uint64_t k = 0; hull->any && k < hull->n && !rc; k++)
		if (hull->old[k])
			rc = arena_renew(arena, k * ARENA_RENEW, ARENA_RENEW);
	for (uint32_t i = 0; hull->any && i < r->n_slots && !rc; i++)
		if (warm_get(w, i, &id) == WARM_FILLING)
			warm_set(w, i, WARM_EMPTY, 0);
	return rc;
}

static void adopt(struct residency *r, const struct warm *w, uint32_t *id_of_slot, bool *seen)
{
	for (uint32_t i = 0; i < r->n_slots; i++) {
		uint32_t id = whole_expert(r, w, &r->slots[i]);

		if (id != COPIES_NO_SLOT && seen[id])
			id = COPIES_NO_SLOT; /* it was evicted there and read again elsewhere */
		id_of_slot[i] = id;
		if (id == COPIES_NO_SLOT)
			continue;
		seen[id] = true;
		residency_place(r, id, i);
		residency_add_resident(r, id, 1);
	}
	copies_adopt(r->tier[TIER_HOST], id_of_slot);
}

int residency_keep(struct residency *r, struct warm *warm, struct arena *arena, bool taken,
		   struct err *err)
{
	uint64_t n_experts = (uint64_t)r->model->n_layers * r->model->n_expert;
	struct hull hull = { .base = arena_base(arena), .n = arena_bytes(arena) / ARENA_RENEW + 1 };
	uint32_t *id_of_slot;
	bool *seen;
	int rc = -ENOMEM;

	if (!taken) {
		r->warm = warm;
		return 0;
	}
	hull.old = calloc(hull.n, sizeof(*hull.old));
	id_of_slot = calloc((size_t)r->n_slots + 1, sizeof(*id_of_slot));
	seen = calloc(n_experts + 1, sizeof(*seen));
	if (hull.old && id_of_slot && seen)
		rc = renew(r, warm, arena, &hull);
	if (!rc) {
		adopt(r, warm, id_of_slot, seen);
		r->warm = warm;
	}
	free(hull.old);
	free(id_of_slot);
	free(seen);
	return rc ? err_set(err, rc, "new pages for slots that were being read: %s", strerror(-rc))
		  : 0;
}
