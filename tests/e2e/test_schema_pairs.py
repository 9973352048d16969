# SPDX-License-Identifier: MIT
"""Description: random schemas whose keywords have to hold together, and random values: sluice grammar accepts exactly those that jsonschema does.

Numbers are decimal on both sides (jsonschema divides floats by multipleOf as floats otherwise)."""
import decimal
import json
import os
import random
import subprocess

from daemon import BUILD
from form_answers import load_jsonschema

COUNT = int(os.environ.get("SCHEMA_PAIRS", "60"))  # schemas; each with a dozen values
PATTERNS = ["^[a-c]+$", "b", "^a.*c$", "^(ab|c){2,3}$", "[0-9]{2}", "^.{3}", "é", "^[^a]*$", "[a-z]-[0-9]", "^20|^1", "@x"]
FORMATS = ["date", "ipv4", "uuid", "email", "hostname", "time"]
STRINGS = ["", "a", "abc", "abcabc", "abab", "cc", "aéc", "🎈é", "12", "a-1", "b\"\\", "2026-12-01", "1999-02-28", "10.0.0.1", "127.0.0.1", "a@x.de", "x@x.org",
           "12345678-1234-1234-1234-123456789abc", "a12345678-1", "host-1.example", "10:00:00Z", "20:59:59.5+01:00", "<b>", "a/c"]
NUMBERS = ["0", "1", "-1", "2", "3", "5", "-5", "7", "10", "12", "0.1", "0.25", "0.5", "-0.5", "0.75", "1.5", "2.5", "-2.5", "99", "100", "100.01", "1000000", "999999"]


def some(rng, options, most):
    return dict(rng.sample(options, rng.randint(2, most)))


def random_string(rng):
    size = rng.randint(0, 12)
    return some(rng, [("pattern", rng.choice(PATTERNS)), ("format", rng.choice(FORMATS)), ("minLength", rng.randint(0, 4)), ("maxLength", size)], 4)


def random_number(rng):
    bound = [decimal.Decimal(rng.choice(NUMBERS)) for _ in range(4)]
    return some(rng, [("multipleOf", decimal.Decimal(rng.choice(["0.01", "0.1", "0.5", "0.25", "2.5", "2", "3", "7", "10", "0.15"]))), ("minimum", bound[0]),
                      ("maximum", bound[1]), ("exclusiveMinimum", bound[2]), ("exclusiveMaximum", bound[3])], 3)


def random_object(rng):
    """(schema, values): names that are not declared stand behind the others."""
    names = "abcd"[:rng.randint(1, 4)]
    closed, required = rng.random() < 0.6, [n for n in names if rng.random() < 0.3]
    schema = {"type": "object", "properties": {n: {"type": "integer"} for n in names}, "required": required, "additionalProperties": not closed,
              **some(rng, [("minProperties", rng.randint(0, 4 if closed else max(1, len(required)))), ("maxProperties", rng.randint(1, 5))], 2)}
    return schema, [dumps({n: 1 for n in names + "xyz" if rng.random() < 0.5}) for _ in range(12)]


def random_case(rng):
    """(schema, values), all as JSON texts or Decimals."""
    strings = [json.dumps(s, ensure_ascii=rng.random() < 0.3) for s in rng.sample(STRINGS, 12)]
    kind = rng.choice(["string", "number", "integer", "enum", "const", "unique", "any", "object"])
    if kind == "object":
        return random_object(rng)
    if kind == "string":
        return {"type": "string", **random_string(rng)}, strings
    if kind in ("number", "integer"):
        return {"type": kind, **random_number(rng)}, rng.sample(NUMBERS, 12)
    mixed = [*map(json.loads, strings[:4]), *map(decimal.Decimal, rng.sample(NUMBERS, 4)), None, True]
    values = strings[:5] + rng.sample(NUMBERS, 7)
    if kind == "enum":
        return {"enum": mixed, **random_string(rng), **random_number(rng)}, [dumps(v) for v in mixed] + values
    if kind == "const":
        return {"const": rng.choice(mixed), **rng.choice([random_string, random_number])(rng)}, [dumps(v) for v in mixed]
    if kind == "unique":
        rng.shuffle(mixed)
        few = mixed[:rng.randint(1, 8)]
        schema = {"type": "array", "items": {"enum": few, **(random_number(rng) if rng.random() < 0.3 else {})}, "uniqueItems": True,
                  **some(rng, [("minItems", rng.randint(0, 3)), ("maxItems", rng.randint(1, 4))], 2)}
        return schema, [dumps([rng.choice(few) for _ in range(rng.randint(0, 4))]) for _ in range(12)] + [dumps(few[:k]) for k in range(4)]
    return {"anyOf": [{"type": "string", **random_string(rng)}, {"type": "number", **random_number(rng)}]}, values


def dumps(v):
    """JSON with a Decimal's own digits."""
    if isinstance(v, decimal.Decimal):
        return str(v)
    if isinstance(v, list):
        return "[" + ",".join(map(dumps, v)) + "]"
    if isinstance(v, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{dumps(x)}" for k, x in v.items()) + "}"
    return json.dumps(v, ensure_ascii=False)


def accepts(path, text):
    """Whether ours does; None: nothing fits the schema. What cannot be held fails."""
    run = subprocess.run([BUILD / "sluice", "grammar", "--schema", path, "--text", "-"], input=text.encode(), capture_output=True, timeout=60)
    assert run.returncode < 2 or b"no text fits" in run.stderr, run.stderr.decode()
    return None if run.returncode == 2 else run.returncode == 0


def test_keywords_hold_together(tmp_path):
    draft = load_jsonschema().Draft202012Validator
    rng, path, valid, wrong = random.Random(COUNT), tmp_path / "s.json", 0, []
    for _ in range(COUNT):
        schema, texts = random_case(rng)
        path.write_text(dumps(schema))
        judge = draft(schema, format_checker=draft.FORMAT_CHECKER)
        for text in dict.fromkeys(texts):
            value = json.loads(text, parse_float=decimal.Decimal, parse_int=lambda i: int(i))
            want, got = judge.is_valid(value), accepts(path, text)
            valid += want
            if want != bool(got):
                wrong.append(f"{dumps(schema)}: {text} is {'valid' if want else 'invalid'}, ours says {got}")
            if got is None:
                break
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
    assert valid > COUNT
