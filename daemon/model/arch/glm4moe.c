/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/arch/glm4moe.c: GLM-4.5, 4.5-Air, 4.6 and 4.7 (docs/models.md 2.2): leading dense
 * layers, sigmoid router with a bias for the choice, an ungated shared expert, half of each head
 * rotated.
 */
#include "model/arch/arch.h"

static const struct arch_weight weights[] = {
	NEED(TOKEN_EMBD),
	NEED(OUTPUT_NORM),
	MAY(OUTPUT),
	NEED(ATTN_NORM),
	NEED(FFN_NORM, .name = "post_attention_norm.weight", .other = "ffn_norm.weight"),
	NEED_ATTENTION,
	MAY(Q_NORM),
	MAY(K_NORM),
	MAY(WQ_BIAS),
	MAY(WK_BIAS),
	MAY(WV_BIAS),
	NEED_DENSE,
	NEED(ROUTER),
	NEED(CHOICE_BIAS),
	NEED_SHARED,
	END,
};

static int hparams(struct build *b)
{
	struct attention_spec *a = &b->m->attention;
	char key[BUILD_KEY_BYTES];

	if (!gguf_has(b->g, build_key(b, key, "rope.dimension_count")))
		a->rope.n_rot = a->head_dim / 2;
	return a->rope.n_rot < 2 ? build_bad_key(b, "attention.key_length",
						 "half of %u dimensions cannot be rotated in pairs",
						 a->head_dim)
				 : 0;
}

const struct arch arch_glm4moe = {
	.name = "glm4moe",
	.weights = weights,
	.qk_norm = QK_NORM_HEAD,
	.router = { .gating = GATING_SIGMOID, .renorm = true, .scale = 1 },
	.hparams = hparams,
	.chat = { &chat_glm },
	.ends = { "<|user|>", "<|observation|>" },
};
