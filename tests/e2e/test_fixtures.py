# SPDX-License-Identifier: MIT
"""Description: every fixture model through the real daemon, against its reference logits.

Greedy continuations equal the reference, mean and median KL lie within the bounds written beside each
model, perplexity within 1 %: for every CPU level of this machine.
"""
import json

import numpy
import pytest

import gguf_file as gf
import gguf_repack
from daemon import DEMO, Daemon, cpu_levels, fixture, need_shared, reference, sluice

CARRIED = ["moe/moe-q4_k_m", "dense/dense-q4_k_m", "qwen3moe/qwen3moe-q2_k", "glm4moe/glm4moe-q4_k_m",
           "minimax-m2/minimax-m2-q4_k_m", "gpt-oss/gpt-oss-mxfp4", "gemma4/gemma4-q4_k_m",
           "deepseek2/deepseek2-q4_k_m"]  # in tests/data, with 64 positions
MODELS = ["moe/moe-q4_k_m", "moe/moe-mtp-q4_k_m", "dense/dense-f16", "dense/dense-q4_k_m"] + [
    f"qwen3moe/qwen3moe-{t}" for t in ("f16", "q8_0", "q4_k_m", "q2_k", "q3_k_m", "q5_k_m", "q6_k", "iq4_xs",
                                       "iq4_nl", "q4_0", "mxfp4")] + [
    "glm4moe/glm4moe-f16", "glm4moe/glm4moe-q4_k_m", "minimax-m2/minimax-m2-f16", "minimax-m2/minimax-m2-q4_k_m",
    "gpt-oss/gpt-oss-f16", "gpt-oss/gpt-oss-mxfp4", "gemma4/gemma4-f16", "gemma4/gemma4-q4_k_m",
    "deepseek2/deepseek2-f16", "deepseek2/deepseek2-q4_k_m"]


def log_softmax(x):
    x = x.astype(numpy.float64)
    x = x - x.max(-1, keepdims=True)
    return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))


def kl(reference, ours):
    p, q = log_softmax(reference), log_softmax(ours)
    return (numpy.exp(p) * (p - q)).sum(-1)


def check_logits(d, ref, expected, name):
    tokens = ref["tokens"][:len(expected)]
    result, logits = d.eval_ids(tokens)
    assert logits.shape == expected.shape and logits.dtype == numpy.float32
    assert result["tokens"] == len(tokens)
    divergence = kl(expected, logits)
    peer = ref.get("llama_cpp", {})
    print(f"{name}: mean KL {divergence.mean():.3g} (bound {ref['bound_mean_kl']:.3g}, llama.cpp "
          f"{peer.get('mean_kl', float('nan')):.3g}), median {numpy.median(divergence):.3g} "
          f"(bound {ref['bound_median_kl']:.3g}, llama.cpp {peer.get('median_kl', float('nan')):.3g}), "
          f"perplexity {result['perplexity']:.4f} (reference {ref['perplexity']:.4f})")
    assert divergence.mean() <= ref["bound_mean_kl"]
    assert numpy.median(divergence) <= ref["bound_median_kl"]
    assert abs(result["perplexity"] / ref["perplexity"] - 1) <= 0.01
    nll = -log_softmax(logits)[numpy.arange(len(logits) - 1), tokens[1:]].mean()
    assert abs(nll - result["nll"]) < 1e-5
    return divergence


@pytest.mark.parametrize("level", cpu_levels())
@pytest.mark.parametrize("name", CARRIED)
def test_carried(name, level):
    check_model(fixture(f"{name}.gguf"), name, level, *reference(name, whole=False))


@pytest.mark.parametrize("level", cpu_levels())
@pytest.mark.parametrize("name", MODELS)
def test_fixture(name, level):
    check_model(need_shared(f"fixtures/{name}.gguf"), name, level, *reference(name))


def check_model(path, name, level, ref, expected):
    with Daemon(path, "--cpu", level) as d:
        assert d.status()["cpu"] == level
        check_logits(d, ref, expected, f"{name} {level}")
        for g in ref["greedy"]:
            n = len(g["ids"])
            out = d.generate_ids(g["prompt"], "--max-tokens", n)
            assert out["tokens"][:n] == g["ids"], f"{name} {level}: {g['text']!r}"


@pytest.mark.parametrize("by", ["gguf_repack", "llama-gguf-split"])
def test_split_equals_single(by, tmp_path):
    whole = fixture("dense/dense-q4_k_m.gguf")
    if by == "gguf_repack":
        first = gguf_repack.write_split(gf.read(whole), 3, tmp_path / "dense")
    else:
        first = need_shared("fixtures/dense/split/dense-q4_k_m-00001-of-00003.gguf")
    ref, _ = reference("dense/dense-q4_k_m")
    with Daemon(whole) as d:
        _, one = d.eval_ids(ref["tokens"])
    with Daemon(first) as d:
        _, split = d.eval_ids(ref["tokens"])
    assert (one == split).all()


def test_questions():
    """The bundled model answers what it was taught: the reference gets 129 of 176."""
    questions = json.load(open(fixture("questions.json")))
    right = 0
    with Daemon(DEMO) as d:
        for question, answer in questions:
            out = d.generate("--chat", "--prompt", question, "--max-tokens", 64)
            right += out["text"].removesuffix("<|im_end|>").strip() == answer
    print(f"{right} of {len(questions)} answers are the taught ones (the reference: 129)")
    assert abs(right - 129) <= 2


def test_inspect_layers():
    """What distinguishes layers is told before anything is loaded."""
    def inspect(name, *args):
        return sluice("inspect", fixture(f"{name}.gguf"), *args).stdout
    assert "4 (2 with a window of 16, 2 without: wAwA)" in inspect("gpt-oss/gpt-oss-mxfp4")
    assert json.loads(inspect("gemma4/gemma4-q4_k_m", "--json"))["layer_windows"] == [16, 0, 16, 0]
    assert "one vector of 64" in inspect("deepseek2/deepseek2-q4_k_m")
    assert "layer_windows" not in json.loads(inspect("glm4moe/glm4moe-q4_k_m", "--json"))
