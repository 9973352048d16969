/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/engine.c: life of the decoder (see engine.h). What it does all day is in sched.c, what it
 * tells of itself in status.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/num.h"
#include "device/device.h"
#include "engine/engine_private.h"
#include "engine/numa.h"
#include "engine/saved.h"
#include "engine/topology.h"
#include "kernels/cpu/fops.h"
#include "trace/policy_input.h"

void engine_add_fallback(struct engine *e, const char *text)
{
	for (unsigned i = 0; text && text[0] && i < ENGINE_FALLBACKS - 1; i++)
		if (!e->fallbacks[i]) {
			atomic_store_explicit(&e->fallbacks[i], text, memory_order_release);
			return;
		}
}

static struct supply_tier device_tier(struct engine *e)
{
	return e->vram ? (struct supply_tier){ vram_policy_ops(e->vram), vram_policy(e->vram) }
		       : (struct supply_tier){ 0 };
}

static struct expert_view view_slot(void *arg, expert_id_t id)
{
	return vram_view(arg, id);
}

/* The host reads the slots of a device that computes nothing. */
static struct expert_view (*device_view(const struct engine *e))(void *arg, expert_id_t id)
{
	return e->vram && !e->device_dense ? view_slot : NULL;
}

static void on_launch(void *arg)
{
	struct engine *e = arg;

	if (e->vram)
		vram_issue(e->vram);
}

static int on_begin(void *arg, uint32_t n_tokens, struct err *err)
{
	return engine_device_boundary(arg, n_tokens, err);
}

/* Slots in memory of their own kind, and in them what is there already. */
static int create_residency(struct engine *e, uint64_t budget, struct err *err)
{
	struct arena_config config = { .bytes = residency_arena_bytes(budget, &e->split),
				       .interleave = e->split.n == 1 };
	int rc;

	do {
		e->arena = keep_arena(e, WARM_EXPERTS);
		rc = e->arena ? 0 : arena_create(&config, &e->arena, err);
		if (!rc)
			rc = residency_create(e->model, e->arena, budget, e->reader, &e->split,
					      &e->residency, err);
		if (!rc)
			rc = keep_experts(e, err);
	} while (rc == -ESTALE);
	if (!rc)
		engine_add_fallback(e, arena_fallback(e->arena)); /* binding may have added to it */
	return rc;
}

/* The policy of the host's tier, told of what is there. */
static int create_policy(struct engine *e, struct err *err)
{
	const struct model *m = e->model;
	struct policy_geometry g = { .n_layers = m->n_layers,
				     .n_expert = m->n_expert,
				     .n_expert_used = m->n_expert_used,
				     .n_classes = residency_n_classes(e->residency) };
	uint32_t *class_of_layer = calloc(m->n_layers, sizeof(*class_of_layer));
	uint32_t *class_slots = calloc(g.n_classes, sizeof(*class_slots));
	int rc = -ENOMEM;

	if (!class_of_layer || !class_slots)
		goto out_free;
	for (uint32_t i = 0; i < m->n_layers; i++) {
		uint32_t c = residency_class_of(e->residency, i);

		class_of_layer[i] = c == RESIDENCY_NO_CLASS ? POLICY_NO_CLASS : c;
	}
	for (uint32_t i = 0; i < g.n_classes; i++)
		class_slots[i] = residency_class_slots(e->residency, i);
	g.class_of_layer = class_of_layer;
	g.class_slots = class_slots;
	rc = policy_open(e->config.policy ? e->config.policy : "lfu", &g, &e->policy_ops,
			 &e->policy, err);
	for (uint32_t id = 0; !rc && id < m->n_layers * m->n_expert; id++)
		if (residency_state(e->residency, TIER_HOST, id) == COPY_PRESENT)
			e->policy_ops->inserted(e->policy, id);
out_free:
	free(class_of_layer);
	free(class_slots);
	return rc;
}

static int create_experts(struct engine *e, uint64_t budget, struct err *err)
{
	const struct model *m = e->model;
	uint32_t max_used =
		(uint32_t)u64_min(m->n_expert, (uint64_t)e->config.n_batch * m->n_expert_used);
	int rc = create_residency(e, budget, err);

	if (!rc)
		rc = create_policy(e, err);
	if (!rc)
		rc = engine_create_slots(e, err);
	if (rc)
		return rc;
	return supply_create(
		&(struct supply_config){ .model = m,
					 .residency = e->residency,
					 .tier = { [TIER_HOST] = { e->policy_ops, e->policy },
						   [TIER_DEVICE] = device_tier(e) },
					 .device_view = device_view(e),
					 .device_arg = e->vram,
					 .max_used = max_used,
					 .fill_bytes_per_s = e->config.fill_bytes_per_s,
					 .given_up = engine_given_up,
					 .given_up_arg = e },
		&e->supply);
}

