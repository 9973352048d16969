/* SPDX-License-Identifier: MIT */
/* daemon/engine/vram.c: see vram.h. */
#include "engine/vram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/num.h"
#include "policy/fill_control.h"
#include "policy/promoter.h"
#include "trace/policy_input.h"

#define FILLS_MOST PROMOTER_MOVES

/* A fill that was chosen: first it waits to be handed to the device, then for its end. */
struct fill {
	expert_id_t id;
	uint32_t slot, cls; /* cls: of the host's slots */
};

struct vram {
	struct vram_config c;
	const struct device_plan *plan;
	const struct policy_ops *ops;
	struct policy *policy;
	uint64_t *class_bytes;
	uint32_t *class_slots; /* now */
	struct promoter promoter;
	uint32_t *table; /* the device's */
	bool changed;	 /* since it was published */

	/* in order: [done, issued) are under way, [issued, chosen) wait; indices modulo FILLS_MOST */
	struct fill ring[FILLS_MOST];
	uint64_t chosen, issued, done;
	uint32_t *host_pins; /* by class of the host's slots */

	struct policy_ops told; /* used() alone, which counts for the control first */
	struct fill_control control;
	bool controlled;
	struct layer_rates rates;
	uint64_t token_bytes; /* that a token may bring in at the most */
	uint32_t layers;      /* with experts */
	uint64_t begun_bytes; /* of fills since the control was told */
	bool decodes;	      /* the step */

	uint64_t most_fills; /* chosen and not done */
	bool failed;	     /* a fill of the device's did: nothing more is begun */
	uint64_t stuck;	     /* this fill, from 1, was waited for in vain */
	bool holds_back; /* slots are to be withdrawn when their fills have ended: none is begun before */

	struct vram_counters counters;
};

