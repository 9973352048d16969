/* SPDX-License-Identifier: MIT */
/* daemon/engine/vram_private.h: what vram.c and vram_make.c share. Nobody else includes it. */
#ifndef SLUICE_ENGINE_VRAM_PRIVATE_H
#define SLUICE_ENGINE_VRAM_PRIVATE_H

#include "engine/vram.h"
#include "policy/fill_control.h"
#include "policy/promoter.h"

#define FILLS_MOST PROMOTER_MOVES

/* A fill that was chosen: first it waits to be handed to the device, then for its end. */
struct fill {
	expert_id_t id;
	uint32_t slot, cls; /* cls: of the host's slots */
};

struct vram {
	struct vram_config c;
	const struct device_plan *plan;
	const struct policy_ops *ops;
	struct policy *policy;
	uint64_t *class_bytes;
	uint32_t *class_slots; /* now */
	struct promoter promoter;
	uint32_t *table; /* the device's */
	bool changed;	 /* since it was published */

	/* in order: [done, issued) are under way, [issued, chosen) wait; indices modulo FILLS_MOST */
	struct fill ring[FILLS_MOST];
	uint64_t chosen, issued, done;
	uint32_t *host_pins; /* by class of the host's slots */

	struct policy_ops told; /* used() alone, which counts for the control first */
	struct fill_control control;
	bool controlled;
	struct layer_rates rates;
	uint64_t token_bytes; /* that a token may bring in at the most */
	uint32_t layers;      /* with experts */
	uint64_t begun_bytes; /* of fills since the control was told */
	bool decodes;	      /* the step */

	uint64_t most_fills; /* chosen and not done */
	bool failed;	     /* a fill of the device's did: nothing more is begun */
	uint64_t stuck;	     /* this fill, from 1, was waited for in vain */
	bool holds_back; /* slots are to be withdrawn when their fills have ended: none is begun before */

	struct vram_counters counters;
};

static inline uint32_t vram_layer_of(const struct vram *v, expert_id_t id)
{
	return id / v->c.model->n_expert;
}

/* Of a few slots most hold what is used: where the link is slow, what is on its way does not. */
void vram_set_most_fills(struct vram *v);
/* Is the expert in the table? @ctx: the vram. */
bool vram_resident(void *ctx, uint32_t id);

#endif
