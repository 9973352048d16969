# SPDX-License-Identifier: MIT
"""Description: sampling settings on their way from the command to the engine, with drafts and without."""
import json
import os
import subprocess

import pytest

from daemon import BUILD, DEMO, ROOT, Daemon, sluice

MODEL = ROOT / "tests/data/moe/moe-q4_k_m.gguf"
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def d():
    with Daemon(MODEL, "--ctx", "512") as daemon:
        yield daemon


def answer(d, *args, prompt=("--chat", QUESTION)):
    p = sluice("generate", "--socket", d.socket, "--json", "--max-tokens", 60, *args, *prompt)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout)


def test_min_tokens(d):
    plain = answer(d)
    assert plain["stop_reason"] == "stop" and len(plain["tokens"]) < 40
    longer = answer(d, "--min-tokens", 40)
    assert len(longer["tokens"]) >= 40 and longer["tokens"][:len(plain["tokens"]) - 1] == plain["tokens"][:-1]


def test_penalties_forbid_what_was_said(d):
    story = ("--prompt", "Once upon a time")
    plain = answer(d, "--ignore-eog", prompt=story)["tokens"]
    other = answer(d, "--ignore-eog", "--presence-penalty", 100, "--penalty-last-n", 0, prompt=story)["tokens"]
    assert len(set(plain)) < len(plain) and len(set(other)) == len(other)


def test_drafts_change_nothing(d):
    how = ("--temperature", 0.8, "--seed", 5, "--repeat-penalty", 1.1, "--dry-multiplier", 0.8, "--xtc-probability", 0.3,
           "--typical-p", 0.95, "--top-n-sigma", 3, "--ignore-eog")
    runs = [answer(d, *how, "--spec", kind, prompt=("--prompt", "The cat and the dog and the cat and the"))["tokens"] for kind in ("off", "ngram", "off")]
    assert runs[0] == runs[1] == runs[2]


def test_out_of_range(d):
    p = sluice("generate", "--socket", d.socket, "--repeat-penalty", "-1", "x", check=2)
    assert "--repeat-penalty" in p.stderr


# ---- what only libsluice has: biases, log-probabilities, DRY's texts ----

@pytest.fixture(scope="module")
def program(tmp_path_factory):
    out = tmp_path_factory.mktemp("sampling") / "sampling"
    flags = ["-fsanitize=address,undefined"] if "address" in str(BUILD) else []
    subprocess.run([*os.environ.get("CC", "cc").split(), *flags, "-I", str(ROOT), str(ROOT / "tests/e2e/helpers/sampling.c"),
                    str(BUILD / "libsluice.a"), "-o", str(out)], check=True)
    return out


def test_natively(program):
    with Daemon(DEMO, "--ctx", "512") as d:
        def ask(text, n, *more):
            lines = subprocess.run([str(program), d.socket, text, str(n), *map(str, more)], capture_output=True, text=True,
                                   check=True).stdout.splitlines()
            return [line.split() for line in lines]
        plain = ask("The capital of France is", 6)
        ids = [t[0] for t in plain]
        assert all(t[1] == "0.000000" and len(t) == 3 for t in plain) and len(plain) == 6
        told = ask("The capital of France is", 6, "--logprobs", 3)
        assert [t[0] for t in told] == ids and [t[2] for t in told] == [t[2] for t in plain]
        for t in told:
            likely = [x.split(":") for x in t[3:]]
            values = [float(x[1]) for x in likely]
            assert len(likely) == 3 and likely[0] == [t[0], t[1]] and values == sorted(values, reverse=True) and values[0] <= 0
        assert len(ask("The", 1, "--logprobs", 20)[0]) == 23 and len(ask("The", 1, "--logprobs", 0)[0]) == 3
        assert [t[0] for t in ask("The capital of France is", 3, "--bias", ids[0], "-inf")][0] != ids[0]
        assert [t[0] for t in ask("x", 3, "--bias", 5, -9, "--bias", 7, 900, "--bias", 5, 1000)] == ["5"] * 3  # the last counts
        the = json.loads(sluice("tokenize", "--model", DEMO, "--text", "-", "--json", input=" the").stdout)["tokens"]
        assert len(the) == 1
        again = ("--bias", the[0], 100)  # said over and over, until DRY's growing penalty is more than that
        assert {t[0] for t in ask("x", 12, *again)} == {str(the[0])}
        assert {t[0] for t in ask("x", 12, *again, "--dry", 50)} != {str(the[0])}
        assert {t[0] for t in ask("x", 12, *again, "--dry", 50, "zzz", "the")} == {str(the[0])}
        for wrong in (["--logprobs", 21], ["--bias", 999999, 1], ["--bias", 1, 2000], ["--bias", 1, "nan"], ["--dry", 1, *"abcdefghijklmnopqr"],
                      ["--bias", 1, 1] * 1025, ["--dry", 1, "x" * 1100]):
            assert int(ask("x", 1, *wrong)[0][0]) < 0, wrong[:3]
        assert ask("x", 1)
