# SPDX-License-Identifier: MIT
"""Description: verdicts on the fixtures' schemas and masks of grammars and expressions, against xgrammar's (make test-xgrammar). Every difference
is listed here with its reason; one that is not, and one that is there no more, fails."""
import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from daemon import BUILD, ROOT, SHARED, need, need_shared  # noqa: E402
from test_grammar_oracle import ENDS, MODEL, REGEX, WIDE, fnv, grammar_cases, ours, pieces  # noqa: E402

ORACLES = ROOT / "tests" / "e2e" / "oracles"

# schema -> why xgrammar's verdict on at least one of its texts is another
VERDICTS = {
    "integer": "-0 is an integer of JSON; theirs has no sign before a 0",
    "enum of mixed types": "an object within enum: theirs has no blank behind its colon",
    "const object": "the same within const",
    "minLength, maxLength": "characters of counted strings: theirs has no escapes in them",
    "minLength only": "the same",
    "maxLength 200": "the same",
    "pattern with optional parts": "theirs takes texts that the pattern does not match",
    "pattern with quote and backslash": "theirs writes a pattern's characters without JSON's escapes",
    "pattern and length": "theirs passes over a length beside a pattern",
    "pattern without anchors": "a pattern is found anywhere (JSON Schema 6.3.3); theirs matches the whole",
    "open object": "keys beyond the declared ones: ours lets them come where additionalProperties says so",
    "required but not in properties": "theirs passes over required names that are not declared",
    "patternProperties": "open objects beside it: theirs takes no name that fits the pattern alone",
    "allOf of two objects": "theirs takes any value for an allOf of several (it warns so)",
    "allOf with $ref": "the same",
    "allOf narrows": "the same",
    "anyOf beside properties": "theirs passes over what stands beside anyOf",
    "schema true and false": "theirs refuses a property whose schema is false, which ours leaves out",
}
# grammar -> why at least one mask is another
MASKS = {
    ".*end": "a dot of theirs takes the line feed",
    "all characters": "theirs has no dot in its notation",
    "any character": "the same",
    "JSON": "theirs has no empty alternative",
    "empty alternative": "the same",
    "escapes": "theirs has not all of the escapes",
}


@pytest.fixture(scope="module")
def python():
    made = subprocess.run([ROOT / "scripts" / "venv.sh", BUILD / "venv-xgrammar", ORACLES / "xgrammar.txt", "alone"], capture_output=True, text=True)
    need(made.returncode == 0, made.stdout.strip() or made.stderr.strip())
    return BUILD / "venv-xgrammar" / "bin" / "python"


def ask(python, **given):
    p = subprocess.run([python, ORACLES / "xgrammar_masks.py"], input=json.dumps({"masks": [], "schemas": [], **given}), capture_output=True, text=True, timeout=600)
    assert p.returncode == 0, p.stderr[-2000:]
    return json.loads(p.stdout)


def verdict(tmp_path, schema, text):
    """Ours of the schema held leniently, as xgrammar holds what it knows and passes over the rest."""
    (tmp_path / "s").write_text(json.dumps(schema))
    p = subprocess.run([BUILD / "sluice", "grammar", "--schema", tmp_path / "s", "--loose", "--text", "-"], input=text.encode(), capture_output=True, timeout=30)
    return p.stdout.decode().split()[0] if p.returncode in (0, 1) else p.stderr.decode().strip()


def test_schemas(python, tmp_path):
    rows = [r for r in json.load(open(need_shared("fixtures/schemas/cases.json"))) if not r.get("error")]
    cases = [{"schema": r["schema"], "texts": [json.dumps(v, ensure_ascii=False) for k in ("valid", "may", "invalid") for v in r.get(k) or []]
              + [t for k in ("may_text", "invalid_text") for t in r.get(k) or []]} for r in rows]
    tokens = [bytes([b]).hex() for b in range(256)] + [b"<end>".hex()]
    differ, n = {}, 0
    for row, case, theirs in zip(rows, cases, ask(python, tokens=tokens, ends=[256], schemas=cases)["schemas"]):
        if isinstance(theirs, str):
            differ[row["name"]] = [theirs]
            continue
        for text, their in zip(case["texts"], theirs):
            mine = verdict(tmp_path, case["schema"], text)
            n += 1
            if (mine == "accepted") != (their == "accepted"):
                differ.setdefault(row["name"], []).append(f"{text}: {mine}, theirs {their}")
    print(f"{n} texts of {len(rows)} schemas; another verdict on {sum(map(len, differ.values()))} of {len(differ)} schemas")
    new = {k: v for k, v in differ.items() if k not in VERDICTS}
    assert not new, "\n".join(f"{k}: {v[:4]}" for k, v in new.items())
    assert not set(VERDICTS) - set(differ), f"no difference any more: {set(VERDICTS) - set(differ)}"


def compare(python, tmp_path, model, cases):
    """Grammars whose masks differ, with the first place."""
    tokens, special, ends = pieces(model)
    differ = {}
    for case, theirs in zip(cases, ask(python, tokens=tokens, ends=ends, masks=cases)["masks"]):
        name = case.get("name") or case["grammar"]
        if isinstance(theirs, str):
            differ[name] = theirs
            continue
        lines, _ = ours(tmp_path, model, case)
        for line, ids in zip(lines, theirs):
            text = [i for i in ids if i not in special or i in ends]
            either = (text, [i for i in text if i not in ends], sorted(set(text) | set(ends)) if set(text) & set(ends) else text)
            if not any(int(line[1]) == len(x) and line[2] == fnv(x) for x in either):
                differ[name] = f"at byte {line[0]} of {case['text'][:40]!r}: {line[1]} tokens, theirs {len(text)}"
                break
    return differ


def check(differ, known):
    new = {k: v for k, v in differ.items() if k not in MASKS}
    assert not new, "\n".join(f"{k!r}: {v}" for k, v in new.items())
    gone = {k for k in MASKS if k in known} - set(differ)
    assert not gone, f"no difference any more: {gone}"


def test_masks_of_expressions(python, tmp_path):
    cases = [{"kind": "regex", "grammar": g, "text": t} for g, t in REGEX]
    check(compare(python, tmp_path, MODEL, cases), {g for g, _ in REGEX})


def test_masks_of_grammars(python, tmp_path):
    cases = grammar_cases(json.load(open(ROOT / "tests/data/schemas/grammar_rows.json")))
    check(compare(python, tmp_path, MODEL, cases), {c["name"] for c in cases})


def test_masks_of_the_fixtures_grammars(python, tmp_path):
    cases = grammar_cases(json.load(open(need_shared("fixtures/schemas/grammars.json"))))
    check(compare(python, tmp_path, MODEL, cases), {c["name"] for c in cases})


def test_masks_over_a_published_vocabulary(python, tmp_path):
    cases = grammar_cases(json.load(open(need_shared("fixtures/schemas/grammars.json"))), WIDE)
    check(compare(python, tmp_path, SHARED / "fixtures/tokenizer/qwen-vocab.gguf", cases), set())
