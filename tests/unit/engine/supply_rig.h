/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/engine/supply_rig.h: supply with what is below it, over a disk of memory: for tests of
 * supply alone and of what computes with it. Include after cmocka.h.
 */
#ifndef SLUICE_TESTS_SUPPLY_RIG_H
#define SLUICE_TESTS_SUPPLY_RIG_H

#include <stdlib.h>

#include "base/num.h"
#include "engine/supply.h"
#include "store/arena.h"
#include "store/reader_memory.h"
#include "store/residency.h"
#include "trace/policy_input.h"

#define SUPPLY_ALIGN 4096

struct supply_rig {
	struct supply_config config; /* the caller's: fills and given_up; the rest is filled here */
	struct reader *reader;
	struct arena *arena;
	struct residency *residency;
	const struct policy_ops *ops;
	struct policy *policy;
	struct supply *supply;
	uint64_t step;
};

static inline void supply_open_policy(struct supply_rig *s, const struct model *m)
{
	uint32_t *of = calloc(m->n_layers, sizeof(*of)),
		 *slots = calloc(m->n_layers, sizeof(*slots));
	struct policy_geometry g = { .n_layers = m->n_layers,
				     .n_expert = m->n_expert,
				     .n_expert_used = m->n_expert_used,
				     .n_classes = residency_n_classes(s->residency),
				     .class_of_layer = of,
				     .class_slots = slots };

	for (uint32_t i = 0; i < m->n_layers; i++)
		of[i] = residency_class_of(s->residency, i);
	for (uint32_t i = 0; i < g.n_classes; i++)
		slots[i] = residency_class_slots(s->residency, i);
	assert_int_equal(policy_open("lru", &g, &s->ops, &s->policy, NULL), 0);
	free(of);
	free(slots);
}

/*
 * Room for @share of all experts (0: the least), rows cut by @split (NULL: not); @depth reads at a
 * time.
 */
static inline void supply_open(struct supply_rig *s, const struct model *m,
			       struct reader_memory *disk, double share, uint32_t depth,
			       const struct node_split *split)
{
	struct reader_config rc = {
		.ops = &reader_memory, .ops_arg = disk, .depth = depth, .least_align = SUPPLY_ALIGN
	};
	struct node_split one = node_split_one();
	struct arena_config ac = { .best = ARENA_4K };
	struct residency_need need;
	uint64_t budget;

	split = split ? split : &one;
	residency_need(m, SUPPLY_ALIGN, split, &need);
	budget = u64_max((uint64_t)((double)need.all_bytes * share), need.least_bytes);
	ac.bytes = residency_arena_bytes(budget, split);
	assert_int_equal(reader_create(m->gguf, &rc, &s->reader, NULL), 0);
	assert_int_equal(arena_create(&ac, &s->arena, NULL), 0);
	assert_int_equal(
		residency_create(m, s->arena, budget, s->reader, split, &s->residency, NULL), 0);
	supply_open_policy(s, m);
	s->config.model = m;
	s->config.max_used = m->n_expert;
	s->config.residency = s->residency;
	s->config.tier[TIER_HOST] = (struct supply_tier){ s->ops, s->policy };
	assert_int_equal(supply_create(&s->config, &s->supply), 0);
}

/* Waits for what is being read: nothing may be held. */
static inline void supply_close(struct supply_rig *s)
{
	supply_drain(s->supply);
	reader_destroy(s->reader);
	supply_destroy(s->supply);
	s->ops->destroy(s->policy);
	residency_destroy(s->residency);
	arena_destroy(s->arena);
}

#endif
