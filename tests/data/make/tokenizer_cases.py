#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/tokenizer/demo-cases.json: texts and their ids under the bundled model's 2048-token vocabulary.

usage: tokenizer_cases.py     needs `pip install tokenizers numpy`; nothing else of the project is asked for an id

The ids come from Hugging Face's tokenizers library, set up as the publishers of these vocabularies do: split by the expression,
byte-level BPE with the file's own merges, special tokens as added tokens. Each case: {text, qwen2, qwen35, plain}, one list for each
of the two splits with control tokens parsed, and `plain` with the file's own split (qwen35) and control tokens taken as text.
"""
import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

DATA = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(DATA.parent / "e2e"))
import gguf_file as gf  # noqa: E402

SPLITS = {
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen35": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+"}
NORMAL, CONTROL = 1, 3

# Written for this project; each line is here for what stands behind it.
TEXTS = [
    "Once upon a time there was a clerk in Paris.", "def main(args):\n    return [x ** 2 for x in args if x > 0]\n",
    "class Error(Exception):\n\n\t\"\"\"Says what went wrong.\"\"\"\n", "It's they're we've I'm you'll he'd IT'S THEY'RE WE'VE",
    "'s't're've'm'll'd", "' s 'x ''s", "1 22 333 4444, 5.5e-5 and 0x6F", "a1b2c3 1a2b3c", "word" * 40, "x" * 400, "ab" * 300, "=" * 130,
    " ", "  ", "   lead", "trail   ", "two  spaces   three", " " * 70 + "y", "\n", "\n\n\n", "\r\n\r\nx\r\n", " \n \n x", "\t\t\tx\t y",
    "\x00\x01\x1f\x7f", "\u0085\u00a0\u2003\u2028\u2029\u3000x", "\u200b\u200d\ufeffx", "caf\u00e9, cafe\u0301, na\u00efve, \u0152uvre",
    "e\u0301\u0302\u0303 and \u0301 alone", "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902", "\u0e44\u0e17\u0e22\u0e4c\u0e14\u0e35",
    "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "\u65e5\u672c\u8a9e\u3068 English \u6df7\u5408\u3002", "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0422\u0415\u041a\u0421\u0422",
    "\U0001f44d \U0001f469\u200d\U0001f52c \U0001f3f3\ufe0f\u200d\U0001f308", "\u00b2\u2167\u0663\u07c1 digits", "\u017f\u212a 'S 'T '\u017f",
    "\ue000\U0010ffff", "a\u2014b \u201cquoted\u201d \u2026", "!?.,;: !?.,;:\n!!\r\n??", "_under_score __dunder__ kebab-case", "http://example.org/a?b=c#d",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", "a<|endoftext|>b<|im_end|>", "<|im_start|><|im_start|>",
    "<|im_start", "im_start|>", "<|im_start|", "<||im_end|>|>", "<think>", "< think >", "<think></think><tool_call>{}</tool_call>",
    "  <think>  x", "<|vision_start|><|image_pad|><|vision_end|>", "<tool_response>\n1\n</tool_response>\n"]
PARTS = ["<|im_end|>", "<think>", "</think>", "<|im_", " ", "  ", "\n", "\r\n", "\t", "the", "The", "ing", "return", "self", "1", "42", "'s", "'LL", "'",
         ".", "...", "!=", "\u00e9", "e\u0301", "\u65e5", "\u0e14\u0e35", "\U0001f44d", "\u2003", "\u00a0", "_", "Z", "q", "socket", "ed "]


def texts():
    rng = random.Random(10)
    yield from TEXTS
    for _ in range(160):
        yield "".join(rng.choice(PARTS) for _ in range(rng.randrange(2, 28)))


def build(g, split):
    names, types = g.value("tokenizer.ggml.tokens")[1], g.value("tokenizer.ggml.token_type")[1]
    normal = {n: i for i, (n, t) in enumerate(zip(names, types)) if t == NORMAL}
    t = Tokenizer(models.BPE(vocab=normal, merges=[tuple(m.split(" ")) for m in g.value("tokenizer.ggml.merges")[1]]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    for n, kind in zip(names, types):  # one by one: the library numbers added tokens as they come
        if kind != NORMAL:
            t.add_tokens([AddedToken(n, special=kind == CONTROL, normalized=False)])
    assert all(t.token_to_id(n) == i for i, n in enumerate(names)), "the library numbers tokens otherwise"
    return t


def main():
    g = gf.read(DATA.parents[1] / "models" / "demo-moe-q4_k_m.gguf")
    both = {name: build(g, split) for name, split in SPLITS.items()}
    plain = build(g, SPLITS[g.value("tokenizer.ggml.pre")])
    plain.encode_special_tokens = True
    cases = [{"text": x, **{name: t.encode(x).ids for name, t in both.items()}, "plain": plain.encode(x).ids} for x in texts()]
    print(len(cases), "cases, the splits differ in", sum(c["qwen2"] != c["qwen35"] for c in cases),
          "and control tokens in", sum(c["plain"] != c["qwen35"] for c in cases))
    (DATA / "tokenizer").mkdir(exist_ok=True)
    with open(DATA / "tokenizer" / "demo-cases.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main()