static struct decoder_config decoder_config_of(const struct engine *e)
{
	const struct engine_config *c = &e->config;

	return (struct decoder_config){
		.model = e->model,
		.weights = e->weights,
		.ops = c->ops,
		.fops = e->fops,
		.team = e->team,
		.supply = e->supply,
		.device = e->device_dense ? e->device : NULL,
		.split = e->split,
		.trace = e->trace,
		.routed = spec_routed(e),
		.ahead = e->ahead,
		.keep_hidden = spec_keeps_hidden(e),
		.max_tokens = c->n_batch,
		.max_logits = e->plan.max_logits,
		.given_up = engine_given_up,
		.on_layer = progress_layer,
		.on_begin = on_begin,
		.on_launch = on_launch,
		.arg = (void *)(uintptr_t)e,
	};
}

/* What lies where: the options and defaults become what is taken (memory.h). */
static int plan_memory(struct engine *e, struct err *err)
{
	struct bandwidth_node nodes[NODES_KNOWN];
	struct engine_config *c = &e->config;
	struct memory_ask ask = { .model = e->model,
				  .ops = c->ops,
				  .limits = &e->limits,
				  .assume_bytes = limits_assume_bytes(),
				  .align = reader_align(e->reader),
				  .on_gpu = engine_device_wanted(e),
				  .threads = team_size(e->team),
				  .n_ctx = c->n_ctx,
				  .n_parallel = c->n_parallel,
				  .n_batch = c->n_batch,
				  .kv_type = c->kv_type,
				  .kv_budget = c->kv_budget,
				  .prefix_cache = c->prefix_cache,
				  .host_budget = c->host_budget,
				  .budget_percent = c->budget_percent,
				  .head = spec_head(e),
				  .numa = c->numa,
				  .nodes = nodes };
	int rc;

	if (e->model->n_expert && c->numa == ENGINE_NUMA_AUTO)
		ask.n_nodes = nodes_describe(c, e->team, nodes);
	rc = memory_plan(&ask, &e->plan, err);
	if (rc)
		return rc;
	e->split = e->plan.split;
	c->n_ctx = e->plan.n_ctx;
	c->n_parallel = e->plan.n_parallel;
	c->n_batch = e->plan.n_batch;
	engine_add_fallback(e, e->plan.note);
	return 0;
}

/* What an emulated device will take of this machine's memory is not for experts. */
static void leave_to_device(struct engine *e)
{
	if (e->limits.room_bytes != LIMITS_UNKNOWN)
		e->limits.room_bytes -= u64_min(e->limits.room_bytes, engine_device_takes(e));
}

/* plan_memory() with what another process left, if anything, and without it where that does not fit. */
static int plan_with_kept(struct engine *e, struct err *err)
{
	struct err why = { { 0 } };
	int rc = keep_begin(e, err);

	if (rc)
		return rc;
	leave_to_device(e);
	rc = plan_memory(e, &why);
	if (rc && keep_failed(e, &why)) {
		leave_to_device(e);
		err_clear(&why);
		rc = plan_memory(e, &why);
	}
	return rc ? err_set(err, rc, "%s", why.text) : 0;
}

static int create_weights(struct engine *e, struct err *err)
{
	int rc = weights_create(e->model, reader_align(e->reader), e->team,
				e->config.numa == ENGINE_NUMA_AUTO, keep_arena(e, WARM_DENSE),
				&e->weights, err);

	if (!rc)
		weights_keep(e->weights, e->keep.warm);
	return rc;
}

