/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/lfu.c: decayed frequency with admission; the default.
 *
 * An expert is worth the number of its uses, each halved for every HALF_LIFE steps since: of a sequence
 * that decodes a step is a token, and what the others do at the same time makes none of its uses older. So
 * a part of a prompt, however long, wipes out nothing that those beside it use. Instead of decaying 30,000
 * numbers at every step, later uses weigh more: the order is the same at any time, and only when the
 * weights grow large are all of them scaled back.
 *
 * Admission: a miss must take a slot, because it is computed from there, but it is worth only what
 * its own history says. One that is worth less than everybody else is the next victim, so a rarely
 * used expert passes through a single slot and pushes out nothing that is used more.
 *
 * The uses of a step of many tokens weigh together what they would one token after the other, in whatever
 * order.
 * See policy.h for the calls; the engine's thread.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "policy/policies.h"
#include "policy/ranking.h"

#define HALF_LIFE   12.0  /* steps; docs/trace.md has the figures behind it */
#define LARGEST_AGE 400.0 /* half-lives: weights up to 2^400 leave room for sums */

struct policy {
	struct ranking *ranking; /* first, see policies.h */
	uint32_t n_used;
	double half_life; /* steps */
	uint64_t step;
	double age;    /* of the weights, in half-lives since they were last scaled back */
	double weight; /* of one use in the current step */
};

static void decayed_destroy(struct policy *p)
{
	if (!p)
		return;
	ranking_destroy(p->ranking);
	free(p);
}

static int decayed_create(const struct policy_geometry *g, double half_life, struct policy **ret,
			  struct err *err)
{
	struct policy *p;
	int rc;

	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->n_used = g->n_expert_used ? g->n_expert_used : 1;
	p->half_life = half_life;
	p->weight = 1;
	rc = ranking_create(g, TIES_SPREAD, &p->ranking, err);
	if (rc) {
		decayed_destroy(p);
		return rc;
	}
	*ret = p;
	return 0;
}

static void new_step(struct policy *p, uint64_t step, const uint32_t *counts, uint32_t n)
{
	double uses = 0, tokens, decay = exp2(-1 / p->half_life);

	for (uint32_t i = 0; i < n; i++)
		uses += counts[i];
	tokens = fmax(1, uses / p->n_used);
	p->step = step;
	p->age += 1 / p->half_life;
	if (p->age > LARGEST_AGE) {
		ranking_scale(p->ranking, exp2(-p->age));
		p->age = 0;
	}
	/* the mean of tokens one after the other, the last of which weighs 2^age */
	p->weight = exp2(p->age) * (1 - pow(decay, tokens)) / (tokens * (1 - decay));
}

static void decayed_used(struct policy *p, uint64_t step, uint32_t layer, const uint32_t *ids,
			 const uint32_t *counts, uint32_t n)
{
	if (step != p->step)
		new_step(p, step, counts, n);
	for (uint32_t i = 0; i < n; i++)
		ranking_set(p->ranking, ids[i],
			    ranking_worth(p->ranking, ids[i]) + p->weight * counts[i]);
}

/*
 * A use in this step, as likely as it is, on top of what it is worth by its history. Where the guess is right
 * its own demand would take the victim's slot anyway: only where it is wrong is the victim lost for nothing.
 */
static bool decayed_expect(struct policy *p, uint32_t id, float chance, uint32_t victim)
{
	return ranking_worth(p->ranking, id) + (double)chance * p->weight >
	       (1 - (double)chance) * ranking_worth(p->ranking, victim);
}

static int lfu_create(const struct policy_geometry *g, const struct policy_input *input,
		      struct policy **ret, struct err *err)
{
	return decayed_create(g, HALF_LIFE, ret, err);
}

const struct policy_ops policy_lfu = {
	.name = "lfu",
	.help = "keeps what was used most, older uses counting less; the default",
	.create = lfu_create,
	.destroy = decayed_destroy,
	.used = decayed_used,
	.expect = decayed_expect,
	POLICY_BY_RANKING,
};

static int plain_create(const struct policy_geometry *g, const struct policy_input *input,
			struct policy **ret, struct err *err)
{
	return decayed_create(g, 1e12, ret, err);
}

const struct policy_ops policy_plain = {
	.name = "lfu-plain",
	.help = "lfu that never forgets, to compare with",
	.create = plain_create,
	.destroy = decayed_destroy,
	.used = decayed_used,
	.expect = decayed_expect,
	POLICY_BY_RANKING,
};
