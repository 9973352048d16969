# SPDX-License-Identifier: MIT
"""Description: masks of GBNF and regular expressions against llguidance's, token for token at each byte.

llguidance runs in a virtual environment (scripts/venv.sh); where the registry of packages cannot be reached the tests are
skipped by name. What differs is listed here with its reason."""
import json
import subprocess

import pytest

import gguf_file
from daemon import BUILD, ROOT, SHARED, need, need_shared

ORACLES = ROOT / "tests" / "e2e" / "oracles"
MODEL = ROOT / "tests/data/moe/moe-q4_k_m.gguf"

REGEX = [("[a-c]+x?", "abcx"), ("(foo|bar){2,3}", "foobar"), ("([0-9]{1,3}\\.){3}[0-9]{1,3}", "10.255.0.1"), ("[^\\n]{3,20}", "a é 🎈 text"), (".*end", "the end"),
         ("\"[^\"]*\"", "\"Grüße\""), ("a{0,40}b", "aaab"), ("x{35,70}", "x" * 40), ("(?:ab?c|a)+", "abcaac"), ("[A-Z][a-z]+( [a-z]+)*\\.", "Some words.")]

# (name, why): grammars whose masks differ, or that llguidance does not take
DIFFER = {
    "all characters": "a dot of GBNF is any character; llguidance's converter makes it a regular expression's, without the line feed",
    "nested counts": "llguidance's converter writes a count behind a count, which its own reader refuses",
    "escapes of code points": "llguidance's converter does not know the escape \\-",
}
# Not compared: "arithmetic" and "ambiguous", where llguidance's lexer takes the longest word (a line end is white space to it, and
# 13 tokens that can follow "aa" are 11), and "unicode literals and classes", whose \\U its converter writes wrongly.
WIDE = ["classes and repetition", "JSON", "tagged call", "counts"]
ENDS = ["<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]


def pieces(path):
    """(bytes of each token as hex, special ids, ids that end) of a file with a byte-level vocabulary."""
    g = gguf_file.read(path)
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in visible]
    table = {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(rest)}
    texts, kinds = g.value("tokenizer.ggml.tokens")[1], g.value("tokenizer.ggml.token_type")[1]
    special = [i for i, k in enumerate(kinds) if k in (2, 3, 5)]
    tokens = [t.encode() if k != 1 else bytes(table[c] for c in t) for t, k in zip(texts, kinds)]
    ends = [i for i, t in enumerate(texts) if t in ENDS]
    return [t.hex() for t in tokens], special, ends


def fnv(ids):
    h = 14695981039346656037
    for i in ids:
        for byte in i.to_bytes(4, "little"):
            h = (h ^ byte) * 1099511628211 % 2**64
    return f"{h:016x}"


def ours(tmp_path, model, case):
    (tmp_path / "g").write_text(case["grammar"])
    run = subprocess.run([BUILD / "sluice", "grammar", f"--{case['kind']}", tmp_path / "g", "--text", "-", "--model", model], input=case["text"].encode(), capture_output=True, timeout=60)
    assert run.returncode in (0, 1), run.stderr
    return [line.split() for line in run.stdout.decode().splitlines()[:-1]], run.stdout.decode().splitlines()[-1]


@pytest.fixture(scope="module")
def python():
    made = subprocess.run([ROOT / "scripts" / "venv.sh", BUILD / "venv-oracles", ORACLES / "requirements.txt"], capture_output=True, text=True)
    need(made.returncode == 0, made.stdout.strip() or made.stderr.strip())
    return BUILD / "venv-oracles" / "bin" / "python"


def compare(python, tmp_path, model, cases):
    tokens, special, ends = pieces(model)
    p = subprocess.run([python, ORACLES / "masks.py"], input=json.dumps({"tokens": tokens, "special": special, "ends": ends, "cases": cases}), capture_output=True, text=True, timeout=300)
    assert p.returncode == 0, p.stderr[-2000:]
    bad = []
    for case, theirs in zip(cases, json.loads(p.stdout)):
        if case.get("name") in DIFFER:
            continue
        if isinstance(theirs, str):
            bad.append((case["grammar"][:80], theirs))
            continue
        lines, last = ours(tmp_path, model, case)
        for line, ids in zip(lines, theirs):
            if ids is None:
                continue
            either = (ids, sorted(ids + ends))  # the end is told apart from the text's tokens here
            if not any(int(line[1]) == len(x) and line[2] == fnv(x) for x in either):
                bad.append((case["grammar"][:80], case["text"][:60], line, len(ids)))
                break
    assert not bad, "\n".join(map(str, bad))
    return len(cases)


def grammar_cases(rows, names=None):
    return [{"kind": "gbnf", "name": r["name"], "grammar": r["grammar"], "text": r["accepted"][-1]} for r in rows if not r.get("error") and (not names or r["name"] in names)]


def test_expressions(python, tmp_path):
    compare(python, tmp_path, MODEL, [{"kind": "regex", "grammar": g, "text": t} for g, t in REGEX])


def test_grammars_of_our_own(python, tmp_path):
    compare(python, tmp_path, MODEL, grammar_cases(json.load(open(ROOT / "tests/data/schemas/grammar_rows.json"))))


def test_grammars_over_a_published_vocabulary(python, tmp_path):
    need_shared("fixtures/schemas/grammars.json")
    cases = grammar_cases(json.load(open(SHARED / "fixtures/schemas/grammars.json")), WIDE)
    assert compare(python, tmp_path, SHARED / "fixtures/tokenizer/qwen-vocab.gguf", cases) == len(WIDE)
