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
 * X(role, kind, owner, name, n_in, n_out). Kind: MATRIX is multiplied from the bytes of the file,
 * FLOATS is widened to float when it is loaded. Owner: the block that computes with it
 * (engine/block), LAYER for the norms between blocks, MODEL for what stands outside the layers.
 * Name: the tensor's usual one in a file, after "blk.N." for a layer; a family may name it
 * differently (model/arch). n_in, n_out: its shape in the names of enum role_dim.
 */
/* clang-format off */
#define WEIGHT_ROLES(X) \
	/* tied: OUTPUT is the rows of TOKEN_EMBD */ \
	X(TOKEN_EMBD, MATRIX, MODEL, "token_embd.weight", EMBD, VOCAB) \
	X(OUTPUT_NORM, FLOATS, MODEL, "output_norm.weight", EMBD, ONE) \
	X(OUTPUT, MATRIX, MODEL, "output.weight", EMBD, VOCAB) \
	X(ROPE_FREQS, FLOATS, MODEL, "rope_freqs.weight", ROPE_HALF, ONE) \
	/* of a prediction head (model/head.c), beside a layer of its own; its OUTPUT_NORM is \
	 * shared_head_norm. MTP_PROJ takes [embedding; hidden]: twice the stream's width */ \
	X(MTP_PROJ, MATRIX, MODEL, "nextn.eh_proj.weight", EMBD, EMBD) \
	X(MTP_EMBD_NORM, FLOATS, MODEL, "nextn.enorm.weight", EMBD, ONE) \
	X(MTP_HIDDEN_NORM, FLOATS, MODEL, "nextn.hnorm.weight", EMBD, ONE) \
	/* norms before blocks, after them, and after the sum of two; factor on the whole layer */ \
	X(ATTN_NORM, FLOATS, LAYER, "attn_norm.weight", EMBD, ONE) \
	X(FFN_NORM, FLOATS, LAYER, "ffn_norm.weight", EMBD, ONE) \
	X(MOE_NORM, FLOATS, LAYER, "pre_ffw_norm_2.weight", EMBD, ONE) \
	X(ATTN_POST_NORM, FLOATS, LAYER, "post_attention_norm.weight", EMBD, ONE) \
	X(FFN_POST_NORM, FLOATS, LAYER, "post_ffw_norm_1.weight", EMBD, ONE) \
	X(MOE_POST_NORM, FLOATS, LAYER, "post_ffw_norm_2.weight", EMBD, ONE) \
	X(SUM_NORM, FLOATS, LAYER, "post_ffw_norm.weight", EMBD, ONE) \
	X(LAYER_SCALE, FLOATS, LAYER, "layer_output_scale.weight", ONE, ONE) \
	/* WQ gated: per head first its query rows, then its gate rows */ \
	X(WQ, MATRIX, ATTENTION, "attn_q.weight", EMBD, Q_ROWS) \
	X(WK, MATRIX, ATTENTION, "attn_k.weight", EMBD, K_ROWS) \
	X(WV, MATRIX, ATTENTION, "attn_v.weight", EMBD, V_ROWS) \
	X(WO, MATRIX, ATTENTION, "attn_output.weight", HEADS_OUT, EMBD) \
	X(Q_NORM, FLOATS, ATTENTION, "attn_q_norm.weight", Q_NORM, ONE) \
	X(K_NORM, FLOATS, ATTENTION, "attn_k_norm.weight", K_NORM, ONE) \
	X(WQ_BIAS, FLOATS, ATTENTION, "attn_q.bias", Q_ROWS, ONE) \
	X(WK_BIAS, FLOATS, ATTENTION, "attn_k.bias", K_ROWS, ONE) \
	X(WV_BIAS, FLOATS, ATTENTION, "attn_v.bias", V_ROWS, ONE) \
	X(WO_BIAS, FLOATS, ATTENTION, "attn_output.bias", EMBD, ONE) \
	/* one more logit of each head's softmax, without a value */ \
	X(SINKS, FLOATS, ATTENTION, "attn_sinks.weight", HEADS, ONE) \
	/* latent attention: queries in one product or two; kv_a: the short vector, then the rotated \
	 * part of the key; k_b transposed and v_b: the rows of one head after the other */ \
	X(LATENT_Q, MATRIX, LATENT, "attn_q.weight", EMBD, LATENT_Q) \
	X(LATENT_Q_A, MATRIX, LATENT, "attn_q_a.weight", EMBD, Q_RANK) \
	X(LATENT_Q_A_NORM, FLOATS, LATENT, "attn_q_a_norm.weight", Q_RANK, ONE) \
	X(LATENT_Q_B, MATRIX, LATENT, "attn_q_b.weight", Q_RANK, LATENT_Q) \
	X(LATENT_KV_A, MATRIX, LATENT, "attn_kv_a_mqa.weight", EMBD, LATENT_KEY) \
	X(LATENT_KV_A_NORM, FLOATS, LATENT, "attn_kv_a_norm.weight", KV_RANK, ONE) \
	X(LATENT_K_B, MATRIX, LATENT, "attn_k_b.weight", LATENT_PLAIN, LATENT_K_B) \
	X(LATENT_V_B, MATRIX, LATENT, "attn_v_b.weight", KV_RANK, LATENT_OUT) \
	X(LATENT_O, MATRIX, LATENT, "attn_output.weight", LATENT_OUT, EMBD) \
	/* SSM_QKV: q, k, v rows. SSM_CONV: row c holds the taps of channel c, oldest first. \
	 * SSM_A: already -exp(A_log). */ \
	X(SSM_QKV, MATRIX, DELTANET, "attn_qkv.weight", EMBD, CHANNELS) \
	X(SSM_Z, MATRIX, DELTANET, "attn_gate.weight", EMBD, VALUES) \
	X(SSM_CONV, FLOATS, DELTANET, "ssm_conv1d.weight", TAPS, CHANNELS) \
	X(SSM_DT, FLOATS, DELTANET, "ssm_dt.bias", V_HEADS, ONE) \
	X(SSM_A, FLOATS, DELTANET, "ssm_a", V_HEADS, ONE) \
	X(SSM_BETA, MATRIX, DELTANET, "ssm_beta.weight", EMBD, V_HEADS) \
	X(SSM_ALPHA, MATRIX, DELTANET, "ssm_alpha.weight", EMBD, V_HEADS) \
	X(SSM_NORM, FLOATS, DELTANET, "ssm_norm.weight", STATE, ONE) \
	X(SSM_OUT, MATRIX, DELTANET, "ssm_out.weight", VALUES, EMBD) \
	X(FFN_GATE, MATRIX, DENSE, "ffn_gate.weight", EMBD, FF) \
	X(FFN_UP, MATRIX, DENSE, "ffn_up.weight", EMBD, FF) \
	X(FFN_DOWN, MATRIX, DENSE, "ffn_down.weight", FF, EMBD) \
	X(ROUTER, MATRIX, MOE, "ffn_gate_inp.weight", EMBD, EXPERTS) \
	X(ROUTER_BIAS, FLOATS, MOE, "ffn_gate_inp.bias", EXPERTS, ONE) \
	/* added to an expert's probability for the choice alone */ \
	X(CHOICE_BIAS, FLOATS, MOE, "exp_probs_b.bias", EXPERTS, ONE) \
	/* the router reads norm(x) times this / sqrt(d), x the residual stream */ \
	X(ROUTER_SCALE, FLOATS, MOE, "ffn_gate_inp.scale", EMBD, ONE) \
	/* small things of the experts, a row each: biases of their products, factor of the last */ \
	X(GATE_EXPS_BIAS, FLOATS, MOE, "ffn_gate_exps.bias", FF_EXPERT, EXPERTS) \
	X(UP_EXPS_BIAS, FLOATS, MOE, "ffn_up_exps.bias", FF_EXPERT, EXPERTS) \
	X(DOWN_EXPS_BIAS, FLOATS, MOE, "ffn_down_exps.bias", EMBD, EXPERTS) \
	X(DOWN_EXPS_SCALE, FLOATS, MOE, "ffn_down_exps.scale", EXPERTS, ONE) \
	/* SHARED_GATE_INP: scalar gate of the shared expert */ \
	X(SHARED_GATE_INP, FLOATS, MOE, "ffn_gate_inp_shexp.weight", EMBD, ONE) \
	X(SHARED_GATE, MATRIX, MOE, "ffn_gate_shexp.weight", EMBD, FF_SHARED) \
	X(SHARED_UP, MATRIX, MOE, "ffn_up_shexp.weight", EMBD, FF_SHARED) \
	X(SHARED_DOWN, MATRIX, MOE, "ffn_down_shexp.weight", FF_SHARED, EMBD)
