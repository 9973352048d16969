/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/role.h: the one list of what a dense weight can be.
 *
 * A weight is known by its role everywhere: the description of the file (struct layer), the memory
 * it lies in (engine/linear.h), accounting and tear-down index arrays by role or walk them. Adding
 * a weight is one line here, plus the family that fills it and the block that computes with it.
 * Expert matrices are no roles: they are not dense, see struct expert_layout.
 */
#ifndef SLUICE_MODEL_ROLE_H
#define SLUICE_MODEL_ROLE_H

/*
 * X(role, kind, owner, name). Kind: MATRIX is multiplied from the bytes of the file, FLOATS is
 * widened to float when it is loaded. Owner: the block that computes with it (engine/block), LAYER
 * for the norms between blocks, MODEL for what stands outside the layers. Name: the tensor's usual
 * one in a file, after "blk.N." for a layer; a family may look for others first.
 */
#define WEIGHT_ROLES(X)                                                                              \
	/* model: {d, vocabulary}, {d}, {d, vocabulary} (tied: the rows of the first) */             \
	X(TOKEN_EMBD, MATRIX, MODEL, "token_embd.weight")                                            \
	X(OUTPUT_NORM, FLOATS, MODEL, "output_norm.weight")                                          \
	X(OUTPUT, MATRIX, MODEL, "output.weight")                                                    \
	/* {d} each: before the mixer, before the feed-forward part */                               \
	X(ATTN_NORM, FLOATS, LAYER, "attn_norm.weight")                                              \
	X(FFN_NORM, FLOATS, LAYER, "ffn_norm.weight")                                                \
	/* attention: n_head * head_dim rows of Q, gated twice that: per head first its query      \
	 * rows, then its gate rows; norms {head_dim} */ \
	X(WQ, MATRIX, ATTENTION, "attn_q.weight")                                                    \
	X(WK, MATRIX, ATTENTION, "attn_k.weight")                                                    \
	X(WV, MATRIX, ATTENTION, "attn_v.weight")                                                    \
	X(WO, MATRIX, ATTENTION, "attn_output.weight")                                               \
	X(Q_NORM, FLOATS, ATTENTION, "attn_q_norm.weight")                                           \
	X(K_NORM, FLOATS, ATTENTION, "attn_k_norm.weight")                                           \
	/* gated DeltaNet, Cd = 2 * Hk * D + Hv * D channels: q, k, v rows {d, Cd}; {d, Hv * D};   \
	 * row c holds the taps of channel c, oldest first {kernel, Cd}; {Hv}; {Hv}, already       \
	 * -exp(A_log); {d, Hv} twice; {D}; {Hv * D, d} */ \
	X(SSM_QKV, MATRIX, DELTANET, "attn_qkv.weight")                                              \
	X(SSM_Z, MATRIX, DELTANET, "attn_gate.weight")                                               \
	X(SSM_CONV, FLOATS, DELTANET, "ssm_conv1d.weight")                                           \
	X(SSM_DT, FLOATS, DELTANET, "ssm_dt.bias")                                                   \
	X(SSM_A, FLOATS, DELTANET, "ssm_a")                                                          \
	X(SSM_BETA, MATRIX, DELTANET, "ssm_beta.weight")                                             \
	X(SSM_ALPHA, MATRIX, DELTANET, "ssm_alpha.weight")                                           \
	X(SSM_NORM, FLOATS, DELTANET, "ssm_norm.weight")                                             \
	X(SSM_OUT, MATRIX, DELTANET, "ssm_out.weight")                                               \
	/* dense feed-forward part: {d, F}, {d, F}, {F, d} */                                        \
	X(FFN_GATE, MATRIX, DENSE, "ffn_gate.weight")                                                \
	X(FFN_UP, MATRIX, DENSE, "ffn_up.weight")                                                    \
	X(FFN_DOWN, MATRIX, DENSE, "ffn_down.weight")                                                \
	/* mixture of experts: {d, n_expert}; the shared expert's scalar gate {d} and its triple   \
	 * {d, Fs}, {d, Fs}, {Fs, d} */ \
	X(ROUTER, MATRIX, MOE, "ffn_gate_inp.weight")                                                \
	X(SHARED_GATE_INP, FLOATS, MOE, "ffn_gate_inp_shexp.weight")                                 \
	X(SHARED_GATE, MATRIX, MOE, "ffn_gate_shexp.weight")                                         \
	X(SHARED_UP, MATRIX, MOE, "ffn_up_shexp.weight")                                             \
	X(SHARED_DOWN, MATRIX, MOE, "ffn_down_shexp.weight")

#define ROLE_ENUM(role, kind, owner, name) ROLE_##role,
enum role { WEIGHT_ROLES(ROLE_ENUM) ROLE_NR };
#undef ROLE_ENUM

enum role_kind { ROLE_MATRIX, ROLE_FLOATS };
enum role_owner {
	OWNER_MODEL,
	OWNER_LAYER,
	OWNER_ATTENTION,
	OWNER_DELTANET,
	OWNER_DENSE,
	OWNER_MOE
};

struct role_info {
	enum role_kind kind;
	enum role_owner owner;
	const char *name;
};

/* By role; constant. */
extern const struct role_info role_info[ROLE_NR];

#endif
