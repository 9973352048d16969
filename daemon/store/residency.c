/* SPDX-License-Identifier: MIT */
/*
 * daemon/store/residency.c: see residency.h.
 *
 * A class is one cut of a slot into the rooms of its parts; its slots lie side by side in the arena.
 * Each room suffices for the worst lead-in: an expert's stride need not be a multiple of the
 * alignment, so the experts of one tensor differ in it, and layers whose tensors start at different
 * misalignments share a class that way, for at most one alignment unit per part.
 */
#include "store/residency.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "base/num.h"
#include "model/model.h"
#include "store/arena.h"
#include "store/reader.h"

#define MAX_PARTS 3
#define NO_SLOT	  UINT32_MAX

struct slot;

struct part_request {
	struct reader_request request; /* first: done() gets its address */
	struct slot *slot;
};

struct slot {
	struct part_request part[MAX_PARTS];
	struct residency *residency;
	uint8_t *base;
	uint32_t cls;
	uint32_t next_free;
	uint64_t expert_bytes;
	_Atomic uint32_t parts_left;
	_Atomic int failure; /* first errno of a part */
	/* 0 reading, 1 landed, negative failed; released by the last part, acquired by landed() */
	_Atomic int status;
};

struct slot_class {
	uint32_t n_parts;
	uint64_t part_at[MAX_PARTS]; /* where each part's room starts in the slot */
	uint64_t slot_bytes;
	uint64_t n_experts;
	uint32_t n_slots, n_free, first_free;
};

struct expert {
	uint32_t slot; /* NO_SLOT: ABSENT */
	uint32_t pins;
	uint8_t state; /* enum expert_state */
};

struct residency {
	const struct model *model;
	struct reader *reader;
	uint32_t n_classes, n_slots, align;
	struct slot_class *classes;
	uint32_t *class_of_layer;
	struct slot *slots;
	struct expert *experts;
	expert_id_t *reading; /* experts in state READING */
	uint32_t n_reading;
	_Atomic uint32_t event;

	uint64_t slot_bytes_total, n_experts;
	_Atomic uint64_t n_resident, resident_bytes, loads, bytes_read, load_errors, evictions;
};

static uint64_t part_room(uint64_t bytes, uint32_t align)
{
	return align_up(bytes + align - 1, align);
}

static void describe_class(const struct expert_layout *l, uint32_t align, struct slot_class *c)
{
	memset(c, 0, sizeof(*c));
	c->n_parts = l->n_parts;
	for (uint32_t p = 0; p < l->n_parts; p++) {
		c->part_at[p] = c->slot_bytes;
		c->slot_bytes += part_room(l->part[p].bytes, align);
	}
}

static bool same_class(const struct slot_class *a, const struct slot_class *b)
{
	return a->n_parts == b->n_parts && a->slot_bytes == b->slot_bytes &&
	       !memcmp(a->part_at, b->part_at, sizeof(a->part_at));
}

/* Fills classes (room for n_layers) and class_of_layer; returns the number of classes. */
static uint32_t find_classes(const struct model *m, uint32_t align, struct slot_class *classes,
			     uint32_t *class_of_layer)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->n_layers; i++) {
		struct slot_class c;
		uint32_t k = 0;

		if (!m->layers[i].experts.n_parts)
			continue;
		describe_class(&m->layers[i].experts, align, &c);
		while (k < n && !same_class(&classes[k], &c))
			k++;
		if (k == n)
			classes[n++] = c;
		classes[k].n_experts += m->n_expert;
		class_of_layer[i] = k;
	}
	return n;
}

static uint64_t least_slots(const struct model *m, const struct slot_class *c)
{
	return u64_min(m->n_expert_used, c->n_experts);
}

