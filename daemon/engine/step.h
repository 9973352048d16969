/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/step.h: one step of the decoder: a batch of tokens through all layers to logits.
 *
 * Owns the activations between the parts (residual stream, normed input, logits); knows nothing of
 * requests or sampling. Engine thread, which takes the whole team along.
 */
#ifndef SLUICE_ENGINE_STEP_H
#define SLUICE_ENGINE_STEP_H

#include <stdint.h>

#include "base/err.h"
#include "engine/batch.h"
#include "engine/supply.h"
#include "engine/weights.h"
#include "base/nodes.h"

struct decoder;
struct device;
struct trace;

/* While the step runs, on any thread of the team (with a device: tid 0), one at a time: @n_layers layers
 * are done. Must be quick: the others wait at the next barrier. */
typedef void (*decoder_layer_fn)(void *arg, uint32_t n_layers);

struct decoder_config {
	const struct model *model;
	const struct weights *weights;
	const struct cpu_ops *ops;
	const struct float_ops *fops;
	struct team *team;
	struct supply *supply;	 /* NULL for dense models */
	struct device *device;	 /* NULL, or who computes all but the experts (device/device.h) */
	struct node_split split; /* of expert rows over NUMA nodes */
	struct trace *trace;	 /* NULL: none */
	struct routed *routed;	 /* for steps with drafts; NULL for dense models */
	struct ahead *ahead;	 /* guesses what layers will use; NULL: nobody does */
	bool keep_hidden;	 /* for decoder_hidden() */
	uint32_t max_tokens;	 /* of a step */
	uint32_t max_logits;	 /* rows of logits computed at a time */
	/* Asked before each layer, by one thread of the team: true where nobody wants the step any more.
	 * NULL: never. */
	bool (*given_up)(void *arg);
	decoder_layer_fn on_layer; /* NULL: not wanted */
	/* Before a step, on tid 0; what it returns other than 0 is a failure of the device. NULL: nothing. */
	int (*on_begin)(void *arg, uint32_t n_tokens, struct err *err);
	/* With a device, on tid 0: a layer was launched and the host waits for its routes. NULL: not wanted. */
	void (*on_launch)(void *arg);
	void *arg; /* of these */
};

int decoder_create(const struct decoder_config *config, struct decoder **ret, struct err *err);
void decoder_destroy(struct decoder *d); /* NULL is fine */

/* Bytes of buffers that decoder_create() takes; team, weights and supply may be missing. */
uint64_t decoder_scratch_bytes(const struct decoder_config *config, unsigned n_threads);

/*
 * Called on one thread of the team for each group of wanted rows, in order of tokens: rows [0, n) of
 * @logits (ld floats apart) belong to the tokens listed in @columns. The other threads wait meanwhile.
 */
typedef void (*decoder_logits_fn)(void *arg, const uint32_t *columns, uint32_t n,
				  const float *logits, size_t ld);

/*
 * Runs @batch and advances its sequences by all tokens, drafts too: whoever made them cuts back
 * (seq_cut). token_error[t] is 0, or -errno where an expert that token
 * t needed could not be read: its sequence is then spoilt and must be closed, others are not.
 * Returns 0, or -ECANCELED where the step was given up between layers: no sequence has advanced, but
 * all of its sequences are spoilt and must be closed. Engine thread. @step counts from 1.
 */
int decoder_step(struct decoder *d, const struct batch *batch, uint64_t step,
		 decoder_logits_fn logits, void *arg, int *token_error);

/* The hidden vector of a column of the last step, after the last norm; valid until the next. */
const float *decoder_hidden(const struct decoder *d, uint32_t column);

/*
 * Brings the recurrent state of @run's sequence up to its length: only its seq, pos, replay and
 * store are looked at, and its kept drafts are replayed. Before the state is copied or compared;
 * a next run of the sequence has nothing to replay then. Engine thread, between steps.
 */
void decoder_replay(struct decoder *d, const struct batch_run *run);

/* Why the device failed in the last step, "" where it did not: token_error is -EIO for all then. */
const char *decoder_device_error(const struct decoder *d);

/* The device is no more: the CPU computes from the next step on, with weights that are in memory again. */
void decoder_drop_device(struct decoder *d);

/* See blocks_get_locality(). */
void decoder_get_locality(const struct decoder *d, uint64_t *ret_local, uint64_t *ret_remote);
/* See blocks_get_routed(). */
void decoder_get_routed(const struct decoder *d, uint64_t *ret_ns, uint64_t *ret_experts);

#endif
