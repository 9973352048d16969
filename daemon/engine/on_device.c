/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/on_device.c: the engine's device: found or opened for its model and options, filled with the
 * dense weights, its slots looked after between steps, given up when it is lost. What it does in a step is asked for by step.c, what lies in
 * its slots says vram.c. engine_create(), then the engine thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "device/device.h"
#include "engine/engine_private.h"
#include "engine/numa.h"
#include "engine/rope.h"

#define DRAIN_NS \
	1000000000 /* how long the end waits for fills: not for ever on a device that hangs */

/* Of prompts, for studies: "fetch" sends every expert, "hit" none. */
static uint32_t send_from(const char *policy)
{
	if (!policy)
		return 0;
	return !strcmp(policy, "fetch") ? 1 : !strcmp(policy, "hit") ? UINT32_MAX : 0;
}

static struct device_config config_of(const struct engine *e)
{
	const struct engine_config *c = &e->config;

	return (struct device_config){ .model = e->model,
				       .name = c->device,
				       .kv_q8 = c->kv_type == KV_Q8_0,
				       .n_seq = c->n_parallel,
				       .n_ctx = c->n_ctx,
				       .max_tokens = c->n_batch,
				       .max_logits = e->plan.max_logits,
				       .budget_bytes = c->device_budget,
				       .send_from = send_from(c->device_policy) };
}

/* 0, or why the default has no device for this model. */
static int find_device(const struct engine *e, struct err *err)
{
	const int rc = device_find(err);

	if (!rc && e->config.save_path)
		return err_set(err, -ENOTSUP,
			       "--slot-save-path keeps sequences, which a GPU's cannot be");
	return rc ? rc : device_supports(e->model, err);
}

bool engine_device_wanted(const struct engine *e)
{
	if (device_is_none(e->config.device))
		return false;
	return strcmp(e->config.device, "auto") ? device_is_dense(e->config.device)
						: !find_device(e, NULL);
}

/* "cpu": experts are the host's alone. */
static bool wants_slots(const struct engine *e)
{
	return e->model->n_expert &&
	       !(e->config.device_policy && !strcmp(e->config.device_policy, "cpu"));
}

uint64_t engine_device_takes(const struct engine *e)
{
	uint64_t vram, link, all = 0;

	if (device_is_none(e->config.device) || device_is_dense(e->config.device) ||
	    !wants_slots(e) || device_emu_sizes(e->config.device, &vram, &link, NULL))
		return 0;
	for (uint32_t i = 0; i < e->model->n_layers; i++)
		if (e->model->layers[i].experts.n_parts) {
			struct device_slot slot;

			device_slot_layout(&e->model->layers[i], &slot);
			all += slot.bytes * e->model->n_expert;
		}
	return u64_min(vram, all);
}

static int open_device(struct engine *e, struct err *err)
{
	const struct engine_config *c = &e->config;
	struct device_config config = config_of(e);
	double *rope;
	int rc;

	e->device_dense = device_is_dense(c->device);
	config.no_slots = !wants_slots(e);
	if (e->device_dense && !config.no_slots && device_slots_fit(e->model, &e->slots_note)) {
		err_prefix(&e->slots_note, -ENOTSUP, "--device: no experts lie in its memory");
		engine_add_fallback(e, e->slots_note.text);
		config.no_slots = true;
	}
	rope = calloc(e->model->attention.rope.n_rot / 2 + 1, sizeof(*rope));
	if (!rope)
		return err_set(err, -ENOMEM, "no memory for the device");
	rope_frequencies(&e->model->attention.rope, rope);
	config.rope = rope;
	rc = device_open(&config, &e->device, err);
	free(rope);
	if (!rc && e->device_dense && c->spec != SPEC_OFF)
		engine_add_fallback(
			e, "--device: its state cannot be taken back, so nothing is drafted");
	return rc ? err_prefix(err, rc, "--device %s", c->device) : 0;
}

int engine_create_device(struct engine *e, struct err *err)
{
	const bool choose = e->config.device && !strcmp(e->config.device, "auto");
	int rc = 0;

	if (choose) {
		rc = find_device(e, &e->auto_note);
		e->config.device = "cuda";
	}
	if (!rc && !device_is_none(e->config.device))
		rc = open_device(e, choose ? &e->auto_note : err);
	if (!rc || !choose)
		return rc;
	e->config.device = "none";
	e->device_dense = false;
	return 0;
}

