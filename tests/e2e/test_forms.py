# SPDX-License-Identifier: MIT
"""Description: the same model written in other ways gives the same answers.

Merged gate_up, fused qkv, Ollama's keys and a prediction block: the same bits. Weights rewritten as F32, and the qwen3next form (heads in
another order): the reference computed from the dequantised weights, within the float bound.
"""
import pytest

import gguf_repack
from daemon import DEMO, Daemon, cpu_levels, fixture, need_shared, reference
from test_fixtures import kl

FLOAT_BOUND = 5e-6
MODEL = "moe/moe-q4_k_m"
MTP = "moe/moe-mtp-q4_k_m"  # its q, k and v have one type, so that they can be one tensor


def logits_of(path, n, *args):
    """Of the first @n tokens"""
    with Daemon(path, *args) as d:
        return d.eval_ids(reference(MODEL)[0]["tokens"][:n])[1]


@pytest.mark.parametrize("form", ["merged", "ollama", "mtp"])
def test_same_bits(form, tmp_path):
    path = gguf_repack.repack(form, DEMO, tmp_path / f"{form}.gguf")
    assert (logits_of(path, 384) == logits_of(DEMO, 384)).all()


@pytest.mark.parametrize("form", ["fused", "merged"])
def test_same_bits_mtp(form, tmp_path):
    model = need_shared(f"fixtures/{MTP}.gguf")
    path = gguf_repack.repack(form, model, tmp_path / f"{form}.gguf")
    assert (logits_of(path, 384) == logits_of(model, 384)).all()


@pytest.mark.parametrize("level", cpu_levels())
@pytest.mark.parametrize("form", ["f32", "fused-f32", "qwen3next", "qwen3next-legacy"])
def test_float_forms(form, level, tmp_path):
    path = gguf_repack.repack(form, DEMO, tmp_path / f"{form}.gguf")
    _, expected = reference(MODEL)
    divergence = kl(expected, logits_of(path, len(expected), "--cpu", level))
    print(f"{form} {level}: mean KL {divergence.mean():.3g}, largest {divergence.max():.3g}")
    assert divergence.mean() <= FLOAT_BOUND


@pytest.mark.parametrize("name", ["dense/dense-q4_k_m", "qwen3moe/qwen3moe-q2_k", "qwen3moe/qwen3moe-mxfp4"])
def test_other_models_as_floats(name, tmp_path):
    """The sharpest test of the arithmetic: no quantised activations are left."""
    path = gguf_repack.repack("f32", fixture(f"{name}.gguf"), tmp_path / "f32.gguf")
    ref, expected = reference(name)
    with Daemon(path) as d:
        logits = d.eval_ids(ref["tokens"][:len(expected)])[1]
    assert kl(expected, logits).mean() <= FLOAT_BOUND
