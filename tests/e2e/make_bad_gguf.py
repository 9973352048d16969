# SPDX-License-Identifier: MIT
"""Malformed GGUF files, made from good ones, each with the words its refusal must contain.

usage: make_bad_gguf.py OUT_DIR      writes them all and OUT_DIR/manifest.json

Every model-file row of the list of bad inputs to refuse is here at least once. The weights of a file are a
hole of the right size: no refusal depends on them, and a hundred files stay small.
"""
import copy
import json
import os
import pathlib
import struct
import sys

import gguf_file as gf
import gguf_repack
from daemon import DEMO, fixture
from gguf_file import ARRAY, BOOL, F32, F64, I32, STRING, U8, U32, U64
from make_bad_families import BASES as FAMILY_BASES, CASES as FAMILY_CASES
from make_bad_parts import PARTS

CASES = []  # (name, words, base file, function that spoils a Draft of it)


def case(name, words, base="qwen3moe"):
    """The function gets a Draft of the base file and spoils it."""
    def add(f):
        CASES.append((name, words, base, f))
        return f
    return add


def spoil(name, words, f, base="qwen3moe"):
    CASES.append((name, words, base, f))


class Draft:
    """A header in pieces, each of which can be spoilt before it is written."""

    def __init__(self, g):
        self.magic, self.version = b"GGUF", 3
        self.n_tensors = self.n_keys = None  # what the header claims, None: the truth
        self.keys = dict(g.keys)
        self.raw_keys = []   # packed pairs behind the others
        self.first_key = b""  # packed pair before the others
        self.tensors = []
        self.arch = g.value("general.architecture")
        offset = 0
        for t in g.tensors:
            self.tensors.append({"name": t.name, "ne": t.ne, "type": t.type, "offset": offset, "bytes": len(t.data)})
            offset += (len(t.data) + 31) // 32 * 32
        self.raw_infos = []
        self.cut = None      # the file ends here
        self.longer = 0      # or is longer by this

    def set(self, key, t, value):
        self.keys[key.replace("A.", self.arch + ".", 1) if key.startswith("A.") else key] = (t, value)

    def drop(self, key):
        del self.keys[key.replace("A.", self.arch + ".", 1)]

    def tensor(self, name):
        return next(t for t in self.tensors if t["name"] == name)

    def resize(self, name, ne=None, type_id=None):
        """Another shape or type, with every offset put right again."""
        t = self.tensor(name)
        t["ne"], t["type"] = ne or t["ne"], t["type"] if type_id is None else type_id
        block, size = {40: (64, 36)}.get(t["type"]) or gf.BY_ID[t["type"]][1:]
        t["bytes"] = size
        for n in t["ne"]:
            t["bytes"] *= n
        t["bytes"] //= block
        self.place()

    def place(self):
        offset = 0
        for t in self.tensors:
            t["offset"] = offset
            offset += (t["bytes"] + 31) // 32 * 32

    def remove(self, name):
        self.tensors.remove(self.tensor(name))
        self.place()

    def add(self, name, ne):
        self.tensors.append({"name": name, "ne": ne, "type": 0, "offset": 0, "bytes": 4 * ne[0]})
        self.place()

    def header(self):
        keys = [self.first_key] if self.first_key else []
        keys += [gf.pack_key(k, *v) for k, v in self.keys.items()] + self.raw_keys
        infos = [gf.pack_info(t["name"], t["ne"], t["type"], t["offset"]) for t in self.tensors] + self.raw_infos
        claim = lambda n, real: len(real) if n is None else n
        return (self.magic + struct.pack("<IQQ", self.version, claim(self.n_tensors, infos), claim(self.n_keys, keys)) +
                b"".join(keys) + b"".join(infos))

    def write(self, path):
        head = self.header()
        data = max([t["offset"] + t["bytes"] for t in self.tensors], default=0)
        size = (len(head) + 31) // 32 * 32 + min(data, 1 << 34) + self.longer
        with open(path, "wb") as f:
            f.write(head)
            f.truncate(size if self.cut is None else self.cut)


# ---- the fixed part