static void add(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static uint32_t layer_of(const struct vram *v, expert_id_t id)
{
	return id / v->c.model->n_expert;
}

/* The books number slots through all classes, the device within each. */
static uint32_t slot_of(const struct vram *v, expert_id_t id)
{
	uint32_t slot = residency_device_slot(v->c.residency, id);

	for (uint32_t k = 0; k < v->plan->class_of_layer[layer_of(v, id)]; k++)
		slot -= (uint32_t)v->plan->classes[k].experts;
	return slot;
}

static uint32_t free_slots(void *ctx, uint32_t cls)
{
	const struct vram *v = ctx;

	return residency_free_slots(v->c.residency, TIER_DEVICE, cls);
}

/* A host copy is at hand, and pinning it leaves demand slots to work with. */
static bool may_come(void *ctx, uint32_t id)
{
	const struct vram *v = ctx;
	const uint32_t cls = residency_class_of(v->c.residency, layer_of(v, id));

	return residency_state(v->c.residency, TIER_HOST, id) == COPY_PRESENT &&
	       residency_state(v->c.residency, TIER_DEVICE, id) == COPY_ABSENT &&
	       v->host_pins[cls] < residency_class_slots(v->c.residency, cls) / 2;
}

static bool may_go(void *ctx, uint32_t id)
{
	const struct vram *v = ctx;

	return residency_state(v->c.residency, TIER_DEVICE, id) == COPY_PRESENT &&
	       !residency_pinned(v->c.residency, TIER_DEVICE, id);
}

static int make_policy(struct vram *v, struct err *err)
{
	const struct model *m = v->c.model;
	const bool hit = !strcmp(v->c.policy, "hit"), fetch = !strcmp(v->c.policy, "fetch");
	struct policy_geometry g = { .n_layers = m->n_layers,
				     .n_expert = m->n_expert,
				     .n_expert_used = m->n_expert_used,
				     .n_classes = v->plan->n_classes };
	uint32_t *class_of = calloc(m->n_layers, sizeof(*class_of));
	uint32_t *slots = calloc(g.n_classes + 1, sizeof(*slots));
	int rc = -ENOMEM;

	for (uint32_t i = 0; class_of && i < m->n_layers; i++)
		class_of[i] = v->plan->class_of_layer[i] < g.n_classes ? v->plan->class_of_layer[i]
								       : POLICY_NO_CLASS;
	/* books for as many as there may ever be */
	for (uint32_t k = 0; slots && k < g.n_classes; k++)
		slots[k] = (uint32_t)v->plan->classes[k].experts;
	g.class_of_layer = class_of;
	g.class_slots = slots;
	if (class_of && slots)
		rc = residency_add_device(v->c.residency, v->plan->class_of_layer, g.n_classes,
					  slots);
	for (uint32_t k = 0; !rc && k < g.n_classes; k++) {
		slots[k] = v->class_slots[k] = device_slots(v->c.device, k);
		rc = residency_device_limit(v->c.residency, k, slots[k]);
	}
	if (!rc)
		rc = policy_open(hit	 ? "lfu"
				 : fetch ? "lru"
					 : v->c.policy,
				 &g, &v->ops, &v->policy, err);
	free(class_of);
	free(slots);
	return rc;
}

static void make_promoter(struct vram *v)
{
	const struct model *m = v->c.model;
	const bool hit = !strcmp(v->c.policy, "hit"), fetch = !strcmp(v->c.policy, "fetch");
	struct promoter_config p = { .ops = v->ops,
				     .policy = v->policy,
				     .n_classes = v->plan->n_classes,
				     .class_bytes = v->class_bytes,
				     .free_slots = free_slots,
				     .filter = { may_come, may_go, v },
				     .only_free = hit };
	double bytes = 0;

	for (uint32_t i = 0; i < m->n_layers; i++) {
		const uint32_t cls = v->plan->class_of_layer[i];

		/* what the link carries: an expert, without the padding of its slot */
		if (cls < p.n_classes)
			v->class_bytes[cls] =
				u64_max(v->class_bytes[cls], m->layers[i].experts.bytes);
		bytes += (double)m->layers[i].experts.bytes * v->c.experts_per_layer;
		v->layers += m->layers[i].experts.bytes > 0;
	}
	if (!hit && !fetch) {
		p.bytes_per_s = v->c.bytes_per_s;
		p.bytes_per_token = v->token_bytes = bytes > 0 ? (uint64_t)bytes + 1 : 0;
	}
	promoter_init(&v->promoter, &p);
}

/* Of a few slots most hold what is used: where the link is slow, what is on its way does not. */
static void set_most_fills(struct vram *v)
{
	uint64_t slots = 0;

	for (uint32_t k = 0; k < v->plan->n_classes; k++)
		slots += v->class_slots[k];
	v->most_fills = u64_min(promoter_most_moves(slots), device_fills(v->c.device));
}

/* ---- whether they pay ---- */

static bool resident(void *ctx, uint32_t id)
{
	return ((const struct vram *)ctx)->table[id] != DEVICE_NO_SLOT;
}

/* As supply calls the policy: this is the vram that vram_policy() gave it. */
static void used(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
		 const uint32_t *counts, uint32_t n)
{
	struct vram *v = (struct vram *)(void *)p;

	for (uint32_t i = 0; i < n && v->decodes; i++)
		fill_control_used(&v->control, ids[i],
				  (double)v->c.model->layers[layer].experts.bytes,
				  resident(v, ids[i]));
	v->ops->used(v->policy, step, layer, ids, counts, n);
}

static int make_control(struct vram *v, struct err *err)
{
	const struct model *m = v->c.model;

	v->controlled = !strcmp(v->c.policy, "vram");
	v->told = (struct policy_ops){ .name = v->ops->name, .help = v->ops->help, .used = used };
	if (fill_control_init(&v->control, m->n_layers * m->n_expert))
		return err_set(err, -ENOMEM, "no memory for the device's experts");
	return 0;
}

/* A step of @n_tokens comes: may fills go on beside it? */
static void ask_control(struct vram *v, uint32_t n_tokens)
{
	const bool on = fill_control_step(&v->control, n_tokens, v->layers, v->begun_bytes,
					  &v->rates, resident, v);

	v->begun_bytes = 0;
	v->decodes = n_tokens && n_tokens <= POLICY_DECODE_TOKENS;
	v->promoter.off = v->controlled && !on;
	atomic_store(&v->counters.stopped, v->promoter.off);
	atomic_store(&v->counters.stops, v->controlled ? v->control.stops : 0);
	atomic_store(&v->counters.gain_ppm,
		     v->control.judged ? (int64_t)(v->control.gain * 1e6) : 0);
}

void vram_set_rates(struct vram *v, const struct layer_rates *rates)
{
	v->rates = *rates;
	if (v->token_bytes && v->controlled)
		promoter_budget(
			&v->promoter, v->c.bytes_per_s,
			layer_token_fills(rates, v->layers, v->token_bytes, v->promoter.largest));
}

int vram_create(const struct vram_config *config, struct vram **ret, struct err *err)
{
	struct vram *v = calloc(1, sizeof(*v));
	int rc = -ENOMEM;

	if (!v)
		return err_set(err, rc, "no memory for the device's experts");
	v->c = *config;
	v->plan = device_get_plan(config->device);
	v->table = device_table(config->device);
	v->class_bytes = calloc(v->plan->n_classes + 1, sizeof(*v->class_bytes));
	v->host_pins = calloc(residency_n_classes(config->residency) + 1, sizeof(*v->host_pins));
	v->class_slots = calloc(v->plan->n_classes + 1, sizeof(*v->class_slots));
	if (v->class_bytes && v->host_pins && v->class_slots)
		rc = make_policy(v, err);
	if (rc) {
		vram_destroy(v);
		return err_set(err, rc, "no memory for the device's experts");
	}
	rc = make_control(v, err);
	if (rc) {
		vram_destroy(v);
		return rc;
	}
	make_promoter(v);
	set_most_fills(v);
	*ret = v;
	return 0;
}

void vram_destroy(struct vram *v)
{
	if (!v)
		return;
	if (v->policy)
		v->ops->destroy(v->policy);
	fill_control_fini(&v->control);
	free(v->class_bytes);
	free(v->class_slots);
	free(v->host_pins);
	free(v);
}

const struct policy_ops *vram_policy_ops(const struct vram *v)
{
	return &v->told;
}

struct policy *vram_policy(struct vram *v)
{
	return (struct policy *)(void *)v; /* of the ops that are told: see used() */
}

/* ---- fills ---- */

static struct fill *fill_at(struct vram *v, uint64_t n)
{
	return &v->ring[n % FILLS_MOST];
}

/* The fill @f has ended: the expert is in the table from the next step on, or was never there. */
static void book(struct vram *v, const struct fill *f, int result)
{
	residency_device_done(v->c.residency, f->id, result);
	v->host_pins[f->cls]--;
	if (result) {
		v->ops->removed(v->policy, f->id);
		return;
	}
	v->table[f->id] = f->slot;
	v->changed = true;
	add(&v->counters.fills, 1);
	add(&v->counters.fill_bytes, v->c.model->layers[layer_of(v, f->id)].experts.bytes);
	add(&v->counters.resident, 1);
}

static uint64_t bytes_of(const struct vram *v, const struct fill *f)
{
	return v->c.model->layers[layer_of(v, f->id)].experts.bytes;
}

/* 0, or the device's -errno: what is under way may never end. */
static int book_done(struct vram *v)
{
	uint64_t n = 0;
	int rc = 0;

	if (v->done == v->issued)
		return 0;
	rc = device_fills_done(v->c.device, &n, NULL);
	if (rc) { /* nobody waits for it, and nothing more is begun */
		v->failed = true;
		return rc;
	}
	for (; v->done < v->issued && v->done < n; v->done++)
		book(v, fill_at(v, v->done), 0);
	return 0;
}

void vram_pieces(const struct layer *l, const struct node_split *split,
		 const struct expert_view *view, struct device_fill *ret)
{
	struct device_slot slot;

	device_slot_layout(l, &slot);
	for (int k = 0; k < EXPERT_MATRIX_NR; k++)
		for (uint32_t i = 0; i < split->n && l->experts.matrix[k].n_out; i++) {
			const uint64_t row_bytes = l->experts.matrix[k].row_bytes;
			uint64_t first, end;

			node_split_rows(split, l->experts.matrix[k].n_out, i, &first, &end);
			if (first == end)
				continue;
			ret->piece[ret->n].from = view->at[k][i] + first * row_bytes;
			ret->piece[ret->n].at = slot.at[k] + first * row_bytes;
			ret->piece[ret->n++].bytes = (end - first) * row_bytes;
		}
}

static void describe(const struct vram *v, const struct fill *f, struct device_fill *ret)
{
	const uint32_t layer = layer_of(v, f->id);
	const struct expert_view view = residency_view(v->c.residency, f->id);

	ret->layer = layer;
	ret->slot = f->slot;
	ret->n = 0;
	vram_pieces(&v->c.model->layers[layer], &v->c.split, &view, ret);
}

void vram_issue(struct vram *v)
{
	struct device_fill fill;
	struct fill *f;

	if (v->issued == v->chosen)
		return;
	f = fill_at(v, v->issued);
	describe(v, f, &fill);
	if (device_fill(v->c.device, &fill, NULL)) {
		v->failed = true; /* residents stay where they are: their slots are good */
		book(v, f, -EIO);
		*f = *fill_at(v, --v->chosen);
		return;
	}
	v->issued++;
}

void vram_issue_all(struct vram *v)
{
	while (v->issued < v->chosen)
		vram_issue(v);
}

/* An expert leaves, its slot is free for the fill that follows. */
static void leave(struct vram *v, expert_id_t id)
{
	if (residency_evict(v->c.residency, TIER_DEVICE, id))
		return;
	v->ops->removed(v->policy, id);
	v->table[id] = DEVICE_NO_SLOT;
	v->changed = true;
	add(&v->counters.leaves, 1);
	atomic_fetch_sub_explicit(&v->counters.resident, 1, memory_order_relaxed);
}

/* One move of the policy's. False: none, or it cannot be made now. */
static bool choose(struct vram *v, bool idle)
{
	struct policy_move move;
	struct fill *f = fill_at(v, v->chosen);
	uint32_t cls;

	if (v->failed || v->chosen - v->done >= v->most_fills ||
	    !promoter_next(&v->promoter, idle, &move, &cls))
		return false;
	if (move.victim != POLICY_NONE)
		leave(v, move.victim);
	if (residency_device_begin(v->c.residency, move.id))
		return false;
	f->id = move.id;
	f->slot = slot_of(v, move.id);
	f->cls = residency_class_of(v->c.residency, layer_of(v, move.id));
	v->host_pins[f->cls]++;
	v->ops->inserted(v->policy, move.id);
	v->begun_bytes += bytes_of(v, f);
	v->chosen++;
	return true;
}

int vram_boundary(struct vram *v, uint32_t n_tokens, uint64_t now_ns, struct err *err)
{
	int rc = 0;

	vram_issue_all(v); /* a step that was given up may have left some */
	residency_settle(v->c.residency);
	book_done(v);
	if (promoter_step(&v->promoter, n_tokens, now_ns))
		fill_control_prompt(&v->control);
	ask_control(v, n_tokens);
	while (!v->holds_back && choose(v, n_tokens == 0))
		;
	v->holds_back = false; /* who still wants them says so again before the next step */
	if (v->changed)
		rc = device_publish(v->c.device, err);
	v->changed = v->changed && rc;
	return rc;
}

void vram_forget(struct vram *v)
{
	const uint32_t n = v->c.model->n_layers * v->c.model->n_expert;

	v->failed = true;
	for (; v->done < v->chosen; v->done++)
		book(v, fill_at(v, v->done), -EIO);
	v->issued = v->chosen;
	residency_settle(v->c.residency);
	for (uint32_t id = 0; id < n; id++)
		if (residency_state(v->c.residency, TIER_DEVICE, id) == COPY_PRESENT)
			leave(v, id);
}

bool vram_busy(const struct vram *v)
{
	return !v->failed && (v->done < v->chosen || promoter_wait_ns(&v->promoter));
}

bool vram_drain(struct vram *v, uint64_t ns)
{
	const struct timespec nap = { .tv_nsec = 200000 };
	const uint64_t until = now_ns() + ns;

	vram_issue_all(v);
	for (;;) {
		book_done(v);
		if (v->done == v->issued)
			return true;
		if (now_ns() > until)
			return false;
		nanosleep(&nap, NULL);
	}
}

struct expert_view vram_view(const struct vram *v, expert_id_t id)
{
	const uint32_t layer = layer_of(v, id);
	const struct layer *l = &v->c.model->layers[layer];
	const uint8_t *at = device_slot_at(v->c.device, layer, slot_of(v, id));
	struct expert_view view = { { { 0 } } };
	struct device_slot slot;

	device_slot_layout(l, &slot);
	for (int k = 0; k < EXPERT_MATRIX_NR; k++)
		for (uint32_t i = 0; i < v->c.split.n && l->experts.matrix[k].n_out; i++)
			view.at[k][i] = at + slot.at[k];
	return view;
}

const struct vram_counters *vram_counters(const struct vram *v)
{
	return &v->counters;
}

/* ---- slots that come and go ---- */

static int set_slots(struct vram *v, uint32_t cls, uint32_t n)
{
	const int rc = residency_device_limit(v->c.residency, cls, n);

	if (rc)
		return rc;
	v->class_slots[cls] = n;
	set_most_fills(v);
	if (v->ops->resize)
		v->ops->resize(v->policy, cls, n);
	return 0;
}

/* New slots lie empty: that fills did not pay says nothing of them. */
void vram_grew(struct vram *v, uint32_t cls)
{
	set_slots(v, cls, device_slots(v->c.device, cls));
	fill_control_prompt(&v->control);
}

/* Are there fills of the slots from @n on? */
static bool fills_from(struct vram *v, uint32_t cls, uint32_t n)
{
	for (uint64_t i = v->done; i < v->chosen; i++) {
		const struct fill *f = fill_at(v, i);

		if (v->plan->class_of_layer[layer_of(v, f->id)] == cls && f->slot >= n)
			return true;
	}
	return false;
}

#define STUCK_NS 1000000000 /* a fill that takes longer is not waited for again */
#define PATIENCE_NS \
	20000000 /* ... and this long where fills do end, which others' steps wait for */

/* Until no fill of these slots is under way. 0, -EBUSY: not yet, or -EIO: they do not end. */
static int wait_for_slots(struct vram *v, uint32_t cls, uint32_t n)
{
	const struct timespec nap = { .tv_nsec = 200000 };
	const uint64_t began = now_ns(), had = v->done;

	if (fills_from(v, cls, n))
		vram_issue_all(v);
	while (fills_from(v, cls, n)) {
		const uint64_t waited = now_ns() - began;

		if (book_done(v))
			return -EIO;
		if (v->done > had && waited > PATIENCE_NS)
			break;
		if (v->done == had && (waited > STUCK_NS || v->stuck == had + 1)) {
			v->stuck = had + 1;
			return -EIO;
		}
		nanosleep(&nap, NULL);
	}
	return fills_from(v, cls, n) ? -EBUSY : 0;
}

bool vram_holds_back(const struct vram *v)
{
	return v->holds_back;
}

int vram_withdraw(struct vram *v, uint32_t cls, uint32_t n)
{
	const uint32_t n_expert = v->c.model->n_expert;
	const int rc = wait_for_slots(v, cls, n);

	if (rc == -EIO)
		return rc;
	v->holds_back = rc == -EBUSY;
	if (rc)
		return rc;
	residency_settle(v->c.residency);
	for (uint32_t id = 0; id < v->c.model->n_layers * n_expert; id++)
		if (v->plan->class_of_layer[layer_of(v, id)] == cls &&
		    residency_state(v->c.residency, TIER_DEVICE, id) == COPY_PRESENT &&
		    slot_of(v, id) >= n)
			leave(v, id);
	return set_slots(v, cls, n) ? -EIO : 0;
}