void residency_need(const struct model *m, uint32_t align, struct residency_need *ret)
{
	struct slot_class *classes = calloc(m->n_layers, sizeof(*classes));
	uint32_t *of = calloc(m->n_layers, sizeof(*of));
	uint32_t n;

	memset(ret, 0, sizeof(*ret));
	if (classes && of) {
		n = find_classes(m, align, classes, of);
		for (uint32_t k = 0; k < n; k++) {
			ret->least_bytes += least_slots(m, &classes[k]) * classes[k].slot_bytes;
			ret->all_bytes += classes[k].n_experts * classes[k].slot_bytes;
		}
	}
	free(classes);
	free(of);
}

/* The least for every class, the rest of the budget in proportion to what is still outside. */
static int divide(struct residency *r, uint64_t budget, struct err *err)
{
	uint64_t least = 0, wanted = 0, left;

	for (uint32_t k = 0; k < r->n_classes; k++) {
		struct slot_class *c = &r->classes[k];

		c->n_slots = (uint32_t)least_slots(r->model, c);
		least += c->n_slots * c->slot_bytes;
		wanted += (c->n_experts - c->n_slots) * c->slot_bytes;
	}
	if (budget < least)
		return err_set(
			err, -ENOSPC,
			"the expert budget of %llu bytes is too small: need at least %llu bytes",
			(unsigned long long)budget, (unsigned long long)least);
	left = u64_min(budget - least, wanted);
	for (uint32_t k = 0; k < r->n_classes && wanted; k++) {
		struct slot_class *c = &r->classes[k];
		uint64_t outside = c->n_experts - c->n_slots;
		unsigned __int128 share = (unsigned __int128)left * outside / wanted;

		c->n_slots += (uint32_t)u64_min(outside, (uint64_t)share);
	}
	r->slot_bytes_total = 0;
	for (uint32_t k = 0; k < r->n_classes; k++)
		r->slot_bytes_total += r->classes[k].n_slots * r->classes[k].slot_bytes;
	for (uint32_t k = 0; k < r->n_classes; k++) { /* what rounding left over */
		struct slot_class *c = &r->classes[k];

		while (c->n_slots < c->n_experts && r->slot_bytes_total + c->slot_bytes <= budget) {
			c->n_slots++;
			r->slot_bytes_total += c->slot_bytes;
		}
	}
	return 0;
}

static void cut_slots(struct residency *r, uint8_t *base)
{
	uint32_t at = 0;

	for (uint32_t k = 0; k < r->n_classes; k++) {
		struct slot_class *c = &r->classes[k];

		c->n_free = c->n_slots;
		c->first_free = at;
		for (uint32_t i = 0; i < c->n_slots; i++, at++) {
			struct slot *s = &r->slots[at];

			s->residency = r;
			s->base = base;
			s->cls = k;
			s->next_free = i + 1 < c->n_slots ? at + 1 : NO_SLOT;
			base += c->slot_bytes;
		}
	}
}

int residency_create(const struct model *m, struct arena *arena, uint64_t budget_bytes,
		     struct reader *reader, struct residency **ret, struct err *err)
{
	uint64_t n_experts = (uint64_t)m->n_layers * m->n_expert;
	struct residency *r;
	int rc = -ENOMEM;

	r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(err, -ENOMEM, "no memory");
	r->model = m;
	r->reader = reader;
	r->align = reader_align(reader);
	r->classes = calloc(m->n_layers, sizeof(*r->classes));
	r->class_of_layer = calloc(m->n_layers, sizeof(*r->class_of_layer));
	r->experts = calloc(n_experts + 1, sizeof(*r->experts));
	r->reading = calloc(n_experts + 1, sizeof(*r->reading));
	if (!r->classes || !r->class_of_layer || !r->experts || !r->reading)
		goto out_fail;
	r->n_classes = find_classes(m, r->align, r->classes, r->class_of_layer);
	rc = divide(r, u64_min(budget_bytes, arena_bytes(arena)), err);
	if (rc)
		goto out_fail;
	for (uint32_t k = 0; k < r->n_classes; k++) {
		r->n_slots += r->classes[k].n_slots;
		r->n_experts += r->classes[k].n_experts;
	}
	rc = -ENOMEM;
	r->slots = calloc(r->n_slots + 1, sizeof(*r->slots));
	if (!r->slots)
		goto out_fail;
	for (uint64_t i = 0; i < n_experts; i++)
		r->experts[i].slot = NO_SLOT;
	cut_slots(r, arena_base(arena));
	*ret = r;
	return 0;
out_fail:
	residency_destroy(r);
	return err_set(err, rc, "no memory for the books of %llu experts",
		       (unsigned long long)n_experts);
}

