/* SPDX-License-Identifier: MIT */
/* daemon/serve/info.c: what clients ask about the model and the daemon, as libsluice has them. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/version.h"
#include "grammar/form_cache.h"
#include "model/gguf.h"
#include "serve/forms.h"
#include "serve/private.h"
#include "telemetry/sampler.h"

/* Copies as much as fits; a NUL always. Cuts before a UTF-8 character that would not fit whole. */
static void put_text(char *dst, size_t room, const char *src)
{
	size_t len = src ? strlen(src) : 0;

	if (len >= room) {
		len = room - 1;
		while (len && ((unsigned char)src[len] & 0xc0) == 0x80)
			len--;
	}
	if (len)
		memcpy(dst, src, len);
	dst[len] = '\0';
}

#define PUT(field, text) put_text(field, sizeof(field), text)

void info_model(const struct serve *s, struct sluice_model_info *ret)
{
	const struct model *m = s->config.model;
	bool chat = s->config.chat || chat_possible(m->gguf, s->config.tokenizer);

	*ret = (struct sluice_model_info){
		.struct_size = sizeof(*ret),
		.flags = chat ? SLUICE_MODEL_HAS_CHAT : 0,
		.n_layers = m->n_layers,
		.n_embd = m->n_embd,
		.n_vocab = m->n_vocab,
		.n_ctx_train = m->n_ctx_train,
		.n_ctx = engine_n_ctx(s->config.engine),
		.n_expert = m->n_expert,
		.n_expert_used = m->n_expert_used,
		.n_tokens = tokenizer_n_vocab(s->config.tokenizer),
		.file_type = UINT32_MAX,
		.expert_bytes_total = m->expert_bytes_total,
		.dense_bytes = m->dense_bytes,
		.routed_bytes_per_token = m->routed_bytes_per_token,
		.active_bytes_per_token =
			m->routed_bytes_per_token + model_dense_bytes_per_token(m),
		.n_params = m->n_params,
		.file_bytes = m->file_bytes,
	};
	for (uint32_t i = 0; i < m->n_layers && m->layers; i++)
		ret->n_expert_layers += m->layers[i].experts.n_parts > 0;
	if (m->gguf && gguf_u32(m->gguf, "general.file_type", &ret->file_type, NULL))
		ret->file_type = UINT32_MAX;
	PUT(ret->arch, m->arch_name);
	PUT(ret->name, m->name);
}

static uint32_t count_conns(const struct serve *s)
{
	uint32_t n = 0;

	for (const struct conn *c = s->conns; c; c = c->next)
		n += !c->dead;
	return n;
}

/* "memory=sysfs hugepages=sysfs ...": who measures what now. */
static void put_telemetry(char *dst, size_t room, const struct telemetry_sampler *sampler)
{
	struct telemetry_snapshot *now = sampler ? malloc(sizeof(*now)) : NULL;
	size_t used = 0;

	dst[0] = '\0';
	for (int g = 0; now && !telemetry_sampler_get(sampler, now) && g < TELEMETRY_GROUP_NR;
	     g++) {
		int n = snprintf(dst + used, room - used, "%s%s=%s", used ? " " : "",
				 telemetry_group_name(g),
				 telemetry_source_name(now->groups[g].source));

		if (n < 0 || (size_t)n >= room - used)
			break;
		used += (size_t)n;
	}
	free(now);
}

/* One more sentence, on a line of its own; what does not fit is cut. */
static void add_line(char *text, size_t room, const char *line)
{
	size_t used = strlen(text);

	snprintf(text + used, room - used, "%s%s", used ? "\n" : "", line);
}

/* The plan of memory: what `sluice plan` tells with the same options. */
static void put_plan(const struct engine_status *e, struct sluice_status_info *ret)
{
	size_t used = 0;

	ret->dense_bytes = e->dense_bytes;
	ret->kv_bytes = e->kv_bytes;
	ret->prefix_bytes = e->prefix_bytes;
	ret->spec_bytes = e->spec_bytes;
	ret->dense_memory_bytes = e->dense_memory_bytes;
	ret->state_bytes = e->state_bytes;
	ret->scratch_bytes = e->scratch_bytes;
	ret->form_bytes = e->form_bytes;
	ret->budget_least_bytes = e->budget_least_bytes;
	ret->budget_all_bytes = e->budget_all_bytes;
	ret->n_slots = e->n_classes;
	for (uint32_t i = 0; i < e->n_classes && i < ENGINE_CLASSES && i < SLUICE_STATUS_SLOTS; i++)
		ret->slots[i] =
			(struct sluice_status_slots){ .slot_bytes = e->classes[i].slot_bytes,
						      .slots = e->classes[i].slots,
						      .experts = e->classes[i].experts };
	for (unsigned i = 0; i < e->n_reasons && used + 1 < sizeof(ret->reasons); i++) {
		put_text(ret->reasons + used, sizeof(ret->reasons) - used - 1, e->reasons[i]);
		used = strlen(ret->reasons);
		if (i + 1 < e->n_reasons)
			ret->reasons[used++] = '\n';
	}
}

