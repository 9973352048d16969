/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/sim.c: see sim.h.
 */
#include "trace/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "trace/sim_private.h"

static void sim_fini(struct sim *s)
{
	sim_device_close(&s->device);
	if (s->ops)
		s->ops->destroy(s->policy);
	free(s->class_of_layer);
	free(s->shares);
	free(s->class_slots);
	free(s->free_slots);
	free(s->present);
	free(s->pinned);
	free(s->ids);
	free(s->counts);
	free(s->index);
	free(s->ahead);
	free(s->guess);
	free(s->expected);
	free(s->absent);
}

/*
 * Which layers have experts: all, where the trace tells no bytes; else those of which it tells
 * bytes or has a row. An array of the caller's, or NULL.
 */
static bool *find_expert_layers(const struct route_trace *t)
{
	bool *has = calloc(t->n_layers, sizeof(*has)), told = false;

	for (uint32_t l = 0; has && l < t->n_layers; l++)
		told |= has[l] = t->layers[l].expert_bytes != 0;
	for (size_t i = 0; has && i < t->n_rows; i++)
		has[t->rows[i].layer] = true;
	for (uint32_t l = 0; has && l < t->n_layers; l++)
		has[l] |= !told;
	return has;
}

/* Every layer that has experts says how large its slots are. */
static bool tells_slots(const struct route_trace *t, const bool *has)
{
	bool any = false;

	for (uint32_t l = 0; l < t->n_layers; l++) {
		if (has[l] && !t->layers[l].slot_bytes)
			return false;
		any |= has[l];
	}
	return any;
}

/* Do these layers share slots? As the daemon said, else those whose experts have the same size. */
static bool same_class(const struct route_trace *t, bool told, uint32_t a, uint32_t b)
{
	const struct trace_layer_bytes *x = &t->layers[a], *y = &t->layers[b];

	return told ? x->slot_class == y->slot_class && x->slot_bytes == y->slot_bytes
		    : x->expert_bytes == y->expert_bytes;
}

/*
 * The size classes and per layer (NULL: not wanted) its class, each with room for n_layers; returns
 * their number. slot_bytes is 1 where the trace does not say.
 */
static uint32_t find_classes(const struct route_trace *t, struct slot_share *shares,
			     uint32_t *class_of_layer, bool *ret_told)
{
	bool *has = find_expert_layers(t), told = has && tells_slots(t, has);
	uint32_t *first = calloc(t->n_layers, sizeof(*first)), n = 0;

	for (uint32_t l = 0; has && first && l < t->n_layers; l++) {
		uint32_t k = 0;

		if (class_of_layer)
			class_of_layer[l] = POLICY_NO_CLASS;
		if (!has[l])
			continue;
		while (k < n && !same_class(t, told, first[k], l))
			k++;
		if (k == n) {
			first[n] = l;
			shares[n++] = (struct slot_share){
				.slot_bytes = told ? t->layers[l].slot_bytes : 1,
				.least = t->n_expert_used < t->n_expert ? t->n_expert_used
									: t->n_expert,
			};
		}
		shares[k].experts += t->n_expert;
		if (class_of_layer)
			class_of_layer[l] = k;
	}
	free(first);
	free(has);
	*ret_told = told;
	return n;
}

/* A number of slots is a budget of slots of equal worth. */
static int divide_number(struct sim *s, uint32_t slots, struct err *err)
{
	struct slot_share *even = calloc(s->n_classes + 1, sizeof(*even));
	uint64_t taken = 0, least;
	int rc = even ? 0 : -ENOMEM;

	for (uint32_t c = 0; even && c < s->n_classes; c++) {
		even[c] = s->shares[c];
		even[c].slot_bytes = 1;
	}
	least = even ? divide_least_bytes(even, s->n_classes) : 0;
	if (!rc && slots < least)
		rc = err_set(err, -EINVAL,
			     "%u slots are too few: the size classes of the layers need %llu",
			     slots, (unsigned long long)least);
	if (!rc)
		rc = divide_budget(even, s->n_classes, slots, &taken, err);
	for (uint32_t c = 0; !rc && c < s->n_classes; c++)
		s->shares[c].slots = even[c].slots;
	free(even);
	return rc;
}