spoil("empty", "offset 0: truncated", lambda d: setattr(d, "cut", 0))
spoil("three-bytes", "offset 0: truncated", lambda d: setattr(d, "cut", 3))
spoil("no-version", "offset 4: truncated", lambda d: setattr(d, "cut", 6))
spoil("no-counts", "truncated: the tensor count", lambda d: setattr(d, "cut", 12))
spoil("half-counts", "truncated: the key-value count", lambda d: setattr(d, "cut", 20))
spoil("magic-zero", "not a GGUF file: it begins with bytes 00 00 00 00", lambda d: setattr(d, "magic", bytes(4)))
spoil("magic-ggjt", "not a GGUF file but a model in the form that came before GGUF (ggjt)", lambda d: setattr(d, "magic", b"tjgg"))
spoil("version-0", "GGUF version 0", lambda d: setattr(d, "version", 0))
spoil("version-1", "GGUF version 1", lambda d: setattr(d, "version", 1))
spoil("version-4", "GGUF version 4", lambda d: setattr(d, "version", 4))
spoil("big-endian", "big-endian", lambda d: setattr(d, "version", 3 << 24))
spoil("tensors-2-60", "claims 1152921504606846976 tensors", lambda d: setattr(d, "n_tensors", 1 << 60))
spoil("tensors-minus-1", "claims 18446744073709551615 tensors", lambda d: setattr(d, "n_tensors", (1 << 64) - 1))
spoil("keys-2-60", "claims 1152921504606846976 key-value pairs", lambda d: setattr(d, "n_keys", 1 << 60))
spoil("keys-minus-1", "claims 18446744073709551615 key-value pairs", lambda d: setattr(d, "n_keys", (1 << 64) - 1))
spoil("cut-in-keys", "key tokenizer.ggml.tokens: the array claims 2048 elements", lambda d: setattr(d, "cut", 2000))
spoil("cut-in-vocabulary", "truncated: an array's string", lambda d: setattr(d, "cut", 20000))
spoil("cut-in-tensors", "truncated: a tensor's", lambda d: setattr(d, "cut", len(d.header()) - 10))
spoil("cut-in-data", "offset 73172: the file ends here, with 0.1 of 2.8 MB (missing: 2747916 bytes, from tensor output.weight on)", lambda d: setattr(d, "cut", len(d.header()) + 4096))
spoil("cut-last-byte", "missing: 1 bytes, from tensor blk.2.ffn_up_exps.weight on", lambda d: setattr(d, "longer", -1))


@case("one-key-too-many", "offset")
def _(d):
    d.n_keys = len(d.keys) + 1


@case("one-key-too-few", "offset")
def _(d):
    d.n_keys = len(d.keys) - 1


@case("one-tensor-too-many", "offset")
def _(d):
    d.n_tensors = len(d.tensors) + 1


@case("one-tensor-too-few", "the header goes on with tensor blk.2.ffn_up_exps.weight behind the 38 that it counts")
def _(d):
    d.n_tensors = len(d.tensors) - 1


@case("prediction-tensor-uncounted", "the header goes on with tensor blk.4.", "mtp")
def _(d):
    d.n_tensors = len(d.tensors) - 1


# ---- keys

def raw_key(name, words, packed):
    spoil(name, words, lambda d: setattr(d, "first_key", packed))


def text(s):
    return gf.pack_string(s)


raw_key("key-empty", "a key is empty", text("") + struct.pack("<IB", U8, 1))
raw_key("key-nul", "a key contains a NUL byte", text(b"a\0b") + struct.pack("<IB", U8, 1))
raw_key("key-not-utf8", "a key is not UTF-8", text(b"a\xff\xfe") + struct.pack("<IB", U8, 1))
raw_key("key-overlong-utf8", "a key is not UTF-8", text(b"a\xc0\xaf") + struct.pack("<IB", U8, 1))
raw_key("key-surrogate", "a key is not UTF-8", text(b"a\xed\xa0\x80") + struct.pack("<IB", U8, 1))
raw_key("key-too-long", "more than 65535", text("k" * 65536) + struct.pack("<IB", U8, 1))
raw_key("key-2-60-long", "claims 1152921504606846976 bytes", struct.pack("<Q", 1 << 60) + b"k")
raw_key("value-type-13", "key x: value of unknown type 13", text("x") + struct.pack("<IB", 13, 1))
raw_key("value-type-huge", "key x: value of unknown type 4294967295", text("x") + struct.pack("<IB", 0xFFFFFFFF, 1))
raw_key("text-2-60", "truncated: a string value needs 1152921504606846976 bytes",
        text("x") + struct.pack("<IQ", STRING, 1 << 60))
