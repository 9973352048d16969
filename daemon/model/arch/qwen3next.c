/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/arch/qwen3next.c: Qwen3-Next (docs/models.md 2.2). Its files interleave by K head what
 * is kept apart here: ssm_ba (beta rows, then alpha rows) and, the older ones, ssm_in (q, k, v and z
 * rows). Both become runs of rows.
 */
#include "model/arch/arch.h"

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

static int packed(struct build *b, uint32_t i)
{
	const struct gguf_tensor *in = NULL, *ba = NULL;
	int rc = 0;

	if (!layer_has(&b->m->layers[i], BLOCK_DELTANET))
		return 0;
	in = build_find(b, i, "ssm_in.weight");
	ba = build_find(b, i, "ssm_ba.weight");
	if (in)
		rc = split_ssm_in(b, i, in);
	if (!rc && ba)
		rc = split_ssm_ba(b, i, ba);
	return rc;
}

static const struct arch_weight weights[] = {
	NEED(TOKEN_EMBD),
	NEED(OUTPUT_NORM),
	MAY(OUTPUT),
	NEED(ATTN_NORM),
	NEED(FFN_NORM, .name = "post_attention_norm.weight", .other = "ffn_norm.weight"),
	NEED_ATTENTION,
	NEED(Q_NORM),
	NEED(K_NORM),
	NEED_DELTANET,
	NEED(ROUTER),
	NEED(SHARED_GATE_INP),
	NEED_SHARED,
	END,
};

const struct arch arch_qwen3next = {
	.name = "qwen3next",
	.weights = weights,
	.gated = true,
	.qk_norm = QK_NORM_HEAD,
	.router = { .gating = GATING_SOFTMAX, .renorm = true, .scale = 1 },
	.packed = packed,
};
