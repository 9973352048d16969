# SPDX-License-Identifier: MIT
"""Description: a model with one number that is none ends its requests with a sentence, whatever weight holds it.

The bundled model with a NaN or an infinity put into one kind of weight: generation and scoring exit 1 and say so, on
every CPU level. A NaN that only one request meets ends that request; the others, in the same steps and afterwards in
the same place, give the tokens of the unharmed model. One that only a wrong draft meets ends nothing.
"""
import concurrent.futures
import json
import re
import struct

import numpy as np
import pytest

import gguf_file as gf
from daemon import DEMO, Daemon, cpu_levels, sluice
from native import Client

SENTENCE = re.compile(r"the model gave no finite logit( for \d+ of the \d+ tokens of its vocabulary)?: "
                      r"its weights or its state are broken")
PROMPT = "The old man said that"
KINDS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}

# where a block keeps the half that scales it
SCALE = {"Q4_0": 0, "Q4_1": 0, "Q5_0": 0, "Q5_1": 0, "Q8_0": 0, "Q2_K": 80, "Q3_K": 108, "Q4_K": 0, "Q5_K": 0,
         "Q6_K": 208, "IQ4_NL": 0, "IQ4_XS": 0, "F16": 0}


def poison(tensor, row, value):
    """One weight of the row, or the block that holds one, becomes @value."""
    name, _, size = gf.BY_ID[tensor.type]
    data, at = bytearray(tensor.data), row * tensor.row_bytes()
    at += (tensor.row_bytes() // size // 2) * size  # in the middle of the row
    if name == "F32":
        data[at:at + 4] = struct.pack("<f", value)
    else:
        at += SCALE[name]
        data[at:at + 2] = struct.pack("<e", value)
    tensor.data = bytes(data)


def n_rows(tensor):
    return int(np.prod(tensor.ne[1:], dtype=np.int64))


def poison_weights(g, name, value):
    """Experts: a row of each, so that whichever is chosen has it. The embedding: what the prompt begins with."""
    t = g[name]
    if "exps" in name:
        per_expert = n_rows(t) // t.ne[2]
        for e in range(t.ne[2]):
            poison(t, e * per_expert + e % per_expert, value)
    elif name == "token_embd.weight":
        for row in prompt_tokens():
            poison(t, row, value)
    else:
        poison(t, n_rows(t) // 3, value)


def prompt_tokens():
    p = sluice("tokenize", "--model", DEMO, "--text", "-", "--json", input=PROMPT)
    return json.loads(p.stdout)["tokens"]


def weights():
    """One tensor of each kind: the name without the layer's number, the first layer that has it."""
    seen = {}
    for t in gf.read(DEMO).tensors:
        seen.setdefault(re.sub(r"blk\.\d+\.", "", t.name), t.name)
    return list(seen.values())


def write(path, change):
    g = gf.read(DEMO)
    change(g)
    gf.write(g, path)
    return path


@pytest.mark.parametrize("name", weights())
@pytest.mark.parametrize("kind", KINDS)
def test_weight(tmp_path, name, kind):
    model = write(tmp_path / "m.gguf", lambda g: poison_weights(g, name, KINDS[kind]))
    levels = cpu_levels()
    # all levels for the NaN; the infinities take turns, one level each
    turn = (weights().index(name) + list(KINDS).index(kind)) % len(levels)
    for level in levels if kind == "nan" else [levels[turn]]:
        with Daemon(model, "--cpu", level, "--ctx", "256", "--threads", "2") as d:
            p = sluice("generate", "--socket", d.socket, "--prompt", PROMPT, "--max-tokens", "4", "--json", check=1)
            assert SENTENCE.search(p.stdout + p.stderr), p.stdout + p.stderr
            p = sluice("eval", "--socket", d.socket, "--text", "-", "--json", check=1, input=PROMPT)
            assert SENTENCE.search(p.stdout + p.stderr) and "null" not in p.stdout, p.stdout + p.stderr


@pytest.mark.parametrize("level", cpu_levels())
@pytest.mark.parametrize("kv", ["f16", "q8_0"])
def test_others_go_on(tmp_path, level, kv):
    """Token 300's embedding is NaN: only who uses it ends."""
    bad = 300
    rng = np.random.default_rng(5)
    prompts = [[int(t) for t in rng.integers(400, 1500, 12 + i)] for i in range(6)]
    options = ["--cpu", level, "--kv-type", kv, "--ctx", "256", "--parallel", "8", "--threads", "2"]

    def generate(d, ids, check=0):
        return sluice("generate", "--socket", d.socket, "--json", "--prompt-tokens", json.dumps(ids),
                      "--max-tokens", "24", check=check)

    with Daemon(DEMO, *options) as d:
        want = [json.loads(generate(d, p).stdout)["tokens"] for p in prompts]
    assert not any(bad in w for w in want), "the test needs another token"
    model = write(tmp_path / "m.gguf", lambda g: poison(g["token_embd.weight"], bad, float("nan")))
    with Daemon(model, *options) as d, concurrent.futures.ThreadPoolExecutor(12) as pool:
        # in company: every second request holds the bad token
        ended = [pool.submit(generate, d, p[:7] + [bad] + p[7:], 1) for p in prompts]
        good = [pool.submit(generate, d, p) for p in prompts]
        assert [json.loads(r.result().stdout)["tokens"] for r in good] == want
        for r in ended:
            assert SENTENCE.search(r.result().stdout + r.result().stderr)
        # afterwards, in the places that the ended ones left
        assert [json.loads(generate(d, p).stdout)["tokens"] for p in prompts] == want
        assert d.status()["state"] == "ready"


@pytest.mark.parametrize("level", cpu_levels())
@pytest.mark.parametrize("kv", ["f16", "q8_0"])
def test_wrong_draft(tmp_path, level, kv):
    """Drafted tokens whose numbers are none, at positions that do not stay: the answer and its end are those without."""
    ids = [int(t) for t in np.random.default_rng(6).integers(400, 1500, 20)]
    with Daemon(DEMO, "--cpu", level, "--ctx", "256", "--kv-type", kv, "--spec", "off") as d, Client(d.socket) as c:
        c.generate(1, ids, 40)
        want, end = c.answer(1)
    bad = next(t for t in range(300, 2000) if t not in want and t not in ids)
    model = write(tmp_path / "m.gguf", lambda g: poison(g["token_embd.weight"], bad, float("nan")))
    with Daemon(model, "--cpu", level, "--ctx", "256", "--kv-type", kv, "--threads", "2") as d, Client(d.socket) as c:
        for length, every in ((1, 2), (3, 3), (7, 4), (7, 1), (5, 9)):
            c.generate(length, ids, 40, draft=[bad if k % every == 0 else t for k, t in enumerate(want)], draft_length=length)
            assert c.answer(length) == (want, end)
        assert d.status()["speculation"]["by"]["given"]["drafted"] > 100
        # what is drafted and right says what is broken, as it would without drafts
        c.generate(9, [*ids, bad], 40, draft=[1] * 40, draft_length=7)
        assert c.answer(9)[1][0] == "error"


def test_every_format(tmp_path):
    """The output matrix in every format, one block of it broken: a row that nobody would pick still counts."""
    for name in gf.TYPES:
        if name in ("MXFP4", "BF16"):  # no scale that could be a NaN; and a float as F32
            continue
        _, block, size = gf.TYPES[name]

        def change(g, name=name, block=block, size=size):
            n, rows = g["output_norm.weight"].ne[0], 2048
            g.tensors = [t for t in g.tensors if t.name != "output.weight"]
            t = gf.Tensor("output.weight", [n, rows], gf.TYPES[name][0], bytes(n // block * size * rows))
            poison(t, rows - 1, float("inf"))
            g.tensors.append(t)

        model = write(tmp_path / f"{name}.gguf", change)
        for level in cpu_levels():
            with Daemon(model, "--cpu", level, "--ctx", "256", "--threads", "2") as d:
                p = sluice("generate", "--socket", d.socket, "--prompt", PROMPT, "--max-tokens", "2", check=1)
                assert "no finite logit for 1 of the 2048 tokens" in p.stderr, p.stderr
