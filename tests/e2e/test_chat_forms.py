# SPDX-License-Identifier: MIT
"""Description: --chat writes what the file's own template renders for one user turn.

The vocabulary is the bundled model's with the family's control tokens in place of plain ones; ids must equal those of the
rendered text with control tokens parsed. Only the date, which is today's, is put aside. Where a file has no template, the fixed
form of its family is what its published template renders, without a default system prompt and without a date.
"""
import datetime
import json

import pytest

import gguf_file as gf
from daemon import DEMO, need_shared, sluice

CONTROL = 3
GLM = ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<think>", "</think>", "/nothink"]
MINIMAX = ["]~!b[", "]~b]", "[e~[", "<think>"]
GEMMA = ["<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>"]
HARMONY = ["<|start|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"]
DEEPSEEK = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<｜end▁of▁sentence｜>"]
KIMI = ["<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>"]
DATE = "\nCurrent date: 2026-03-05"

# architecture, template, control tokens, cases and the options that stand for them
FORMS = [
    ("glm4moe", "GLM-4.6.jinja", GLM, {"one": ["--think"], "system": ["--think"], "no_think": ["--no-think"], "think_on": ["--think"]}),
    ("minimax-m2", "MiniMax-M2.jinja", MINIMAX, {"one": [], "system": []}),
    ("gpt-oss", "openai-gpt-oss-120b.jinja", HARMONY, {"one": [], "system": []}),
    ("gemma4", "google-gemma-4-31B-it.jinja", GEMMA, {"one": [], "system": [], "no_think": ["--no-think"], "think_on": ["--think"]}),
    ("deepseek2", "deepseek-ai-DeepSeek-V3.1.jinja", DEEPSEEK, {"one": [], "system": [], "no_think": ["--no-think"],
                                                               "think_on": ["--think"]}),
    ("deepseek2", "moonshotai-Kimi-K2.jinja", KIMI, {"one": [], "system": []}),
    ("deepseek2", "GLM-4.6.jinja", GLM, {"one": ["--think"], "no_think": ["--no-think"]}),
]


def vocabulary(path, arch, template, tokens):
    """The bundled vocabulary without ChatML, of another family, with @tokens as control tokens."""
    demo = gf.read(DEMO)
    keys = {k: v for k, v in demo.keys.items() if k.startswith("tokenizer.")}
    texts = list(keys["tokenizer.ggml.tokens"][1][1])
    types = list(keys["tokenizer.ggml.token_type"][1][1])
    plain = [i for i in range(1000, 2000) if types[i] == 1][-len(tokens):]
    texts = [t.replace("<|im_", "<|was_") for t in texts]
    for i, t in enumerate(texts):
        if t in ("<think>", "</think>"):
            texts[i] = t.replace("think", "thought")
    for i, token in zip(plain, tokens):
        texts[i], types[i] = token, CONTROL
    known = set(texts)
    merges = [m for m in keys["tokenizer.ggml.merges"][1][1] if m.replace(" ", "", 1) in known and set(m.split(" ", 1)) <= known]
    keys["tokenizer.ggml.tokens"] = (gf.ARRAY, (gf.STRING, texts))
    keys["tokenizer.ggml.token_type"] = (gf.ARRAY, (gf.I32, types))
    keys["tokenizer.ggml.merges"] = (gf.ARRAY, (gf.STRING, merges))
    keys.pop("tokenizer.chat_template")
    if template:
        keys["tokenizer.chat_template"] = (gf.STRING, template)
    keys["general.architecture"] = (gf.STRING, arch)
    gf.write(gf.Gguf(keys=keys), path)


def ids(*args):
    return json.loads(sluice("tokenize", *args, "--json").stdout)["tokens"]


# where a file has no template: what of the above the fixed forms write, which have no system prompt of their own
FIXED = [(arch, template, tokens, {c: o for c, o in cases.items() if c != "one" or template not in ("MiniMax-M2.jinja", "moonshotai-Kimi-K2.jinja")})
         for arch, template, tokens, cases in FORMS if "DeepSeek" not in template]


def compare(path, template, cases, date):
    rows = [c for c in json.load(open(need_shared("fixtures/templates") / "cases.json"))
            if c["template"] == template and c["case"] in cases and not c["tools"]]
    assert {c["case"] for c in rows} == set(cases)
    for row in rows:
        system = next((m["content"] for m in row["messages"] if m["role"] == "system"), None)
        user = row["messages"][-1]["content"]
        rendered = row["rendered"].removeprefix("<s>").replace(DATE, date)
        want = ids("--model", path, "--special", "--prompt", rendered)
        got = ids("--model", path, "--chat", "--prompt", user, *(["--system", system] if system else []), *cases[row["case"]])
        text = json.loads(sluice("tokenize", "--model", path, "--special", "--ids", json.dumps(got), "--json").stdout)["text"]
        assert text == rendered and got == want, f"{template} {row['case']}"


@pytest.mark.parametrize("arch, template, tokens, cases", FORMS, ids=lambda v: v if isinstance(v, str) else "")
def test_template(tmp_path, arch, template, tokens, cases):
    path = tmp_path / "vocabulary.gguf"
    vocabulary(path, arch, (need_shared("fixtures/templates") / template).read_text(), tokens)
    compare(path, template, cases, f"\nCurrent date: {datetime.date.today()}")


@pytest.mark.parametrize("arch, template, tokens, cases", FIXED, ids=lambda v: v if isinstance(v, str) else "")
def test_fixed_form(tmp_path, arch, template, tokens, cases):
    path = tmp_path / "vocabulary.gguf"
    vocabulary(path, arch, None, tokens)
    compare(path, template, cases, "")


def test_other_vocabulary(tmp_path):
    """A family's file with a vocabulary of ChatML (as the fixtures have it) is chatted with in ChatML; one with neither is refused."""
    need_shared("fixtures/templates")
    path = tmp_path / "none.gguf"
    vocabulary(path, "glm4moe", "", ["<|other|>"])
    p = sluice("tokenize", "--model", path, "--chat", "--prompt", "x", check=None)
    assert p.returncode == 1 and "nor has it the tokens of its family's own" in p.stderr
    assert ids("--model", DEMO, "--chat", "--prompt", "x")