void residency_destroy(struct residency *r)
{
	if (!r)
		return;
	free(r->classes);
	free(r->class_of_layer);
	free(r->experts);
	free(r->reading);
	free(r->slots);
	free(r);
}

uint32_t residency_n_classes(const struct residency *r)
{
	return r->n_classes;
}

uint32_t residency_class_of(const struct residency *r, uint32_t layer)
{
	return r->class_of_layer[layer];
}

uint32_t residency_class_slots(const struct residency *r, uint32_t cls)
{
	return r->classes[cls].n_slots;
}

uint32_t residency_free_slots(const struct residency *r, uint32_t cls)
{
	return r->classes[cls].n_free;
}

enum expert_state residency_state(const struct residency *r, expert_id_t id)
{
	return (enum expert_state)r->experts[id].state;
}

bool residency_pinned(const struct residency *r, expert_id_t id)
{
	return r->experts[id].pins > 0;
}

int residency_pin(struct residency *r, expert_id_t id)
{
	if (r->experts[id].state == EXPERT_ABSENT)
		return -ENOENT;
	r->experts[id].pins++;
	return 0;
}

void residency_unpin(struct residency *r, expert_id_t id)
{
	assert(r->experts[id].pins);
	r->experts[id].pins--;
}

/* Reader's thread: one part is in, or has failed. */
static void part_done(struct reader_request *request, int result)
{
	struct slot *s = ((struct part_request *)request)->slot;
	struct residency *r = s->residency;
	int none = 0;

	if (result)
		atomic_compare_exchange_strong(&s->failure, &none, result);
	/* acq_rel: the last part sees, and passes on, what the others wrote */
	if (atomic_fetch_sub_explicit(&s->parts_left, 1, memory_order_acq_rel) != 1)
		return;
	result = atomic_load_explicit(&s->failure, memory_order_relaxed);
	if (result)
		atomic_fetch_add_explicit(&r->load_errors, 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&r->bytes_read, s->expert_bytes, memory_order_relaxed);
	atomic_store_explicit(&s->status, result ? result : 1, memory_order_release);
	atomic_fetch_add_explicit(&r->event, 1, memory_order_release);
	futex_wake_all(&r->event);
}

int residency_load(struct residency *r, expert_id_t id)
{
	uint32_t layer = id / r->model->n_expert, number = id % r->model->n_expert;
	const struct expert_layout *l = &r->model->layers[layer].experts;
	struct slot_class *c = &r->classes[r->class_of_layer[layer]];
	struct reader_request *requests[MAX_PARTS];
	struct expert *e = &r->experts[id];
	struct slot *s;

	if (e->state != EXPERT_ABSENT)
		return -EBUSY;
	if (!c->n_free)
		return -ENOSPC;
	e->slot = c->first_free;
	s = &r->slots[e->slot];
	c->first_free = s->next_free;
	c->n_free--;
	e->state = EXPERT_READING;
	e->pins = 1;
	r->reading[r->n_reading++] = id;
	s->expert_bytes = l->bytes;
	atomic_store_explicit(&s->parts_left, l->n_parts, memory_order_relaxed);
	atomic_store_explicit(&s->failure, 0, memory_order_relaxed);
	atomic_store_explicit(&s->status, 0, memory_order_relaxed);
	for (uint32_t p = 0; p < l->n_parts; p++) {
		struct reader_request *q = &s->part[p].request;
		uint64_t offset = l->part[p].offset + number * l->part[p].bytes;

		s->part[p].slot = s;
		q->file = l->part[p].file;
		q->offset = offset;
		q->bytes = l->part[p].bytes;
		q->dest = s->base + c->part_at[p] + offset % r->align;
		q->done = part_done;
		requests[p] = q;
	}
	atomic_fetch_add_explicit(&r->loads, 1, memory_order_relaxed);
	reader_submit(r->reader, requests, l->n_parts); /* the handover orders the stores above */
	return 0;
}