/* clang-format on */

/* Sizes of a model or layer that shapes are made of; see role_dim() in model/layers.c. */
/* clang-format off */
#define ROLE_DIMS(X) \
	X(ONE) X(EMBD) X(VOCAB) X(ROPE_HALF) \
	X(Q_ROWS) X(K_ROWS) X(V_ROWS) X(HEADS_OUT) X(HEADS) X(Q_NORM) X(K_NORM) \
	X(Q_RANK) X(KV_RANK) X(LATENT_Q) X(LATENT_KEY) X(LATENT_PLAIN) X(LATENT_K_B) X(LATENT_OUT) \
	X(CHANNELS) X(VALUES) X(TAPS) X(V_HEADS) X(STATE) \
	X(FF) X(EXPERTS) X(FF_EXPERT) X(FF_SHARED)
/* clang-format on */

#define ROLE_ENUM(role, ...) ROLE_##role,
enum role { WEIGHT_ROLES(ROLE_ENUM) ROLE_NR };
#undef ROLE_ENUM

#define DIM_ENUM(dim) DIM_##dim,
enum role_dim { ROLE_DIMS(DIM_ENUM) DIM_NR };
#undef DIM_ENUM

enum role_kind { ROLE_MATRIX, ROLE_FLOATS };
enum role_owner {
	OWNER_MODEL,
	OWNER_LAYER,
	OWNER_ATTENTION,
	OWNER_LATENT,
	OWNER_DELTANET,
	OWNER_DENSE,
	OWNER_MOE
};

struct role_info {
	enum role_kind kind;
	enum role_owner owner;
	const char *name;
	enum role_dim n_in, n_out;
};

/* By role; constant. */
extern const struct role_info role_info[ROLE_NR];

#endif
