/* SPDX-License-Identifier: MIT */
/* daemon/model/arch/qwen35.c: dense Qwen3.5 (docs/models.md 2.2). */
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
	NEED_DENSE,
	END,
};

const struct arch arch_qwen35 = {
	.name = "qwen35",
	.weights = weights,
	.gated = true,
	.qk_norm = QK_NORM_HEAD,
	.v_tiled = true,
};
