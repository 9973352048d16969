/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/ffn.h: the feed-forward half of a layer: mixture of experts, or one dense triple.
 *
 * out = sum over ranks r of w_r * down_e(SiLU(gate_e f) * up_e f), in the router's rank order, then
 * the shared expert weighted by sigmoid(shared_gate_inp . f) (docs/models.md 2.4). Partial
 * results are kept per (token, rank) and added at the end, so the bits do not depend on when or
 * where an expert was computed.
 *
 * SPMD like the mixers: every thread of the team calls with its tid. tid 0 talks to supply.
 */
#ifndef SLUICE_ENGINE_FFN_H
#define SLUICE_ENGINE_FFN_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/batch.h"
#include "engine/linear.h"
#include "engine/supply.h"
#include "engine/weights.h"
#include "kernels/cpu/fops.h"
#include "store/nodes.h"

struct ffn;
struct trace;

struct ffn_config {
	const struct model *model;
	const struct cpu_ops *ops;
	const struct float_ops *fops;
	struct team *team;
	struct lane *lanes;	 /* one per thread */
	struct supply *supply;	 /* NULL for dense models */
	struct node_split split; /* of the expert matrices' rows, as residency has it */
	uint32_t max_tokens;
};

/* 0 or -ENOMEM. Borrows what is in @config. */
int ffn_create(const struct ffn_config *config, struct ffn **ret);
void ffn_destroy(struct ffn *f); /* NULL is fine */

struct ffn_args {
	uint32_t layer_index;
	const struct layer *layer;
	const struct layer_weights *weights;
	const struct batch *batch;
	const float *in; /* [n_tokens][n_embd], normed */
	float *out;	 /* [n_tokens][n_embd], added to (the residual stream) */
	uint64_t step;
	struct trace *trace; /* NULL: not recorded */
	int *token_error;    /* [n_tokens]: set to -errno where an expert could not be read */
};

/* Leaves without a barrier: the caller has the next. */
void ffn_forward(struct ffn *f, const struct ffn_args *a, unsigned tid);

/*
 * Expert weight bytes multiplied so far by threads of the node that holds them, and by others; both
 * 0 where threads or memory are not bound. Any thread.
 */
void ffn_get_locality(const struct ffn *f, uint64_t *ret_local, uint64_t *ret_remote);

#endif