static void put_nodes(const struct engine_status *e, struct sluice_status_info *ret)
{
	ret->n_nodes = e->n_nodes;
	for (uint32_t i = 0; i < e->n_nodes && i < SLUICE_STATUS_NODES; i++)
		ret->nodes[i] = (struct sluice_status_node){
			.node = e->nodes[i].node,
			.workers = e->nodes[i].workers,
			.share_ppm = (uint32_t)(e->nodes[i].share * 1e6 + 0.5),
			.arena_bytes = e->nodes[i].arena_bytes,
		};
}

static void put_histogram(const struct histogram_values *from, struct sluice_histogram *ret)
{
	memcpy(ret->counts, from->counts, sizeof(ret->counts));
	ret->sum_ns = from->sum_ns;
}

static void put_latency(const struct engine_status *e, struct sluice_status_info *ret)
{
	static_assert((int)LATENCY_NR == SLUICE_LATENCIES && HISTOGRAM_BUCKETS == SLUICE_BUCKETS &&
			      (int)LATENCY_FIRST == (int)SLUICE_LATENCY_FIRST &&
			      (int)LATENCY_TOKEN == (int)SLUICE_LATENCY_TOKEN &&
			      (int)STOP_ERROR == (int)SLUICE_STOP_ERROR,
		      "uapi");
	for (unsigned i = 0; i < LATENCY_NR; i++)
		put_histogram(&e->latency[i], &ret->latency[i]);
	memcpy(ret->ended, e->ended, sizeof(ret->ended));
	put_histogram(&e->reads, &ret->reads);
	put_histogram(&e->stalls, &ret->stalls);
	ret->pauses = e->pauses;
}

struct sluice_spec_counts info_spec(const struct spec_counts *c)
{
	struct sluice_spec_counts r = { .steps = c->steps,
					.columns = c->columns,
					.tokens = c->tokens,
					.plain_ns = c->plain_ns,
					.step_ns = c->step_ns };

	static_assert((int)DRAFT_GIVEN == (int)SLUICE_DRAFT_GIVEN &&
			      (int)DRAFT_NGRAM == (int)SLUICE_DRAFT_NGRAM &&
			      (int)DRAFT_MTP == (int)SLUICE_DRAFT_MTP &&
			      (int)DRAFT_NR <= (int)SLUICE_DRAFTS,
		      "uapi");
	for (unsigned i = 0; i < DRAFT_NR; i++) {
		r.drafted[i] = c->drafted[i];
		r.accepted[i] = c->accepted[i];
	}
	return r;
}

static void put_columns(const struct engine_status *e, struct sluice_status_info *ret)
{
	static_assert((int)ENGINE_COLUMNS == (int)SLUICE_COLUMNS, "uapi");
	for (unsigned i = 0; i < ENGINE_COLUMNS; i++)
		ret->columns[i] = (struct sluice_column_cost){ .steps = e->columns[i].steps,
							       .step_ns = e->columns[i].step_ns,
							       .expert_ns = e->columns[i].expert_ns,
							       .experts = e->columns[i].experts };
}

static void put_predict(const struct engine_status *e, struct sluice_status_info *ret)
{
	static_assert((int)PREDICT_AUTO + 1 == (int)SLUICE_PREDICT_AUTO &&
			      (int)PREDICT_ORACLE + 1 == (int)SLUICE_PREDICT_ORACLE,
		      "uapi");
	ret->predict = (struct sluice_predict_counts){
		.mode = (uint32_t)e->ahead.mode + 1,
		.on = e->ahead.on,
		.steps = e->ahead.steps,
		.uses = e->ahead.uses,
		.foreseen = e->ahead.foreseen,
		.reads = e->predicted,
		.useful = e->predicted_useful,
		.late = e->predicted_late,
		.wasted = e->predicted_wasted,
		.wasted_bytes = e->predicted_wasted_bytes,
		.gain_ppm = (uint64_t)(e->ahead.gain * 1e6),
	};
}

static void put_device(const struct engine_device *d, struct sluice_status_info *ret)
{
	ret->device = (struct sluice_status_device){ .vram_bytes = d->vram_bytes,
						     .slots = d->slots,
						     .resident = d->resident,
						     .hits = d->hits,
						     .misses = d->misses,
						     .fills = d->fills,
						     .fill_bytes = d->fill_bytes,
						     .launches = d->launches,
						     .layers = d->layers,
						     .handoff_ns = d->handoff_ns };
	PUT(ret->device.name, d->name);
	PUT(ret->device.state, d->state);
	ret->device_fills = (struct sluice_status_device_fills){ .link_ns = d->link_ns,
								 .link_bytes = d->link_bytes,
								 .stops = d->stops,
								 .gain_ppm = d->gain_ppm };
	ret->device_use = (struct sluice_status_device_use){ .both_ns = d->both_ns,
							     .either_ns = d->either_ns,
							     .link_free = d->link_free };
}

