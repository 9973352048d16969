/* SPDX-License-Identifier: MIT */
/*
 * daemon/trace/sim_private.h: what sim.c and sim_ahead.c share: the state of a simulation.
 */
#ifndef SLUICE_TRACE_SIM_PRIVATE_H
#define SLUICE_TRACE_SIM_PRIVATE_H

#include "policy/predict.h"
#include "trace/policy_input.h"
#include "trace/sim.h"
#include "trace/sim_device.h"

struct sim {
	const struct route_trace *t;
	const struct policy_ops *ops;
	struct policy *policy;
	uint32_t n_classes;
	uint32_t *class_of_layer;
	struct slot_share *shares; /* per class */
	uint32_t *class_slots, *free_slots;
	bool *present, *pinned; /* per expert id */

	/* the layer being run */
	uint32_t *ids, *counts; /* n_expert */
	uint32_t *index;	/* per expert of the layer: its place in ids + 1, or 0 */
	uint32_t n;

	/* read ahead of the layers that come next */
	uint32_t *ahead, n_ahead;
	struct predict_guess *guess; /* n_expert */
	bool *expected;		     /* per expert id */

	/* ... and, in steps of many tokens, of the layer that comes (engine/ahead.c) */
	struct predict_crowd crowd;
	float crowd_share;  /* of the experts that the step uses; 0: it is no such step */
	bool *absent;	    /* [n_expert] of that layer, when it was looked at */
	uint32_t absent_of; /* that layer; UINT32_MAX: none */

	bool on_device;
	struct sim_device device;
	uint64_t judged_from; /* as policies count steps */

	struct sim_result result;
};

/* Takes the slot of @victim, or a free one where it is POLICY_NONE, for expert @id, and pins it. */
void sim_take_slot(struct sim *s, uint32_t id, uint32_t cls, uint32_t victim);

/* ---- sim_ahead.c ---- */

/* Reads ahead of the layers from row @at on: those of @step, and of the next where it decodes alone. */
void sim_look_ahead(struct sim *s, size_t at, uint64_t step, bool decode, double share);

/* The layer that they were read for has its experts in ids. */
void sim_judge_ahead(struct sim *s, uint32_t layer);

/* Steps of many tokens (engine/ahead.c): one of @n_tokens begins. */
void sim_crowd_begin(struct sim *s, uint32_t n_tokens);

/* A layer of @step is through: what is absent of the next one, whose rows begin at @next, is read. */
void sim_crowd_joined(struct sim *s, uint64_t step, size_t next);

/* What the layer used of those that it had not. */
void sim_crowd_learn(struct sim *s, uint32_t layer);

#endif
