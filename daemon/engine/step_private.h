/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/step_private.h: struct decoder, shared by step.c, step_layers.c and step_device.c.
 */
#ifndef SLUICE_ENGINE_STEP_PRIVATE_H
#define SLUICE_ENGINE_STEP_PRIVATE_H

#include "device/device.h"
#include "engine/ahead.h"
#include "engine/block/block.h"
#include "engine/step.h"

#define HEAD_ROWS 4096 /* of the output matrix, whose logits are finished together */

struct decoder {
	struct decoder_config c;
	struct blocks *blocks;
	struct lane *lanes;
	unsigned n_lanes;
	size_t n_embd, n_vocab;
	float *x;		    /* [max_tokens][n_embd] residual stream */
	float *norm;		    /* [max_tokens][n_embd] */
	float *y[LAYER_MAX_BLOCKS]; /* [max_tokens][n_embd] results of blocks that wait to be added */
	struct actbuf head;
	_Atomic uint32_t joined;  /* count of struct groups: a block's results */
	_Atomic uint32_t *capped; /* of logits, one for HEAD_ROWS rows, and of those groups */
	_Atomic uint32_t all_capped;
	float *hidden; /* [max_tokens][n_embd] after the last norm; NULL: not kept */
	/* of a prediction head: [max_tokens][2 n_embd], and that in the form of its product */
	float *pair;
	struct actbuf pair_act;
	float *logits;	   /* [max_logits][n_vocab] */
	uint32_t *columns; /* tokens whose logits are wanted */
	void *memory;	   /* of all these */

	/* the step that runs */
	const struct batch *batch;
	uint64_t step;
	decoder_logits_fn fn;
	void *arg;
	int *token_error;
	uint32_t n_columns;
	_Atomic bool given_up; /* set in a unit, read behind the barrier; once true it stays so */
	struct ahead *ahead;   /* guesses are made in this step; NULL: not */
	struct block_next
		*next; /* [n_layers]: the layer with experts after each; weights NULL: none */

	/* with a device: written by tid 0 before a barrier */
	struct device_run *runs; /* [max_tokens] */
	struct device_route route;
	int device_rc;
	struct err device_err;
	uint64_t handoff_ns; /* of a layer of late, from its launch to its routes */
};

/* Rows of the embedding for the tokens [@first, @end) of the step, scaled, to @to. Any thread of the team. */
void step_embed(struct decoder *d, float *to, size_t first, size_t end);

/*
 * SPMD. All blocks of all layers on x. False, on every thread: the step was given up, and x is worth nothing.
 * Behind a barrier.
 */
bool step_layers(struct decoder *d, unsigned tid);

/* team_fn of a step with a device, which computes all but the experts. */
void step_run_device(void *decoder, unsigned tid);

/* Nanoseconds for which threads spin while the first one waits for the device. */
uint64_t step_device_wait(const struct decoder *d);

#endif