static int divide_slots(struct sim *s, const struct sim_options *o, struct err *err)
{
	uint64_t taken;
	bool told;
	int rc;

	s->n_classes = find_classes(s->t, s->shares, s->class_of_layer, &told);
	if (!s->n_classes)
		return -ENOMEM;
	if (!o->slots && !told)
		return err_set(err, -EINVAL,
			       "the trace does not say how large slots are (slot_bytes): give a "
			       "number of slots");
	rc = o->slots ? divide_number(s, o->slots, err)
		      : divide_budget(s->shares, s->n_classes, o->budget, &taken, err);
	if (rc)
		return rc == -ENOSPC ? -EINVAL : rc;
	s->result.n_classes = s->n_classes;
	for (uint32_t c = 0; c < s->n_classes; c++) {
		const struct slot_share *share = &s->shares[c];

		s->class_slots[c] = s->free_slots[c] = (uint32_t)share->slots;
		s->result.slots += (uint32_t)share->slots;
		s->result.budget_bytes += told ? share->slots * share->slot_bytes : 0;
		if (c < SIM_CLASSES)
			s->result.classes[c] = *share;
	}
	return 0;
}

static int sim_init(struct sim *s, const struct route_trace *t, const struct sim_options *o,
		    struct err *err)
{
	size_t n = (size_t)t->n_layers * t->n_expert;
	struct policy_geometry g = {
		.n_layers = t->n_layers,
		.n_expert = t->n_expert,
		.n_expert_used = t->n_expert_used,
	};
	int rc;

	s->t = t;
	s->class_of_layer = calloc(t->n_layers, sizeof(*s->class_of_layer));
	s->shares = calloc(t->n_layers, sizeof(*s->shares));
	s->class_slots = calloc(t->n_layers, sizeof(*s->class_slots));
	s->free_slots = calloc(t->n_layers, sizeof(*s->free_slots));
	s->present = calloc(n, sizeof(*s->present));
	s->pinned = calloc(n, sizeof(*s->pinned));
	s->ids = calloc(t->n_expert, sizeof(*s->ids));
	s->counts = calloc(t->n_expert, sizeof(*s->counts));
	s->index = calloc(t->n_expert, sizeof(*s->index));
	s->ahead = calloc((size_t)PREDICT_LAYERS * t->n_expert, sizeof(*s->ahead));
	s->guess = calloc(t->n_expert, sizeof(*s->guess));
	s->expected = calloc((size_t)t->n_layers * t->n_expert, sizeof(*s->expected));
	s->absent = calloc(t->n_expert, sizeof(*s->absent));
	s->absent_of = UINT32_MAX;
	predict_crowd_init(&s->crowd);
	if (!s->ahead || !s->guess || !s->expected || !s->absent || !s->class_of_layer ||
	    !s->shares || !s->class_slots || !s->free_slots || !s->present || !s->pinned ||
	    !s->ids || !s->counts || !s->index)
		return -ENOMEM;
	rc = divide_slots(s, o, err);
	if (rc)
		return rc;
	g.n_classes = s->n_classes;
	g.class_of_layer = s->class_of_layer;
	g.class_slots = s->class_slots;
	return policy_open(o->policy, &g, &s->ops, &s->policy, err);
}

static void fill(struct sim *s)
{
	for (uint32_t c = 0; c < s->n_classes; c++) {
		while (s->free_slots[c]) {
			uint32_t id = s->ops->next(s->policy, c);

			if (id == POLICY_NONE)
				break;
			s->present[id] = true;
			s->ops->inserted(s->policy, id);
			s->free_slots[c]--;
		}
	}
}

static bool evictable(void *ctx, uint32_t id)
{
	const struct sim *s = ctx;

	return !s->pinned[id];
}

static void unpin_layer(struct sim *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		s->pinned[s->ids[i]] = false;
}

