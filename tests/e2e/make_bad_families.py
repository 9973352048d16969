# SPDX-License-Identifier: MIT
"""Malformed files of single families: what is wrong with them only their own tensors and keys can show.

CASES: (name, words of the refusal, family, function that spoils a Draft), for make_bad_gguf.py; BASES: the file of each family.
"""
import gguf_file as gf
from daemon import fixture
from gguf_file import ARRAY, BOOL, F32, I32, U32

CASES = []
BASES = {family: lambda family=family, form=form: gf.read(fixture(f"{family}/{family}-{form}.gguf"))
         for family, form in (("glm4moe", "q4_k_m"), ("minimax-m2", "q4_k_m"), ("gpt-oss", "mxfp4"), ("gemma4", "q4_k_m"),
                                      ("deepseek2", "q4_k_m"))}


def spoil(family, name, words, f):
    CASES.append((f"{family}-{name}", words, family, f))


def value(family, name, words, key, t, v):
    spoil(family, name, words, lambda d: d.set(key, t, v))


def without_key(family, name, words, key):
    spoil(family, name, words, lambda d: d.drop(key))


def without(family, name, words, tensor):
    def f(d):
        d.tensors.remove(d.tensor(tensor))
        d.place()
    spoil(family, name, words, f)


def with_tensor(family, name, words, tensor, ne):
    spoil(family, name, words, lambda d: d.add(tensor, ne))


def shape(family, name, words, tensor, ne):
    spoil(family, name, words, lambda d: d.resize(tensor, ne=ne))


GLM = "glm4moe"
without(GLM, "no-choice-bias", "tensor blk.1.exp_probs_b.bias is missing", "blk.1.exp_probs_b.bias")
without(GLM, "half-norms", "layer 0 norms its queries but not its keys", "blk.0.attn_k_norm.weight")
without(GLM, "no-shared", "tensor blk.2.ffn_up_shexp.weight is missing", "blk.2.ffn_up_shexp.weight")
with_tensor(GLM, "sinks", "tensor blk.0.attn_sinks.weight: not a part of glm4moe", "blk.0.attn_sinks.weight", [4])
with_tensor(GLM, "shared-gate", "tensor blk.1.ffn_gate_inp_shexp.weight: not a part of glm4moe", "blk.1.ffn_gate_inp_shexp.weight",
            [256])
shape(GLM, "bias-short", "tensor blk.1.attn_q.bias: its shape is {64, 1, 1, 1}", "blk.1.attn_q.bias", [64])
shape(GLM, "choice-bias-long", "tensor blk.2.exp_probs_b.bias: its shape is {16, 1, 1, 1}", "blk.2.exp_probs_b.bias", [16])
value(GLM, "lead-more", "tensor blk.1.ffn_gate.weight is missing", "A.leading_dense_block_count", U32, 2)
value(GLM, "lead-all", "leading_dense_block_count: 3 is not between 0 and 2", "A.leading_dense_block_count", U32, 3)
without_key(GLM, "lead-none", "tensor blk.0.ffn_gate_inp.weight is missing", "A.leading_dense_block_count")
without_key(GLM, "no-dense-width", "key glm4moe.feed_forward_length: it is missing", "A.feed_forward_length")
value(GLM, "shared-2", "the hyper-parameters ask for {256, 192, 1, 1}", "A.expert_shared_count", U32, 2)
value(GLM, "shared-0", "expert_shared_count: 0 is not between", "A.expert_shared_count", U32, 0)
value(GLM, "groups-few", "1 groups hold fewer than the 3 experts of a token", "A.expert_group_count", U32, 4)
value(GLM, "scale-negative", "expert_weights_scale: -1 is negative", "A.expert_weights_scale", F32, -1.0)

MINIMAX = "minimax-m2"
shape(MINIMAX, "head-norm", "tensor blk.0.attn_q_norm.weight: its shape is {32, 1, 1, 1}, the hyper-parameters ask for {192, 1, 1, 1}",
      "blk.0.attn_q_norm.weight", [32])
without(MINIMAX, "no-norm", "tensor blk.1.attn_k_norm.weight is missing", "blk.1.attn_k_norm.weight")
without(MINIMAX, "no-choice-bias", "tensor blk.0.exp_probs_b.bias is missing", "blk.0.exp_probs_b.bias")
with_tensor(MINIMAX, "bias", "tensor blk.0.attn_q.bias: not a part of minimax-m2", "blk.0.attn_q.bias", [192])
value(MINIMAX, "lead", "minimax-m2 has no dense layers", "A.leading_dense_block_count", U32, 1)
value(MINIMAX, "gating", "router function 5 is not supported", "A.expert_gating_func", U32, 5)
value(MINIMAX, "rotated", "rope.dimension_count: 48 is odd or more than the head's 32", "A.rope.dimension_count", U32, 48)

