/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/arch/gpt-oss.c: gpt-oss-20b and 120b (docs/models.md 2): a window on even layers, sinks,
 * biases everywhere, YaRN with an exact ramp, clamped activation, softmax over the chosen experts.
 */
#include "model/arch/arch.h"

static const struct arch_weight weights[] = {
	NEED(TOKEN_EMBD),
	NEED(OUTPUT_NORM),
	MAY(OUTPUT),
	NEED(ATTN_NORM),
	NEED(FFN_NORM, .name = "post_attention_norm.weight", .other = "ffn_norm.weight"),
	NEED_ATTENTION,
	NEED(WQ_BIAS),
	NEED(WK_BIAS),
	NEED(WV_BIAS),
	NEED(WO_BIAS),
	NEED(SINKS, .other = "attn_sinks"),
	NEED(ROUTER),
	NEED(ROUTER_BIAS),
	NEED(GATE_EXPS_BIAS),
	NEED(UP_EXPS_BIAS),
	NEED(DOWN_EXPS_BIAS),
	END,
};

static int hparams(struct build *b)
{
	return build_need_u32(b, "attention.sliding_window", 1, INT32_MAX, &b->m->attention.window);
}

static int layer(struct build *b, uint32_t i)
{
	if (i % 2)
		b->m->layers[i].attention.window = 0;
	return 0;
}

const struct arch arch_gpt_oss = {
	.name = "gpt-oss",
	.weights = weights,
	.yarn_exact = true,
	.router = { .gating = GATING_CHOSEN, .scale = 1 },
	.activation = ACTIVATION_CLAMPED,
	.hparams = hparams,
	.layer = layer,
	.chat = { &chat_harmony },
	.ends = { "<|return|>", "<|call|>" },
};
