/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/lru.c: least recently used.
 *
 * An expert is worth the time of its last use, counted in uses. One that was brought in without a
 * use (background fill) keeps what it was worth: it is the first to go. Never-used experts are
 * filled in layer order. See policy.h for the calls; the engine's thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "policy/policies.h"
#include "policy/ranking.h"

struct policy {
	struct ranking *ranking; /* first, see policies.h */
	uint64_t now;		 /* uses seen; exact as a double up to 2^53 */
};

static void lru_destroy(struct policy *p)
{
	if (!p)
		return;
	ranking_destroy(p->ranking);
	free(p);
}

static int lru_create(const struct policy_geometry *g, const struct policy_input *input,
		      struct policy **ret, struct err *err)
{
	struct policy *p;
	int rc;

	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	rc = ranking_create(g, TIES_BY_LAYER, &p->ranking, err);
	if (rc) {
		lru_destroy(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static void lru_used(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
		     const uint32_t *counts, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		ranking_set(p->ranking, ids[i], (double)++p->now);
}

const struct policy_ops policy_lru = {
	.name = "lru",
	.help = "evicts the least recently used",
	.create = lru_create,
	.destroy = lru_destroy,
	.used = lru_used,
	.expect = ranked_expect,
	POLICY_BY_RANKING,
};
