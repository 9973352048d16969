# SPDX-License-Identifier: MIT
"""The tokens that llguidance allows at each byte of texts. In a virtual environment of its own (requirements.txt).

Input, JSON: {tokens: [hex], special: [id], ends: [id], cases: [{kind: "gbnf" | "regex", grammar, text}]}.
Output, JSON: for each case a list of [ids] by byte, without special tokens, up to the first byte that is rejected; or an error.
Where the next bytes are forced llguidance allows their usual tokens alone: null stands there."""
import json
import sys

import numpy
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import gbnf_to_lark


class Tokens:
    def __init__(self, given):
        self.tokens = [bytes.fromhex(t) for t in given["tokens"]]
        self.eos_token_id, self.bos_token_id = given["ends"][0], None
        self.special_token_ids = given["special"]
        self.by_byte = {t[0]: i for i, t in enumerate(self.tokens) if len(t) == 1 and i not in set(given["special"])}

    def __call__(self, text):
        return [self.by_byte[b] for b in text]


def masks(tokens, tokenizer, case):
    grammar = LLMatcher.grammar_from_regex(case["grammar"]) if case["kind"] == "regex" else LLMatcher.grammar_from_lark(gbnf_to_lark(case["grammar"]))
    m = LLMatcher(tokenizer, grammar)
    special = set(tokens.special_token_ids)
    out = []
    for i, byte in enumerate([*case["text"].encode(), None]):
        if m.is_error():
            raise ValueError(m.get_error())
        bits = numpy.unpackbits(numpy.frombuffer(m.compute_bitmask(), dtype=numpy.uint8), bitorder="little")[:len(tokens.tokens)]
        out.append(None if m.compute_ff_bytes() else [int(t) for t in numpy.nonzero(bits)[0] if int(t) not in special])
        if byte is None or not m.try_consume_tokens([tokens.by_byte[byte]]):
            break
    return out


given = json.load(sys.stdin)
tokens = Tokens(given)
tokenizer = LLTokenizer(TokenizerWrapper(tokens))
answers = []
for case in given["cases"]:
    try:
        answers.append(masks(tokens, tokenizer, case))
    except Exception as e:  # a grammar that it does not take
        answers.append(str(e)[:300])
json.dump(answers, sys.stdout)
