/* SPDX-License-Identifier: MIT */
/* daemon/plan/plan.c: see plan.h. */
#include "plan/plan.h"

#include <string.h>

#include "base/num.h"
#include "engine/numa.h"

static uint64_t plus(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return u64_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/*
 * Who works where: threads are dealt out evenly, as engine/topology.h does it, and pinned nowhere
 * where there are more than CPUs.
 */
static uint32_t place_workers(const struct plan_machine *machine, unsigned threads,
			      struct bandwidth_node nodes[NODES_KNOWN])
{
	uint32_t n = machine->n_nodes < NODES_KNOWN ? machine->n_nodes : NODES_KNOWN;
	uint64_t cpus = 0;

	for (uint32_t i = 0; i < n; i++) {
		nodes[i] = machine->nodes[i].memory;
		nodes[i].workers = 0;
		cpus += machine->nodes[i].cpus;
	}
	for (unsigned t = 0; t < threads && threads <= cpus; t++) {
		uint32_t best = UINT32_MAX;

		for (uint32_t i = 0; i < n; i++)
			if (nodes[i].workers < machine->nodes[i].cpus &&
			    (best == UINT32_MAX || nodes[i].workers < nodes[best].workers))
				best = i;
		nodes[best].workers++;
	}
	return n;
}

static void fill_tiers(const struct model *m, const struct plan_machine *machine, struct plan *p)
{
	const struct memory_plan *memory = &p->memory;
	uint64_t all = memory->budget_all_bytes, held = 0, routed = m->routed_bytes_per_token;

	if (all)
		held = (uint64_t)((unsigned __int128)routed * memory->budget_bytes / all);
	p->experts_share = all ? (double)memory->budget_bytes / (double)all : 1;
	p->tiers[PLAN_DISK] = (struct plan_tier){ .name = "disk",
						  .capacity_bytes = LIMITS_UNKNOWN,
						  .bytes = m->file_bytes,
						  .bytes_per_token = all ? routed - held : 0,
						  .bytes_per_s = machine->disk_bytes_per_s };
	p->tiers[PLAN_HOST] = (struct plan_tier){
		.name = "host",
		.capacity_bytes = machine->limits.room_bytes,
		.bytes = plus(plus(memory->dense_memory_bytes, memory->scratch_bytes),
			      plus(plus(plus(memory->kv_bytes, memory->prefix_bytes),
					memory->state_bytes),
				   memory->budget_bytes)),
		.bytes_per_token = routed + model_dense_bytes_per_token(m),
		.bytes_per_s = machine->memory_bytes_per_s,
	};
	p->tiers[PLAN_DEVICE] =
		(struct plan_tier){ .name = "device", .capacity_bytes = machine->vram_bytes };
}

/* What --device cuda would take; a device is never a reason not to plan. */
static void plan_device(const struct model *m, const struct plan_options *o,
			const struct plan_machine *machine, struct plan *p)
{
	const uint64_t room = o->device_budget ? o->device_budget
					       : device_default_room(machine->vram_bytes);
	const struct device_config c = { .model = m,
					 .name = "cuda",
					 .kv_q8 = o->kv_type == KV_Q8_0,
					 .n_seq = p->memory.n_parallel,
					 .n_ctx = p->memory.n_ctx,
					 .max_tokens = p->memory.n_batch,
					 .max_logits = p->memory.max_logits,
					 .no_slots = !m->n_expert || device_slots_fit(m, NULL),
					 .block_least = machine->vram_piece ? machine->vram_piece
									    : PLAN_VRAM_PIECE };

	if (!room || device_supports(m, &p->device_note) ||
	    device_plan_make(&c, room, &p->device, &p->device_note))
		return;
	p->has_device = true;
	p->tiers[PLAN_DEVICE].bytes = p->device.dense_bytes + p->device.kv_bytes +
				      p->device.state_bytes + p->device.scratch_bytes +
				      p->device.slots_bytes;
}

/* Memory and disk one after the other: every byte of a token must come from one of them. */
static double bound_speed(const struct plan *p)
{
	double seconds = 0;

	for (int i = 0; i < PLAN_TIERS; i++) {
		const struct plan_tier *t = &p->tiers[i];

		if (!t->bytes_per_token)
			continue;
		if (!(t->bytes_per_s > 0))
			return 0;
		seconds += (double)t->bytes_per_token / t->bytes_per_s;
	}
	return seconds > 0 ? 1 / seconds : 0;
}

int plan_make(const struct model *m, const struct plan_options *o,
	      const struct plan_machine *machine, struct plan *ret, struct err *err)
{
	struct bandwidth_node nodes[NODES_KNOWN];
	struct memory_ask ask = { .model = m,
				  .ops = o->ops,
				  .limits = &machine->limits,
				  .assume_bytes = machine->assume_bytes,
				  .align = machine->align,
				  .cores = machine->cores,
				  .on_gpu = (o->device_budget || machine->vram_bytes) &&
					    !device_supports(m, NULL),
				  .threads = o->threads,
				  .n_ctx = o->n_ctx,
				  .n_parallel = o->n_parallel,
				  .n_batch = o->n_batch,
				  .kv_type = o->kv_type,
				  .kv_budget = o->kv_budget,
				  .prefix_cache = o->prefix_cache,
				  .host_budget = o->host_budget,
				  .budget_percent = o->budget_percent,
				  .numa = o->numa,
				  .nodes = nodes };
	struct plan p = { 0 };
	int rc;

	if (spec_wants_head(o->spec))
		ask.head = o->head ? o->head : m->head;
	if (!ask.threads)
		ask.threads = (unsigned)u64_max(1, u64_min(machine->cores, machine->limits.cpus));
	ask.n_nodes = place_workers(machine, ask.threads, nodes);
	rc = memory_plan(&ask, &p.memory, err);
	if (rc)
		return rc;
	fill_tiers(m, machine, &p);
	plan_device(m, o, machine, &p);
	p.tokens_per_s = bound_speed(&p);
	if (machine->limits.room_bytes != LIMITS_UNKNOWN)
		p.n_contexts = (uint32_t)u64_min(o->n_parallel ? o->n_parallel : MEMORY_SEQUENCES,
						 PLAN_CONTEXTS);
	for (uint32_t i = 0; i < p.n_contexts; i++)
		p.contexts[i] = (struct plan_context){
			.n_parallel = i + 1,
			.n_ctx = memory_largest_ctx(&ask, i + 1, PLAN_MOST_CTX),
		};
	*ret = p;
	return 0;
}

void plan_fini(struct plan *p)
{
	memory_plan_fini(&p->memory);
	device_plan_fini(&p->device);
}

int plan_parse_prefix(const char *text, uint64_t *ret, struct err *err)
{
	return prefix_cache_parse(text, ret, err);
}

int plan_parse_numa(const char *text, int *ret_numa, struct err *err)
{
	return nodes_parse(text, ret_numa, err);
}
