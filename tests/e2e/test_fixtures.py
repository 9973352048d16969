# SPDX-License-Identifier: MIT
"""Description: every fixture model through the real daemon, against its reference logits.

Greedy continuations equal the reference, mean and median KL lie within the bounds written beside each
model, perplexity within 1 %: for every CPU level of this machine.
"""
import json

import numpy
import pytest

from daemon import DEMO, FIXTURES, Daemon, cpu_levels, need_shared

MODELS = ["moe/moe-q4_k_m", "moe/moe-mtp-q4_k_m", "dense/dense-f16", "dense/dense-q4_k_m"] + [
    f"qwen3moe/qwen3moe-{t}" for t in ("f16", "q8_0", "q4_k_m", "q2_k", "q3_k_m", "q5_k_m", "q6_k", "iq4_xs",
                                       "iq4_nl", "q4_0", "mxfp4")]


def log_softmax(x):
    x = x.astype(numpy.float64)
    x = x - x.max(-1, keepdims=True)
    return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))


def kl(reference, ours):
    p, q = log_softmax(reference), log_softmax(ours)
    return (numpy.exp(p) * (p - q)).sum(-1)


def check_logits(d, ref, expected, name):
    result, logits = d.eval_ids(ref["tokens"])
    assert logits.shape == expected.shape and logits.dtype == numpy.float32
    assert result["tokens"] == len(ref["tokens"])
    divergence = kl(expected, logits)
    peer = ref.get("llama_cpp", {})
    print(f"{name}: mean KL {divergence.mean():.3g} (bound {ref['bound_mean_kl']:.3g}, llama.cpp "
          f"{peer.get('mean_kl', float('nan')):.3g}), median {numpy.median(divergence):.3g} "
          f"(bound {ref['bound_median_kl']:.3g}, llama.cpp {peer.get('median_kl', float('nan')):.3g}), "
          f"perplexity {result['perplexity']:.4f} (reference {ref['perplexity']:.4f})")
    assert divergence.mean() <= ref["bound_mean_kl"]
    assert numpy.median(divergence) <= ref["bound_median_kl"]
    assert abs(result["perplexity"] / ref["perplexity"] - 1) <= 0.01
    nll = -log_softmax(logits)[numpy.arange(len(logits) - 1), ref["tokens"][1:]].mean()
    assert abs(nll - result["nll"]) < 1e-5
    return divergence


@pytest.mark.parametrize("level", cpu_levels())
@pytest.mark.parametrize("name", MODELS)
def test_fixture(name, level):
    need_shared()
    ref = json.load(open(FIXTURES / f"{name}.json"))
    expected = numpy.load(FIXTURES / f"{name}.npy")
    with Daemon(FIXTURES / f"{name}.gguf", "--cpu", level) as d:
        assert d.status()["cpu"] == level
        check_logits(d, ref, expected, f"{name} {level}")
        for g in ref["greedy"]:
            n = len(g["ids"])
            out = d.generate_ids(g["prompt"], "--max-tokens", n)
            assert out["tokens"][:n] == g["ids"], f"{name} {level}: {g['text']!r}"


def test_split_equals_single():
    need_shared()
    ref = json.load(open(FIXTURES / "dense/dense-q4_k_m.json"))
    with Daemon(FIXTURES / "dense/dense-q4_k_m.gguf") as d:
        _, one = d.eval_ids(ref["tokens"])
    with Daemon(FIXTURES / "dense/split/dense-q4_k_m-00001-of-00003.gguf") as d:
        _, split = d.eval_ids(ref["tokens"])
    assert (one == split).all()


def test_questions():
    """The bundled model answers what it was taught: the reference gets 129 of 176."""
    need_shared()
    questions = json.load(open(FIXTURES / "questions.json"))
    right = 0
    with Daemon(DEMO) as d:
        for question, answer in questions:
            out = d.generate("--chat", "--prompt", question, "--max-tokens", 64)
            right += out["text"].removesuffix("<|im_end|>").strip() == answer
    print(f"{right} of {len(questions)} answers are the taught ones (the reference: 129)")
    assert abs(right - 129) <= 2
