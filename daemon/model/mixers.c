/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/mixers.c: the tensors of attention and of gated DeltaNet, in every form they come.
 *
 * Attention: separate q, k, v or one attn_qkv cut by rows (so attn_qkv alone does not tell a
 * recurrent layer). DeltaNet: separate tensors, qwen3next's ssm_ba (per K head beta rows, then
 * alpha rows) and its older ssm_in (per K head q, k, v and z rows): those become runs of rows.
 * Shapes: docs/models.md 2.2. Called while a model is opened, by its thread.
 */
#include <errno.h>

#include "model/model_impl.h"

/* One tensor under either of two names. */
static const char *either(struct build *b, uint32_t i, const char *name, const char *other)
{
	return !build_find(b, i, name) && build_find(b, i, other) ? other : name;
}

static int fused_qkv(struct build *b, uint32_t i, const struct gguf_tensor *t, uint64_t q_rows,
		     uint64_t kv_rows)
{
	struct layer *l = &b->m->layers[i];
	int rc = build_check(b, t, b->m->n_embd, q_rows + 2 * kv_rows, 1);

	if (!rc)
		rc = build_rows(b, t, 0, q_rows, 0, 1, &l->w[ROLE_WQ]);
	if (!rc)
		rc = build_rows(b, t, q_rows, kv_rows, 0, 1, &l->w[ROLE_WK]);
	if (!rc)
		rc = build_rows(b, t, q_rows + kv_rows, kv_rows, 0, 1, &l->w[ROLE_WV]);
	return rc;
}

static int build_attention(struct build *b, uint32_t i)
{
	const struct model *m = b->m;
	struct layer *l = &b->m->layers[i];
	uint64_t heads = (uint64_t)m->n_head * m->head_dim;
	uint64_t kv_rows = (uint64_t)m->n_head_kv * m->head_dim;
	uint64_t q_rows = b->info->hybrid ? 2 * heads : heads;
	const struct gguf_tensor *fused = build_find(b, i, "attn_qkv.weight");
	int rc;

	l->mixer = MIXER_ATTENTION;
	l->q_gated = b->info->hybrid;
	if (fused) {
		rc = fused_qkv(b, i, fused, q_rows, kv_rows);
	} else {
		rc = build_matrix(b, i, "attn_q.weight", m->n_embd, q_rows, &l->w[ROLE_WQ]);
		if (!rc)
			rc = build_matrix(b, i, "attn_k.weight", m->n_embd, kv_rows,
					  &l->w[ROLE_WK]);
		if (!rc)
			rc = build_matrix(b, i, "attn_v.weight", m->n_embd, kv_rows,
					  &l->w[ROLE_WV]);
	}
	if (!rc)
		rc = build_matrix(b, i, "attn_output.weight", heads, m->n_embd, &l->w[ROLE_WO]);
	if (!rc)
		rc = build_matrix(b, i, "attn_q_norm.weight", m->head_dim, 1, &l->w[ROLE_Q_NORM]);
	if (!rc)
		rc = build_matrix(b, i, "attn_k_norm.weight", m->head_dim, 1, &l->w[ROLE_K_NORM]);
	return rc;
}

/* Groups of [q D | k D | v rD | z rD] rows, one group per K head. */
static int split_ssm_in(struct build *b, uint32_t i, const struct gguf_tensor *t)
{
	const struct model *m = b->m;
	struct layer *l = &b->m->layers[i];
	uint64_t d = m->ssm_head_dim, groups = m->ssm_k_heads;
	uint64_t v = d * (m->ssm_v_heads / m->ssm_k_heads);
	uint64_t stride = 2 * d + 2 * v;
	int rc = build_check(b, t, m->n_embd, groups * stride, 1);

	if (!rc)
		rc = build_rows(b, t, 0, d, stride, groups, &l->w[ROLE_SSM_QKV]);
	if (!rc)
		rc = build_rows(b, t, d, d, stride, groups, &l->w[ROLE_SSM_QKV]);
	if (!rc)
		rc = build_rows(b, t, 2 * d, v, stride, groups, &l->w[ROLE_SSM_QKV]);
	if (!rc)
		rc = build_rows(b, t, 2 * d + v, v, stride, groups, &l->w[ROLE_SSM_Z]);
	return rc;
}

