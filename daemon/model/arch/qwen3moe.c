/* SPDX-License-Identifier: MIT */
/* daemon/model/arch/qwen3moe.c: Qwen3 with experts (docs/models.md 2.2). */
#include "model/arch/arch.h"

static const struct arch_weight weights[] = {
	NEED(TOKEN_EMBD),
	NEED(OUTPUT_NORM),
	MAY(OUTPUT),
	NEED(ATTN_NORM),
	NEED(FFN_NORM, .other = "post_attention_norm.weight"),
	NEED_ATTENTION,
	NEED(Q_NORM),
	NEED(K_NORM),
	NEED(ROUTER),
	END,
};

const struct arch arch_qwen3moe = {
	.name = "qwen3moe",
	.weights = weights,
	.qk_norm = QK_NORM_HEAD,
	.router = { .gating = GATING_SOFTMAX, .renorm = true, .scale = 1 },
};
