/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/sim_device.h: the slots of a device in the simulator: what lies there is a hit, the rest is
 * computed elsewhere and takes no slot. Private to sim.c.
 *
 * Between two steps the moves of the daemon's promoter (policy/promoter.h) begin, within so many experts a
 * layer for each token and bytes per second; whether they may is the daemon's control's (policy/fill_control.h).
 * With a link's rate there is time: layers take what policy/layer_time.h says, the link carries one fill after
 * the other, and what it has carried when a step begins is there in it. Without, what began before one step is
 * there in the next. One thread.
 */
#ifndef SLUICE_TRACE_SIM_DEVICE_H
#define SLUICE_TRACE_SIM_DEVICE_H

#include "policy/fill_control.h"
#include "policy/promoter.h"
#include "trace/read.h"

struct sim_device_config { /* borrowed, all of it */
	const struct route_trace *t;
	uint32_t n_classes;
	const uint32_t *class_of_layer;
	uint32_t *free_slots; /* per class */
	uint64_t slots;
	bool *present; /* per expert id: hits */
	const struct policy_ops *ops;
	struct policy *policy;
	double experts_per_layer; /* for each token; 0: no bound */
	uint64_t bytes_per_s;	  /* 0: no bound */
	struct layer_rates rates; /* link > 0: time passes */
	bool control;
};

struct sim_device {
	struct sim_device_config c;
	struct promoter promoter;
	struct fill_control control;
	struct sim_coming {
		uint32_t id;
		uint64_t at_ns; /* when the link has carried it */
	} ring[PROMOTER_MOVES];
	uint64_t begun, landed; /* [landed, begun) are on their way */
	bool *coming;		/* per expert id */
	uint64_t *class_bytes;
	uint64_t fills, fill_bytes, allowed_bytes; /* allowed: by tokens so far */
	uint64_t per_token;
	uint32_t layers;	     /* with experts */
	uint64_t told_bytes;	     /* of fills, to the control */
	double now_ns, link_free_ns; /* of the clock */
	double step_fills,
		decode_ns; /* a layer's share of the step's fills; of steps that decode */
	bool decodes;	   /* the step */
	uint64_t most;
};

/* 0 or -ENOMEM; what it takes is freed by sim_device_close() in either case. */
int sim_device_open(struct sim_device *d, const struct sim_device_config *config);
void sim_device_close(struct sim_device *d);

/* Before a step of @n_tokens; 0: nothing is computed. */
void sim_device_boundary(struct sim_device *d, uint32_t n_tokens);

/* A layer of the step used these experts, distinct: time passes. */
void sim_device_layer(struct sim_device *d, uint32_t layer, const uint32_t *ids, uint32_t n);

#endif
