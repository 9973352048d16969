/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/belady.c: evicts what a recorded trace says is used again latest.
 *
 * No decision can be better when the same trace runs again, so it is the bound that the others are
 * measured against. For tools and the simulator; in the daemon it helps only a repeated run.
 *
 * Time is (which pass over the layers, layer): the k-th call of used() for a layer is the k-th time
 * that this layer occurs in the trace. An expert is worth minus the time of its next use.
 * The trace is read by trace/policy_input.c. See policy.h for the calls; one thread.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "policy/policies.h"
#include "policy/ranking.h"

struct policy {
	struct ranking *ranking; /* first, see policies.h */
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
static void each_use(struct policy *p, const struct policy_input *in,
		     void (*fn)(struct policy *p, uint32_t id, uint64_t time))
{
	for (uint32_t l = 0; l < p->n_layers; l++)
		p->passes[l] = 0;
	for (size_t i = 0; i < in->n_calls; i++) {
		const struct policy_call *c = &in->calls[i];
		uint64_t time = ++p->passes[c->layer] * p->n_layers + c->layer;

		for (uint32_t k = 0; k < c->n; k++)
			fn(p, in->ids[c->first + k], time);
	}
	for (uint32_t l = 0; l < p->n_layers; l++)
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

static int take_uses(struct policy *p, const struct policy_input *in)
{
	uint32_t n = ranking_size(p->ranking);
	size_t at = 0;

	p->passes = calloc(p->n_layers, sizeof(*p->passes));
	p->times = calloc(in->n_ids + 1, sizeof(*p->times));
	p->next = calloc(n, sizeof(*p->next));
	p->end = calloc(n, sizeof(*p->end));
	if (!p->passes || !p->times || !p->next || !p->end)
		return -ENOMEM;
	each_use(p, in, count_use);
	for (uint32_t id = 0; id < n; id++) {
		size_t count = p->end[id];

		p->next[id] = p->end[id] = at;
		at += count;
	}
	each_use(p, in, place_use);
	for (uint32_t id = 0; id < n; id++)
		set_worth(p, id);
	return 0;
}

static int belady_create(const struct policy_geometry *g, const struct policy_input *input,
			 struct policy **ret, struct err *err)
{
	struct policy *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	p->n_layers = g->n_layers;
	rc = ranking_create(g, TIES_BY_LAYER, &p->ranking, err);
	if (!rc)
		rc = take_uses(p, input);
	if (rc) {
		belady_destroy(p);
		return rc;
	}
	*ret = p;
	return 0;
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

/* It knows when it will be used: no chance about it. */
static bool belady_expect(struct policy *p, uint32_t id, float chance, uint32_t victim)
{
	return ranked_admit(p, id, victim);
}

const struct policy_ops policy_belady = {
	.name = "belady",
	.help = "belady:TRACE evicts what the recorded trace uses again latest: the bound, for tools",
	.wants = POLICY_WANTS_USES,
	.create = belady_create,
	.destroy = belady_destroy,
	.used = belady_used,
	.expect = belady_expect,
	POLICY_BY_RANKING,
};