static int create_places(struct engine *e)
{
	uint32_t n = e->config.n_parallel, batch = e->config.n_batch;

	e->active = calloc(n, sizeof(*e->active));
	e->runs = calloc(n, sizeof(*e->runs));
	e->run_owner = calloc(n, sizeof(*e->run_owner));
	e->tokens = calloc(batch, sizeof(*e->tokens));
	e->want = calloc(batch, sizeof(*e->want));
	e->token_run = calloc(batch, sizeof(*e->token_run));
	e->token_error = calloc(batch, sizeof(*e->token_error));
	e->taken = calloc(n, sizeof(*e->taken));
	e->in_step = calloc(n, sizeof(*e->in_step));
	e->figures = calloc(n, sizeof(*e->figures));
	if (!e->active || !e->runs || !e->run_owner || !e->tokens || !e->want || !e->token_run ||
	    !e->token_error || !e->taken || !e->in_step || !e->figures ||
	    turns_init(&e->turns, MAX_WAITING + n))
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		e->active[i].ids = calloc((size_t)e->config.n_ctx + 1, sizeof(uint32_t));
		if (!e->active[i].ids || sampler_init(&e->active[i].sampler, e->model->n_vocab))
			return -ENOMEM;
	}
	if (engine_find_ends(e))
		return -ENOMEM;
	pace_init(&e->pace, e->config.itl_target_ns, e->config.n_batch);
	e->itl_target_ns = e->config.itl_target_ns;
	e->device_budget = e->config.device_budget;
	return 0;
}

/* Two on a core only share its units. */
static unsigned default_threads(const struct engine *e)
{
	return (unsigned)u64_min(topology_cores(), e->limits.cpus);
}

static int open_trace(struct engine *e, struct err *err)
{
	const struct engine_config *c = &e->config;
	const struct trace_slots slots = { .classes = e->plan.classes,
					   .n_classes = e->plan.n_classes,
					   .class_of_layer = e->plan.class_of_layer };

	return c->trace_path ? trace_open(c->trace_path, c->trace_overwrite, e->model, &slots,
					  &e->trace, err)
			     : 0;
}

/* Beside a device nothing is read ahead of layers: what it lacks is the host's. */
static int create_ahead(struct engine *e, struct err *err)
{
	const struct predict_choice *p = &e->config.predict;

	if (p->mode == PREDICT_OFF || (!e->supply && !e->device))
		return 0;
	if (!e->device)
		return ahead_create(e->model, e->supply, p, &e->ahead, err);
	if (p->mode != PREDICT_AUTO)
		engine_add_fallback(e, "--predict has no effect beside --device");
	return 0;
}

static int create_parts(struct engine *e, struct err *err)
{
	struct decoder_config d;
	const struct engine_config *c = &e->config;
	struct reader_config reader = engine_reader_config(c);
	int rc;

	rc = reader_create(e->model->gguf, &reader, &e->reader, err);
	if (rc)
		return rc;
	engine_add_fallback(e, reader_fallback(e->reader));
	rc = team_create(c->threads ? c->threads : default_threads(e), true, &e->team, err);
	if (rc)
		return rc;
	e->split = node_split_one();
	e->config.threads = team_size(e->team);
	rc = plan_with_kept(e, err);
	if (!rc)
		rc = engine_create_device(e, err);
	if (!rc)
		rc = keep_memory(e, err);
	if (!rc && e->model->n_expert)
		rc = create_experts(e, e->plan.expert_bytes, err);
	if (!rc)
		rc = create_weights(e, err);
	if (rc)
		return rc;
	rc = seq_pool_create(e->model, c->n_parallel, c->n_ctx,
			     e->plan.kv_pages + e->plan.prefix_pages, c->kv_type, &e->seqs, err);
	if (rc)
		return rc;
	rc = open_trace(e, err);
	if (!rc)
		rc = create_places(e);
	if (!rc)
		rc = spec_create(e);
	if (!rc)
		rc = create_ahead(e, err);
	if (!rc)
		rc = reuse_create(e);
	if (!rc)
		rc = saved_create(e, err);
	if (rc)
		return rc;
	d = decoder_config_of(e);
	return decoder_create(&d, &e->decoder, err);
}

int engine_create(const struct engine_config *config, const struct model *model,
		  const struct tokenizer *tokenizer, struct engine **ret, struct err *err)
{
	struct engine *e = calloc(1, sizeof(*e));
	int rc;

	if (!e)
		return err_set(err, -ENOMEM, "no memory");
	e->config = *config;
	keep_init(e);
	e->model = model;
	e->tokenizer = tokenizer;
	e->fops = float_ops_get(config->ops->level);
	e->queue_tail = &e->queue_head;
	if (config->limits)
		e->limits = *config->limits;
	else
		limits_read(NULL, &e->limits);
	e->config.limits = &e->limits;
	e->state_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = e->state_fd < 0 ? -errno : create_parts(e, err);
	if (rc) {
		engine_destroy(e);
		return err_set(err, rc, "the engine: %s", strerror(-rc));
	}
	*ret = e;
	return 0;
}