raw_key("text-minus-1", "truncated: a string value needs 18446744073709551615 bytes",
        text("x") + struct.pack("<IQ", STRING, (1 << 64) - 1))
raw_key("array-nested", "key x: an array of arrays",
        text("x") + struct.pack("<IIQIQB", ARRAY, ARRAY, 1, U8, 1, 7))
raw_key("array-nested-deep", "key x: an array of arrays",
        text("x") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 2000 + struct.pack("<IQB", U8, 1, 7))
raw_key("array-type-13", "key x: array elements of unknown type 13",
        text("x") + struct.pack("<IIQ", ARRAY, 13, 1 << 40))
raw_key("array-type-huge", "key x: array elements of unknown type 4294967295",
        text("x") + struct.pack("<IIQ", ARRAY, 0xFFFFFFFF, 1 << 60))
raw_key("array-2-60", "key x: the array claims 1152921504606846976 elements",
        text("x") + struct.pack("<IIQ", ARRAY, U8, 1 << 60))
raw_key("array-bytes-overflow", "key x: the array claims 2305843009213693953 elements",
        text("x") + struct.pack("<IIQ", ARRAY, F64, (1 << 61) + 1))
raw_key("array-texts-2-60", "key x: the array claims 1152921504606846976 elements",
        text("x") + struct.pack("<IIQ", ARRAY, STRING, 1 << 60))
raw_key("array-text-2-62", "an array's string needs 4611686018427387904 bytes",
        text("x") + struct.pack("<IIQQ", ARRAY, STRING, 1, 1 << 62))


@case("key-twice", "key general.name occurs twice")
def _(d):
    d.raw_keys.append(gf.pack_key("general.name", STRING, "again"))


@case("key-twice-other-type", "block_count occurs twice")
def _(d):
    d.raw_keys.append(gf.pack_key(f"{d.arch}.block_count", U64, 3))


def alignment(name, t, value, words="key general.alignment"):
    spoil(name, words, lambda d: d.set("general.alignment", t, value))


alignment("alignment-0", U32, 0)
alignment("alignment-48", U32, 48)
alignment("alignment-2-mib", U32, 2 << 20)
alignment("alignment-negative", I32, -32)
alignment("alignment-text", STRING, "32", "key general.alignment has type string, not an integer")
alignment("alignment-float", F32, 32.0, "key general.alignment has type f32, not an integer")
alignment("alignment-4096-unkept", U32, 4096, "is not aligned")


# ---- tensors

def tensor(label, words, /, **change):
    spoil(label, words, lambda d: d.tensors[5].update(change))


tensor("tensor-name-empty", "a tensor's name is empty", name="")
tensor("tensor-name-64", "a tensor's name claims 64 bytes, more than 63", name="t" * 64)
tensor("tensor-name-nul", "a tensor's name contains a NUL byte", name=b"blk\0x")
tensor("tensor-name-not-utf8", "a tensor's name is not UTF-8", name=b"blk\xf5x")
tensor("tensor-twice", "tensor output.weight: the name occurs twice", name="output.weight")
tensor("rank-0", "0 dimensions", ne=[])
tensor("rank-5", "5 dimensions", ne=[256, 1, 1, 1, 1])
tensor("rank-2-31", "2147483648 dimensions", ne=[256])
CASES[-1] = (*CASES[-1][:3], lambda d: d.raw_infos.append(text("x") + struct.pack("<I", 1 << 31)) or
             setattr(d, "longer", 64))
