/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/sim.h: runs a recorded trace against a policy and counts hits.
 *
 * The order of calls is that of the engine's supply: used() for a layer of a step, the present ones
 * pinned, then for each missing one a free slot or a victim; where nothing may be evicted the layer
 * goes in waves. Reads ahead are decided by policy/predict.c as there, from an oracle's guesses or, in steps
 * of many tokens, of whatever is absent, and land at once; what a router would guess early is in no trace. What it reports is what the daemon would have seen, without time: hits and bytes.
 * For tools and tests. Any one thread.
 */
#ifndef SLUICE_TRACE_SIM_H
#define SLUICE_TRACE_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/divide.h"
#include "policy/layer_time.h"
#include "policy/policy.h"
#include "trace/read.h"

#define SIM_CLASSES 32 /* that a result tells of */

struct sim_options {
	const char *policy; /* as --policy */
	uint32_t slots;	    /* in all, divided among size classes by experts; or, where it is 0: */
	uint64_t budget;    /* bytes as --host-budget; the trace must say slot_bytes */
	bool fill;	    /* slots are filled by next() before the first step */
	double predict; /* share of the next layer's experts that are read ahead of it; 0: none */
	bool predict_prompts; /* in steps of many tokens what is absent of the next layer is read ahead */
	/* > 0: the slots are a device's, into which so many experts a layer may come for each token; a
	 * miss takes none (sim_device.h). With fill: its slots are full before the first step. */
	double device_fills;
	uint64_t device_rate;	   /* bytes per second of them; 0: no bound */
	struct layer_rates device; /* link > 0: the device has time */
	bool device_control;	   /* fills stop where they do not pay */
	double judge_after;	   /* share of the steps after which result.judged counts */
};

struct sim_counts {
	uint64_t hits, misses; /* per distinct expert of a layer and step */
	uint64_t miss_bytes;   /* where the trace says the layers' bytes, else 0 */
	uint64_t steps;
};

struct sim_predicted { /* reads ahead, as `sluice status` counts them; none is ever late here */
	uint64_t reads, useful, wasted;
};

struct sim_result {
	struct sim_counts all, decode; /* decode: steps of single tokens only */
	struct sim_counts judged;      /* steps from judge_after on */
	struct sim_predicted predicted;
	uint64_t fills, fill_bytes,
		allowed_bytes;	   /* of a device's slots; bytes that they might have */
	uint64_t evictions, waves; /* waves: times that a layer did not fit at once */
	double decode_ns;	   /* of all steps that decode, by the model of time; 0: without */
	uint64_t stops;		   /* times that fills were stopped for not paying */
	bool fills_on;		   /* at the end */
	double fill_gain;	   /* as policy/fill_control.h has it, when judged last; 0: never */
	uint32_t slots, n_classes; /* as divided by base/divide.h */
	uint64_t budget_bytes;	   /* of those slots, 0: the trace does not say slot_bytes */
	struct slot_share classes[SIM_CLASSES];
};

/* The least and the most slots that make sense: every class one token's experts, every expert. */
void sim_slots(const struct route_trace *t, uint32_t *ret_least, uint32_t *ret_all);

/* The same in bytes, zeros where the trace does not say slot_bytes. */
void sim_bytes(const struct route_trace *t, uint64_t *ret_least, uint64_t *ret_all);

/* 0, -EINVAL (no rows, too few slots, the policy's refusal) or -ENOMEM; a sentence in @err. */
int sim_run(const struct route_trace *t, const struct sim_options *o, struct sim_result *ret,
	    struct err *err);

static inline double sim_hit_rate(const struct sim_counts *c)
{
	return c->hits + c->misses ? (double)c->hits / (double)(c->hits + c->misses) : 0;
}

#endif
