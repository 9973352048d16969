# SPDX-License-Identifier: MIT
"""Description: sampling settings on their way from the command to the engine, with drafts and without."""
import json

import pytest

from daemon import ROOT, Daemon, sluice

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