static void put_warm(const struct engine_warm *w, struct sluice_status_warm *ret)
{
	*ret = (struct sluice_status_warm){ .kept = w->kept,
					    .handed = w->handed,
					    .warm = w->warm,
					    .experts = w->experts,
					    .expert_bytes = w->expert_bytes,
					    .dense_bytes = w->dense_bytes,
					    .starts = w->starts };
	PUT(ret->why, w->why);
}

static void put_forms(struct forms *f, struct sluice_status_forms *ret)
{
	struct form_cache_counts c = { 0 };

	if (f)
		forms_get_counts(f, &c);
	*ret = (struct sluice_status_forms){ .compiled = c.compiled,
					     .found = c.found,
					     .masks = c.masks,
					     .masks_cached = c.masks_cached,
					     .bytes = c.bytes,
					     .forms = c.forms,
					     .matchers = c.matchers };
}

/* What happens now, and what happened since the start. */
static void put_work(const struct engine_status *e, struct sluice_status_info *ret)
{
	ret->state = (uint32_t)e->state;
	ret->filling = e->filling;
	ret->active = e->active;
	ret->waiting = e->waiting;
	ret->load_bytes = e->load_bytes;
	ret->load_bytes_total = e->load_bytes_total;
	ret->tokens_generated = e->tokens_generated;
	ret->tokens_prefilled = e->tokens_prefilled;
	ret->steps = e->steps;
	ret->tokens_reused = e->tokens_reused;
	ret->prefix_lookups = e->prefix_lookups;
	ret->prefix_found = e->prefix_found;
	ret->prefix_pages = e->prefix_pages;
	ret->prefix_points = e->prefix_points;
	ret->spec = info_spec(&e->spec);
	ret->dropped_uses = e->dropped;
	PUT(ret->failure, e->failure);
}

/* Experts and where they come from. */
static void put_experts(const struct engine_status *e, struct sluice_status_info *ret)
{
	ret->budget_bytes = e->budget_bytes;
	ret->resident_bytes = e->resident_bytes;
	ret->experts_total = e->experts_total;
	ret->experts_resident = e->experts_resident;
	ret->hits = e->hits;
	ret->misses = e->misses;
	ret->fills = e->fills;
	ret->reads_in_flight = e->reads_in_flight;
	ret->bytes_read = e->bytes_read;
	ret->read_busy_ns = e->read_busy_ns;
	ret->stall_ns = e->stall_ns;
	ret->local_bytes = e->local_bytes;
	ret->remote_bytes = e->remote_bytes;
}

/* What options, machine and model came to. */
static void put_choices(const struct engine_status *e, struct sluice_status_info *ret)
{
	ret->threads = e->threads;
	ret->n_ctx = e->n_ctx;
	ret->n_parallel = e->n_parallel;
	ret->n_batch = e->n_batch;
	ret->spec_mode = (uint32_t)e->spec_mode;
	ret->memory_limit_bytes = e->memory_limit_bytes;
	ret->memory_room_bytes = e->memory_room_bytes;
	ret->cpus = e->cpus;
	PUT(ret->memory_from, e->memory_from);
	PUT(ret->cpus_from, e->cpus_from);
	PUT(ret->cpu, e->cpu);
	PUT(ret->io, e->io);
	PUT(ret->arena, e->arena);
	PUT(ret->kv, e->kv);
	PUT(ret->policy, e->policy);
}

/* What the daemon has to say in sentences. */
static void put_notes(const struct serve *s, const struct engine_status *e, char *notes,
		      size_t room)
{
	struct err changed = { 0 };

	notes[0] = '\0';
	for (unsigned i = 0; i < ENGINE_FALLBACKS && e->fallbacks[i]; i++)
		add_line(notes, room, e->fallbacks[i]);
	engine_check_files(s->config.engine, &changed);
	if (changed.text[0])
		add_line(notes, room, changed.text);
}

void info_status(const struct serve *s, struct sluice_status_info *ret, char *notes, size_t room)
{
	struct engine_status e;

	engine_get_status(s->config.engine, &e);
	*ret = (struct sluice_status_info){ .struct_size = sizeof(*ret),
					    .connections = count_conns(s),
					    .uptime_ns = now_ns() - s->started_ns };
	PUT(ret->arch, s->config.model->arch_name);
	PUT(ret->model, s->config.model->name);
	PUT(ret->version, sluice_version);
	put_work(&e, ret);
	put_experts(&e, ret);
	put_choices(&e, ret);
	put_plan(&e, ret);
	put_nodes(&e, ret);
	put_latency(&e, ret);
	put_columns(&e, ret);
	put_predict(&e, ret);
	put_device(&e.device, ret);
	put_warm(&e.warm, &ret->warm);
	put_forms(s->forms, &ret->forms);
	put_telemetry(ret->telemetry, sizeof(ret->telemetry), s->config.sampler);
	if (notes)
		put_notes(s, &e, notes, room);
}
