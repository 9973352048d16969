/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/arch/minimax-m2.c: MiniMax-M2 (docs/models.md 2): queries and keys normed as whole
 * rows, a sigmoid router with a bias for the choice, no shared expert.
 */
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
	NEED(CHOICE_BIAS),
	END,
};

const struct arch arch_minimax_m2 = {
	.name = "minimax-m2",
	.weights = weights,
	.qk_norm = QK_NORM_ROW,
	.router = { .gating = GATING_SIGMOID, .renorm = true, .scale = 1 },
	.chat = { &chat_minimax },
	.ends = { "[e~[" },
};
