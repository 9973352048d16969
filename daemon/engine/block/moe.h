/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/moe.h: the mixture of experts: what moe.c (order of work), moe_rounds.c (which
 * experts, and when), moe_experts.c (the products of a list of experts) and moe_buffers.c (memory) share.
 *
 * y = sum over ranks r of w_r * down_e(f(gate_e x) * up_e x) (without a gate: down_e(f(up_e x))), in
 * the router's rank order, then the shared expert, weighted by sigmoid(its gate . x) where it has
 * that (docs/models.md 2.4). Partial results are kept per (token, rank) and added at the end, so the
 * bits do not depend on when or where an expert was computed. One thread at a time talks to supply,
 * whichever has the unit.
 */
#ifndef SLUICE_ENGINE_MOE_H
#define SLUICE_ENGINE_MOE_H

#include "device/device.h"
#include "engine/block/dense.h"
#include "model/model.h"
#include "base/nodes.h"

/* Up to this many (token, rank) entries a list of experts is always computed row by row by all
 * threads together; above, each thread takes whole experts where there are enough of them. */
#define SMALL_ENTRIES 64

/* The activation forms that products take: one buffer each, as gate, up and down may differ. */
struct act_forms {
	struct actbuf form[ACT_NR];
};

/* One expert of the layer with the entries that need it. */
struct expert_work {
	uint32_t expert;
	uint32_t first, count;		 /* entries */
	struct wmat m[EXPERT_MATRIX_NR]; /* data is in view; no gate: n_out 0 */
	struct expert_view view;
};

/* A list of experts that are computed together. */
struct round {
	uint32_t *ready, n_ready; /* indices into work */
	uint32_t *slot;		  /* per index into ready: its first hidden column */
	bool whole;
	/* rows by all: gate and up rows that are there, per index into ready; down rows, and of how many */
	_Atomic uint32_t *up_done, down_done;
	size_t down_rows;
	/* dynamic shares of the two row phases, one for each node's rows */
	struct cursor {
		_Alignas(64) _Atomic uint32_t next;
	} cursor[2][NODES_SPLIT];
};

struct moe {
	struct block_config c;
	uint32_t n_used, n_expert, n_ranks; /* n_ranks: n_used, one more for the shared expert */
	size_t n_embd, max_ff;

	float *router_in; /* [max_tokens][n_embd], where the router has an input of its own */
	struct actbuf router_act;
	float *router_logits; /* [max_tokens][n_expert] */
	_Atomic uint32_t
		routed; /* count of struct groups: rows of the router, or tokens that have chosen */
	uint32_t *ids;	/* [max_tokens][n_used] */
	float *weights; /* [max_tokens][n_ranks] */
	float *partial; /* [max_tokens][n_ranks][n_embd] */
	float *rows;	/* where results of this layer go: partial, or a device's */
	uint32_t rows_ranks; /* of a token there */

	/* an early look at the next layer's router, for at most ahead_tokens */
	uint32_t ahead_tokens;
	float *ahead_in; /* [ahead_tokens][n_embd] */
	struct actbuf ahead_act;
	float *ahead_logits, *ahead_weights; /* [ahead_tokens][n_expert]; of one token */
	uint32_t *ahead_ids;		     /* [ahead_tokens][ahead_ranks()] */

	/* this layer's plan, made by one thread */
	struct device_pair
		*entries; /* tokens that need an expert as their rank-th choice, by expert */
	struct expert_work *work;
	uint32_t *list, *list_counts, *place; /* experts used; by how many sure tokens; cursor */
	bool *drafted;			      /* per token */
	uint8_t *only_drafts;		      /* per expert: see routed_layer() */
	uint32_t n_work;
	uint64_t routed_ns, routed_began, n_routed; /* see blocks_get_routed() */
	_Atomic uint64_t
		*joined; /* [n_layers]: team_place() behind the last join; see is_joined() */
	uint32_t *handed, n_handed, n_taken; /* indices into work from supply; taken so far */
	int *failed;			     /* per index into work */
	bool whole; /* of those handed: whole experts by one thread each, else rows by all */
	struct round rounds[2]; /* in turn: one is made while threads still look at the other */

	/* rows by all: hidden values of up to max_hidden entries */
	uint32_t max_hidden;
	float *hidden_gate, *hidden_up; /* [max_hidden][max_ff] */
	struct act_forms hidden;	/* max_hidden columns */
	/* whole experts: each thread's own */
	struct own {
		/* the runs of rows this thread works on: its node's first, then nobody's */
		uint32_t runs[NODES_SPLIT], n_runs;
		/* expert weight bytes that it multiplied, from its node and from others */
		_Atomic uint64_t local_bytes, remote_bytes;
		float *gate, *up; /* [max_tokens][max_ff] */
		struct actbuf act;
	} * own;
	struct triple_buffers shared; /* the shared expert */
};

static inline struct moe *moe_of(const struct block_args *a)
{
	return a->buffers;
}

/* moe_buffers.c: see struct block_ops. */
void moe_lay_out(const struct block_config *c, void *buffers, struct carver *kept,
		 struct carver *shared);

/* See blocks_get_locality(). */
void moe_get_locality(const struct moe *f, uint64_t *ret_local, uint64_t *ret_remote);

/*
 * moe_rounds.c, each by one thread. The experts of the tokens that have chosen are grouped, and the reads of those
 * that are missing posted, before anything is computed.
 */
void moe_post(const struct block_args *a);
/* The first round: of what is there, which may be nothing. */
void moe_first_round(const struct block_args *a);
/*
 * What is ready for the host becomes round @r, which nobody looks at yet; waits until something is. Nothing is at the
 * end of the layer, and then everybody goes on behind the next barrier. What lies in a device's slots the device has
 * found out for itself.
 */
void moe_next_round(const struct block_args *a, struct round *r, unsigned tid);

/*
 * SPMD. moe_ahead.c: guesses what the next layer will use, and has it read. After supply_begin(), with
 * x and residual as the block got them; where moe_looks_ahead(). Ends with a barrier.
 */
bool moe_looks_ahead(const struct block_args *a);
void moe_look_ahead(const struct block_args *a, unsigned tid);

/*
 * SPMD. Computes partial[entry] for every entry of the works of a round (failed ones are zeroed): hidden values, and
 * after a barrier what comes of them. No barriers inside. Who made the round has chosen the way.
 */
void experts_hidden(const struct block_args *a, struct round *r, unsigned tid);
/* True for the one thread that does the last of it; it may go on in the same phase. */
bool experts_down(const struct block_args *a, struct round *r, unsigned tid);

/* The result column of an entry. */
static inline float *entry_partial(const struct moe *f, const struct device_pair *e)
{
	return f->rows + ((size_t)e->token * f->rows_ranks + e->rank) * f->n_embd;
}

#endif