int engine_create_slots(struct engine *e, struct err *err)
{
	const char *policy = e->config.device_policy ? e->config.device_policy : "vram";
	struct vram_config config = { .model = e->model,
				      .residency = e->residency,
				      .device = e->device,
				      .split = e->split,
				      .policy = policy,
				      .bytes_per_s = e->config.device_fill_rate,
				      .experts_per_layer = VRAM_EXPERTS_PER_LAYER };
	int rc;

	if (!e->device || !device_get_plan(e->device)->n_classes)
		return 0;
	device_register_host(e->device, arena_base(e->arena), arena_bytes(e->arena),
			     &e->device_note);
	if (e->device_note.text[0])
		engine_add_fallback(e, e->device_note.text);
	for (uint32_t i = 0, n = 0; i < e->model->n_layers; i++)
		if (e->model->layers[i].experts.bytes)
			e->device_expert_bytes += ((double)e->model->layers[i].experts.bytes -
						   e->device_expert_bytes) /
						  ++n;
	rc = vram_create(&config, &e->vram, err);
	return rc ? err_prefix(err, rc, "--device-policy %s", policy) : 0;
}

/* The dense weights of a layer, or those outside, to the device. */
static int load_device_weights(struct engine *e, uint32_t layer, const struct layer_weights *w)
{
	int rc = 0;

	for (int role = 0; role < ROLE_NR && !rc; role++) {
		const struct device_matrix m = { .type = w->w[role].type,
						 .n_in = w->w[role].n_in,
						 .n_out = w->w[role].n_out,
						 .row_bytes = w->w[role].row_bytes,
						 .data = w->w[role].data };

		rc = device_load(e->device, layer, (enum role)role, &m, &e->failure);
	}
	return rc;
}

int engine_load_device(struct engine *e)
{
	int rc;

	if (!e->device_dense)
		return 0;
	rc = load_device_weights(e, DEVICE_NO_LAYER, &e->weights->model);
	for (uint32_t i = 0; i < e->model->n_layers && !rc; i++)
		rc = load_device_weights(e, i, &e->weights->layers[i]);
	if (rc)
		return err_prefix(&e->failure, rc, "--device %s", e->config.device);
	weights_drop(e->weights, e->model); /* the host reads the embedding's rows alone now */
	return 0;
}

#define RATES_STEPS 32 /* that decode, between two looks at what the machine can do */

/* Bytes per second that memory gives to us: its peak less what others use. 0: unknown. */
static double memory_left(struct engine *e, double ours)
{
	struct bandwidth_node nodes[NODES_KNOWN];
	const uint32_t n = e->config.bandwidth ? nodes_describe(&e->config, e->team, nodes) : 0;
	double peak = 0, others = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (nodes[i].peak_bytes_per_s <= 0)
			return 0;
		peak += nodes[i].peak_bytes_per_s;
		others += nodes[i].in_use > 0 ? nodes[i].in_use * nodes[i].peak_bytes_per_s : 0;
	}
	others = others > ours ? others - ours : 0;
	return others < 0.9 * peak ? peak - others : 0.1 * peak;
}

/*
 * What the link to the device carries beside others' use of it. Ours: fills, and rows that the device reads of the
 * host's memory.
 */
static double link_left(struct engine *e, const struct device_info *info)
{
	const struct device_look *took = &e->device_took;
	const double rows = (double)took->misses * e->model->n_embd * sizeof(float);
	double capacity = 0, in_use = 0, ours = 0;

	if (took->at_ns)
		ours = ((double)took->link_bytes + rows) / (double)took->at_ns * 1e9;
	if (!e->config.link || !info->bdf[0] ||
	    !e->config.link(e->config.bandwidth_arg, info->bdf, &capacity, &in_use))
		return (double)info->link_rate;
	return layer_link_left((double)info->link_rate, capacity, in_use, ours);
}

/* What the layers of steps that decode took since the last time, for the model of their time. */
static void tell_rates(struct engine *e, const struct device_info *info)
{
	const struct device_look *took = &e->device_took;
	const double bytes = (double)took->misses * e->device_expert_bytes;
	struct layer_rates r = { .link = link_left(e, info) };

	atomic_store(&e->device_link_free, (uint64_t)r.link);

	if (took->layers)
		r.fixed_ns = (double)took->handoff_ns / (double)took->layers;
	if (took->routed_ns)
		r.cpu = bytes / (double)took->routed_ns * 1e9;
	if (took->at_ns)
		r.memory = memory_left(e, bytes / (double)took->at_ns * 1e9);
	vram_set_rates(e->vram, &r);
}

/*
 * A step of @n_tokens comes: what the one before took counts where it decoded. A layer of a prompt takes many
 * times as long as one of those that fills stand beside, and idle time is nobody's.
 */
