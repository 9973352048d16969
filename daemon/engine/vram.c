/* SPDX-License-Identifier: MIT */
/* daemon/engine/vram.c: see vram.h. */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/num.h"
#include "engine/vram_private.h"

static void add(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

/* The books number slots through all classes, the device within each. */
static uint32_t slot_of(const struct vram *v, expert_id_t id)
{
	uint32_t slot = residency_device_slot(v->c.residency, id);

	for (uint32_t k = 0; k < v->plan->class_of_layer[vram_layer_of(v, id)]; k++)
		slot -= (uint32_t)v->plan->classes[k].experts;
	return slot;
}

void vram_set_most_fills(struct vram *v)
{
	uint64_t slots = 0;

	for (uint32_t k = 0; k < v->plan->n_classes; k++)
		slots += v->class_slots[k];
	v->most_fills = u64_min(promoter_most_moves(slots), device_fills(v->c.device));
}

/* ---- whether they pay ---- */

bool vram_resident(void *ctx, uint32_t id)
{
	return ((const struct vram *)ctx)->table[id] != DEVICE_NO_SLOT;
}

/* A step of @n_tokens comes: may fills go on beside it? */
static void ask_control(struct vram *v, uint32_t n_tokens)
{
	const bool on = fill_control_step(&v->control, n_tokens, v->layers, v->begun_bytes,
					  &v->rates, vram_resident, v);

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
	add(&v->counters.fill_bytes, v->c.model->layers[vram_layer_of(v, f->id)].experts.bytes);
	add(&v->counters.resident, 1);
}

static uint64_t bytes_of(const struct vram *v, const struct fill *f)
{
	return v->c.model->layers[vram_layer_of(v, f->id)].experts.bytes;
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
	const uint32_t layer = vram_layer_of(v, f->id);
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
	f->cls = residency_class_of(v->c.residency, vram_layer_of(v, move.id));
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
	const uint32_t layer = vram_layer_of(v, id);
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
	vram_set_most_fills(v);
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

		if (v->plan->class_of_layer[vram_layer_of(v, f->id)] == cls && f->slot >= n)
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
		if (v->plan->class_of_layer[vram_layer_of(v, id)] == cls &&
		    residency_state(v->c.residency, TIER_DEVICE, id) == COPY_PRESENT &&
		    slot_of(v, id) >= n)
			leave(v, id);
	return set_slots(v, cls, n) ? -EIO : 0;
}
