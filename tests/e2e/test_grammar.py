# SPDX-License-Identifier: MIT
"""Description: sluice grammar: verdicts, exit statuses, and the tokens of a model at each byte."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLUICE = pathlib.Path(os.environ.get("BUILD", ROOT / "build")) / "sluice"
MODEL = ROOT / "tests/data/moe/moe-q4_k_m.gguf"


def grammar(tmp_path, kind, text, given, *more):
    path = tmp_path / "grammar"
    path.write_text(text)
    run = subprocess.run([SLUICE, "grammar", f"--{kind}", path, "--text", "-", *more], input=given.encode(), capture_output=True, timeout=30)
    return run.returncode, run.stdout.decode(), run.stderr.decode()


@pytest.mark.parametrize("kind, text, given, status, said", [
    ("gbnf", 'root ::= "a" [0-9]{2}', "a12", 0, "accepted"),
    ("gbnf", 'root ::= "a" [0-9]{2}', "a1", 1, "incomplete at byte 2"),
    ("gbnf", 'root ::= "a" [0-9]{2}', "a1b", 1, "rejected at byte 2"),
    ("regex", "é+\n", "ééé", 0, "accepted"),
    ("schema", '{"type": "integer", "maximum": 7}', "7", 0, "accepted"),
    ("schema", '{"type": "integer", "maximum": 7}', "8", 1, "rejected at byte 0"),
    ("schema", "true", "[null]", 0, "accepted"),
    ("schema", '{"const": 123456789012345678901}', "123456789012345678901", 0, "accepted"),
    ("schema", '{"type": "integer", "maximum": 100000000000000000000}', "99999999999999999999", 0, "accepted"),
])
def test_verdicts(tmp_path, kind, text, given, status, said):
    assert grammar(tmp_path, kind, text, given) == (status, said + "\n", "")


@pytest.mark.parametrize("kind, text, why", [
    ("gbnf", "root ::= x", "there is no rule x"), ("regex", "(a)\\1", "a reference to a group cannot be held"),
    ("schema", '{"not": {}}', "not cannot be held"), ("schema", '{"type": "x"}', "type x"), ("schema", "{", "no JSON"),
])
def test_what_cannot_be_held(tmp_path, kind, text, why):
    status, out, err = grammar(tmp_path, kind, text, "x")
    assert (status, out) == (2, "") and why in err and err.count("\n") == 1


def test_loose(tmp_path):
    text = '{"type": "string", "not": {"const": "x"}}'
    assert grammar(tmp_path, "schema", text, '"x"')[0] == 2
    assert grammar(tmp_path, "schema", text, '"x"', "--loose")[0] == 0


def test_tokens_at_each_byte(tmp_path):
    status, out, err = grammar(tmp_path, "gbnf", 'root ::= "ab" "c"?', "abc", "--model", MODEL)
    lines = [line.split() for line in out.splitlines()]
    assert status == 0 and lines.pop() == ["accepted"]
    assert [line[0] for line in lines] == ["0", "1", "2", "3"]
    ends = int(lines[3][1])  # only what ends an answer
    ids = {t: json.loads(subprocess.run([SLUICE, "tokenize", "-m", MODEL, "--json", t], capture_output=True, text=True).stdout)["tokens"] for t in ("b", "c")}
    assert all(len(v) == 1 for v in ids.values()) and ends >= 1
    hash = 14695981039346656037
    for byte in ids["b"][0].to_bytes(4, "little"):
        hash = (hash ^ byte) * 1099511628211 % 2**64
    # at byte 1: b, and bc where there is such a token
    assert int(lines[1][1]) in (1, 2) and (int(lines[1][1]) == 2 or lines[1][2] == f"{hash:016x}")
    assert int(lines[2][1]) == ends + 1