tensor("dimension-0", "dimension 1 is 0", ne=[256, 0])
tensor("dimension-negative", "overflows", ne=[(1 << 64) - 1])
tensor("dimensions-overflow", "the product of its dimensions overflows", ne=[1 << 32, 1 << 32])
tensor("dimensions-wrap-small", "the product of its dimensions overflows", ne=[1 << 32, 1 << 32, 1, 1 << 8])
tensor("bytes-overflow", "its size in bytes overflows", ne=[1 << 62], type=0)
tensor("type-99", "unknown type 99", type=99)
tensor("type-4-removed", "unknown type 4", type=4)
tensor("type-minus-1", "unknown type 4294967295", type=0xFFFFFFFF)


@case("row-not-whole-blocks", "are not whole Q4_K blocks of 256")
def _(d):
    d.tensors[5].update(ne=[255], type=12)


@case("offset-unaligned", "is not aligned")
def _(d):
    d.tensors[5]["offset"] += 8


@case("offset-overlap", "overlaps the tensor before it")
def _(d):
    d.tensors[5]["offset"] = d.tensors[4]["offset"]


@case("offset-swapped", "leaves a gap after the tensor before it")
def _(d):
    a, b = d.tensors[4], d.tensors[5]
    a["offset"], b["offset"] = b["offset"], a["offset"]


@case("offset-gap", "leaves a gap after the tensor before it")
def _(d):
    for t in d.tensors[5:]:
        t["offset"] += 32


@case("offset-past-end", "leaves a gap after the tensor before it")
def _(d):
    d.tensors[5]["offset"] = 1 << 40


@case("offset-wraps", "leaves a gap after the tensor before it")
def _(d):
    d.tensors[5]["offset"] = (1 << 64) - 32


# ---- hyper-parameters

def value(name, words, key, t, v, base="qwen3moe"):
    spoil(name, words, lambda d: d.set(key, t, v), base)


def without(name, words, key, base="qwen3moe"):
    spoil(name, words, lambda d: d.drop(key), base)


without("no-architecture", "key general.architecture: it is missing", "general.architecture")
value("architecture-number", "key general.architecture has type u32", "general.architecture", U32, 3)
value("architecture-llama", '"llama" is not supported', "general.architecture", STRING, "llama")
value("architecture-other", "is missing", "general.architecture", STRING, "qwen35moe")
value("type-other", '"other" is not a model', "general.type", STRING, "other")
value("adapter", "general.type: this is an adapter (LoRA), not a model", "general.type", STRING, "adapter")
value("mmproj", "general.type: this is a projector of images or sound (mmproj)", "general.type", STRING, "mmproj")
value("imatrix", "general.type: this is a file of statistics for quantising", "general.type", STRING, "imatrix")
value("architecture-clip", "general.architecture: this is a projector", "general.architecture", STRING, "clip")
value("architecture-controlvector", "this is a control vector", "general.architecture", STRING, "controlvector")
without("no-block-count", "block_count: it is missing", "A.block_count")
value("block-count-0", "block_count: 0 is not between", "A.block_count", U32, 0)
value("block-count-2-31", "block_count: 2147483648 is not between", "A.block_count", U32, 1 << 31)
value("block-count-2-63", "block_count: 9223372036854775808 is not between", "A.block_count", U64, 1 << 63)
value("block-count-negative", "block_count: the value is out of range", "A.block_count", I32, -3)
value("block-count-more", "tensor blk.3.attn_norm.weight is missing", "A.block_count", U32, 4)
value("block-count-less", "the file says it has 2 blocks", "A.block_count", U32, 2)
value("block-count-float", "block_count has type f32, not an integer", "A.block_count", F32, 3.0)
value("block-count-text", "block_count has type string, not an integer", "A.block_count", STRING, "3")
value("block-count-bool", "block_count has type bool, not an integer", "A.block_count", BOOL, True)
value("block-count-array", "block_count has type array, not an integer", "A.block_count", ARRAY, (U32, [3]))
value("architecture-nul", "key general.architecture: the text contains a NUL byte", "general.architecture", STRING,
      b"qwen3moe\0")
