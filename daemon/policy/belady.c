/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/belady.c: evicts what a recorded trace says is used again latest.
 *
 * No decision can be better when the same trace runs again, so it is the bound that the others are
 * measured against. For tools and the simulator; in the daemon it helps only a repeated run.
 *
 * Time is (which pass over the layers, layer): the k-th call of used() for a layer is the k-th time
 * that this layer occurs in the trace. An expert is worth minus the time of its next use.
 * The trace is read in create() only. See policy.h for the calls; one thread.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "policy/policies.h"
#include "policy/ranking.h"
#include "policy/trace_read.h"

struct policy {
	struct ranking *ranking;
	uint32_t n_layers;
	uint64_t *passes; /* per layer: calls of used() so far */
	uint64_t *times;  /* of all uses, expert by expert, each in rising order */
	size_t *next;	  /* per expert: index into times of its next use */
	size_t *end;	  /* per expert: where its times end */
};

static void belady_destroy(struct policy *p)
{
	if (!p)
		return;
	ranking_destroy(p->ranking);
	free(p->passes);
	free(p->times);
	free(p->next);
	free(p->end);
	free(p);
}

/* Calls per use with its expert's id and time: once to count, once to place. */
static void each_use(struct policy *p, const struct route_trace *t,
		     void (*fn)(struct policy *p, uint32_t id, uint64_t time))
{
	uint64_t step = 0;

	for (uint32_t l = 0; l < t->n_layers; l++)
		p->passes[l] = 0;
	for (size_t i = 0; i < t->n_rows; i++) {
		const struct trace_row *row = &t->rows[i];

		/* rows of one step and layer stand together: one call of used() */
		if (!i || row->step != step || row->layer != t->rows[i - 1].layer)
			p->passes[row->layer]++;
		step = row->step;
		for (uint32_t k = 0; k < row->n; k++)
			fn(p, row->layer * t->n_expert + t->uses[row->first + k].expert,
			   p->passes[row->layer] * p->n_layers + row->layer);
	}
	for (uint32_t l = 0; l < t->n_layers; l++)
		p->passes[l] = 0;
}

static void count_use(struct policy *p, uint32_t id, uint64_t time)
{
	p->end[id]++;
}

static void place_use(struct policy *p, uint32_t id, uint64_t time)
{
	p->times[p->end[id]++] = time;
}

static void set_worth(struct policy *p, uint32_t id)
{
	double worth = p->next[id] < p->end[id] ? -(double)p->times[p->next[id]] : -HUGE_VAL;

	ranking_set(p->ranking, id, worth);
}

static int take_trace(struct policy *p, const struct route_trace *t)
{
	uint32_t n = ranking_size(p->ranking);
	size_t at = 0;

	p->passes = calloc(t->n_layers, sizeof(*p->passes));
	p->times = calloc(t->n_uses ? t->n_uses : 1, sizeof(*p->times));
	p->next = calloc(n, sizeof(*p->next));
	p->end = calloc(n, sizeof(*p->end));
	if (!p->passes || !p->times || !p->next || !p->end)
		return -ENOMEM;
	each_use(p, t, count_use);
	for (uint32_t id = 0; id < n; id++) {
		size_t count = p->end[id];

		p->next[id] = p->end[id] = at;
		at += count;
	}
	each_use(p, t, place_use);
	for (uint32_t id = 0; id < n; id++)
		set_worth(p, id);
	return 0;
}

static int belady_create(const struct policy_geometry *g, const char *arg, struct policy **ret,
			 struct err *err)
{
	struct route_trace *t;
	struct policy *p;
	int rc;

	if (!arg || !*arg)
		return err_set(err, -EINVAL, "policy belady needs a recorded trace: belady:FILE");
	rc = trace_read(arg, &t, err);
	if (rc)
		return rc;
	rc = -ENOMEM;
	p = calloc(1, sizeof(*p));
	if (!p)
		goto out_trace;
	p->n_layers = g->n_layers;
	if (t->n_layers != g->n_layers || t->n_expert != g->n_expert) {
		rc = err_set(
			err, -EINVAL,
			"policy belady: %s is of %u layers of %u experts, the model has %u of %u",
			arg, t->n_layers, t->n_expert, g->n_layers, g->n_expert);
		goto out_destroy;
	}
	rc = ranking_create(g, TIES_BY_LAYER, &p->ranking, err);
	if (rc)
		goto out_destroy;
	rc = take_trace(p, t);
	if (rc)
		goto out_destroy;
	route_trace_destroy(t);
	*ret = p;
	return 0;

out_destroy:
	belady_destroy(p);
out_trace:
	route_trace_destroy(t);
	return rc;
}

static void belady_used(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
			const uint32_t *counts, uint32_t n)
{
	uint64_t time = ++p->passes[layer] * p->n_layers + layer;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t id = ids[i];

		while (p->next[id] < p->end[id] && p->times[p->next[id]] <= time)
			p->next[id]++;
		set_worth(p, id);
	}
}

static void belady_inserted(struct policy *p, uint32_t id)
{
	ranking_place(p->ranking, id, true);
}

static void belady_removed(struct policy *p, uint32_t id)
{
	ranking_place(p->ranking, id, false);
}

static uint32_t belady_victim(struct policy *p, uint32_t cls, policy_evictable_fn evictable,
			      void *ctx)
{
	return ranking_least(p->ranking, cls, evictable, ctx);
}

static uint32_t belady_next_fill(struct policy *p, uint32_t cls)
{
	return ranking_best_absent(p->ranking, cls);
}

const struct policy_ops policy_belady = {
	.name = "belady",
	.help = "belady:TRACE evicts what the recorded trace uses again latest: the bound, for tools",
	.create = belady_create,
	.destroy = belady_destroy,
	.used = belady_used,
	.inserted = belady_inserted,
	.removed = belady_removed,
	.victim = belady_victim,
	.next_fill = belady_next_fill,
};
