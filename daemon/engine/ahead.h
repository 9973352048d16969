/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/ahead.h: reads ahead of the layer that needs them.
 *
 * While a layer with experts waits for its own, the next one's router is run on the state at hand
 * (block/moe_ahead.c), or a recorded trace says what that layer and some after it will use; what is
 * likely is posted behind all demand (supply_predict()). What is worth a read, and whether it pays at
 * all, is policy/predict.c's. How often a place of an early look is right is learnt here, layer by layer.
 * No bit of any result depends on it. Engine thread, and the team's in a step, one at a time; counters may
 * be read by any.
 */
#ifndef SLUICE_ENGINE_AHEAD_H
#define SLUICE_ENGINE_AHEAD_H

#include "base/err.h"
#include "engine/batch.h"
#include "model/model.h"
#include "policy/predict.h"

struct ahead;
struct supply;

struct ahead_counts {
	enum predict_mode mode;
	bool on;	   /* steps are taken with guesses now */
	uint64_t steps;	   /* with guesses */
	uint64_t uses;	   /* distinct experts that layers used which had been guessed at */
	uint64_t foreseen; /* of them: guessed to be worth a read */
	double gain; /* of steps with guesses over those without, when last compared; 0: not yet */
};

/*
 * Borrows the model, which has experts, and the supply. An oracle's trace is read here. 0, -ENOMEM, or
 * -errno and a sentence about the trace.
 */
int ahead_create(const struct model *m, struct supply *supply, const struct predict_choice *choice,
		 struct ahead **ret, struct err *err);
void ahead_destroy(struct ahead *a); /* NULL is fine */

/* A step begins: is it one with guesses? */
bool ahead_begin(struct ahead *a, const struct batch *b);
/* It has ended after @ns, or was given up. */
void ahead_end(struct ahead *a, const struct batch *b, uint64_t ns, bool given_up);

/* Must the next layer's router be run, and for how many places of a token? 0: no, a trace knows. */
uint32_t ahead_ranks(const struct ahead *a);

/*
 * Layer @layer comes next among those with experts: @ids [n_tokens][ahead_ranks()] are its router's
 * likeliest, best first. Not with a trace.
 */
void ahead_layer(struct ahead *a, const struct batch *b, uint32_t layer, const uint32_t *ids);

/* Layer @layer has routed and uses these. A trace then tells of those that come. */
void ahead_used(struct ahead *a, uint32_t layer, const uint32_t *experts, uint32_t n);

/*
 * All that layer @layer wanted has been handed out. In a step of many tokens the absent experts of the next
 * one are then read while its mixer runs.
 */
void ahead_joined(struct ahead *a, uint32_t layer);

/* Any thread. */
void ahead_get_counts(const struct ahead *a, struct ahead_counts *ret);

#endif
