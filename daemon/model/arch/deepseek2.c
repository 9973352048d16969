/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/arch/deepseek2.c: DeepSeek-V2, V3, R1, Kimi K2 and GLM-4.7-Flash (docs/models.md 2):
 * latent attention, groups of experts, leading dense layers, an ungated shared expert. Files from
 * before k_b and v_b were split lack those tensors and are refused by their names.
 */
#include <math.h>

#include "model/arch/arch.h"

static const struct arch_weight weights[] = {
	NEED(TOKEN_EMBD),	NEED(OUTPUT_NORM), MAY(OUTPUT),
	NEED(ATTN_NORM),	NEED(FFN_NORM),	   NEED(LATENT_KV_A),
	NEED(LATENT_KV_A_NORM), NEED(LATENT_K_B),  NEED(LATENT_V_B),
	NEED(LATENT_O),		NEED_DENSE,	   NEED(ROUTER),
	MAY(CHOICE_BIAS),	NEED_SHARED,	   END,
};

/* GLM-4.7-Flash files may not say that their router is a sigmoid; they are known by their sizes. */
static bool is_glm_flash(const struct build *b)
{
	enum gguf_type type;
	uint64_t n = 0;

	if (gguf_array(b->g, "tokenizer.ggml.tokens", &type, &n, NULL))
		return false;
	return (b->n_blocks == 47 || b->n_blocks == 48) && n == 154880;
}

/* The angles are not stretched, but the scores are scaled for the longer context. */
static int read_yarn(struct build *b, struct attention_spec *a)
{
	float log_multiplier = 0, m;
	int rc = build_optional_f32(b, "rope.scaling.yarn_log_multiplier", &log_multiplier);

	m = 1 + log_multiplier * logf(a->rope.yarn_factor);
	a->rope.yarn_magnitude = 1;
	a->scale *= m * m;
	return rc;
}

static int hparams(struct build *b)
{
	struct attention_spec *a = &b->m->attention;
	struct latent_spec *c = &b->m->latent;
	uint32_t key_dim = 0;
	char key[BUILD_KEY_BYTES];
	int rc = build_need_u32(b, "attention.kv_lora_rank", 1, MODEL_MAX_DIM, &c->kv_rank);

	if (!rc)
		rc = build_optional_u32(b, "attention.q_lora_rank", 0, MODEL_MAX_DIM, &c->q_rank);
	if (!rc)
		rc = build_need_u32(b, "attention.key_length_mla", 1, MODEL_MAX_HEADDIM, &key_dim);
	if (!rc)
		rc = build_need_u32(b, "attention.value_length_mla", 1, MODEL_MAX_HEADDIM,
				    &c->out_dim);
	if (rc)
		return rc;
	if (a->n_head_kv != 1)
		return build_bad_key(b, "attention.head_count_kv",
				     "%u, latent attention has one vector per token", a->n_head_kv);
	if (key_dim <= a->rope.n_rot)
		return build_bad_key(b, "attention.key_length_mla",
				     "%u leaves nothing beside %u rotated dimensions", key_dim,
				     a->rope.n_rot);
	if (a->head_dim != c->kv_rank + a->rope.n_rot || a->value_dim != c->kv_rank)
		return build_bad_key(b, "attention.key_length",
				     "%u and value_length %u are not kv_lora_rank %u with and "
				     "without %u rotated dimensions",
				     a->head_dim, a->value_dim, c->kv_rank, a->rope.n_rot);
	c->plain_dim = key_dim - a->rope.n_rot;
	a->scale = 1.0f / sqrtf((float)key_dim);
	if (!gguf_has(b->g, build_key(b, key, "expert_gating_func")) && is_glm_flash(b))
		b->m->router.gating = GATING_SIGMOID;
	return a->rope.yarn_factor > 0 ? read_yarn(b, a) : 0;
}

/* Three dimensions: @rows rows for each head. */
static int per_head(struct build *b, uint32_t i, enum role role, uint64_t n_in, uint64_t rows)
{
	const struct gguf_tensor *t = NULL;
	uint64_t n_head = b->m->attention.n_head;
	int rc = build_need(b, i, role_info[role].name, &t);

	if (!rc)
		rc = build_check(b, t, n_in, rows, n_head);
	return rc ? rc : build_rows(b, t, 0, rows * n_head, 0, 1, &b->m->layers[i].w[role]);
}

static int matrix(struct build *b, uint32_t i, enum role role, uint64_t n_in, uint64_t n_out)
{
	return build_matrix(b, i, role_info[role].name, n_in, n_out, &b->m->layers[i].w[role]);
}

/* What depends on the rank of the queries, and the products of each head. */
static int packed(struct build *b, uint32_t i)
{
	const struct attention_spec *a = &b->m->attention;
	const struct latent_spec *c = &b->m->latent;
	uint64_t q = (uint64_t)a->n_head * (c->plain_dim + a->rope.n_rot), d = b->m->n_embd;
	int rc;

	if (c->q_rank) {
		rc = matrix(b, i, ROLE_LATENT_Q_A, d, c->q_rank);
		if (!rc)
			rc = matrix(b, i, ROLE_LATENT_Q_A_NORM, c->q_rank, 1);
		if (!rc)
			rc = matrix(b, i, ROLE_LATENT_Q_B, c->q_rank, q);
	} else {
		rc = matrix(b, i, ROLE_LATENT_Q, d, q);
	}
	if (!rc)
		rc = per_head(b, i, ROLE_LATENT_K_B, c->plain_dim, c->kv_rank);
	return rc ? rc : per_head(b, i, ROLE_LATENT_V_B, c->kv_rank, c->out_dim);
}

const struct arch arch_deepseek2 = {
	.name = "deepseek2",
	.weights = weights,
	.rope = ROPE_PAIRS,
	.router = { .gating = GATING_SOFTMAX, .scale = 1 },
	.hparams = hparams,
	.packed = packed,
	.chat = { &chat_deepseek, &chat_kimi, &chat_glm },
	.ends = { "<｜end▁of▁sentence｜>" },
};
