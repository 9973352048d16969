/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/layers.c: the dense weights of a layer and of the model, by the family's table.
 *
 * A row of the table names a role; its shape follows from role.h and the hyper-parameters, and the
 * tensor must have it. One form is known to all families: q, k and v in one tensor attn_qkv, cut by
 * rows (so that attn_qkv alone does not tell a recurrent layer). Other packed forms are the
 * family's own (struct arch). Called while a model is opened, by its thread.
 */
#include <errno.h>

#include "model/arch/arch.h"
#include "model/model_impl.h"

/* The sizes that shapes are made of. @l: the layer, for weights outside layers unused. */
static uint64_t role_dim(const struct model *m, const struct layer *l, enum role_dim dim)
{
	const struct attention_spec *a = l ? &l->attention : &m->attention;
	uint64_t heads = (uint64_t)a->n_head * a->head_dim;
	uint64_t kv = (uint64_t)a->n_head_kv * a->head_dim, n_head = a->n_head;
	const struct latent_spec *c = &m->latent;
	uint64_t values = (uint64_t)m->ssm_v_heads * m->ssm_head_dim;
	const uint64_t size[DIM_NR] = {
		[DIM_ONE] = 1,
		[DIM_EMBD] = m->n_embd,
		[DIM_VOCAB] = m->n_vocab,
		[DIM_Q_ROWS] = a->gated ? 2 * heads : heads,
		[DIM_K_ROWS] = kv,
		[DIM_V_ROWS] = (uint64_t)a->n_head_kv * a->value_dim,
		[DIM_HEADS_OUT] = n_head * a->value_dim,
		[DIM_HEADS] = a->n_head,
		[DIM_ROPE_HALF] = m->attention.rope.n_rot / 2,
		[DIM_Q_NORM] = a->qk_norm == QK_NORM_ROW ? heads : a->head_dim,
		[DIM_K_NORM] = a->qk_norm == QK_NORM_ROW ? kv : a->head_dim,
		[DIM_Q_RANK] = c->q_rank,
		[DIM_KV_RANK] = c->kv_rank,
		[DIM_LATENT_Q] = n_head * (c->plain_dim + a->rope.n_rot),
		[DIM_LATENT_KEY] = c->kv_rank + a->rope.n_rot,
		[DIM_LATENT_PLAIN] = c->plain_dim,
		[DIM_LATENT_K_B] = n_head * c->kv_rank,
		[DIM_LATENT_OUT] = n_head * c->out_dim,
		[DIM_CHANNELS] = values + 2 * (uint64_t)m->ssm_k_heads * m->ssm_head_dim,
		[DIM_VALUES] = values,
		[DIM_TAPS] = m->ssm_conv_kernel,
		[DIM_V_HEADS] = m->ssm_v_heads,
		[DIM_STATE] = m->ssm_head_dim,
		[DIM_FF] = m->n_ff,
		[DIM_EXPERTS] = m->n_expert,
		[DIM_FF_EXPERT] = m->n_ff_expert,
		[DIM_FF_SHARED] = m->n_ff_shared,
	};

	return size[dim];
}

/* Does a layer with these blocks (NULL: the model outside its layers) have weights of @owner? */
static bool has_owner(const struct layer *l, enum role_owner owner)
{
	switch (owner) {
	case OWNER_MODEL:
		return !l;
	case OWNER_LAYER:
		return l != NULL;
	case OWNER_ATTENTION:
		return l && layer_has(l, BLOCK_ATTENTION);
	case OWNER_LATENT:
		return l && layer_has(l, BLOCK_LATENT);
	case OWNER_DELTANET:
		return l && layer_has(l, BLOCK_DELTANET);
	case OWNER_DENSE:
		return l && layer_has(l, BLOCK_DENSE);
	case OWNER_MOE:
		return l && layer_has(l, BLOCK_MOE);
	}
	return false;
}

/* The rows of the family's table that apply to block @i (or GLOBAL_TENSOR with @l NULL). */
static int fill(struct build *b, uint32_t i, const struct layer *l, struct weight *weights)
{
	int rc = 0;

	for (const struct arch_weight *row = b->arch->weights; row->role != ROLE_NR && !rc; row++) {
		const struct role_info *role = &role_info[row->role];
		const char *name = row->name ? row->name : role->name;

		if (!has_owner(l, role->owner) || weights[row->role].n_runs)
			continue;
		if (row->other && !build_find(b, i, name) && build_find(b, i, row->other))
			name = row->other;
		if (row->optional && !build_find(b, i, name))
			continue;
		rc = build_matrix(b, i, name, role_dim(b->m, l, role->n_in),
				  role_dim(b->m, l, role->n_out), &weights[row->role]);
	}
	return rc;
}