void sim_take_slot(struct sim *s, uint32_t id, uint32_t cls, uint32_t victim)
{
	if (victim == POLICY_NONE) {
		s->free_slots[cls]--;
	} else {
		s->present[victim] = false;
		s->ops->removed(s->policy, victim);
		s->result.evictions++;
	}
	s->present[id] = s->pinned[id] = true;
	s->ops->inserted(s->policy, id);
}

static void bring(struct sim *s, uint32_t id, uint32_t cls)
{
	uint32_t victim = POLICY_NONE;

	if (!s->free_slots[cls]) {
		victim = s->ops->victim(s->policy, cls, evictable, s);
		if (victim == POLICY_NONE) { /* all are of this layer and computed by now */
			unpin_layer(s);
			s->result.waves++;
			victim = s->ops->victim(s->policy, cls, evictable, s);
		}
	}
	sim_take_slot(s, id, cls, victim);
}

static void add_counts(struct sim_counts *to, const struct sim_counts *c)
{
	to->hits += c->hits;
	to->misses += c->misses;
	to->miss_bytes += c->miss_bytes;
}

/* @next: where the rows of the layer that comes next begin. */
static void run_layer(struct sim *s, uint64_t step, uint32_t layer, bool decode, size_t next,
		      const struct sim_options *o)
{
	struct sim_counts c = { 0 };
	uint64_t waves = s->result.waves;
	uint32_t cls = s->class_of_layer[layer];

	s->ops->used(s->policy, step, layer, s->ids, s->counts, s->n);
	for (uint32_t i = 0; i < s->n; i++) {
		s->pinned[s->ids[i]] = s->present[s->ids[i]];
		c.hits += s->present[s->ids[i]];
	}
	sim_judge_ahead(s, layer);
	c.misses = s->n - c.hits;
	c.miss_bytes = c.misses * s->t->layers[layer].expert_bytes;
	for (uint32_t i = 0; i < s->n && !s->on_device; i++)
		if (!s->present[s->ids[i]])
			bring(s, s->ids[i], cls);
	if (s->on_device)
		sim_device_layer(&s->device, layer, s->ids, s->n);
	/* the daemon guesses nothing where a layer has to wait for slots itself */
	if (o->predict > 0 && next < s->t->n_rows && s->result.waves == waves)
		sim_look_ahead(s, next, step - 1, decode, o->predict);
	unpin_layer(s);
	sim_crowd_learn(s, layer);
	sim_crowd_joined(s, step - 1, next);
	add_counts(&s->result.all, &c);
	if (decode)
		add_counts(&s->result.decode, &c);
	if (step >= s->judged_from)
		add_counts(&s->result.judged, &c);
}

/* The rows from @at on that belong to one step and layer, as distinct experts with counts. */
static size_t gather(struct sim *s, size_t at, bool *ret_decode)
{
	const struct trace_row *first = &s->t->rows[at];

	s->n = 0;
	*ret_decode = true;
	for (; at < s->t->n_rows; at++) {
		const struct trace_row *row = &s->t->rows[at];

		if (row->step != first->step || row->layer != first->layer)
			break;
		*ret_decode &= row->phase == TRACE_DECODE;
		for (uint32_t k = 0; k < row->n; k++) {
			uint32_t e = s->t->uses[row->first + k].expert;

			if (!s->index[e]) {
				s->ids[s->n] = row->layer * s->t->n_expert + e;
				s->counts[s->n++] = 0;
				s->index[e] = s->n;
			}
			s->counts[s->index[e] - 1]++;
		}
	}
	for (uint32_t i = 0; i < s->n; i++)
		s->index[s->ids[i] % s->t->n_expert] = 0;
	return at;
}

/* Sums over the classes, in slots and in bytes. */
static void sum_classes(const struct route_trace *t, uint64_t sums[4])
{
	struct slot_share *shares = calloc(t->n_layers, sizeof(*shares));
	bool told = false;
	uint32_t n = shares ? find_classes(t, shares, NULL, &told) : 0;

	sums[2] = told ? divide_least_bytes(shares, n) : 0;
	sums[3] = told ? divide_all_bytes(shares, n) : 0;
	for (uint32_t k = 0; k < n; k++)
		shares[k].slot_bytes = 1;
	sums[0] = divide_least_bytes(shares, n);
	sums[1] = divide_all_bytes(shares, n);
	free(shares);
}

