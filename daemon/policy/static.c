/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/static.c: a list of experts that stay, made once from a trace or a frequency table.
 *
 * A listed expert is worth more than any that is not listed; the others use the remaining slots by
 * least recent use. Fill goes down the list, then layer by layer. The list is read by trace/policy_input.c.
 * See policy.h for the calls; the engine's thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "policy/policies.h"
#include "policy/ranking.h"

#define LISTED 0x1p60 /* above any count of uses, and exact together with a place in the list */

struct policy {
	struct ranking *ranking; /* first, see policies.h */
	uint64_t now;
	bool *listed;
};

static void static_destroy(struct policy *p)
{
	if (!p)
		return;
	ranking_destroy(p->ranking);
	free(p->listed);
	free(p);
}

static int static_create(const struct policy_geometry *g, const struct policy_input *input,
			 struct policy **ret, struct err *err)
{
	struct policy *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	rc = ranking_create(g, TIES_BY_LAYER, &p->ranking, err);
	if (rc)
		goto out_destroy;
	rc = -ENOMEM;
	p->listed = calloc(ranking_size(p->ranking), sizeof(*p->listed));
	if (!p->listed)
		goto out_destroy;
	for (size_t i = 0; i < input->n_ids; i++) {
		p->listed[input->ids[i]] = true;
		/* 2^60 has steps of 256 */
		ranking_set(p->ranking, input->ids[i], LISTED - 256.0 * (double)i);
	}
	*ret = p;
	return 0;

out_destroy:
	static_destroy(p);
	return rc;
}

static void static_used(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
			const uint32_t *counts, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		p->now++;
		if (!p->listed[ids[i]])
			ranking_set(p->ranking, ids[i], (double)p->now);
	}
}

static bool static_expect(struct policy *p, uint32_t id, float chance, uint32_t victim)
{
	return !p->listed[victim] && ranked_expect(p, id, chance, victim);
}

const struct policy_ops policy_static = {
	.name = "static",
	.help = "static:FILE keeps the listed experts (`layer expert` lines), the rest as lru",
	.wants = POLICY_WANTS_LIST,
	.create = static_create,
	.destroy = static_destroy,
	.used = static_used,
	.expect = static_expect,
	POLICY_BY_RANKING,
};
