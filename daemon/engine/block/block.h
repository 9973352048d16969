/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/block/block.h: the parts that layers are made of, one file each.
 *
 * A block computes y from the normed residual stream of a batch of tokens; which blocks a layer has,
 * with which norms, says the model (struct layer). What a block reads are the roles it owns
 * (model/role.h), what it remembers of a sequence lies in engine/seq.h, and its buffers are laid out
 * by the function of its row here, so that their size is known before any memory is taken. Formulas:
 * docs/models.md 2.4.
 *
 * Blocks are SPMD: every thread of the team calls with the same arguments and its own tid; they use
 * team_barrier() inside and leave without one (the caller has the next). The same bits come out
 * however the tokens are cut into steps and whoever else is in the batch.
 *
 * In decode a phase costs about as much as what is done in many of them. So heads, hidden values and
 * inputs are made by the unit that completes what they are made of (struct groups), not in phases of
 * their own; what goes token by token only where the tokens are few (block_few()).
 */
#ifndef SLUICE_ENGINE_BLOCK_H
#define SLUICE_ENGINE_BLOCK_H

#include "engine/batch.h"
#include "engine/carve.h"
#include "engine/linear.h"
#include "engine/seq.h"
#include "engine/supply.h"
#include "kernels/cpu/fops.h"
#include "model/model.h"
#include "base/nodes.h"

struct ahead;
struct device;
struct trace;
struct routed;

/* The layer with experts that comes next, for an early look at its router. */
struct block_next {
	uint32_t index;
	enum role norm; /* of its mixture's input */
	const struct layer_weights *weights;
};

struct block_config {
	const struct model *model;
	const struct cpu_ops *ops;
	const struct float_ops *fops;
	uint32_t max_tokens;
	unsigned n_threads;

	/* not looked at where only sizes are asked for */
	struct team *team;	 /* of n_threads */
	struct supply *supply;	 /* NULL for dense models */
	struct node_split split; /* of the expert matrices' rows, as residency has it */
};

/* What a device's router chose, where one has routed the layer: see daemon/device/device.h. */
struct block_routes {
	const uint32_t *ids;  /* [n_tokens][n_expert_used] */
	const float *weights; /* [n_tokens][ld] */
	uint32_t ld;
	/* [n_tokens][ranks][n_embd]: results of what the host computes; the device adds them up */
	float *partial;
	uint32_t ranks;
	/*
	 * NULL, or who takes experts off the host: all that lie in its slots, others from @send_from tokens
	 * on. What goes wrong there is put into *device_rc and @device_err.
	 */
	struct device *device;
	uint32_t send_from;
	int *device_rc;
	struct err *device_err;
};

struct block_args {
	const struct layer *layer;
	uint32_t layer_index;
	const struct layer_weights *weights; /* of the layer */
	const struct layer_weights
		*model_weights; /* outside the layers; NULL where none are needed */
	const struct batch *batch;
	const float *x;	       /* [n_tokens][n_embd] normed input */
	const float *residual; /* [n_tokens][n_embd] the stream that x is the norm of */
	float *y;	       /* [n_tokens][n_embd] result, written whole */
	/*
	 * One group of all of y (not looked at by @replay): who writes the last of it goes on from there.
	 * NULL: nobody does.
	 */
	const struct groups *end;
	struct lane *lanes; /* one per thread */
	uint64_t step;
	struct trace *trace;   /* NULL: not recorded */
	struct routed *routed; /* takes what a step with drafts uses; NULL: there are none */
	struct ahead *ahead;   /* guesses are made in this step; NULL: not */
	const struct block_next *next; /* of this layer; NULL: none comes, or no guesses */
	const struct block_routes
		*routes;  /* NULL: the block routes itself, adds its shared expert */
	int *token_error; /* [n_tokens]: set to -errno where an expert could not be read */

	/* filled by block_forward() from the set of blocks */
	const struct model *model;
	const struct cpu_ops *ops;
	const struct float_ops *fops;
	struct team *team;
	struct actbuf *in; /* [ACT_NR] x in the forms that products take: from input() */
	void *buffers;	   /* the block's own */
};

