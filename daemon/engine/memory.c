/* SPDX-License-Identifier: MIT */
/* daemon/engine/memory.c: see memory.h. */
#include "engine/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/size.h"
#include "device/device.h"
#include "engine/budget.h"
#include "engine/numa.h"
#include "engine/sampler.h"
#include "engine/spec.h"
#include "engine/step.h"
#include "engine/weights.h"
#include "kernels/cpu/fops.h"
#include "store/residency.h"

#define LOGITS_BYTES  (64u << 20)  /* of logits held at a time */
#define THREAD_BYTES  (2ull << 20) /* of a thread's stack, where the kernel gives huge pages */
#define DEFAULT_CTX   16384
#define DEFAULT_STEP  512
#define GPU_STEP      2048 /* an expert that is sent there serves as many tokens as may be */
/* by default so many states may be kept, in one part in so many of the memory at most */
#define PREFIX_STATES 8
#define PREFIX_PART   32
/* as much for forms of answers that are kept, and no more than one part in so many of the memory */
#define MOST_FORMS    (64ull << 20)
#define FORMS_PART    64

static uint32_t max_logits(const struct model *m, uint32_t n_batch, uint32_t n_parallel)
{
	uint64_t rows = LOGITS_BYTES / sizeof(float) / m->n_vocab;

	return (uint32_t)u64_min(u64_max(rows, n_parallel), n_batch);
}

/* Bytes of memory beside dense weights, cache and experts. */
static uint64_t scratch_bytes(const struct memory_ask *ask, const struct memory_plan *p)
{
	struct decoder_config d = { .model = ask->model,
				    .ops = ask->ops,
				    .fops = float_ops_get(ask->ops->level),
				    .split = p->split,
				    .max_tokens = p->n_batch,
				    .max_logits = p->max_logits,
				    .keep_hidden = ask->head != NULL };
	uint64_t samplers = sampler_bytes(ask->model->n_vocab);

	return decoder_scratch_bytes(&d, p->threads) + p->n_parallel * samplers +
	       p->threads * THREAD_BYTES;
}

static unsigned threads_of(const struct memory_ask *ask)
{
	if (ask->threads) /* two on a core only share its units */
		return ask->threads;
	return (unsigned)u64_max(1, u64_min(ask->cores, ask->limits->cpus));
}

/*
 * Pages of @n_parallel sequences of @s: as many as they take when full, or what the budget for them
 * holds; one whole sequence at least. UINT64_MAX where that is no number.
 */
static uint64_t kv_pages(const struct memory_ask *ask, const struct kv_shape *s,
			 uint32_t n_parallel)
{
	uint64_t one = s->n_ctx / KV_BLOCK, all = one * n_parallel;

	if (!s->block_bytes)
		return 0;
	if (ask->kv_budget)
		all = u64_min(all, u64_max(one, ask->kv_budget / s->block_bytes));
	return all < PAGE_NONE / 4 ? all : UINT64_MAX;
}

/*
 * Pages for what may be reused: as asked for; by default room for the states of a few points, which
 * lie in no sequence's pages. Keys and values lie in pages that sequences leave free, too.
 */
static uint64_t prefix_pages(const struct memory_ask *ask, const struct kv_shape *s)
{
	uint64_t page = s->block_bytes ? s->block_bytes : SEQ_LEAST_PAGE, bytes = ask->prefix_cache;
	uint64_t room = ask->limits->room_bytes;

	if (bytes == PREFIX_CACHE_OFF)
		return 0;
	if (!bytes) {
		room = room == LIMITS_UNKNOWN ? ask->assume_bytes : room;
		bytes = u64_min(s->state_bytes * PREFIX_STATES, room / PREFIX_PART);
	}
	return u64_min(bytes / page, PAGE_NONE / 4);
}