static int fused_qkv(struct build *b, uint32_t i)
{
	const struct gguf_tensor *t = build_find(b, i, "attn_qkv.weight");
	struct layer *l = &b->m->layers[i];
	uint64_t q_rows = role_dim(b->m, l, DIM_Q_ROWS);
	uint64_t k_rows = role_dim(b->m, l, DIM_K_ROWS);
	uint64_t v_rows = role_dim(b->m, l, DIM_V_ROWS);
	int rc;

	if (!t)
		return 0;
	rc = build_check(b, t, b->m->n_embd, q_rows + k_rows + v_rows, 1);
	if (!rc)
		rc = build_rows(b, t, 0, q_rows, 0, 1, &l->w[ROLE_WQ]);
	if (!rc)
		rc = build_rows(b, t, q_rows, k_rows, 0, 1, &l->w[ROLE_WK]);
	if (!rc)
		rc = build_rows(b, t, q_rows + k_rows, v_rows, 0, 1, &l->w[ROLE_WV]);
	return rc;
}

/* Optional norms of queries and keys: both or neither. */
static int check_norms(struct build *b, uint32_t i)
{
	struct layer *l = &b->m->layers[i];
	bool q = l->w[ROLE_Q_NORM].n_runs, k = l->w[ROLE_K_NORM].n_runs;

	if (q != k)
		return err_set(b->err, -EINVAL, "%s: layer %u norms its %s but not its %s",
			       gguf_label(b->g, 0), i, q ? "queries" : "keys",
			       q ? "keys" : "queries");
	if (!q)
		l->attention.qk_norm = QK_NORM_NONE;
	return 0;
}

/* A mixer, then experts or a dense triple, each with a norm before it. */
static void plain_blocks(struct build *b, uint32_t i)
{
	struct layer *l = &b->m->layers[i];
	bool moe = arch_has(b->arch, ROLE_ROUTER) && i >= b->n_dense_lead;
	enum block_kind mixer = BLOCK_ATTENTION;

	if (arch_has(b->arch, ROLE_LATENT_KV_A))
		mixer = BLOCK_LATENT;
	if (b->recurrent[i])
		mixer = BLOCK_DELTANET;
	l->blocks[l->n_blocks++] = (struct layer_block){
		.kind = mixer,
		.norm = ROLE_ATTN_NORM,
		.post_norm = ROLE_NONE,
		.sum_norm = ROLE_NONE,
	};
	l->blocks[l->n_blocks++] = (struct layer_block){
		.kind = moe ? BLOCK_MOE : BLOCK_DENSE,
		.norm = ROLE_FFN_NORM,
		.post_norm = ROLE_NONE,
		.sum_norm = ROLE_NONE,
	};
}

int build_layer(struct build *b, uint32_t i)
{
	struct layer *l = &b->m->layers[i];
	int rc = 0;

	l->attention = b->m->attention;
	plain_blocks(b, i);
	if (b->arch->layer)
		rc = b->arch->layer(b, i);
	if (rc)
		return rc;
	if (layer_has(l, BLOCK_ATTENTION))
		rc = fused_qkv(b, i);
	if (!rc && b->arch->packed)
		rc = b->arch->packed(b, i);
	if (!rc)
		rc = fill(b, i, l, l->w);
	if (!rc)
		rc = check_norms(b, i);
	if (!rc && layer_has(l, BLOCK_MOE))
		rc = build_experts(b, i);
	return rc;
}

int build_globals(struct build *b)
{
	struct weight *w = b->m->w;
	int rc = fill(b, GLOBAL_TENSOR, NULL, w);

	/* no output matrix: it is the embedding's */
	if (!rc && !w[ROLE_OUTPUT].n_runs)
		rc = build_matrix(b, GLOBAL_TENSOR, role_info[ROLE_TOKEN_EMBD].name, b->m->n_embd,
				  b->m->n_vocab, &w[ROLE_OUTPUT]);
	return rc;
}
