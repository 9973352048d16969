/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/random.c: what is kept is drawn by lot: the baseline of studies, and what tests shuffle
 * slots with.
 *
 * Every use gives the expert a new worth, the same ones for the same seed and uses. The engine's thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "policy/policies.h"

struct policy {
	struct ranking *ranking; /* first, see policies.h */
	uint64_t state;
};

static void random_destroy(struct policy *p)
{
	if (!p)
		return;
	ranking_destroy(p->ranking);
	free(p);
}

static int random_create(const struct policy_geometry *g, const struct policy_input *input,
			 struct policy **ret, struct err *err)
{
	struct policy *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	p->state = input ? input->seed : 0;
	rc = ranking_create(g, TIES_SPREAD, &p->ranking, err);
	if (rc) {
		random_destroy(p);
		return rc;
	}
	*ret = p;
	return 0;
}

/* In (0, 1]: splitmix64. */
static double draw(struct policy *p)
{
	uint64_t z = p->state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (double)((z ^ z >> 31) >> 12) * 0x1p-52 + 0x1p-53;
}

static void random_used(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
			const uint32_t *counts, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		ranking_set(p->ranking, ids[i], draw(p));
}

const struct policy_ops policy_random = {
	.name = "random",
	.help = "random[:SEED] keeps what the lot says: a baseline for studies",
	.wants = POLICY_WANTS_SEED,
	.create = random_create,
	.destroy = random_destroy,
	.used = random_used,
	.expect = ranked_expect,
	POLICY_BY_RANKING,
};
