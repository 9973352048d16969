/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/model.h: what a model file says, in the terms the engine computes with.
 *
 * model_open() validates a GGUF file (all shards) against the architecture that it names and gives
 * back hyper-parameters, one struct layer per main layer with every weight as a place in a file,
 * and the extents of the experts. No weight is read. Everything is constant after model_open();
 * any thread may read it. The file is untrusted: every number here has been checked against the
 * file's size and against the other numbers, so the engine may index with them.
 *
 * What is supported is the table of model/arch (docs/models.md section 2).
 */
#ifndef SLUICE_MODEL_MODEL_H
#define SLUICE_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/role.h"

struct gguf;

/* What computes a part of a layer: one file of engine/block each. */
enum block_kind {
	BLOCK_ATTENTION,
	BLOCK_LATENT, /* attention whose keys and values are products of one short vector */
	BLOCK_DELTANET,
	BLOCK_DENSE,
	BLOCK_MOE,
	BLOCK_NR
};

/* Consecutive whole rows in one file. */
struct weight_run {
	uint32_t file;	 /* index into gguf's files */
	uint64_t offset; /* absolute byte offset in that file */
	uint64_t rows;
};

/*
 * A dense weight matrix: n_out rows of n_in weights, y = W x; a vector is one row. The rows are the
 * concatenation of the runs (more than one only where a file interleaves what we keep apart, such
 * as qwen3next's ssm_in and ssm_ba). n_runs == 0: the model does not have this weight.
 */
struct weight {
	uint32_t type; /* enum quant_id, always one with an activation form */
	uint32_t n_runs;
	uint64_t n_in, n_out;
	uint64_t row_bytes;
	struct weight_run *runs;
	const char *name; /* the tensor's name in the file, for messages */
};

static inline uint64_t weight_bytes(const struct weight *w)
{
	return w->row_bytes * w->n_out;
}

/* One of the tensors that an expert's bytes come from: 3, or 2 (gate and up merged, or no gate). */
struct expert_part {
	uint32_t file;
	uint64_t offset; /* of expert 0; expert e starts at offset + e * bytes */
	uint64_t bytes;	 /* of one expert in this tensor */
};

enum expert_matrix { EXPERT_GATE, EXPERT_UP, EXPERT_DOWN, EXPERT_MATRIX_NR };

struct expert_layout {
	uint32_t n_parts;
	struct expert_part part[3];
	struct {
		uint32_t part;	 /* which part holds it */
		uint64_t offset; /* in the part, of this matrix (merged: up follows gate) */
		uint32_t type;
		uint64_t n_in, n_out; /* EXPERT_GATE: 0 where the activation has no gate */
		uint64_t row_bytes;
	} matrix[EXPERT_MATRIX_NR];
	uint64_t bytes; /* of one expert: sum of the parts */
};

/* Rotary position embedding of one kind of attention layer. */
enum rope_kind { ROPE_NEOX, ROPE_PAIRS }; /* pairs (j, j + n_rot/2), or neighbours (2j, 2j + 1) */

struct rope_spec {
	enum rope_kind kind;
	uint32_t n_rot; /* rotated dimensions, the first of a head; at least 2 */
	float base;
	float scale;   /* position factor: 1, or 1/factor for linear scaling */
	bool by_table; /* frequencies divided by the weights of ROLE_ROPE_FREQS */

	/* YaRN; yarn_factor 0: none */
	float yarn_factor;
	uint32_t yarn_context; /* of the training before it */
	float yarn_fast, yarn_slow;
	bool yarn_exact;      /* the ends of the ramp are not rounded to whole pairs */
	float yarn_magnitude; /* factor on cosine and sine */
};

/* RMS norm of queries and keys: each head by itself, or the whole row before it is cut in heads. */
enum qk_norm { QK_NORM_NONE, QK_NORM_HEAD, QK_NORM_ROW };

struct attention_spec {
	uint32_t n_head, n_head_kv;
	uint32_t head_dim;  /* of queries and keys */
	uint32_t value_dim; /* of values; gated: the same */
	float scale;	    /* of the scores: 1/sqrt(head_dim) unless the file says otherwise */
	enum qk_norm qk_norm;
	bool gated;	 /* each head's query rows are followed by as many gate rows */
	uint32_t window; /* a position sees itself and this many less one before it; 0: all */
	bool v_norm;	 /* values are RMS-normed per head, without a weight */
	struct rope_spec rope;
};

/*
 * Latent attention: q = q_b norm(q_a x) (or one product where q_rank is 0), kv_a x is a vector of
 * kv_rank and the rotated part of the key. The cache holds that vector: attention_spec has one KV
 * head, keys of kv_rank + n_rot and values of kv_rank; k_b and v_b of a head lead into and out of it.
 */
struct latent_spec {
	uint32_t q_rank, kv_rank;
	uint32_t plain_dim; /* of a head's query and key: what is not rotated */
	uint32_t out_dim;   /* of a head's result */
};

/*
 * What turns the router's logits into weights; numbered as the key expert_gating_func has it.
 * SOFTMAX: over all experts. SIGMOID: each by itself. CHOSEN: softmax over the chosen alone.
 */
enum gating { GATING_SOFTMAX = 1, GATING_SIGMOID = 2, GATING_CHOSEN = 3, GATING_NR };

struct router_spec {
	enum gating gating;
	bool renorm; /* weights of the chosen divided by their sum */
	float scale; /* factor after that */
	/*
	 * Choice from the n_groups_used best groups of neighbours; 1: no groups. A group is as good
	 * as its best expert, with SIGMOID as its best two together.
	 */
	uint32_t n_groups, n_groups_used;
};

