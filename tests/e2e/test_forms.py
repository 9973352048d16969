# SPDX-License-Identifier: MIT
"""Description: the same model written in other ways gives the same answers.

Merged gate_up, fused qkv and Ollama's keys: the same bits. Weights rewritten as F32, and the qwen3next form (heads in
another order): the reference computed from the dequantised weights, within the float bound.
"""
import json

import numpy
import pytest

import gguf_repack
from daemon import FIXTURES, Daemon, cpu_levels, need_shared
from test_fixtures import kl

FLOAT_BOUND = 5e-6
MODEL = "moe/moe-q4_k_m"
MTP = "moe/moe-mtp-q4_k_m"  # its q, k and v have one type, so that they can be one tensor


def logits_of(path, *args):
    ref = json.load(open(FIXTURES / f"{MODEL}.json"))
    with Daemon(path, *args) as d:
        return d.eval_ids(ref["tokens"])[1]


@pytest.mark.parametrize("model,form", [(MODEL, "merged"), (MODEL, "ollama"), (MTP, "fused"), (MTP, "merged")])
def test_same_bits(model, form, tmp_path):
    need_shared()
    path = gguf_repack.repack(form, FIXTURES / f"{model}.gguf", tmp_path / f"{form}.gguf")
    assert (logits_of(path) == logits_of(FIXTURES / f"{model}.gguf")).all()


@pytest.mark.parametrize("level", cpu_levels())
@pytest.mark.parametrize("form", ["f32", "fused-f32", "qwen3next", "qwen3next-legacy"])
def test_float_forms(form, level, tmp_path):
    need_shared()
    path = gguf_repack.repack(form, FIXTURES / f"{MODEL}.gguf", tmp_path / f"{form}.gguf")
    divergence = kl(numpy.load(FIXTURES / f"{MODEL}.npy"), logits_of(path, "--cpu", level))
    print(f"{form} {level}: mean KL {divergence.mean():.3g}, largest {divergence.max():.3g}")
    assert divergence.mean() <= FLOAT_BOUND


@pytest.mark.parametrize("name", ["dense/dense-q4_k_m", "qwen3moe/qwen3moe-q2_k", "qwen3moe/qwen3moe-mxfp4"])
def test_other_models_as_floats(name, tmp_path):
    """The sharpest test of the arithmetic: no quantised activations are left."""
    need_shared()
    ref = json.load(open(FIXTURES / f"{name}.json"))
    path = gguf_repack.repack("f32", FIXTURES / f"{name}.gguf", tmp_path / "f32.gguf")
    with Daemon(path) as d:
        logits = d.eval_ids(ref["tokens"])[1]
    assert kl(numpy.load(FIXTURES / f"{name}.npy"), logits).mean() <= FLOAT_BOUND