/* Groups of r beta rows and r alpha rows, one group per K head. */
static int split_ssm_ba(struct build *b, uint32_t i, const struct gguf_tensor *t)
{
	const struct model *m = b->m;
	struct layer *l = &b->m->layers[i];
	uint64_t groups = m->ssm_k_heads, r = m->ssm_v_heads / m->ssm_k_heads;
	int rc = build_check(b, t, m->n_embd, 2 * (uint64_t)m->ssm_v_heads, 1);

	if (!rc)
		rc = build_rows(b, t, 0, r, 2 * r, groups, &l->w[ROLE_SSM_BETA]);
	if (!rc)
		rc = build_rows(b, t, r, r, 2 * r, groups, &l->w[ROLE_SSM_ALPHA]);
	return rc;
}

static int delta_inputs(struct build *b, uint32_t i)
{
	const struct model *m = b->m;
	struct layer *l = &b->m->layers[i];
	uint64_t v_dim = (uint64_t)m->ssm_v_heads * m->ssm_head_dim;
	uint64_t channels = v_dim + 2 * (uint64_t)m->ssm_k_heads * m->ssm_head_dim;
	const struct gguf_tensor *in = NULL, *ba = NULL;
	int rc;

	if (b->info->packed_ssm) {
		in = build_find(b, i, "ssm_in.weight");
		ba = build_find(b, i, "ssm_ba.weight");
	}
	if (in) {
		rc = split_ssm_in(b, i, in);
	} else {
		rc = build_matrix(b, i, "attn_qkv.weight", m->n_embd, channels,
				  &l->w[ROLE_SSM_QKV]);
		if (!rc)
			rc = build_matrix(b, i, "attn_gate.weight", m->n_embd, v_dim,
					  &l->w[ROLE_SSM_Z]);
	}
	if (rc)
		return rc;
	if (ba)
		return split_ssm_ba(b, i, ba);
	rc = build_matrix(b, i, "ssm_beta.weight", m->n_embd, m->ssm_v_heads, &l->w[ROLE_SSM_BETA]);
	if (!rc)
		rc = build_matrix(b, i, "ssm_alpha.weight", m->n_embd, m->ssm_v_heads,
				  &l->w[ROLE_SSM_ALPHA]);
	return rc;
}

static int build_deltanet(struct build *b, uint32_t i)
{
	const struct model *m = b->m;
	struct layer *l = &b->m->layers[i];
	uint64_t v_dim = (uint64_t)m->ssm_v_heads * m->ssm_head_dim;
	uint64_t channels = v_dim + 2 * (uint64_t)m->ssm_k_heads * m->ssm_head_dim;
	int rc;

	l->mixer = MIXER_DELTANET;
	rc = delta_inputs(b, i);
	if (!rc)
		rc = build_matrix(b, i, "ssm_conv1d.weight", m->ssm_conv_kernel, channels,
				  &l->w[ROLE_SSM_CONV]);
	if (!rc) /* Ollama writes it without .bias */
		rc = build_matrix(b, i, either(b, i, "ssm_dt.bias", "ssm_dt"), m->ssm_v_heads, 1,
				  &l->w[ROLE_SSM_DT]);
	if (!rc)
		rc = build_matrix(b, i, "ssm_a", m->ssm_v_heads, 1, &l->w[ROLE_SSM_A]);
	if (!rc)
		rc = build_matrix(b, i, "ssm_norm.weight", m->ssm_head_dim, 1,
				  &l->w[ROLE_SSM_NORM]);
	if (!rc)
		rc = build_matrix(b, i, "ssm_out.weight", v_dim, m->n_embd, &l->w[ROLE_SSM_OUT]);
	return rc;
}

int build_mixer(struct build *b, uint32_t i)
{
	struct layer *l = &b->m->layers[i];
	const char *ffn_norm =
		b->info->hybrid ? either(b, i, "post_attention_norm.weight", "ffn_norm.weight")
				: either(b, i, "ffn_norm.weight", "post_attention_norm.weight");
	int rc;

	rc = build_matrix(b, i, "attn_norm.weight", b->m->n_embd, 1, &l->w[ROLE_ATTN_NORM]);
	if (!rc)
		rc = build_matrix(b, i, ffn_norm, b->m->n_embd, 1, &l->w[ROLE_FFN_NORM]);
	if (rc)
		return rc;
	return b->recurrent[i] ? build_deltanet(b, i) : build_attention(b, i);
}
