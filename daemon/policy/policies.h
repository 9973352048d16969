/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/policies.h: the ops of each policy, one file each. Private to policy/; everybody
 * else goes through policy_find() and policy_table[].
 */
#ifndef SLUICE_POLICY_POLICIES_H
#define SLUICE_POLICY_POLICIES_H

#include "policy/policy.h"

extern const struct policy_ops policy_lru, policy_lfu, policy_static, policy_belady;

#endif