/* For forms of answers that are kept compiled, and their masks: whole MiB, since what is free changes a little. */
static uint64_t form_bytes(const struct memory_ask *ask)
{
	uint64_t room = ask->limits->room_bytes;

	room = room == LIMITS_UNKNOWN ? ask->assume_bytes : room;
	return u64_min(MOST_FORMS, room / FORMS_PART >> 20 << 20);
}

/* Keys, values, states and tokens of all sequences, their drafts, and what may be reused. */
static uint64_t cache_bytes(const void *arg, uint32_t n_parallel, uint32_t n_ctx)
{
	const struct memory_ask *ask = arg;
	struct kv_shape s;
	uint64_t kv, states, tokens;

	if (kv_shape_init(&s, ask->model, n_ctx, ask->kv_type, NULL, NULL) ||
	    u64_mul_overflow(kv_pages(ask, &s, n_parallel), s.block_bytes, &kv) ||
	    u64_mul_overflow(s.state_bytes, n_parallel, &states))
		return UINT64_MAX;
	tokens = (uint64_t)n_parallel * s.n_ctx * sizeof(uint32_t);
	tokens += prefix_pages(ask, &s) * (s.block_bytes ? s.block_bytes : SEQ_LEAST_PAGE);
	if (u64_add_overflow(kv, states, &kv) || u64_add_overflow(kv, tokens, &kv) ||
	    u64_add_overflow(kv, spec_bytes(ask, threads_of(ask), n_parallel, n_ctx), &kv))
		return UINT64_MAX;
	return kv;
}

/* A budget that does not hold one sequence of the whole context is no use to anybody. */
static int check_kv_budget(const struct memory_ask *ask, const struct kv_shape *s, struct err *err)
{
	char asked[32], need[32];
	uint64_t one = s->n_ctx / KV_BLOCK * (uint64_t)s->block_bytes;

	if (!ask->kv_budget || ask->kv_budget >= one)
		return 0;
	return err_set(err, -ENOSPC,
		       "--kv-budget %s does not hold one sequence with a context of %u tokens, "
		       "which takes %s: raise it or lower --ctx",
		       size_format(asked, sizeof(asked), ask->kv_budget), s->n_ctx,
		       size_format(need, sizeof(need), one));
}

/* No longer than one sequence, nor than a GPU takes. */
static uint32_t default_step(const struct memory_ask *ask, uint32_t n_ctx)
{
	uint64_t step = DEFAULT_STEP;

	if (ask->on_gpu)
		step = u64_max(step, u64_min(GPU_STEP, n_ctx));
	return ask->on_gpu ? (uint32_t)u64_min(step, device_most_tokens(ask->model))
			   : (uint32_t)step;
}

static void set_defaults(const struct memory_ask *ask, struct memory_plan *p)
{
	p->threads = threads_of(ask);
	p->n_ctx = ask->n_ctx;
	if (!p->n_ctx)
		p->n_ctx = (uint32_t)u64_min(ask->model->n_ctx_train, DEFAULT_CTX);
	p->n_parallel = ask->n_parallel ? ask->n_parallel : MEMORY_SEQUENCES;
	p->n_batch = ask->n_batch ? ask->n_batch : default_step(ask, p->n_ctx);
	p->n_batch = (uint32_t)u64_max(p->n_batch, p->n_parallel);
	p->max_logits = max_logits(ask->model, p->n_batch, p->n_parallel);
	p->split = node_split_one();
}

