/* SPDX-License-Identifier: MIT */
/*
 * daemon/policy/ranking.h: all experts of a model in order of worth, resident and absent apart.
 *
 * What the policies share: a policy says what each expert is worth (one number, higher is better)
 * and which are resident; the ranking finds the resident expert worth least and the absent one
 * worth most, per size class, in O(log n). Each class has two 4-ary heaps; an expert is in exactly
 * one of them. Equal worth is ordered by a fixed rank, so that answers never depend on history.
 * Private to policy/. One thread; memory is taken in create() only.
 */
#ifndef SLUICE_POLICY_RANKING_H
#define SLUICE_POLICY_RANKING_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/policy.h"

/* Who is worth more where the worth is equal. */
enum ranking_ties {
	TIES_BY_LAYER, /* the lower layer, then the lower expert */
	TIES_SPREAD,   /* the lower expert, then the lower layer: early picks spread over layers */
};

struct ranking;

/* All experts absent and worth 0. 0, -EINVAL (a geometry that cannot be) or -ENOMEM. */
int ranking_create(const struct policy_geometry *g, enum ranking_ties ties, struct ranking **ret,
		   struct err *err);
void ranking_destroy(struct ranking *r); /* NULL is fine */

uint32_t ranking_size(const struct ranking *r); /* n_layers * n_expert */

double ranking_worth(const struct ranking *r, uint32_t id);
/* @worth is not a NaN. O(log n). */
void ranking_set(struct ranking *r, uint32_t id, double worth);
/* Multiplies every worth by @factor > 0: the order stays, so the cost is one pass. */
void ranking_scale(struct ranking *r, double factor);

/* The expert became resident or absent; nothing where it already was. O(log n). */
void ranking_place(struct ranking *r, uint32_t id, bool resident);
bool ranking_resident(const struct ranking *r, uint32_t id);

/* The resident expert of class @cls worth least that @evictable allows, or POLICY_NONE. Costs
 * O(k log n) where the k worth least are not evictable. */
uint32_t ranking_least(struct ranking *r, uint32_t cls, policy_evictable_fn evictable, void *ctx);

/* The absent expert of class @cls worth most that @may_come allows, or POLICY_NONE; costs the same. */
uint32_t ranking_best(struct ranking *r, uint32_t cls, policy_evictable_fn may_come, void *ctx);

/* See policy_ops.promote: who comes must be worth more than @margin times who goes. */
bool ranking_promote(struct ranking *r, uint32_t cls, bool has_free, double margin,
		     const struct policy_filter *filter, struct policy_move *ret);

/* The absent expert of class @cls worth most, or POLICY_NONE. */
uint32_t ranking_best_absent(const struct ranking *r, uint32_t cls);

#endif
