# SPDX-License-Identifier: MIT
"""Description: texts are cut as the published patterns cut them, run by Python's regex module.

The patterns are those of the models' own tokenizer files, character for character; several of one tokenizer cut the
pieces of each other. Texts are random: characters that the patterns tell apart, and any Unicode whose class has not
changed since 3.2, so that the module's tables and PCRE2's agree.
"""
import random
import struct
import subprocess
import unicodedata

import pytest

from daemon import ROOT

regex = pytest.importorskip("regex", reason="the module regex (Debian: python3-regex) is not installed")

TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL)
PUBLISHED = {
    "gpt-2": [r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"],
    "qwen2": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL],
    "qwen35": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
               r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL],
    "glm4": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL],
    "gpt-4o": [O200K],
    "minimax-m2": [O200K],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
                    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
                    r"| ?[\p{P}\p{S}]+[\r\n]*" + TAIL],
    "gemma4": [r"[^\n]+|[\n]+"],
}
SAME = {"chatglm-bpe": "glm4", "hunyuan-dense": "deepseek-v3", "deepseek-r1-qwen": "qwen2", "llama4": "gpt-4o"}

TELLING = ("   \n\n\r\t\v\x85\xa0\u1680\u180e\u2003\u2028\u200b\u202f\u3000\ufeff''''sStrRevEmlLdDABab\u017f\xe9\u212a"
           "\u01c5\u02b0\u16a0\u4e00\u9fa5\u3042\u30fb\u3099\u30ff\U000104001234\xb2\u2167\u0660\U0001d7ce\u0301\u0301\u093f"
           "\u20dd\u200d.,!_/<=-#\u2014\ue000\0\x7f")
TEXTS = 8000


def stable():
    """Characters that were assigned in Unicode 3.2 and are of the same class today."""
    old = unicodedata.ucd_3_2_0
    return [chr(c) for c in range(0x110000)
            if old.category(chr(c)) not in ("Cn", "Cs") and old.category(chr(c)) == unicodedata.category(chr(c))]


@pytest.fixture(scope="module")
def texts():
    rng, every = random.Random(5), stable()
    letters = [c for c in every if unicodedata.category(c)[0] == "L" and not 0x3400 <= ord(c) < 0xd800]
    out = ["The HTTPServer's fooBar() isn't 12345 km\u00b2 away;\r\n\r\n  x = y/2  // \u65e5\u672c\u8a9e\u3067\u3059\u3002 "]
    for i in range(TEXTS):
        pools = rng.choices((TELLING, every, letters, "aB' \n1"), k=1 + i % 3)
        out.append("".join(rng.choice(rng.choice(pools)) for _ in range(1 + rng.randrange(24))))
    return out


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    out = tmp_path_factory.mktemp("pieces") / "pieces"
    sources = [str(p) for p in sorted((ROOT / "daemon" / "model").glob("pretok*.c"))]
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-std=gnu11", f"-I{ROOT}", f"-I{ROOT / 'daemon'}",
                    str(ROOT / "tests" / "e2e" / "helpers" / "pieces.c"), *sources, "-lpcre2-8", "-lpthread", "-o",
                    str(out)], check=True)
    return out


def ours(program, kind, texts):
    data = [t.encode("utf-8", "surrogatepass") for t in texts]
    p = subprocess.run([str(program), kind], input=b"".join(struct.pack("<I", len(d)) + d for d in data),
                       capture_output=True, timeout=300)
    assert p.returncode == 0, kind
    words = struct.unpack(f"<{len(p.stdout) // 4}I", p.stdout)
    at, out = 0, []
    for d in data:
        n = words[at]
        lengths, at, pos, pieces = words[at + 1:at + 1 + n], at + 1 + n, 0, []
        for k in lengths:
            pieces.append(d[pos:pos + k].decode())
            pos += k
        out.append(pieces)
    return out


def published(patterns, text):
    """Each pattern cuts the pieces so far into its matches and what lies between them."""
    pieces = [text]
    for pattern in patterns:
        cut = []
        for piece in pieces:
            at = 0
            for m in pattern.finditer(piece):
                cut += [piece[at:m.start()], m.group()]
                at = m.end()
            cut.append(piece[at:])
        pieces = [c for c in cut if c]
    return pieces


@pytest.mark.parametrize("kind", [*PUBLISHED, *SAME])
def test_pieces(program, texts, kind):
    patterns = [regex.compile(p) for p in PUBLISHED[SAME.get(kind, kind)]]
    for text, got in zip(texts, ours(program, kind, texts)):
        assert got == published(patterns, text), f"{kind}: {text!r}"


def test_texts_tell_kinds_apart(texts):
    """What a pattern is compared on makes it differ from every other that is not the same."""
    cuts = {k: [published([regex.compile(p) for p in PUBLISHED[k]], t) for t in texts[:1500]] for k in PUBLISHED}
    for a in cuts:
        for b in cuts:
            assert (cuts[a] == cuts[b]) == (PUBLISHED[a] == PUBLISHED[b]), (a, b)