void sim_slots(const struct route_trace *t, uint32_t *ret_least, uint32_t *ret_all)
{
	uint64_t sums[4];

	sum_classes(t, sums);
	*ret_least = (uint32_t)sums[0];
	*ret_all = (uint32_t)sums[1];
}

void sim_bytes(const struct route_trace *t, uint64_t *ret_least, uint64_t *ret_all)
{
	uint64_t sums[4];

	sum_classes(t, sums);
	*ret_least = sums[2];
	*ret_all = sums[3];
}

/* Tokens of the step whose first row is at @at. */
static uint32_t tokens_of(const struct route_trace *t, size_t at)
{
	const struct trace_row *first = &t->rows[at];
	uint32_t n = 0;

	for (;
	     at < t->n_rows && t->rows[at].step == first->step && t->rows[at].layer == first->layer;
	     at++)
		n++;
	return n;
}

static int open_device(struct sim *s, const struct sim_options *o)
{
	const struct sim_device_config c = { .t = s->t,
					     .n_classes = s->n_classes,
					     .class_of_layer = s->class_of_layer,
					     .free_slots = s->free_slots,
					     .slots = s->result.slots,
					     .present = s->present,
					     .ops = s->ops,
					     .policy = s->policy,
					     .experts_per_layer = o->device_fills,
					     .bytes_per_s = o->device_rate,
					     .rates = o->device,
					     .control = o->device_control };

	s->on_device = o->device_fills > 0;
	return s->on_device ? sim_device_open(&s->device, &c) : 0;
}

static void tell_device(struct sim *s)
{
	const struct sim_device *d = &s->device;

	if (!s->on_device)
		return;
	s->result.fills = d->fills;
	s->result.fill_bytes = d->fill_bytes;
	s->result.allowed_bytes = d->allowed_bytes;
	s->result.decode_ns = d->decode_ns;
	s->result.stops = d->control.stops;
	s->result.fills_on = d->control.on;
	s->result.fill_gain = d->control.judged ? d->control.gain : 0;
}

int sim_run(const struct route_trace *t, const struct sim_options *o, struct sim_result *ret,
	    struct err *err)
{
	struct sim s = { 0 };
	uint64_t last_step = 0;
	bool any = false;
	int rc;

	if (!t->n_rows)
		return err_set(err, -EINVAL,
			       "the trace has no rows: a table of frequencies has no order");
	rc = sim_init(&s, t, o, err);
	if (!rc)
		rc = open_device(&s, o);
	if (rc == -ENOMEM)
		err_set(err, rc, "out of memory");
	if (rc)
		goto out;
	if (o->fill)
		fill(&s);
	s.judged_from = 1 + t->rows[0].step +
			(uint64_t)((double)(t->rows[t->n_rows - 1].step - t->rows[0].step + 1) *
				   o->judge_after);
	for (size_t at = 0; at < t->n_rows;) {
		const struct trace_row *row = &t->rows[at];
		bool decode;

		if (o->predict > 0 && (!any || row->step != last_step))
			sim_look_ahead(&s, at, row->step, row->phase == TRACE_DECODE, o->predict);
		if (s.on_device && (!any || row->step != last_step))
			sim_device_boundary(&s.device, tokens_of(t, at));
		if (o->predict_prompts && (!any || row->step != last_step))
			sim_crowd_begin(&s, tokens_of(t, at));
		at = gather(&s, at, &decode);
		/* policies count steps from 1 */
		run_layer(&s, row->step + 1, row->layer, decode, at, o);
		if (!any || row->step != last_step) {
			s.result.all.steps++;
			s.result.decode.steps += decode;
			s.result.judged.steps += row->step + 1 >= s.judged_from;
		}
		last_step = row->step;
		any = true;
	}
	tell_device(&s);
	*ret = s.result;
out:
	sim_fini(&s);
	return rc;
}