int engine_start(struct engine *e, struct err *err)
{
	int rc = e->trace ? trace_start(e->trace, err) : 0;

	if (rc)
		return rc;
	rc = pthread_create(&e->thread, NULL, engine_main, e);
	e->started = rc == 0;
	return rc ? err_set(err, -rc, "cannot start the engine: %s", strerror(rc)) : 0;
}

void engine_wake(struct engine *e)
{
	_Atomic uint32_t *word = e->residency ? residency_event_word(e->residency) : &e->own_event;

	atomic_fetch_add(word, 1);
	futex_wake_all(word);
}

void engine_stop(struct engine *e)
{
	atomic_store(&e->stop, true);
	engine_wake(e);
}

void engine_destroy(struct engine *e)
{
	if (!e)
		return;
	atomic_store(&e->stop, true); /* half built, there may be nobody to wake */
	if (e->started) {
		engine_stop(e);
		pthread_join(e->thread, NULL);
	}
	decoder_destroy(e->decoder);
	saved_destroy(e);
	reuse_destroy(e);
	team_destroy(e->team);
	trace_close(e->trace);
	seq_pool_destroy(e->seqs);
	reader_destroy(e->reader);
	ahead_destroy(e->ahead);
	supply_destroy(e->supply);
	vram_destroy(e->vram);
	device_close(e->device); /* fills that are under way read the arena */
	if (e->policy)
		e->policy_ops->destroy(e->policy);
	residency_destroy(e->residency);
	arena_destroy(e->arena);
	weights_destroy(e->weights);
	keep_end(e);
	spec_destroy(e);
	for (uint32_t i = 0; e->active && i < e->config.n_parallel; i++) {
		sampler_fini(&e->active[i].sampler);
		free(e->active[i].ids);
	}
	turns_fini(&e->turns);
	memory_plan_fini(&e->plan);
	free(e->ends);
	free(e->active);
	free(e->runs);
	free(e->run_owner);
	free(e->tokens);
	free(e->want);
	free(e->token_run);
	free(e->token_error);
	free(e->taken);
	free(e->in_step);
	free(e->figures);
	if (e->state_fd >= 0)
		close(e->state_fd);
	free(e);
}

int engine_state_fd(const struct engine *e)
{
	return e->state_fd;
}

int engine_submit(struct engine *e, struct request *r, struct err *err)
{
	struct request *head;

	if (!r->n_tokens)
		return err_set(err, -EINVAL, "the prompt is empty");
	if ((uint64_t)r->n_tokens + r->max_tokens > e->config.n_ctx)
		return err_set(err, -E2BIG,
			       "%u prompt tokens and %u to generate exceed the context of %u",
			       r->n_tokens, r->max_tokens, e->config.n_ctx);
	for (uint32_t i = 0; i < r->n_tokens; i++)
		if (r->tokens[i] >= e->model->n_vocab)
			return err_set(err, -EINVAL, "token %u of the prompt is %u, not below %u",
				       i, r->tokens[i], e->model->n_vocab);
	for (uint32_t i = 0; i < r->n_draft; i++)
		if (r->draft[i] >= e->model->n_vocab)
			return err_set(err, -EINVAL, "token %u of the draft is %u, not below %u", i,
				       r->draft[i], e->model->n_vocab);
	if (r->place > e->config.n_parallel)
		return err_set(err, -EINVAL,
			       "there is no slot %u: they are 0 to %u (sluiced --parallel)",
			       r->place - 1, e->config.n_parallel - 1);
	if (atomic_load(&e->stop) || atomic_load(&e->state) == ENGINE_FAILED)
		return err_set(err, -ESHUTDOWN, "the engine has stopped");
	if (atomic_fetch_add(&e->n_waiting, 1) >= MAX_WAITING) {
		atomic_fetch_sub(&e->n_waiting, 1);
		return err_set(err, -EBUSY, "more than %u requests are waiting", MAX_WAITING);
	}
	r->submitted_ns = now_ns();
	head = atomic_load_explicit(&e->inbox, memory_order_relaxed);
	do
		r->next = head;
	while (!atomic_compare_exchange_weak_explicit(&e->inbox, &head, r, memory_order_release,
						      memory_order_relaxed));
	engine_wake(e);
	return 0;
}

void engine_set_itl_target(struct engine *e, uint64_t target_ns)
{
	e->itl_target_ns = target_ns;
}

uint32_t engine_n_ctx(const struct engine *e)
{
	return e->config.n_ctx;
}

int engine_check_files(const struct engine *e, struct err *err)
{
	return reader_check_files(e->reader, err);
}
