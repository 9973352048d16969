/* SPDX-License-Identifier: MIT */
/* daemon/model/arch/qwen35moe.c: Qwen3.5 with experts (docs/models.md 2.2). */
#include "model/arch/arch.h"

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

const struct arch arch_qwen35moe = {
	.name = "qwen35moe",
	.weights = weights,
	.gated = true,
	.qk_norm = QK_NORM_HEAD,
	.v_tiled = true,
	.router = { .gating = GATING_SOFTMAX, .renorm = true, .scale = 1 },
};
