/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/policies.h: the ops of each policy, one file each, and what they share. Private to
 * policy/; everybody else goes through policy_find() and policy_table[].
 */
#ifndef SLUICE_POLICY_POLICIES_H
#define SLUICE_POLICY_POLICIES_H

#include "policy/policy.h"
#include "policy/ranking.h"

/*
 * What all of them do alike: keep a ranking of worth, and answer by it. A struct policy begins with a
 * pointer to its ranking; the ops but create(), destroy(), used() and expect() are these.
 */
void ranked_inserted(struct policy *p, uint32_t id);
void ranked_removed(struct policy *p, uint32_t id);
uint32_t ranked_victim(struct policy *p, uint32_t cls, policy_evictable_fn evictable, void *ctx);
bool ranked_admit(struct policy *p, uint32_t id, uint32_t victim);
bool ranked_expect(struct policy *p, uint32_t id, float chance, uint32_t victim);
uint32_t ranked_next(struct policy *p, uint32_t cls);
bool ranked_promote(struct policy *p, uint32_t cls, bool has_free,
		    const struct policy_filter *filter, struct policy_move *ret);

/* clang-format off */
#define POLICY_BY_RANKING \
	.inserted = ranked_inserted, .removed = ranked_removed, .victim = ranked_victim, \
	.admit = ranked_admit, .next = ranked_next, .promote = ranked_promote
/* clang-format on */

extern const struct policy_ops policy_lru, policy_lfu, policy_plain, policy_vram, policy_random,
	policy_static, policy_belady;

#endif