value("architecture-not-utf8", "key general.architecture: the text is not UTF-8", "general.architecture", STRING, b"qwen\xb3")
value("scaling-not-utf8", "rope.scaling.type: the text is not UTF-8", "A.rope.scaling.type", STRING, b"line\xe1r")
raw_key("bool-used-2", "key qwen3moe.norm_top_k_prob: a bool is 2, neither 0 nor 1",
        text("qwen3moe.norm_top_k_prob") + struct.pack("<IB", BOOL, 2))
value("eps-u8", "rms_epsilon has type u8, not a float", "A.attention.layer_norm_rms_epsilon", U8, 1)
value("eps-0", "rms_epsilon: 0 is not greater than 0", "A.attention.layer_norm_rms_epsilon", F32, 0.0)
value("eps-nan", "rms_epsilon: the value is out of range", "A.attention.layer_norm_rms_epsilon", F32, float("nan"))
value("rope-base-u32", "freq_base has type u32, not a float", "A.rope.freq_base", U32, 10000)
value("rope-base-infinite", "freq_base: the value is out of range", "A.rope.freq_base", F64, float("inf"))
value("rope-dims-odd", "rope.dimension_count: 63 is odd", "A.rope.dimension_count", U32, 63)
value("rope-dims-more", "rope.dimension_count: 128 is odd or more", "A.rope.dimension_count", U32, 128)
value("rope-longrope", 'rope scaling "longrope" is not supported', "A.rope.scaling.type", STRING, "longrope")
value("rope-yarn-factor", "YaRN needs a factor of at least 1", "A.rope.scaling.type", STRING, "yarn")
value("embedding-other", "tensor token_embd.weight: its shape is", "A.embedding_length", U32, 512)
value("embedding-2-31", "embedding_length: 2147483648 is not between", "A.embedding_length", U32, 1 << 31)
without("no-context", "context_length: it is missing", "A.context_length")
value("heads-0", "head_count: 0 is not between", "A.attention.head_count", U32, 0)
value("heads-kv-3", "head_count_kv: 3 does not divide 4 heads", "A.attention.head_count_kv", U32, 3)
value("heads-kv-short", "head_count_kv: 2 entries for 3 layers", "A.attention.head_count_kv", ARRAY, (U32, [2, 2]))
value("heads-kv-zero", "head_count_kv: layer 1 has no heads", "A.attention.head_count_kv", ARRAY, (U32, [2, 0, 2]))
value("heads-kv-differ", "layers that differ are not supported", "A.attention.head_count_kv", ARRAY, (U32, [2, 1, 2]))
value("heads-kv-texts", "an array of integers is expected", "A.attention.head_count_kv", ARRAY, (STRING, ["2"] * 3))
value("key-value-length", "blk.0.attn_v.weight: its shape is", "A.attention.value_length", U32, 32)
value("gated-value-length", "attention.value_length: 32 differs from the key length", "A.attention.value_length", U32, 32, "qwen35moe")
value("experts-0", "expert_count: 0 is not between", "A.expert_count", U32, 0)
value("experts-2-31", "expert_count: 2147483648 is not between", "A.expert_count", U32, 1 << 31)
value("experts-16", "blk.0.ffn_gate_inp.weight: its shape is {256, 8, 1, 1}", "A.expert_count", U32, 16)
without("no-experts", "expert_count: it is missing", "A.expert_count")
value("used-0", "expert_used_count: 0 is not between 1 and 8", "A.expert_used_count", U32, 0)
value("used-more", "expert_used_count: 9 is not between 1 and 8", "A.expert_used_count", U32, 9)
value("expert-width", "ffn_gate_exps.weight: its shape is", "A.expert_feed_forward_length", U32, 512)
value("router-function", "router function 4 is not supported", "A.expert_gating_func", U32, 4)
value("expert-groups", "8 experts do not make 3 groups", "A.expert_group_count", U32, 3)
value("expert-groups-single", "8 experts do not make 8 groups", "A.expert_group_count", U32, 8)
value("dense-first", "leading_dense_block_count: qwen3moe has no dense layers", "A.leading_dense_block_count", U32, 1)
value("dense-all", "leading_dense_block_count: 3 is not between 0 and 2", "A.leading_dense_block_count", U32, 3)
value("tokens-more", "the embedding has 2048 rows", "tokenizer.ggml.tokens", ARRAY, (STRING, ["x"] * 2049))
value("vocab-size-more", "vocab_size: 4096 ids", "A.vocab_size", U32, 4096)