static void free_slot(struct residency *r, struct expert *e)
{
	struct slot *s = &r->slots[e->slot];
	struct slot_class *c = &r->classes[s->cls];

	s->next_free = c->n_free ? c->first_free : NO_SLOT;
	c->first_free = e->slot;
	c->n_free++;
	e->slot = NO_SLOT;
	e->state = EXPERT_ABSENT;
}

static void add_resident(struct residency *r, const struct expert *e, int sign)
{
	uint64_t bytes = r->slots[e->slot].expert_bytes;

	if (sign > 0) {
		atomic_fetch_add_explicit(&r->n_resident, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&r->resident_bytes, bytes, memory_order_relaxed);
	} else {
		atomic_fetch_sub_explicit(&r->n_resident, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&r->resident_bytes, bytes, memory_order_relaxed);
	}
}

int residency_evict(struct residency *r, expert_id_t id)
{
	struct expert *e = &r->experts[id];

	if (e->state == EXPERT_ABSENT)
		return -ENOENT;
	if (e->state == EXPERT_READING || e->pins)
		return -EBUSY;
	add_resident(r, e, -1);
	atomic_fetch_add_explicit(&r->evictions, 1, memory_order_relaxed);
	free_slot(r, e);
	return 0;
}

int residency_landed(const struct residency *r, expert_id_t id)
{
	return atomic_load_explicit(&r->slots[r->experts[id].slot].status, memory_order_acquire);
}

struct expert_view residency_view(const struct residency *r, expert_id_t id)
{
	const struct expert_layout *l = &r->model->layers[id / r->model->n_expert].experts;
	const struct slot *s = &r->slots[r->experts[id].slot];
	const uint8_t *at[EXPERT_MATRIX_NR];

	for (int k = 0; k < EXPERT_MATRIX_NR; k++)
		at[k] = s->part[l->matrix[k].part].request.dest + l->matrix[k].offset;
	return (struct expert_view){ .gate = at[EXPERT_GATE],
				     .up = at[EXPERT_UP],
				     .down = at[EXPERT_DOWN] };
}

void residency_settle(struct residency *r)
{
	for (uint32_t i = 0; i < r->n_reading;) {
		struct expert *e = &r->experts[r->reading[i]];
		int status = residency_landed(r, r->reading[i]);

		if (status == 0 || (status < 0 && e->pins)) {
			i++;
			continue;
		}
		if (status > 0) {
			e->state = EXPERT_HOST;
			add_resident(r, e, 1);
		} else {
			free_slot(r, e);
		}
		r->reading[i] = r->reading[--r->n_reading];
	}
}

_Atomic uint32_t *residency_event_word(struct residency *r)
{
	return &r->event;
}

uint32_t residency_reading(const struct residency *r)
{
	return r->n_reading;
}

void residency_get_stats(const struct residency *r, struct residency_stats *s)
{
	s->slots = r->n_slots;
	s->slot_bytes_total = r->slot_bytes_total;
	s->experts_total = r->n_experts;
	s->experts_resident = atomic_load_explicit(&r->n_resident, memory_order_relaxed);
	s->resident_bytes = atomic_load_explicit(&r->resident_bytes, memory_order_relaxed);
	s->loads = atomic_load_explicit(&r->loads, memory_order_relaxed);
	s->bytes_read = atomic_load_explicit(&r->bytes_read, memory_order_relaxed);
	s->load_errors = atomic_load_explicit(&r->load_errors, memory_order_relaxed);
	s->evictions = atomic_load_explicit(&r->evictions, memory_order_relaxed);
}
