/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/vram.c: decayed frequency for the slots of a device, where nothing has to come in.
 *
 * A miss is computed by the CPU, so an expert moves in only where that pays: fills cost the link and
 * the memory that misses are read from. Worth is that of lfu, and a newcomer must be worth more than who
 * leaves by a margin: of two that are worth about the same neither is carried in and out. The engine's
 * thread.
 */
#include "policy/policies.h"

/* docs/trace.md has the figures behind both */
#define HALF_LIFE 12.0 /* tokens */
#define MARGIN	  1.05

static int vram_create(const struct policy_geometry *g, const struct policy_input *input,
		       struct policy **ret, struct err *err)
{
	return decayed_create(g, HALF_LIFE, ret, err);
}

static bool vram_promote(struct policy *p, uint32_t cls, bool has_free,
			 const struct policy_filter *filter, struct policy_move *ret)
{
	return ranking_promote(decayed_ranking(p), cls, has_free, MARGIN, filter, ret);
}

const struct policy_ops policy_vram = {
	.name = "vram",
	.help = "lfu where a newcomer must be worth more by a margin: for slots that only fills reach",
	.create = vram_create,
	.destroy = decayed_destroy,
	.used = decayed_used,
	.expect = decayed_expect,
	.inserted = ranked_inserted,
	.removed = ranked_removed,
	.victim = ranked_victim,
	.admit = ranked_admit,
	.next = ranked_next,
	.promote = vram_promote,
};