OSS = "gpt-oss"
without(OSS, "no-sinks", "tensor blk.2.attn_sinks.weight is missing", "blk.2.attn_sinks.weight")
shape(OSS, "sinks-many", "tensor blk.1.attn_sinks.weight: its shape is {8, 1, 1, 1}", "blk.1.attn_sinks.weight", [8])
without(OSS, "no-expert-bias", "tensor blk.0.ffn_up_exps.bias is missing", "blk.0.ffn_up_exps.bias")
shape(OSS, "expert-bias-few", "tensor blk.0.ffn_down_exps.bias: its shape is {160, 11, 1, 1}", "blk.0.ffn_down_exps.bias", [160, 11])
without(OSS, "no-router-bias", "tensor blk.3.ffn_gate_inp.bias is missing", "blk.3.ffn_gate_inp.bias")
without(OSS, "no-output-bias", "tensor blk.0.attn_output.bias is missing", "blk.0.attn_output.bias")
without_key(OSS, "no-window", "key gpt-oss.attention.sliding_window: it is missing", "A.attention.sliding_window")
value(OSS, "window-0", "attention.sliding_window: 0 is not between", "A.attention.sliding_window", U32, 0)
value(OSS, "yarn-half", "YaRN needs a factor of at least 1 (0.5)", "A.rope.scaling.factor", F32, 0.5)
value(OSS, "yarn-context", "original_context_length: 0 is not between", "A.rope.scaling.original_context_length", U32, 0)
value(OSS, "yarn-beta", "yarn_beta_fast: -1 is not greater than 0", "A.rope.scaling.yarn_beta_fast", F32, -1.0)

GEMMA = "gemma4"
without(GEMMA, "no-window-values", "tensor blk.2.attn_v.weight is missing", "blk.2.attn_v.weight")
without(GEMMA, "no-post-norm", "tensor blk.1.post_ffw_norm_2.weight is missing", "blk.1.post_ffw_norm_2.weight")
without(GEMMA, "no-router-scale", "tensor blk.0.ffn_gate_inp.scale is missing", "blk.0.ffn_gate_inp.scale")
without(GEMMA, "no-table", "tensor rope_freqs.weight is missing", "rope_freqs.weight")
shape(GEMMA, "table-short", "tensor rope_freqs.weight: its shape is {16, 1, 1, 1}", "rope_freqs.weight", [16])
shape(GEMMA, "experts-scale-few", "tensor blk.3.ffn_down_exps.scale: its shape is {7, 1, 1, 1}", "blk.3.ffn_down_exps.scale", [7])
without_key(GEMMA, "no-pattern", "key gemma4.attention.sliding_window_pattern: it is missing", "A.attention.sliding_window_pattern")
value(GEMMA, "pattern-short", "attention.sliding_window_pattern: 3 entries for 4 layers", "A.attention.sliding_window_pattern", ARRAY,
      (BOOL, [True, False, True]))
value(GEMMA, "pattern-other", "tensor blk.1.attn_v.weight is missing", "A.attention.sliding_window_pattern", ARRAY,
      (BOOL, [True, True, True, False]))
value(GEMMA, "heads-3", "attention.head_count_kv: 3 does not divide 4 heads", "A.attention.head_count_kv", ARRAY, (I32, [2, 1, 3, 1]))
value(GEMMA, "shared-layers", "attention.shared_kv_layers: 2 is not supported", "A.attention.shared_kv_layers", U32, 2)
value(GEMMA, "per-layer-input", "embedding_length_per_layer_input: 32 is not supported", "A.embedding_length_per_layer_input", U32, 32)
value(GEMMA, "value-length-swa", "tensor blk.0.attn_v.weight: its shape is", "A.attention.value_length_swa", U32, 16)
value(GEMMA, "value-length", "attention.value_length: 32 differs from the key length 64, but values are keys", "A.attention.value_length",
      U32, 32)
value(GEMMA, "soft-cap", "final_logit_softcapping: -30 is not greater than 0", "A.final_logit_softcapping", F32, -30.0)
value(GEMMA, "rotated-swa", "rope.dimension_count_swa: 64 is not between 2 and 32", "A.rope.dimension_count_swa", U32, 64)

DEEPSEEK = "deepseek2"
without(DEEPSEEK, "no-k-b", "tensor blk.0.attn_k_b.weight is missing", "blk.0.attn_k_b.weight")
without(DEEPSEEK, "no-q-b", "tensor blk.1.attn_q_b.weight is missing", "blk.1.attn_q_b.weight")
without(DEEPSEEK, "no-vector-norm", "tensor blk.2.attn_kv_a_norm.weight is missing", "blk.2.attn_kv_a_norm.weight")
shape(DEEPSEEK, "v-b-flat", "tensor blk.0.attn_v_b.weight: its shape is {64, 128, 1, 1}, the hyper-parameters ask for {64, 32, 4, 1}",
      "blk.0.attn_v_b.weight", [64, 128])
with_tensor(DEEPSEEK, "two-queries", "tensor blk.0.attn_q.weight: not a part of deepseek2", "blk.0.attn_q.weight", [256])
without_key(DEEPSEEK, "no-rank", "key deepseek2.attention.kv_lora_rank: it is missing", "A.attention.kv_lora_rank")
without_key(DEEPSEEK, "no-query-rank", "tensor blk.0.attn_q.weight is missing", "A.attention.q_lora_rank")
without_key(DEEPSEEK, "no-true-length", "key deepseek2.attention.key_length_mla: it is missing", "A.attention.key_length_mla")
value(DEEPSEEK, "all-rotated", "attention.key_length_mla: 16 leaves nothing beside 16 rotated dimensions", "A.attention.key_length_mla", U32,
      16)
value(DEEPSEEK, "kv-heads", "attention.head_count_kv: 4, latent attention has one vector per token", "A.attention.head_count_kv", U32, 4)
value(DEEPSEEK, "key-length", "attention.key_length: 96 and value_length 64 are not kv_lora_rank 64", "A.attention.key_length", U32, 96)
value(DEEPSEEK, "groups-3", "8 experts do not make 3 groups", "A.expert_group_count", U32, 3)
value(DEEPSEEK, "groups-used", "expert_group_used_count: 5 of 4 groups", "A.expert_group_used_count", U32, 5)
value(DEEPSEEK, "groups-used-0", "expert_group_used_count: 0 of 4 groups", "A.expert_group_used_count", U32, 0)
