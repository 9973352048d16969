/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/status.c: what the engine tells of itself (see status.h). Reads atomics and what is constant
 * after engine_create(): it stops nobody, and the whole is not one instant. Any thread.
 */
#include <stdio.h>
#include <string.h>

#include "engine/engine_private.h"

#define WHERE_SAMPLES 2000 /* pages asked about: some 20 us */

/* Where the experts' memory really is, and who multiplies it. */
static void get_nodes(const struct engine *e, struct engine_status *s)
{
	uint64_t pages[NODES_KNOWN] = { 0 }, there = arena_prefaulted_bytes(e->arena);
	int n;

	if (e->split.n == 1)
		return;
	n = arena_where(e->arena, 0, arena_bytes(e->arena), WHERE_SAMPLES, pages, NODES_KNOWN);
	decoder_get_locality(e->decoder, &s->local_bytes, &s->remote_bytes);
	for (uint32_t i = 0; i < e->split.n; i++) {
		struct engine_node *node = &s->nodes[s->n_nodes++];

		node->node = e->split.node[i];
		node->share = (double)e->split.share[i] / NODES_SHARE;
		for (unsigned tid = 0; tid < team_size(e->team); tid++)
			node->workers += node->node >= 0 && team_node(e->team, tid) == node->node;
		if (n > 0 && node->node >= 0 && node->node < NODES_KNOWN)
			node->arena_bytes =
				(uint64_t)((double)there * (double)pages[node->node] / n);
	}
}

static void get_plan(const struct engine *e, struct engine_status *s)
{
	const struct memory_plan *p = &e->plan;

	s->kv_bytes = p->kv_bytes;
	s->prefix_bytes = p->prefix_bytes;
	s->dense_memory_bytes = p->dense_memory_bytes;
	s->state_bytes = p->state_bytes;
	s->scratch_bytes = p->scratch_bytes;
	s->spec_bytes = p->spec_bytes;
	s->form_bytes = p->form_bytes;
	s->budget_least_bytes = p->budget_least_bytes;
	s->budget_all_bytes = p->budget_all_bytes;
	s->n_reasons = p->n_reasons;
	s->reasons = p->reasons;
}

static void get_experts(const struct engine *e, struct engine_status *s)
{
	const struct supply_counters *c = supply_counters(e->supply);
	struct residency_stats r;

	residency_get_stats(e->residency, &r);
	s->budget_bytes = r.slot_bytes_total;
	s->n_classes = residency_n_classes(e->residency);
	for (uint32_t k = 0; k < s->n_classes && k < ENGINE_CLASSES; k++)
		s->classes[k] = residency_class(e->residency, k);
	s->resident_bytes = r.resident_bytes;
	s->experts_total = r.experts_total;
	s->experts_resident = r.experts_resident;
	s->bytes_read = r.bytes_read;
	s->hits = atomic_load(&c->hits);
	s->misses = atomic_load(&c->misses);
	s->stall_ns = atomic_load(&c->stall_ns);
	s->dropped = atomic_load(&c->dropped);
	s->predicted = atomic_load(&c->predicted);
	s->predicted_useful = atomic_load(&c->useful);
	s->predicted_late = atomic_load(&c->late);
	s->predicted_wasted = atomic_load(&c->wasted);
	s->predicted_wasted_bytes = atomic_load(&c->wasted_bytes);
	s->fills = atomic_load(&c->fills);
	histogram_read(&c->stalls, &s->stalls);
	get_nodes(e, s);
}

static void get_reads(const struct engine *e, struct engine_status *s)
{
	struct reader_stats reads;

	reader_get_stats(e->reader, &reads);
	s->read_busy_ns = reads.busy_ns;
	s->reads_in_flight = reads.in_flight;
	s->reads = reads.times;
	s->load_bytes = atomic_load(&e->weights->bytes_loaded);
	s->load_bytes_total = s->dense_bytes = e->weights->bytes_total;
	s->filling = atomic_load(&e->filling);
}

