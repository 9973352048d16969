/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/arch/arch.h: what distinguishes a family of models, as data.
 *
 * One file a family, one row in ARCHS. A family says which tensors its layers have and what they
 * are called, which blocks a layer is made of, and what a key means that is missing; hparams.c,
 * layers.c and experts.c read and check by that. Nothing outside this folder asks which family a
 * model is of. A family whose arithmetic exists is one new file and its row; docs/models.md section
 * 2 has the mathematics. Constant; any thread.
 */
#ifndef SLUICE_MODEL_ARCH_H
#define SLUICE_MODEL_ARCH_H

#include "model/chat_form.h"
#include "model/model_impl.h"

/*
 * A tensor of the family. It is looked for in layers that have the block which owns its role
 * (role.h); owners LAYER and MODEL are always there.
 */
struct arch_weight {
	enum role role;
	const char *name;  /* in the file; NULL: the usual one of role.h */
	const char *other; /* another name of the same; NULL: none */
	bool optional;	   /* may be missing: then the arithmetic goes without */
};

struct arch {
	const char *name; /* general.architecture */

	const struct arch_weight *weights; /* up to END */

	/* attention */
	bool gated;
	enum qk_norm qk_norm;
	enum rope_kind rope;
	bool yarn_exact;      /* see struct rope_spec */
	bool kv_heads_differ; /* between layers; layer() then reads each one's */

	bool v_tiled;		   /* DeltaNet: order of V heads where the file does not say */
	struct router_spec router; /* where the keys say nothing */

	enum activation activation; /* without a gate: the table has no gate either */

	/* Beside ChatML and the ends that all know: forms of a chat, the preferred first, and texts
	 * of tokens that end an answer. */
	const struct chat_form *chat[3];
	const char *ends[4];

	/* Hooks, each NULL where the family has nothing to add. 0 or -errno and a sentence. */

	/* Keys of its own, after those that all families share. */
	int (*hparams)(struct build *b);
	/* What layer @i is, where it differs from a mixer and a feed-forward block. */
	int (*layer)(struct build *b, uint32_t i);
	/* Fills weights of layer @i that its files hold in a form of their own, before
	 * the table is gone through; what is filled is not looked for again. */
	int (*packed)(struct build *b, uint32_t i);
};

/* The table: X(arch_ and this is the row). */
#define ARCHS(X)      \
	X(qwen35moe)  \
	X(qwen35)     \
	X(qwen3moe)   \
	X(qwen3next)  \
	X(glm4moe)    \
	X(minimax_m2) \
	X(gpt_oss)    \
	X(gemma4)     \
	X(deepseek2)

#define DECLARE(family) extern const struct arch arch_##family;
ARCHS(DECLARE)
#undef DECLARE

/*
 * Whether the table has @role. It says what the family has: SSM_OUT, gated DeltaNet layers between
 * attention layers (schedule.c); LATENT_KV_A, latent attention in every layer; ROUTER, a mixture of
 * experts in every layer, or, with FFN_UP, in every layer but leading dense ones; SHARED_UP, shared
 * experts.
 */
bool arch_has(const struct arch *a, enum role role);

/* The family called @name, or NULL; that of a file. */
const struct arch *arch_find(struct gguf_str name);
const struct arch *arch_of(const struct gguf *g);

/* "a, b and c", in @buf, which is returned. */
const char *arch_names(char *buf, size_t size);

/* Rows of a family's table: NEED(WQ), MAY(OUTPUT, .name = "..."), at last END. */
/* clang-format off */
#define NEED(role_, ...) { .role = ROLE_##role_, __VA_ARGS__ }
#define MAY(role_, ...) { .role = ROLE_##role_, .optional = true, __VA_ARGS__ }
#define END { .role = ROLE_NR }

#define NEED_ATTENTION NEED(WQ), NEED(WK), NEED(WV), NEED(WO)
#define NEED_DELTANET                                                                              \
	NEED(SSM_QKV), NEED(SSM_Z), NEED(SSM_CONV), NEED(SSM_DT, .other = "ssm_dt"), /* Ollama */  \
	NEED(SSM_A), NEED(SSM_BETA), NEED(SSM_ALPHA), NEED(SSM_NORM), NEED(SSM_OUT)
#define NEED_DENSE NEED(FFN_GATE), NEED(FFN_UP), NEED(FFN_DOWN)
#define NEED_SHARED NEED(SHARED_GATE), NEED(SHARED_UP), NEED(SHARED_DOWN)
/* clang-format on */

#endif