HYBRID = "qwen35moe"
value("schedule-short", "recurrent_layers: 2 entries for 4 layers", "A.attention.recurrent_layers", ARRAY,
      (BOOL, [True, True]), HYBRID)
value("schedule-integers", "recurrent_layers: an array of bool is expected", "A.attention.recurrent_layers", ARRAY,
      (U32, [1, 1, 1, 0]), HYBRID)
value("schedule-other", "tensor blk.0.attn_qkv.weight: its shape is", "A.attention.recurrent_layers", ARRAY,
      (BOOL, [False, True, True, True]), HYBRID)
value("schedule-contradicts", "but not by attention.recurrent_layers", "A.attention.head_count_kv", ARRAY,
      (U32, [2, 0, 0, 2]), HYBRID)
value("nextn-all", "leave no main layer", "A.nextn_predict_layers", U32, 4, HYBRID)
value("nextn-main-layer", "nextn_predict_layers: it takes block 3 for a prediction block, but no tensor blk.3.nextn.*",
      "A.nextn_predict_layers", U32, 1, HYBRID)
value("nextn-main-layer-attention", "nextn_predict_layers: it takes block 2 for a prediction block",
      "A.nextn_predict_layers", U32, 1)
value("nextn-one-too-many", "nextn_predict_layers: it takes block 3 for a prediction block",
      "A.nextn_predict_layers", U32, 2, "mtp")
value("nextn-none-said", "tensor blk.4.nextn.eh_proj.weight: not a part of qwen35moe", "A.nextn_predict_layers", U32, 0, "mtp")
value("ssm-inner", "ssm.inner_size: 256 is not 4 value heads of 128", "A.ssm.inner_size", U32, 256, HYBRID)
value("ssm-groups-3", "no multiple of 3 key heads", "A.ssm.group_count", U32, 3, HYBRID)
value("ssm-conv-0", "ssm.conv_kernel: 0 is not between", "A.ssm.conv_kernel", U32, 0, HYBRID)
value("ssm-state-text", "ssm.state_size has type string", "A.ssm.state_size", STRING, "128", HYBRID)
value("sections-more", "dimension_sections", "A.rope.dimension_sections", ARRAY, (I32, [11, 11, 10, 0]), HYBRID)
value("v-order-number", "v_head_reordered has type u8, not bool", "A.ssm.v_head_reordered", U8, 1, HYBRID)


@case("schedule-interval-0", "full_attention_interval: 0 is not an interval", HYBRID)
def _(d):
    d.drop("A.attention.recurrent_layers")
    d.set("A.full_attention_interval", U32, 0)


# ---- tensors of the model

@case("no-embedding", "tensor token_embd.weight is missing")
def _(d):
    d.remove("token_embd.weight")


@case("no-router", "tensor blk.1.ffn_gate_inp.weight is missing")
def _(d):
    d.remove("blk.1.ffn_gate_inp.weight")


@case("no-tensors", "no tensors: a vocabulary")
def _(d):
    d.tensors = []


@case("shape-other", "tensor blk.2.attn_k.weight: its shape is {256, 64, 1, 1}")
def _(d):
    d.resize("blk.2.attn_k.weight", ne=[256, 64])


@case("type-unsupported", "tensor blk.1.ffn_up_exps.weight: its type NVFP4 is not supported")
def _(d):
    d.resize("blk.1.ffn_up_exps.weight", type_id=40)


@case("scale-beside", "tensor blk.0.ffn_up_exps.scale: separate scales of a weight are not supported")
def _(d):
    d.add("blk.0.ffn_up_exps.scale", [8])


@case("scale-s", "tensor blk.0.ffn_up_exps_s: separate scales of a weight are not supported")
def _(d):
    d.add("blk.0.ffn_up_exps_s", [8])


@case("bias-beside", "tensor blk.0.attn_q.bias: not a part of qwen3moe")
def _(d):
    d.add("blk.0.attn_q.bias", [256])


