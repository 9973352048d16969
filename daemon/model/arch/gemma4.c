/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/arch/gemma4.c: Gemma 4 with experts (docs/models.md 2): windows on most layers, heads
 * of their own and values from keys on the others, a dense triple beside the experts, norms after
 * blocks. Refuses its kin with per-layer embeddings or shared KV layers.
 */
#include <errno.h>
#include <math.h>

#include "model/arch/arch.h"

static const struct arch_weight weights[] = {
	NEED(TOKEN_EMBD),
	NEED(OUTPUT_NORM),
	MAY(OUTPUT),
	NEED(ROPE_FREQS),
	NEED(ATTN_NORM),
	NEED(ATTN_POST_NORM),
	NEED(FFN_NORM),
	NEED(FFN_POST_NORM),
	NEED(MOE_NORM),
	NEED(MOE_POST_NORM),
	NEED(SUM_NORM),
	MAY(LAYER_SCALE),
	NEED(WQ),
	NEED(WK),
	MAY(WV), /* values are keys before norm and rotation where it is missing */
	NEED(WO),
	NEED(Q_NORM),
	NEED(K_NORM),
	NEED_DENSE,
	NEED(ROUTER),
	NEED(ROUTER_SCALE),
	MAY(DOWN_EXPS_SCALE),
	END,
};

/* A key of parts that are not computed: it may be there, and 0. */
static int must_be_zero(struct build *b, const char *suffix)
{
	uint32_t v = 0;
	int rc = build_optional_u32(b, suffix, 0, UINT32_MAX, &v);

	if (!rc && v)
		rc = build_bad_key(b, suffix, "%u is not supported (0 is)", v);
	return rc;
}

static int hparams(struct build *b)
{
	struct model *m = b->m;
	int rc = must_be_zero(b, "leading_dense_block_count");

	if (!rc)
		rc = must_be_zero(b, "attention.shared_kv_layers");
	if (!rc)
		rc = must_be_zero(b, "embedding_length_per_layer_input");
	if (!rc)
		rc = build_need_u32(b, "feed_forward_length", 1, MODEL_MAX_DIM, &m->n_ff);
	if (!rc)
		rc = build_need_u32(b, "attention.sliding_window", 1, INT32_MAX,
				    &m->attention.window);
	if (!rc)
		rc = build_optional_f32(b, "final_logit_softcapping", &m->logit_softcap);
	if (!rc && m->attention.value_dim != m->attention.head_dim)
		rc = build_bad_key(b, "attention.value_length",
				   "%u differs from the key length %u, but values are keys",
				   m->attention.value_dim, m->attention.head_dim);
	m->embd_scale = sqrtf((float)m->n_embd);
	m->attention.scale = 1;
	m->attention.v_norm = true;
	return rc;
}

/* Window layers have keys of their own for what others read from the common ones. */
static int window_layer(struct build *b, struct attention_spec *a)
{
	int rc = build_optional_u32(b, "attention.key_length_swa", 1, MODEL_MAX_HEADDIM,
				    &a->head_dim);

	a->value_dim = a->head_dim;
	if (!rc)
		rc = build_optional_u32(b, "attention.value_length_swa", 1, MODEL_MAX_HEADDIM,
					&a->value_dim);
	a->rope.n_rot = a->head_dim;
	a->rope.base = 10000;
	if (!rc)
		rc = build_optional_u32(b, "rope.dimension_count_swa", 2, a->head_dim,
					&a->rope.n_rot);
	if (!rc && a->rope.n_rot % 2)
		rc = build_bad_key(b, "rope.dimension_count_swa", "%u is odd", a->rope.n_rot);
	if (!rc)
		rc = build_optional_f32(b, "rope.freq_base_swa", &a->rope.base);
	return rc;
}

static int layer(struct build *b, uint32_t i)
{
	struct layer *l = &b->m->layers[i];
	struct attention_spec *a = &l->attention;
	uint32_t window = 0;
	int rc = build_layer_number(b, "attention.sliding_window_pattern", i, 1, &window);

	if (!rc)
		rc = build_layer_number(b, "attention.head_count_kv", i, MODEL_MAX_HEADS,
					&a->n_head_kv);
	if (!rc && (!a->n_head_kv || a->n_head % a->n_head_kv))
		rc = build_bad_key(b, "attention.head_count_kv", "%u does not divide %u heads",
				   a->n_head_kv, a->n_head);
	if (rc)
		return rc;
	l->n_blocks = 3;
	l->blocks[0] = (struct layer_block){ BLOCK_ATTENTION, ROLE_ATTN_NORM, ROLE_ATTN_POST_NORM,
					     ROLE_NONE, false };
	l->blocks[1] = (struct layer_block){ BLOCK_DENSE, ROLE_FFN_NORM, ROLE_FFN_POST_NORM,
					     ROLE_NONE, true };
	l->blocks[2] = (struct layer_block){ BLOCK_MOE, ROLE_MOE_NORM, ROLE_MOE_POST_NORM,
					     ROLE_SUM_NORM, false };
	if (window)
		return window_layer(b, a);
	a->window = 0;
	a->rope.by_table = true;
	return 0;
}

/* A window layer has values of its own. */
static int packed(struct build *b, uint32_t i)
{
	const struct gguf_tensor *t;

	return b->m->layers[i].attention.window ? build_need(b, i, "attn_v.weight", &t) : 0;
}

const struct arch arch_gemma4 = {
	.name = "gemma4",
	.weights = weights,
	.qk_norm = QK_NORM_HEAD,
	.kv_heads_differ = true,
	.router = { .gating = GATING_SOFTMAX, .renorm = true, .scale = 1 },
	.activation = ACTIVATION_GELU,
	.hparams = hparams,
	.layer = layer,
	.packed = packed,
	.chat = { &chat_gemma },
	.ends = { "<turn|>", "<|tool_response>" },
};