static void look_at_rates(struct engine *e, uint32_t n_tokens)
{
	struct device_look *was = &e->device_look, *took = &e->device_took;
	struct device_look now = { .at_ns = now_ns() };
	struct device_info info;
	uint64_t experts;

	device_get_info(e->device, &info);
	now.layers = info.layers;
	now.link_bytes = info.link_bytes;
	now.handoff_ns = info.handoff_ns;
	now.misses = atomic_load(&supply_counters(e->supply)->device_misses);
	decoder_get_routed(e->decoder, &now.routed_ns, &experts);
	if (e->device_decodes) {
		took->at_ns += now.at_ns - was->at_ns;
		took->layers += now.layers - was->layers;
		took->link_bytes += now.link_bytes - was->link_bytes;
		took->handoff_ns += now.handoff_ns - was->handoff_ns;
		took->misses += now.misses - was->misses;
		took->routed_ns += now.routed_ns - was->routed_ns;
		e->device_steps++;
	}
	*was = now;
	e->device_decodes = n_tokens && n_tokens <= POLICY_DECODE_TOKENS;
	if (e->device_steps < RATES_STEPS)
		return;
	tell_rates(e, &info);
	memset(took, 0, sizeof(*took));
	e->device_steps = 0;
}

int engine_device_boundary(struct engine *e, uint32_t n_tokens, struct err *err)
{
	uint64_t before;
	int rc;

	engine_device_memory(e);
	if (!e->vram || e->device_lost)
		return 0;
	if (n_tokens || e->device_decodes)
		look_at_rates(e, n_tokens);
	before = vram_counters(e->vram)->fills;
	rc = vram_boundary(e->vram, n_tokens, now_ns(), err);
	if (vram_counters(e->vram)->fills != before)
		supply_device_changed(e->supply);
	if (!e->device_dense || !n_tokens)
		vram_issue_all(e->vram);
	return rc;
}

#define FAILURES_MOST 2 /* steps in a row: a call that fails for good fails in each */

bool engine_device_gone(struct engine *e, bool failed)
{
	bool gone;

	if (!e->device_dense || e->device_lost)
		return false;
	failed = failed || e->memory_failed;
	e->device_failed = failed;
	e->device_failures = failed ? e->device_failures + 1 : 0;
	gone = device_is_lost(e->device) || e->device_failures >= FAILURES_MOST;
	e->memory_failed = e->memory_failed && gone;
	return gone;
}

int engine_lose_device(struct engine *e)
{
	int rc;

	e->device_lost = true;
	engine_add_fallback(e, e->lost_note.text);
	if (e->vram)
		vram_forget(e->vram);
	decoder_drop_device(e->decoder);
	rc = weights_load(e->weights, e->model, e->reader, e->config.ops, &e->stop, &e->failure);
	if (rc)
		return err_prefix(&e->failure, rc, "the device was lost");
	weights_narrow(e->weights, e->model);
	return 0;
}

bool engine_device_busy(const struct engine *e)
{
	return e->vram && vram_busy(e->vram);
}

void engine_drain_device(struct engine *e)
{
	if (e->vram && !e->device_lost)
		vram_drain(e->vram, DRAIN_NS);
}

void engine_get_device(const struct engine *e, struct engine_device *ret)
{
	const struct device_plan *p = device_get_plan(e->device);
	struct device_info info;

	device_get_info(e->device, &info);
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->name, info.name, sizeof(ret->name));
	ret->option = e->config.device;
	ret->state = atomic_load(&e->device_lost)				? "lost"
		     : atomic_load(&e->device_failed)				? "failed"
		     : e->vram && atomic_load(&vram_counters(e->vram)->stopped) ? "fills stopped"
										: "ok";
	ret->vram_bytes = info.memory_bytes;
	ret->launches = info.launches;
	ret->layers = info.layers;
	ret->handoff_ns = info.handoff_ns;
	ret->both_ns = info.both_ns;
	ret->either_ns = info.either_ns;
	ret->link_free = atomic_load(&e->device_link_free);
	ret->policy = e->config.device_policy ? e->config.device_policy : "vram";
	for (uint32_t k = 0; k < p->n_classes && e->vram; k++)
		ret->slots += device_slots(e->device, k);
	if (e->supply && !e->vram) { /* without slots every use is a miss */
		const struct supply_counters *s = supply_counters(e->supply);

		ret->misses = atomic_load(&s->hits) + atomic_load(&s->misses);
	}
	if (e->vram) {
		const struct vram_counters *c = vram_counters(e->vram);
		const struct supply_counters *s = supply_counters(e->supply);

		ret->resident = atomic_load(&c->resident);
		ret->stops = atomic_load(&c->stops);
		ret->gain_ppm = atomic_load(&c->gain_ppm);
		ret->link_ns = info.link_ns;
		ret->link_bytes = info.link_bytes;
		ret->fills = atomic_load(&c->fills);
		ret->fill_bytes = atomic_load(&c->fill_bytes);
		ret->hits = atomic_load(&s->device_hits);
		ret->misses = atomic_load(&s->device_misses);
	}
}