@case("rope-factors", "tensor rope_freqs.weight: not a part of qwen3moe")
def _(d):
    d.add("rope_freqs.weight", [32])


@case("nextn-block-without", "nextn_predict_layers: it takes block 4 for a prediction block", "mtp")
def _(d):
    d.tensors = [t for t in d.tensors if ".nextn." not in t["name"]]
    d.place()


@case("nextn-block-empty", "nextn_predict_layers: it takes block 4 for a prediction block", "mtp")
def _(d):
    d.tensors = [t for t in d.tensors if not t["name"].startswith("blk.4.")]
    d.place()


@case("block-no-number", 'tensor blk.x.attn_q.weight: "blk." is not followed by the number of a block')
def _(d):
    d.add("blk.x.attn_q.weight", [256])


@case("block-number-too-large", '"blk." is not followed by the number of a block')
def _(d):
    d.add("blk.4294967296.attn_q.weight", [256])


@case("mtp-file", "only the multi-token-prediction block", "mtp")
def _(d):
    d.tensors = [t for t in d.tensors if t["name"].startswith("blk.4.") or not t["name"].startswith("blk.")]
    d.place()


# ---- metadata that nobody uses says nothing against a model: these open, and are shown with '?'

ODD = {  # name: (key, its packed type and value)
    "imatrix-code-page": ("quantize.imatrix.file", struct.pack("<I", STRING) + text(b"C:\\Users\\Jos\xe9\\imatrix.dat")),
    "description-nul": ("general.description", struct.pack("<I", STRING) + text(b"text\0")),
    "author-gbk": ("general.author", struct.pack("<I", STRING) + text("\u6a21\u578b".encode("gbk"))),
    "text-nul": ("x", struct.pack("<I", STRING) + text(b"a\0b")),
    "text-control": ("x", struct.pack("<I", STRING) + text(b"\x1b[2J\nlevel=error")),
    "text-not-utf8": ("x", struct.pack("<I", STRING) + text(b"\x80abc")),
    "texts-not-utf8": ("general.tags", struct.pack("<IIQ", ARRAY, STRING, 2) + text(b"\xff") + text(b"\0")),
    "bool-2": ("x", struct.pack("<IB", BOOL, 2)),
    "array-bool-3": ("x", struct.pack("<IIQBB", ARRAY, BOOL, 2, 1, 3)),
    "name-not-utf8": ("general.name", struct.pack("<I", STRING) + text(b"Jos\xe9's\0\n model")),
}


def make_odd(out):
    """Good models with one odd value each; returns [(name, path)]."""
    base, made = Draft(gf.read(DEMO)), []
    for name, (key, packed) in ODD.items():
        d = copy.deepcopy(base)
        d.keys.pop(key, None)
        d.first_key = text(key) + packed
        made.append((name, str(pathlib.Path(out) / f"{name}.gguf")))
        d.write(made[-1][1])
    return made


# ----

BASES = {"qwen3moe": lambda: gf.read(fixture("qwen3moe/qwen3moe-q2_k.gguf")), HYBRID: lambda: gf.read(DEMO),
         "mtp": lambda: gguf_repack.mtp(gf.read(DEMO))}


def make_all(out):
    """Writes every case under @out; returns [(name, path to open, words of the refusal)]."""
    out = pathlib.Path(out)
    drafts = {name: Draft(base()) for name, base in {**BASES, **FAMILY_BASES}.items()}
    made = []
    for name, words, base, f in CASES + FAMILY_CASES:
        d = copy.deepcopy(drafts[base])
        f(d)
        path = out / f"{name}.gguf"
        d.write(path)
        made.append((name, str(path), words))
    for name, (words, f) in PARTS.items():
        folder = out / name
        folder.mkdir()
        made.append((name, str(f(folder)), words))
    assert len({m[0] for m in made}) == len(made), "two cases have one name"
    return made


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    listed = make_all(sys.argv[1])
    with open(os.path.join(sys.argv[1], "manifest.json"), "w") as f:
        json.dump([{"name": n, "path": p, "words": w} for n, p, w in listed], f, indent=1)
    print(f"{len(listed)} files in {sys.argv[1]}")
