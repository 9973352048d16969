/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/policy/policy_rig.h: one policy on a small geometry of one class, with the calls that the
 * engine makes. How it is opened is the test's. Include after cmocka.h.
 */
#ifndef SLUICE_TESTS_POLICY_RIG_H
#define SLUICE_TESTS_POLICY_RIG_H

#include "policy/policy.h"

#define LAYERS	4
#define EXPERTS 8

static const uint32_t class_of_layer[LAYERS];
static const uint32_t class_slots[1] = { 8 };
static const struct policy_geometry geometry = {
	.n_layers = LAYERS,
	.n_expert = EXPERTS,
	.n_expert_used = 2,
	.n_classes = 1,
	.class_of_layer = class_of_layer,
	.class_slots = class_slots,
};

static const struct policy_ops *ops;
static struct policy *policy;
static uint64_t step;

static inline void close_policy(void)
{
	ops->destroy(policy);
	ops->destroy(NULL);
}

/* One more step in which layer 0 used these two experts. */
static inline void use(uint32_t a, uint32_t b)
{
	uint32_t ids[2] = { a, b }, counts[2] = { 1, 1 };

	ops->used(policy, ++step, 0, ids, counts, 2);
}

static inline bool anything(void *ctx, uint32_t id)
{
	return true;
}

static inline uint32_t evict(void)
{
	uint32_t id = ops->victim(policy, 0, anything, NULL);

	if (id != POLICY_NONE)
		ops->removed(policy, id);
	return id;
}

static inline uint32_t fill(void)
{
	uint32_t id = ops->next(policy, 0);

	if (id != POLICY_NONE)
		ops->inserted(policy, id);
	return id;
}

#endif