/* What stands between the first two products of a feed-forward triple and the third. */
enum activation {
	ACTIVATION_SILU,    /* silu(g) u */
	ACTIVATION_CLAMPED, /* g = min(g, 7), u in [-7, 7]: g sigmoid(1.702 g) (u + 1) */
	ACTIVATION_GELU,    /* gelu(g) u, the tanh form */
	ACTIVATION_RELU2,   /* max(u, 0)^2: there is no gate, not in the file either */
};

/* Whether g, the product with the gate matrix, is there; else a triple has up and down alone. */
static inline bool activation_is_gated(enum activation a)
{
	return a != ACTIVATION_RELU2;
}

#define ROLE_NONE ROLE_NR

/*
 * One block of a layer: x += post(block(norm(x))). Blocks after one that is open read the same x;
 * the last of them joins the sum of all: x += sum_norm(post(block) + post(block) ...).
 */
struct layer_block {
	enum block_kind kind;
	enum role norm;	     /* of its input */
	enum role post_norm; /* of its output; ROLE_NONE: none */
	enum role sum_norm;  /* of the sum; ROLE_NONE: none */
	bool open;
};

#define LAYER_MAX_BLOCKS 3

struct layer {
	uint32_t n_blocks;
	struct layer_block blocks[LAYER_MAX_BLOCKS]; /* in order of computation */
	struct attention_spec attention;	     /* of BLOCK_ATTENTION and BLOCK_LATENT */
	struct expert_layout experts;		     /* of BLOCK_MOE, else n_parts is 0 */
	struct weight w[ROLE_NR];		     /* dense; what the layer lacks: n_runs 0 */
};

static inline bool layer_has(const struct layer *l, enum block_kind kind)
{
	for (uint32_t i = 0; i < l->n_blocks; i++)
		if (l->blocks[i].kind == kind)
			return true;
	return false;
}

struct model {
	struct gguf *gguf;     /* owned; keeps the files open (see gguf.h) */
	const char *arch_name; /* "qwen35moe" */
	const char *name;      /* general.name, or the file's base name */

	uint32_t n_layers; /* main layers: MTP tail blocks are not counted */
	uint32_t n_embd;
	uint32_t n_vocab; /* rows of the output matrix */
	uint32_t n_ctx_train;
	float rms_eps;

	float embd_scale;    /* factor on the embedding's rows, 1 for most */
	float logit_softcap; /* logits become cap tanh(logit / cap); 0: they do not */
	enum activation activation;

	struct attention_spec attention; /* as the keys say; a layer may differ */
	struct latent_spec latent;	 /* of BLOCK_LATENT */

	/* gated DeltaNet */
	uint32_t ssm_k_heads, ssm_v_heads, ssm_head_dim, ssm_conv_kernel;
	bool ssm_v_tiled; /* K head of V head v: true v % Hk, false v / (Hv/Hk) */

	/* experts */
	uint32_t n_expert, n_expert_used, n_ff_expert, n_ff_shared; /* 0 for dense models */
	uint32_t n_ff;						    /* dense FFN width */
	struct router_spec router;

	struct weight w[ROLE_NR]; /* those outside the layers (OWNER_MODEL) */
	struct layer *layers;	  /* n_layers */

	/*
	 * The prediction head (MTP) that the file holds, as a model of one layer whose input is made of
	 * a token and a hidden vector (docs/models.md 2.6); its embedding and output matrix are the main
	 * model's where it has none. NULL: none, or not a whole one: then head_note says why.
	 */
	struct model *head;
	char head_note[256];
	bool has_head_layer; /* layers[n_layers] is there, the head's */

	/* sums over the main model */
	uint64_t dense_bytes;	     /* every weight but the routed experts (tied counted once) */
	uint64_t expert_bytes_total; /* all routed experts, without padding */
	uint64_t routed_bytes_per_token; /* n_expert_used experts of each layer */
	uint64_t n_params;		 /* of the tensors counted above */
	uint64_t file_bytes;		 /* of all shards */
};

/* The output matrix is the embedding's: its bytes are there once. */
static inline bool model_is_tied(const struct model *m)
{
	const struct weight *in = &m->w[ROLE_TOKEN_EMBD], *out = &m->w[ROLE_OUTPUT];

	return in->n_runs && out->n_runs && in->runs[0].file == out->runs[0].file &&
	       in->runs[0].offset == out->runs[0].offset;
}

/* Of the dense weights: those of a layer, and those that a token reads (of a table of embeddings that
 * is not the output matrix too it is one row). */
uint64_t model_layer_dense_bytes(const struct model *m, uint32_t layer);
uint64_t model_dense_bytes_per_token(const struct model *m);

/*
 * Opens and validates. 0 and *ret_model, or -errno and a sentence in @err that names the file and
 * the offset, key or tensor. A separate mtp-*.gguf is refused with a sentence that says what it is.
 */
int model_open(const char *path, struct model **ret_model, struct err *err);
void model_destroy(struct model *m); /* NULL is fine */

/*
 * Opens a file that holds the prediction head of @main alone (mtp-*.gguf); what comes back is a model
 * of which only head, gguf and name are used. 0, or -errno and a sentence where it is no whole head
 * or not of such a model.
 */
int model_open_head(const char *path, const struct model *main, struct model **ret_model,
		    struct err *err);

#endif
