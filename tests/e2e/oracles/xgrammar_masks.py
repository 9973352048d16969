# SPDX-License-Identifier: MIT
"""What xgrammar allows. In a virtual environment of its own (xgrammar.txt), without PyTorch and transformers: xgrammar takes masks in any array
that speaks DLPack, and needs of these two, which are some gigabytes, a few names only; they stand below.

Input, JSON: {tokens: [hex], ends: [id], masks: [{kind: "gbnf" | "regex", grammar, text}], schemas: [{schema, texts}]}.
Output, JSON: {masks: for each a list of [ids] by byte, up to the first byte that is rejected; or an error,
schemas: for each a list of accepted | incomplete | rejected; or an error}."""
import json
import sys
import types

import numpy
import tvm_ffi  # noqa: F401  before torch stands for something: it looks whether there is one



class Stub(types.ModuleType):
    """Types of elements are numpy's; any other name is a type that nothing is of."""
    Tensor, dtype, __version__ = type("Tensor", (), {}), numpy.dtype, "0"
    tensor = staticmethod(lambda v, dtype=None, **k: numpy.array(v, dtype=dtype))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(numpy, name, None) or type(name, (), {})
        setattr(self, name, value)
        return value


sys.modules.update(torch=Stub("torch"), transformers=Stub("transformers"))
import xgrammar  # noqa: E402

given = json.load(sys.stdin)
tokens = [bytes.fromhex(t) for t in given["tokens"]]
by_byte = {t[0]: i for i, t in enumerate(tokens) if len(t) == 1}
info = xgrammar.TokenizerInfo(tokens, vocab_type=xgrammar.VocabType.RAW, vocab_size=len(tokens), stop_token_ids=given["ends"])
compiler = xgrammar.GrammarCompiler(info, max_threads=1)
words = (len(tokens) + 31) // 32


def masks(case):
    g = compiler.compile_regex(case["grammar"]) if case["kind"] == "regex" else compiler.compile_grammar(case["grammar"])
    m, out = xgrammar.GrammarMatcher(g), []
    for byte in [*case["text"].encode(), None]:
        bits = numpy.full((1, words), -1, numpy.int32)
        m.fill_next_token_bitmask(bits)
        flags = numpy.unpackbits(bits.view(numpy.uint8)[0], bitorder="little")[:len(tokens)]
        out.append([int(t) for t in numpy.nonzero(flags)[0]])
        if byte is None or not m.accept_token(by_byte[byte]):
            break
    return out


def verdicts(case):
    g = compiler.compile_json_schema(json.dumps(case["schema"]), any_whitespace=True, strict_mode=False)
    out = []
    for text in case["texts"]:
        m = xgrammar.GrammarMatcher(g)
        ok = all(m.accept_token(by_byte[b]) for b in text.encode())
        out.append("rejected" if not ok else "accepted" if m.accept_token(given["ends"][0]) else "incomplete")
    return out


def each(run, cases):
    answers = []
    for case in cases:
        try:
            answers.append(run(case))
        except Exception as e:  # a grammar that it does not take
            answers.append(f"{type(e).__name__}: {e}"[:300])
    return answers


json.dump({"masks": each(masks, given["masks"]), "schemas": each(verdicts, given["schemas"])}, sys.stdout)
