#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Cuts the wide matrix of fixtures (SHARED/fixtures) down to what a clone carries in tests/data.

usage: cut.py FIXTURES [--check]     writes tests/data beside this script; --check only compares, exit 1 if it differs

Models and blocks are copied. A reference keeps its tokens, prompts and bounds, and the first ROWS rows of logits, with nll and
perplexity computed again over those rows. llama.cpp's own distance is left out: it was measured over all rows.
"""
import io
import json
import pathlib
import sys

import numpy

ROWS = 64
DATA = pathlib.Path(__file__).resolve().parents[1]
MODELS = {"moe/moe-q4_k_m": False, "dense/dense-q4_k_m": True, "qwen3moe/qwen3moe-q2_k": True,
          "glm4moe/glm4moe-q4_k_m": True, "minimax-m2/minimax-m2-q4_k_m": True,
          "gpt-oss/gpt-oss-mxfp4": True, "gemma4/gemma4-q4_k_m": True,
          "deepseek2/deepseek2-q4_k_m": True}  # False: the bundled model
FORMATS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4",
           "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_S", "IQ3_XXS", "TQ1_0", "TQ2_0")  # IQ1_M: iq1_m.py


def nll(logits, tokens):
    """Mean over the tokens that a row of @logits stands before, in nats."""
    x = logits.astype(numpy.float64)
    x -= x.max(1, keepdims=True)
    x -= numpy.log(numpy.exp(x).sum(1, keepdims=True))
    return float(-x[numpy.arange(len(x) - 1), tokens[1:len(x)]].mean())


def cut_reference(base):
    """(bytes of the .json, bytes of the .npy) with ROWS rows."""
    ref = json.load(open(f"{base}.json"))
    logits = numpy.load(f"{base}.npy")[:ROWS]
    loss = nll(logits, ref["tokens"])
    kept = {k: v for k, v in ref.items() if k not in ("llama_cpp", "bound_kl")}
    kept.update(nll=loss, perplexity=float(numpy.exp(loss)), rows=ROWS)
    packed = io.BytesIO()
    numpy.save(packed, logits)
    return (json.dumps(kept) + "\n").encode(), packed.getvalue()


def wanted(fixtures):
    """Yields (name under tests/data, bytes)."""
    for name, copied in MODELS.items():
        yield f"{name}.json", cut_reference(fixtures / name)[0]
        yield f"{name}.npy", cut_reference(fixtures / name)[1]
        if copied:
            yield f"{name}.gguf", (fixtures / f"{name}.gguf").read_bytes()
    for name in FORMATS:
        for suffix in (".blocks", ".f32"):
            yield f"quants/{name}{suffix}", (fixtures / "quants" / f"{name}{suffix}").read_bytes()
    yield "questions.json", (fixtures / "questions.json").read_bytes()


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["--check"]):
        sys.exit(__doc__)
    differ = 0
    for name, data in wanted(pathlib.Path(sys.argv[1])):
        path = DATA / name
        if len(sys.argv) == 3:
            if not path.exists() or path.read_bytes() != data:
                print(f"tests/data/{name} is not what cut.py makes of the fixtures", file=sys.stderr)
                differ = 1
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    sys.exit(differ)


if __name__ == "__main__":
    main()
