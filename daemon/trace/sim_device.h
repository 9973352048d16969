/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/sim_device.h: the slots of a device in the simulator: what lies there is a hit, the rest is
 * computed elsewhere and takes no slot. Private to sim.c.
 *
 * Between two steps the moves of the daemon's promoter (policy/promoter.h) begin, within so many experts a
 * layer for each token; what began before one step is there in the step after it, as where the link carries
 * a step's fills within the step (engine/vram.h). One thread.
 */
#ifndef SLUICE_TRACE_SIM_DEVICE_H
#define SLUICE_TRACE_SIM_DEVICE_H

#include "policy/promoter.h"
#include "trace/read.h"

struct sim_device {
	struct promoter promoter;
	const struct route_trace *t;
	const uint32_t *class_of_layer;
	uint32_t *free_slots; /* per class; borrowed, as the two below */
	bool *present;	      /* per expert id: hits from the next step on */
	bool *coming;	      /* begun, not there yet */
	uint32_t *ids, n_ids; /* of these */
	uint64_t *class_bytes;
	uint64_t fills, fill_bytes, allowed_bytes; /* allowed: by the budget so far */
	uint64_t per_token;
};

/* 0 or -ENOMEM; what it takes is freed by sim_device_close() in either case. */
int sim_device_open(struct sim_device *d, const struct route_trace *t, uint32_t n_classes,
		    const uint32_t *class_of_layer, uint32_t *free_slots, bool *present,
		    const struct policy_ops *ops, struct policy *policy, double experts_per_layer);
void sim_device_close(struct sim_device *d);

/* Before a step of @n_tokens. */
void sim_device_boundary(struct sim_device *d, uint32_t n_tokens);

#endif
