# SPDX-License-Identifier: MIT
"""Rewrites a fixture in the other forms that published files have.

usage: gguf_repack.py FORM IN.gguf OUT.gguf

  merged           gate and up experts in one tensor (gate rows first)
  fused            q, k, v of attention layers in one tensor, where their types agree
  ollama           head_count_kv per layer, dt without .bias, {d, 1} shared gate, Ollama's own keys
  f32              every weight dequantised to F32
  fused-f32        f32, then fused in every attention layer
  qwen3next        f32, V heads back in grouped order, alpha and beta packed, keys renamed
  qwen3next-legacy the same with q, k, v, z interleaved in ssm_in
  mtp              a multi-token-prediction block behind the others, its weights copied from the last layer

merged, fused, ollama and mtp move bytes only: the same model must give the same bits. The qwen3next forms sum in
another order and stay within the bound of a float file. Only the main layers are rewritten.
"""
import sys

import numpy as np

import gguf_file as gf
from gguf_file import ARRAY, BOOL, I32, U32


class Shape:
    """The hyper-parameters that the forms need."""

    def __init__(self, g):
        self.arch = g.value("general.architecture")
        v = lambda key, default=None: g.value(f"{self.arch}.{key}", default)
        self.layers = v("block_count") - v("nextn_predict_layers", 0)
        self.kv_heads = v("attention.head_count_kv")
        self.hk, self.hv, self.d = v("ssm.group_count"), v("ssm.time_step_rank"), v("ssm.state_size")
        self.recurrent = [any(t.name == f"blk.{i}.ssm_a" for t in g.tensors) for i in range(self.layers)]

    def grouped(self, a, axis, size):
        """V heads along @axis, each @size entries wide, from tiled (j * Hk + g) to grouped (g * r + j)."""
        order = np.arange(self.hv * size).reshape(self.hv // self.hk, self.hk, size).transpose(1, 0, 2).reshape(-1)
        return np.take(a, order, axis)


def merged(g):
    s = Shape(g)
    for i in range(s.layers):
        names = [f"blk.{i}.ffn_{m}_exps.weight" for m in ("gate", "up")]
        gate, up = (g[n] for n in names)
        assert gate.type == up.type, f"{names[0]} and {names[1]} have different types"
        experts = gate.ne[2]
        rows = np.concatenate([t.rows().reshape(experts, -1) for t in (gate, up)], 1)
        ne = [gate.ne[0], gate.ne[1] + up.ne[1], experts]
        g.replace(names, [gf.from_rows(f"blk.{i}.ffn_gate_up_exps.weight", gate, ne, rows)])
    return g


def fused(g):
    s, done = Shape(g), 0
    for i in range(s.layers):
        names = [f"blk.{i}.attn_{m}.weight" for m in "qkv"]
        if s.recurrent[i] or len({g[n].type for n in names}) > 1:
            continue
        parts = [g[n] for n in names]
        rows = np.concatenate([t.rows() for t in parts])
        ne = [parts[0].ne[0], len(rows)]
        g.replace(names, [gf.from_rows(f"blk.{i}.attn_qkv.weight", parts[0], ne, rows)])
        done += 1
    assert done, "no attention layer has q, k and v of one type"
    return g


def ollama(g):
    s = Shape(g)
    a = s.arch
    heads = [0 if r else s.kv_heads for r in s.recurrent]
    g.keys[f"{a}.attention.head_count_kv"] = (ARRAY, (U32, heads))
    for key in ("full_attention_interval", "attention.recurrent_layers"):
        g.keys.pop(f"{a}.{key}", None)
    sections = g.value(f"{a}.rope.dimension_sections")[1][:3]
    g.keys[f"{a}.mrope_sections"] = (ARRAY, (I32, sections))
    g.keys[f"{a}.rope.mrope_section"] = (ARRAY, (I32, sections))
    g.keys[f"{a}.rope.mrope_interleaved"] = (BOOL, True)
    g.keys[f"{a}.ssm.v_head_reordered"] = (BOOL, True)
    g.keys[f"{a}.norm_top_k_prob"] = (BOOL, True)
    for t in g.tensors:
        if t.name.endswith(".ssm_dt.bias"):
            t.name = t.name[:-5]
        if t.name.endswith(".ffn_gate_inp_shexp.weight"):
            t.ne = [t.ne[0], 1]
    return g


def f32(g):
    for t in g.tensors:
        t.data, t.type = np.ascontiguousarray(t.floats(), "<f4").tobytes(), 0
    if "general.file_type" in g.keys:
        g.keys["general.file_type"] = (U32, 0)
    return g


def grouped_layer(g, s, i):
    """Undoes the converter's reordering of V heads in every tensor of a recurrent layer."""
    q_and_k = 2 * s.hk * s.d
    tail = lambda a: np.concatenate([a[:q_and_k], s.grouped(a[q_and_k:], 0, s.d)])
    how = {"attn_qkv.weight": tail, "ssm_conv1d.weight": tail,
           "attn_gate.weight": lambda a: s.grouped(a, 0, s.d),
           "ssm_alpha.weight": lambda a: s.grouped(a, 0, 1), "ssm_beta.weight": lambda a: s.grouped(a, 0, 1),
           "ssm_a": lambda a: s.grouped(a, 0, 1), "ssm_dt.bias": lambda a: s.grouped(a, 0, 1),
           "ssm_out.weight": lambda a: s.grouped(a, 1, s.d)}
    for suffix, change in how.items():
        t = g[f"blk.{i}.{suffix}"]
        t.data = np.ascontiguousarray(change(t.floats()), "<f4").tobytes()


def pack_layer(g, s, i, legacy):
    r, name = s.hv // s.hk, lambda suffix: f"blk.{i}.{suffix}.weight"
    beta, alpha = (g[name(m)].floats().reshape(s.hk, r, -1) for m in ("ssm_beta", "ssm_alpha"))
    both = np.concatenate([beta, alpha], 1)
    g.replace([name("ssm_beta"), name("ssm_alpha")],
              [gf.from_floats(name("ssm_ba"), both.reshape(2 * s.hv, -1))])
    if not legacy:
        return
    qkv, z = g[name("attn_qkv")].floats(), g[name("attn_gate")].floats()
    k = s.hk * s.d
    parts = [qkv[:k], qkv[k:2 * k], qkv[2 * k:], z]
    rows = np.concatenate([p.reshape(s.hk, -1, p.shape[1]) for p in parts], 1)
    g.replace([name("attn_qkv"), name("attn_gate")],
              [gf.from_floats(name("ssm_in"), rows.reshape(-1, qkv.shape[1]))])


def qwen3next(g, legacy=False):
    g = f32(g)
    s = Shape(g)
    assert s.arch == "qwen35moe"
    for i in range(s.layers):
        if s.recurrent[i]:
            grouped_layer(g, s, i)
            pack_layer(g, s, i, legacy)
    keys = {}
    for key, value in g.keys.items():
        keys[key.replace("qwen35moe.", "qwen3next.", 1) if key.startswith("qwen35moe.") else key] = value
    keys["general.architecture"] = (gf.STRING, "qwen3next")
    for key in ("rope.dimension_sections", "attention.recurrent_layers"):
        keys.pop(f"qwen3next.{key}", None)
    g.keys = keys
    return g


def mtp(g):
    s, last = Shape(g), Shape(g).layers - 1
    assert not s.recurrent[last]
    named = lambda name, like, ne, data: gf.Tensor(f"blk.{s.layers}.{name}", ne, like.type, data)
    new = [named(t.name.split(".", 2)[2], t, t.ne, t.data) for t in g.tensors if t.name.startswith(f"blk.{last}.")]
    norm, square = g[f"blk.{last}.attn_norm.weight"], g[f"blk.{last}.attn_output.weight"]
    assert square.ne[0] == square.ne[1]
    wide = np.concatenate([square.rows()] * 2, 1)
    new.append(named("nextn.eh_proj.weight", square, [2 * square.ne[0], square.ne[1]], wide.tobytes()))
    new += [named(f"nextn.{m}.weight", norm, norm.ne, norm.data) for m in ("enorm", "hnorm", "shared_head_norm")]
    g.tensors += new
    g.keys[f"{s.arch}.block_count"] = (U32, s.layers + 1)
    g.keys[f"{s.arch}.nextn_predict_layers"] = (U32, 1)
    key = f"{s.arch}.attention.recurrent_layers"
    if key in g.keys:
        g.keys[key] = (ARRAY, (g.keys[key][1][0], [*g.keys[key][1][1], False]))
    return g


def split(g, n):
    """The parts that llama-gguf-split makes: all keys in the first, tensors in order, about as many bytes in each."""
    total, parts, done = sum(len(t.data) for t in g.tensors), [], 0
    for i in range(n):
        parts.append(gf.Gguf(g.keys if i == 0 else {}))
        parts[i].keys.update({"split.no": (gf.U16, i), "split.count": (gf.U16, n),
                              "split.tensors.count": (I32, len(g.tensors))})
    for t in g.tensors:
        parts[min(n - 1, done * n // total)].tensors.append(t)
        done += len(t.data)
    return parts


def write_split(g, n, prefix):
    """Writes PREFIX-00001-of-0000N.gguf and the others; returns the path of the first."""
    paths = [f"{prefix}-{i + 1:05}-of-{n:05}.gguf" for i in range(n)]
    for part, path in zip(split(g, n), paths):
        gf.write(part, path)
    return paths[0]


FORMS = {"merged": merged, "fused": fused, "ollama": ollama, "f32": f32, "fused-f32": lambda g: fused(f32(g)),
         "mtp": mtp, "qwen3next": qwen3next, "qwen3next-legacy": lambda g: qwen3next(g, legacy=True)}


def repack(form, source, target):
    gf.write(FORMS[form](gf.read(source)), target)
    return target


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in FORMS:
        sys.exit(__doc__)
    repack(*sys.argv[1:])