/* A kind of block. */
struct block_ops {
	const char *name;
	enum role_owner owner; /* of the roles it reads */
	size_t buffers_size;   /* of the struct that lay_out() fills */
	/*
	 * Lays the block's buffers out: what must survive from layer to layer in @kept, the rest in
	 * @shared, which all kinds use in turn. Twice, see carve.h; memory is zero before the second.
	 */
	void (*lay_out)(const struct block_config *c, void *buffers, struct carver *kept,
			struct carver *shared);
	/*
	 * What a layer remembers of a sequence in this block. 0, or -ENOTSUP and a sentence where
	 * the block cannot work with the model's sizes; NULL: nothing is remembered.
	 */
	int (*remembers)(const struct model *m, const struct layer *l, enum kv_type type,
			 struct kv_need *ret, struct err *err);
	/*
	 * In a unit of a phase before forward(): what the block makes of a token's x (and residual), with
	 * block_input() and memory that is kept. The first token's unit also describes the buffers.
	 */
	void (*input)(const struct block_args *a, unsigned tid, size_t token);
	void (*forward)(const struct block_args *a, unsigned tid);
	/*
	 * Floats that a layer keeps of a drafted token (struct batch_run.store), and the replay of a
	 * run's kept drafts alone (count 0, @a without input). Both NULL: no state to roll back.
	 */
	size_t (*draft_floats)(const struct model *m);
	void (*replay)(const struct block_args *a, unsigned tid);
};

/* By enum block_kind. */
extern const struct block_ops *const block_table[BLOCK_NR];
extern const struct block_ops block_attention, block_latent, block_deltanet, block_dense, block_moe;

/* The blocks of a model with their buffers. */
struct blocks;

/* 0, or -ENOMEM and a sentence. Borrows what is in @config. */
int blocks_create(const struct block_config *config, struct blocks **ret, struct err *err);
void blocks_destroy(struct blocks *b); /* NULL is fine */

/* Bytes of buffers that blocks_create() takes; the team and what follows it may be missing. */
uint64_t blocks_scratch_bytes(const struct block_config *config);

/*
 * In a unit: what a block of @kind makes of the input of @token; all tokens are due, and a barrier, before
 * block_forward() with the same @a.
 */
void block_take_in(struct blocks *b, enum block_kind kind, const struct block_args *a, unsigned tid,
		   size_t token);
/* SPMD. That for all tokens of the batch; ends with a barrier. */
void block_take_all(struct blocks *b, enum block_kind kind, const struct block_args *a,
		    unsigned tid);

/* SPMD. Runs a block of @kind; the fields of @a that say so are filled here. */
void block_forward(struct blocks *b, enum block_kind kind, const struct block_args *a,
		   unsigned tid);

/* SPMD. As block_forward(): only replays the batch's kept drafts; for kinds that have replay(). */
void block_replay(struct blocks *b, enum block_kind kind, const struct block_args *a, unsigned tid);

/*
 * Expert weight bytes multiplied so far by threads of the node that holds them, and by others; both
 * 0 where threads or memory are not bound. Any thread.
 */
void blocks_get_locality(const struct blocks *b, uint64_t *ret_local, uint64_t *ret_remote);

/*
 * Time on tid 0 for routed experts so far, waits for their reads included, and how many distinct ones
 * layers used. The engine's thread.
 */
void blocks_get_routed(const struct blocks *b, uint64_t *ret_ns, uint64_t *ret_experts);

/* For blocks alone. */

/* Are the tokens so few that one thread had better see to all of them than a phase be begun for it? */
static inline bool block_few(const struct batch *b)
{
	return b->n_tokens <= 2;
}

/* Token @t's x into the form @kind, unless it was asked for before: *done has a bit per form. */
void block_input(const struct block_args *a, enum act_kind kind, size_t t, unsigned *done);

/*
 * Makes the floats [first, end) of a column of what the last product takes, in place or in the
 * thread's tmp; returns where the column begins.
 */
typedef float *(*block_make_fn)(const struct block_args *a, unsigned tid, size_t column,
				size_t first, size_t end);

/* The least multiple of @unit of an n-wide column that holds whole blocks of every form; @n at most. */
size_t block_piece(size_t n, size_t unit);

/* In a unit: makes a piece, cut at multiples of block_piece(), in the form of @w in @out (described). */
void block_make(const struct block_args *a, unsigned tid, struct actbuf *out, const struct wmat *w,
		size_t column, size_t first, size_t end, block_make_fn make);

/* SPMD. All pieces of all columns, and the description of @out; a barrier is due. */
void block_make_all(const struct block_args *a, unsigned tid, struct actbuf *out,
		    const struct wmat *w, size_t unit, block_make_fn make);

/* SPMD. The block's last product: y = w * out + bias. */
void block_output(const struct block_args *a, unsigned tid, const struct actbuf *out,
		  const struct wmat *w, const float *bias);

#endif