/* The bytes of the weights, the split over nodes and the size classes, which depend on it. */
static int cut_experts(const struct memory_ask *ask, struct memory_plan *p, struct err *err)
{
	const struct model *m = ask->model;
	struct residency_need need;

	p->dense_bytes = m->dense_bytes;
	p->dense_memory_bytes = weights_memory_bytes(m, ask->align);
	p->classes = calloc((size_t)m->n_layers + 1, sizeof(*p->classes));
	p->class_of_layer = calloc((size_t)m->n_layers + 1, sizeof(*p->class_of_layer));
	if (!p->classes || !p->class_of_layer)
		return err_set(err, -ENOMEM, "no memory for the plan of %u layers", m->n_layers);
	if (!m->n_expert)
		return 0;
	residency_need(m, ask->align, NULL, &need);
	p->split = nodes_split(ask->numa, ask->nodes, ask->n_nodes, ask->limits,
			       ask->host_budget ? u64_min(ask->host_budget, need.all_bytes)
						: need.all_bytes);
	p->n_classes = residency_shares(m, ask->align, &p->split, p->classes, p->class_of_layer);
	p->budget_least_bytes = divide_least_bytes(p->classes, p->n_classes);
	p->budget_all_bytes = divide_all_bytes(p->classes, p->n_classes);
	return 0;
}

/* What is asked of budget.h, with @p holding the defaults and the classes. */
static struct budget_ask budget_of(const struct memory_ask *ask, const struct memory_plan *p)
{
	return (struct budget_ask){ .limits = ask->limits,
				    .assume_bytes = ask->assume_bytes,
				    .least_bytes = p->budget_least_bytes,
				    .all_bytes = p->budget_all_bytes,
				    .dense_bytes = p->dense_memory_bytes,
				    .buffer_bytes = p->scratch_bytes,
				    .cache_bytes = cache_bytes,
				    .arg = ask,
				    .prefix_bytes = ask->prefix_cache == PREFIX_CACHE_OFF
							    ? 0
							    : ask->prefix_cache,
				    .host_budget = ask->host_budget,
				    .percent = ask->budget_percent,
				    .n_ctx = p->n_ctx,
				    .n_parallel = p->n_parallel,
				    .ctx_given = ask->n_ctx != 0,
				    .parallel_given = ask->n_parallel != 0 };
}

static void say(struct memory_plan *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct memory_plan *p, const char *fmt, ...)
{
	va_list ap;

	if (p->n_reasons == MEMORY_REASONS)
		return;
	va_start(ap, fmt);
	vsnprintf(p->reasons[p->n_reasons++], sizeof(p->reasons[0]), fmt, ap);
	va_end(ap);
}

static void give_reasons(const struct memory_ask *ask, const struct budget *b,
			 struct memory_plan *p)
{
	char size[32];

	if (ask->limits->room_bytes != LIMITS_UNKNOWN)
		say(p, "this process may take %s of memory (%.200s)",
		    size_format(size, sizeof(size), p->room_bytes), ask->limits->memory_from);
	if (b->why[0])
		say(p, "%s", b->why);
	if (b->note[0])
		say(p, "%s", b->note);
	if (p->budget_bytes && p->budget_bytes < p->budget_all_bytes)
		say(p, "experts outside the budget are read from disk when they are needed: %s",
		    size_format(size, sizeof(size), p->budget_all_bytes - p->budget_bytes));
}

/* The parts that depend on what was chosen. */
static int settle(const struct memory_ask *ask, const struct budget *b, struct memory_plan *p,
		  struct err *err)
{
	struct kv_shape shape;
	int rc;

