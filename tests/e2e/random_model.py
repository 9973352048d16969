# SPDX-License-Identifier: MIT
"""A model file of random weights: one layer of qwen3moe, small enough that ten thousand answers take minutes. Only what it writes is noise;
its vocabulary is another file's."""
import numpy as np

import gguf_file as gf
from gguf_file import F32, STRING, U32

D, HEADS, KV, WIDTH, FF, EXPERTS, USED = 64, 2, 1, 32, 32, 4, 2


def write(path, vocabulary, seed=1, width=WIDTH):
    """@vocabulary: a GGUF file with a tokenizer; @width: of a head."""
    rng = np.random.default_rng(seed)
    keys = {k: v for k, v in gf.read(vocabulary).keys.items() if k.startswith("tokenizer.")}
    n_vocab = len(keys["tokenizer.ggml.tokens"][1][1])
    sizes = {"block_count": 1, "context_length": 4096, "embedding_length": D, "feed_forward_length": FF, "attention.head_count": HEADS,
             "attention.head_count_kv": KV, "attention.key_length": width, "attention.value_length": width, "expert_count": EXPERTS,
             "expert_used_count": USED, "expert_feed_forward_length": FF}
    keys["general.architecture"] = (STRING, "qwen3moe")
    keys.update({f"qwen3moe.{k}": (U32, v) for k, v in sizes.items()})
    keys["qwen3moe.attention.layer_norm_rms_epsilon"] = (F32, 1e-6)
    keys["qwen3moe.rope.freq_base"] = (F32, 1e6)
    # in numpy's order: rows, then their length
    matrices = {"token_embd": (n_vocab, D), "output": (n_vocab, D), "blk.0.attn_q": (HEADS * width, D), "blk.0.attn_k": (KV * width, D),
                "blk.0.attn_v": (KV * width, D), "blk.0.attn_output": (D, HEADS * width), "blk.0.ffn_gate_inp": (EXPERTS, D),
                "blk.0.ffn_gate_exps": (EXPERTS, FF, D), "blk.0.ffn_up_exps": (EXPERTS, FF, D), "blk.0.ffn_down_exps": (EXPERTS, D, FF)}
    norms = {"output_norm": D, "blk.0.attn_norm": D, "blk.0.ffn_norm": D, "blk.0.attn_q_norm": width, "blk.0.attn_k_norm": width}
    tensors = [gf.from_floats(f"{k}.weight", rng.standard_normal(shape) / np.sqrt(shape[-1])) for k, shape in matrices.items()]
    tensors += [gf.from_floats(f"{k}.weight", np.ones(n)) for k, n in norms.items()]
    gf.write(gf.Gguf(keys=keys, tensors=tensors), path)
    return path