static void get_requests(const struct engine *e, struct engine_status *s)
{
	s->active = atomic_load(&e->n_active);
	s->waiting = atomic_load(&e->n_waiting);
	s->pauses = atomic_load(&e->n_paused);
	s->tokens_generated = atomic_load(&e->n_generated);
	s->tokens_prefilled = atomic_load(&e->n_prefilled);
	s->steps = atomic_load(&e->n_steps);
	for (unsigned i = 0; i < LATENCY_NR; i++)
		histogram_read(&e->latency[i], &s->latency[i]);
	for (unsigned i = 0; i < STOP_NR; i++)
		s->ended[i] = atomic_load(&e->ended[i]);
	s->tokens_reused = atomic_load(&e->n_reused);
	s->prefix_lookups = atomic_load(&e->n_lookups);
	s->prefix_found = atomic_load(&e->n_found);
	s->prefix_pages = atomic_load(&e->n_prefix_pages);
	s->prefix_points = atomic_load(&e->n_prefix_points);
}

/* What options, machine and model came to. */
static void get_choices(const struct engine *e, struct engine_status *s)
{
	s->spec_mode = e->config.spec ? e->config.spec : SPEC_AUTO;
	s->memory_limit_bytes = e->limits.limit_bytes;
	s->memory_room_bytes = e->limits.room_bytes;
	s->memory_from = e->limits.memory_from;
	s->cpus = e->limits.cpus;
	s->cpus_from = e->limits.cpus_from;
	s->n_ctx = e->config.n_ctx;
	s->n_parallel = e->config.n_parallel;
	s->n_batch = e->config.n_batch;
	s->threads = e->config.threads;
	s->cpu = e->config.ops->name;
	s->io = reader_name(e->reader);
	s->arena = arena_pages_name(arena_pages(e->arena ? e->arena : e->weights->arena));
	s->policy = e->policy_ops ? e->policy_ops->name : "none";
	s->kv = e->config.kv_type == KV_Q8_0 ? "q8_0" : "f16";
	s->device_note = e->auto_note.text[0] ? e->auto_note.text : NULL;
	for (unsigned i = 0; i < ENGINE_FALLBACKS; i++)
		s->fallbacks[i] = atomic_load_explicit(&e->fallbacks[i], memory_order_acquire);
}

void engine_get_status(const struct engine *e, struct engine_status *s)
{
	memset(s, 0, sizeof(*s));
	s->state = (enum engine_state)atomic_load_explicit(&e->state, memory_order_acquire);
	if (s->state == ENGINE_FAILED)
		snprintf(s->failure, sizeof(s->failure), "%.255s", e->failure.text);
	get_plan(e, s);
	get_reads(e, s);
	if (e->residency)
		get_experts(e, s);
	get_requests(e, s);
	get_choices(e, s);
	s->ahead.mode = PREDICT_OFF;
	if (e->ahead)
		ahead_get_counts(e->ahead, &s->ahead);
	spec_get_counts(e, &s->spec);
	spec_get_columns(e, s->columns);
	if (e->device)
		engine_get_device(e, &s->device);
	keep_get_status(e, &s->warm);
}

uint64_t engine_progress(const struct engine *e)
{
	struct residency_stats r = { 0 };

	if (e->residency)
		residency_get_stats(e->residency, &r);
	return atomic_load(&e->weights->bytes_loaded) + atomic_load(&e->n_layers_done) +
	       atomic_load(&e->n_steps) + r.bytes_read + r.load_errors;
}

bool engine_get_uses(const struct engine *e, uint32_t layer, uint32_t *ret)
{
	const _Atomic uint32_t *uses = e->supply ? supply_uses(e->supply) : NULL;

	if (!uses || layer >= e->model->n_layers || !e->model->layers[layer].experts.n_parts)
		return false;
	for (uint32_t i = 0; i < e->model->n_expert; i++)
		ret[i] = atomic_load_explicit(&uses[(size_t)layer * e->model->n_expert + i],
					      memory_order_relaxed);
	return true;
}
