/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/vram.h: which experts lie in a device's slots, and how they come there.
 *
 * Between two steps (vram_boundary) ended fills are booked, the policy's moves begin within their budget
 * (policy/promoter.h), experts that leave are taken out of the table, and the device is told the table: so
 * everybody, on the host and on the device, goes by the same one through a whole step. Within the step the
 * fills are handed to the device (vram_issue), each from a host copy that stays pinned until it is done.
 * An expert is in the table only between these two: after its fill was seen to be done, before its slot is
 * given to another.
 *
 * A device that fails in a fill loses the fill, nothing else: the expert is computed by the host. Memory is
 * taken in vram_create(). Engine thread; counters: any.
 */
#ifndef SLUICE_ENGINE_VRAM_H
#define SLUICE_ENGINE_VRAM_H

#include <stdatomic.h>

#include "device/device.h"
#include "policy/layer_time.h"
#include "policy/policy.h"
#include "store/residency.h"

struct vram;

struct vram_counters { /* monotonic but for resident */
	_Atomic uint64_t fills, fill_bytes, leaves;
	_Atomic uint64_t resident;
	_Atomic uint64_t stops;	  /* times that fills were stopped for not paying */
	_Atomic int64_t gain_ppm; /* of a layer's time by fills, when judged last */
	_Atomic bool stopped;	  /* now */
};

struct vram_config { /* fills are judged where policy is "vram" alone: others are for studies */
	const struct model *model;
	struct residency *residency;
	struct device *device;	  /* with slots; its plan says which */
	struct node_split split;  /* of the host's copies, as residency has it */
	const char *policy;	  /* "hit", "fetch", or as policy_find() takes it */
	uint64_t bytes_per_s;	  /* of fills; 0: no bound but that of tokens */
	double experts_per_layer; /* fills for a token, in experts a layer; <= 0: no bound */
};

/* What a token may bring in without being felt: docs/gpu.md. */
#define VRAM_EXPERTS_PER_LAYER 0.5

/* Adds the device's books to residency. 0, -EINVAL or -ENOMEM and a sentence. */
int vram_create(const struct vram_config *config, struct vram **ret, struct err *err);
void vram_destroy(struct vram *v); /* before the device; NULL is fine */

/* Who is told of uses, and of nothing else: for supply_config.tier[TIER_DEVICE]. */
const struct policy_ops *vram_policy_ops(const struct vram *v);
struct policy *vram_policy(struct vram *v);

/*
 * Before a step of @n_tokens; 0: nothing is computed and what is asked for is begun at once. 0, or -EIO and a
 * sentence: the device does not take the table.
 */
int vram_boundary(struct vram *v, uint32_t n_tokens, uint64_t now_ns, struct err *err);

/* What the machine can do now (policy/layer_time.h): by it fills are judged, and keep to what is free. */
void vram_set_rates(struct vram *v, const struct layer_rates *rates);

/* Hands the device one of the fills that the boundary chose; to be called while it computes. */
void vram_issue(struct vram *v);
/* ... all of them. */
void vram_issue_all(struct vram *v);

/*
 * The device has slots [0, device_slots()) of class @cls now, more than before.
 */
void vram_grew(struct vram *v, uint32_t cls);
/*
 * Between steps: class @cls is to have @n slots, fewer than before: experts in the others leave, and the device
 * may take the slots away. 0; -EBUSY: fills of these slots are under way and do end: to be asked again before the
 * next step, in which no more begin; -EIO: they do not end, which a second was waited for, once.
 */
int vram_withdraw(struct vram *v, uint32_t cls, uint32_t n);
/* Was that -EBUSY since the last boundary? What was withdrawn before is then not to become slots again. */
bool vram_holds_back(const struct vram *v);

/* The device is lost: nothing lies in its slots any more, and no fill ends. */
void vram_forget(struct vram *v);

/* Are there fills under way, or to be begun when time has passed? */
bool vram_busy(const struct vram *v);

/* Waits for all fills, for at most @ns; false: some are still under way. */
bool vram_drain(struct vram *v, uint64_t ns);

/* Adds the pieces of an expert of @l to @ret, as the host has it in @view: one a matrix and node. */
void vram_pieces(const struct layer *l, const struct node_split *split,
		 const struct expert_view *view, struct device_fill *ret);

/* Of a device whose slots the host reads: where expert @id lies in its slot. */
struct expert_view vram_view(const struct vram *v, expert_id_t id);

const struct vram_counters *vram_counters(const struct vram *v);

#endif
