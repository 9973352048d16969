/* SPDX-License-Identifier: MIT */
/* daemon/store/residency.c: see residency.h. */
#include "store/residency_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "base/num.h"
#include "model/model.h"
#include "store/arena.h"
#include "store/warm.h"

#define REGION_ALIGN (2ull << 20) /* a huge page: regions of different nodes share none */

uint64_t residency_arena_bytes(uint64_t budget_bytes, const struct node_split *split)
{
	return budget_bytes + (split && split->n > 1 ? split->n * REGION_ALIGN : 0);
}

/* Gives every node its region of the arena, and every class its place there. */
static void place_regions(struct residency *r, struct arena *arena)
{
	uint8_t *base = arena_base(arena);
	uint64_t at = 0;

	for (uint32_t i = 0; i < r->split.n; i++) {
		uint64_t start = at;

		for (uint32_t k = 0; k < r->n_classes; k++) {
			r->class_base[k * NODES_SPLIT + i] = base + at;
			at += r->classes[k].n_slots * r->classes[k].node_bytes[i];
		}
		if (r->split.n > 1)
			at = align_up(at, REGION_ALIGN);
		if (r->split.node[i] >= 0 && at > start)
			arena_bind(arena, start, at - start, r->split.node[i]);
	}
}

static void cut_slots(struct residency *r)
{
	struct piece_request *piece = r->pieces;
	uint32_t at = 0;

	for (uint32_t k = 0; k < r->n_classes; k++) {
		struct slot_class *c = &r->classes[k];

		for (uint32_t i = 0; i < c->n_slots; i++, at++) {
			struct slot *s = &r->slots[at];

			s->residency = r;
			s->cls = k;
			s->index = i;
			s->number = at;
			s->piece = piece;
			piece += c->n_pieces;
		}
	}
}

static int take_slots(struct residency *r, uint32_t n_experts)
{
	uint32_t *class_slots = calloc(r->n_classes + 1, sizeof(*class_slots));
	uint64_t n_pieces = 0;
	int rc = -ENOMEM;

	for (uint32_t k = 0; class_slots && k < r->n_classes; k++) {
		class_slots[k] = r->classes[k].n_slots;
		r->n_slots += r->classes[k].n_slots;
		r->n_experts += r->classes[k].n_experts;
		n_pieces += (uint64_t)r->classes[k].n_slots * r->classes[k].n_pieces;
	}
	r->slots = calloc(r->n_slots + 1, sizeof(*r->slots));
	r->pieces = calloc(n_pieces + 1, sizeof(*r->pieces));
	if (class_slots && r->slots && r->pieces)
		rc = copies_create(n_experts, r->model->n_expert, r->class_of_layer, r->n_classes,
				   class_slots, &r->tier[TIER_HOST]);
	free(class_slots);
	return rc;
}

int residency_create(const struct model *m, struct arena *arena, uint64_t budget_bytes,
		     struct reader *reader, const struct node_split *split, struct residency **ret,
		     struct err *err)
{
	uint64_t n_experts = (uint64_t)m->n_layers * m->n_expert, slack;
	struct residency *r;
	int rc = -ENOMEM;

	r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(err, -ENOMEM, "no memory");
	r->model = m;
	r->reader = reader;
	r->align = reader_align(reader);
	r->split = split ? *split : node_split_one();
	r->classes = calloc(m->n_layers, sizeof(*r->classes));
	r->class_of_layer = calloc(m->n_layers, sizeof(*r->class_of_layer));
	r->class_base = calloc((size_t)m->n_layers * NODES_SPLIT, sizeof(*r->class_base));
	if (!r->classes || !r->class_of_layer || !r->class_base)
		goto out_fail;
	r->n_classes = cut_classes(m, r->align, &r->split, r->classes, r->class_of_layer);
	slack = residency_arena_bytes(0, &r->split);
	budget_bytes = u64_min(budget_bytes, u64_max(arena_bytes(arena), slack) - slack);
	rc = cut_divide(m, r->classes, r->n_classes, budget_bytes, &r->slot_bytes_total, err);
	if (rc)
		goto out_fail;
	rc = take_slots(r, (uint32_t)n_experts);
	if (rc)
		goto out_fail;
	place_regions(r, arena);
	cut_slots(r);
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
	for (int t = 0; t < TIER_NR; t++)
		copies_destroy(r->tier[t]);
	free(r->device_class);
	free(r->class_base);
	free(r->pieces);
	free(r->slots);
	free(r);
}

int residency_add_device(struct residency *r, const uint32_t *class_of, uint32_t n_classes,
			 const uint32_t *class_slots)
{
	const struct model *m = r->model;

	r->device_class = calloc(m->n_layers, sizeof(*r->device_class));
	if (!r->device_class)
		return -ENOMEM;
	memcpy(r->device_class, class_of, m->n_layers * sizeof(*class_of));
	return copies_create(m->n_layers * m->n_expert, m->n_expert, r->device_class, n_classes,
			     class_slots, &r->tier[TIER_DEVICE]);
}