	p->n_ctx = b->n_ctx;
	p->n_parallel = b->n_parallel;
	p->max_logits = max_logits(ask->model, p->n_batch, p->n_parallel);
	p->form_bytes = form_bytes(ask);
	p->scratch_bytes = scratch_bytes(ask, p) + p->form_bytes;
	p->spec_bytes = spec_bytes(ask, p->threads, p->n_parallel, p->n_ctx);
	p->scratch_bytes += p->spec_bytes; /* the budget had it with the caches */
	p->expert_bytes = b->expert_bytes;
	p->margin_bytes = b->margin_bytes;
	p->room_bytes = b->room_bytes;
	rc = kv_shape_init(&shape, ask->model, p->n_ctx, ask->kv_type, NULL, err);
	if (!rc)
		rc = divide_budget(p->classes, p->n_classes, p->expert_bytes, &p->budget_bytes,
				   err);
	if (!rc)
		rc = check_kv_budget(ask, &shape, err);
	if (!rc && (kv_pages(ask, &shape, p->n_parallel) == UINT64_MAX ||
		    u64_mul_overflow(kv_pages(ask, &shape, p->n_parallel), shape.block_bytes,
				     &p->kv_bytes) ||
		    u64_mul_overflow(shape.state_bytes, p->n_parallel, &p->state_bytes)))
		rc = err_set(err, -EOVERFLOW, "the KV cache of %u sequences has no size",
			     p->n_parallel);
	if (rc)
		return rc;
	p->prefix_pages = (uint32_t)prefix_pages(ask, &shape);
	p->prefix_bytes = (uint64_t)p->prefix_pages *
			  (shape.block_bytes ? shape.block_bytes : SEQ_LEAST_PAGE);
	p->kv_pages = (uint32_t)kv_pages(ask, &shape, p->n_parallel);
	p->scratch_bytes += (uint64_t)p->n_parallel * shape.n_ctx * sizeof(uint32_t);
	snprintf(p->note, sizeof(p->note), "%s", b->note);
	give_reasons(ask, b, p);
	return 0;
}

/* All that does not depend on the budget. */
static int prepare(const struct memory_ask *ask, struct memory_plan *p, struct err *err)
{
	struct kv_shape shape;
	int rc;

	memset(p, 0, sizeof(*p));
	set_defaults(ask, p);
	rc = kv_shape_init(&shape, ask->model, p->n_ctx, ask->kv_type, NULL, err);
	if (rc)
		return rc;
	rc = cut_experts(ask, p, err);
	if (rc)
		return rc;
	p->form_bytes = form_bytes(ask);
	p->scratch_bytes = scratch_bytes(ask, p) + p->form_bytes;
	return 0;
}

int memory_plan(const struct memory_ask *ask, struct memory_plan *ret, struct err *err)
{
	struct memory_plan p;
	struct budget b;
	int rc = prepare(ask, &p, err);

	if (!rc) {
		struct budget_ask budget = budget_of(ask, &p);

		rc = budget_choose(&budget, &b, err);
	}
	if (!rc)
		rc = settle(ask, &b, &p, err);
	if (rc)
		memory_plan_fini(&p);
	else
		*ret = p;
	return rc;
}

int memory_sizes(const struct model *m, uint32_t align, struct memory_plan *ret, struct err *err)
{
	struct memory_ask ask = { .model = m, .align = align, .numa = ENGINE_NUMA_OFF };

	memset(ret, 0, sizeof(*ret));
	ret->split = node_split_one();
	return cut_experts(&ask, ret, err);
}

void memory_plan_fini(struct memory_plan *p)
{
	free(p->classes);
	free(p->class_of_layer);
	p->classes = NULL;
	p->class_of_layer = NULL;
	p->n_classes = 0;
}

uint32_t memory_largest_ctx(const struct memory_ask *ask, uint32_t n_parallel, uint32_t most)
{
	struct limits sure = *ask->limits;
	struct memory_ask asked = *ask;
	uint32_t low = 0,
		 high = most / KV_BLOCK; /* in blocks: low fits, above high is not looked at */
	struct memory_plan p;

	sure.room_bytes = budget_sure_room(sure.room_bytes);
	asked.limits = &sure;
	asked.n_parallel = n_parallel;
	asked.n_ctx = KV_BLOCK;
	if (prepare(&asked, &p, NULL)) {
		memory_plan_fini(&p);
		return 0;
	}
	while (low < high) {
		uint32_t middle = low + (high - low + 1) / 2;
		struct budget_ask budget = budget_of(&asked, &p);
		struct budget b;

		budget.n_ctx = middle * KV_BLOCK;
		if (budget_choose(&budget, &b, NULL))
			high = middle - 1;
		else
			low = middle;
	}
	memory_plan_fini(&p);
	return low * KV_BLOCK;
}