int residency_device_limit(struct residency *r, uint32_t cls, uint32_t n)
{
	return copies_limit(r->tier[TIER_DEVICE], cls, n);
}

int residency_device_begin(struct residency *r, expert_id_t id)
{
	uint32_t slot;
	int rc;

	if (residency_state(r, TIER_HOST, id) != COPY_PRESENT)
		return -ENOENT;
	rc = copies_begin(r->tier[TIER_DEVICE], id, &slot);
	return rc ? rc : residency_pin(r, TIER_HOST, id);
}

static void device_changed(void *arg, uint32_t id, bool present)
{
}

void residency_device_done(struct residency *r, expert_id_t id, int result)
{
	copies_filled(r->tier[TIER_DEVICE], residency_device_slot(r, id), result);
	copies_unpin(r->tier[TIER_DEVICE], id);
	residency_unpin(r, TIER_HOST, id);
	copies_settle(r->tier[TIER_DEVICE], device_changed, r);
}

uint32_t residency_device_slot(const struct residency *r, expert_id_t id)
{
	return copies_slot(r->tier[TIER_DEVICE], id);
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

struct slot_share residency_class(const struct residency *r, uint32_t cls)
{
	struct slot_share share = cut_share(r->model, &r->classes[cls]);

	share.slots = r->classes[cls].n_slots;
	return share;
}

uint32_t residency_free_slots(const struct residency *r, enum tier tier, uint32_t cls)
{
	return r->tier[tier] ? copies_free_slots(r->tier[tier], cls) : 0;
}

enum copy_state residency_state(const struct residency *r, enum tier tier, expert_id_t id)
{
	if (tier == TIER_DISK)
		return COPY_PRESENT;
	return r->tier[tier] ? copies_state(r->tier[tier], id) : COPY_ABSENT;
}

bool residency_pinned(const struct residency *r, enum tier tier, expert_id_t id)
{
	return r->tier[tier] && copies_pinned(r->tier[tier], id);
}

int residency_pin(struct residency *r, enum tier tier, expert_id_t id)
{
	if (tier == TIER_DISK)
		return 0;
	return r->tier[tier] ? copies_pin(r->tier[tier], id) : -ENOENT;
}

void residency_unpin(struct residency *r, enum tier tier, expert_id_t id)
{
	if (r->tier[tier])
		copies_unpin(r->tier[tier], id);
}

/* Reader's thread: one piece is in, or has failed. */
static void piece_done(struct reader_request *request, int result)
{
	struct slot *s = ((struct piece_request *)request)->slot;
	struct residency *r = s->residency;
	int none = 0;

	if (result)
		atomic_compare_exchange_strong(&s->failure, &none, result);
	/* acq_rel: the last piece sees, and passes on, what the others wrote */
	if (atomic_fetch_sub_explicit(&s->pieces_left, 1, memory_order_acq_rel) != 1)
		return;
	result = atomic_load_explicit(&s->failure, memory_order_relaxed);
	if (result && result != -ECANCELED)
		atomic_fetch_add_explicit(&r->load_errors, 1, memory_order_relaxed);
	else if (!result)
		atomic_fetch_add_explicit(&r->bytes_read, s->expert_bytes, memory_order_relaxed);
	if (r->warm) /* the expert's bytes are there, or nobody writes any more */
		warm_set(r->warm, s->number, result ? WARM_EMPTY : WARM_WHOLE, s->id);
	copies_filled(r->tier[TIER_HOST], s->number, result);
	atomic_fetch_add_explicit(&r->event, 1, memory_order_release);
	futex_wake_all(&r->event);
}

/* Where piece @p of a slot goes. */
static uint8_t *room_of(const struct residency *r, const struct slot *s, uint32_t p)
{
	const struct slot_class *c = &r->classes[s->cls];
	uint32_t node = c->node[p];

	return r->class_base[s->cls * NODES_SPLIT + node] + s->index * c->node_bytes[node] +
	       c->at[p];
}

uint64_t residency_load_bytes(const struct residency *r, uint32_t layer)
{
	return r->model->layers[layer].experts.bytes;
}

uint32_t residency_place(struct residency *r, expert_id_t id, uint32_t at)
{
	uint32_t number = id % r->model->n_expert, n;
	const struct expert_layout *l = &r->model->layers[id / r->model->n_expert].experts;
	struct expert_piece pieces[MAX_PIECES];
	struct slot *s = &r->slots[at];

	s->id = id;
	s->expert_bytes = l->bytes;
	n = cut_expert(l, &r->split, pieces);
	for (uint32_t p = 0; p < n; p++) {
		const struct expert_part *part = &l->part[pieces[p].part];
		struct reader_request *q = &s->piece[p].request;

		s->piece[p].slot = s;
		q->file = part->file;
		q->offset = part->offset + number * part->bytes + pieces[p].offset;
		q->bytes = pieces[p].bytes;
		q->dest = room_of(r, s, p) + q->offset % r->align;
	}
	return n;
}

int residency_load(struct residency *r, expert_id_t id, enum read_class cls)
{
	struct reader_request *requests[MAX_PIECES];
	uint32_t n, at;
	struct slot *s;
	int rc = copies_begin(r->tier[TIER_HOST], id, &at);

	if (rc)
		return rc;
	n = residency_place(r, id, at);
	s = &r->slots[at];
	atomic_store_explicit(&s->pieces_left, n, memory_order_relaxed);
	atomic_store_explicit(&s->failure, 0, memory_order_relaxed);
	for (uint32_t p = 0; p < n; p++) {
		requests[p] = &s->piece[p].request;
		requests[p]->done = piece_done;
		requests[p]->cls = (uint8_t)cls;
	}
	if (r->warm)
		warm_set(r->warm, at, WARM_FILLING, id);
	atomic_fetch_add_explicit(&r->loads, 1, memory_order_relaxed);
	reader_submit(r->reader, requests, n); /* the handover orders the stores above */
	return 0;
}

/* The requests of a load that is going on; 0 where there is none. */
static uint32_t pending(const struct residency *r, expert_id_t id,
			struct reader_request *ret[MAX_PIECES])
{
	const struct slot *s;
	uint32_t n;

	if (residency_state(r, TIER_HOST, id) != COPY_FILLING || residency_landed(r, id))
		return 0;
	s = &r->slots[copies_slot(r->tier[TIER_HOST], id)];
	n = r->classes[s->cls].n_pieces;
	for (uint32_t p = 0; p < n; p++)
		ret[p] = &s->piece[p].request;
	return n;
}

void residency_hurry(struct residency *r, expert_id_t id)
{
	struct reader_request *requests[MAX_PIECES];
	uint32_t n = pending(r, id, requests);

	if (n)
		reader_promote(r->reader, requests, n, READ_DEMAND);
}

void residency_withdraw(struct residency *r, expert_id_t id)
{
	struct reader_request *requests[MAX_PIECES];
	uint32_t n = pending(r, id, requests);

	if (n)
		reader_withdraw(r->reader, requests, n);
}

void residency_add_resident(struct residency *r, expert_id_t id, int sign)
{
	uint64_t bytes = r->model->layers[id / r->model->n_expert].experts.bytes;

	if (sign > 0) {
		atomic_fetch_add_explicit(&r->n_resident, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&r->resident_bytes, bytes, memory_order_relaxed);
	} else {
		atomic_fetch_sub_explicit(&r->n_resident, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&r->resident_bytes, bytes, memory_order_relaxed);
	}
}

int residency_evict(struct residency *r, enum tier tier, expert_id_t id)
{
	int rc = r->tier[tier] ? copies_evict(r->tier[tier], id) : -ENOENT;

	if (rc || tier != TIER_HOST)
		return rc;
	residency_add_resident(r, id, -1);
	atomic_fetch_add_explicit(&r->evictions, 1, memory_order_relaxed);
	return 0;
}

int residency_landed(const struct residency *r, expert_id_t id)
{
	return copies_status(r->tier[TIER_HOST], id);
}

struct expert_view residency_view(const struct residency *r, expert_id_t id)
{
	const struct expert_layout *l = &r->model->layers[id / r->model->n_expert].experts;
	const struct slot *s = &r->slots[copies_slot(r->tier[TIER_HOST], id)];
	struct expert_view view = { { { 0 } } };
	struct expert_piece pieces[MAX_PIECES];
	uint32_t n;

	if (r->split.n == 1) {
		for (int k = 0; k < EXPERT_MATRIX_NR; k++)
			if (l->matrix[k].n_out)
				view.at[k][0] = s->piece[l->matrix[k].part].request.dest +
						l->matrix[k].offset;
		return view;
	}
	n = cut_expert(l, &r->split, pieces);
	for (uint32_t p = 0; p < n; p++) {
		const struct expert_piece *q = &pieces[p];

		view.at[q->matrix][q->node] =
			s->piece[p].request.dest - q->first_row * l->matrix[q->matrix].row_bytes;
	}
	return view;
}

static void host_changed(void *arg, uint32_t id, bool present)
{
	if (present)
		residency_add_resident(arg, id, 1);
}

void residency_settle(struct residency *r)
{
	copies_settle(r->tier[TIER_HOST], host_changed, r);
}

_Atomic uint32_t *residency_event_word(struct residency *r)
{
	return &r->event;
}

uint32_t residency_reading(const struct residency *r)
{
	return copies_filling(r->tier[TIER_HOST]);
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
