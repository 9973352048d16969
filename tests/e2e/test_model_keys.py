# SPDX-License-Identifier: MIT
"""Description: what the keys of a file say about tokens reaches prompts and the log, in the real daemon.

The beginning of a prompt that the file asks for, control tokens that the file calls plain text, ids that name no
token, and a context beyond the model's training: each is honoured or said once.
"""
import json

import pytest

import gguf_file as gf
from daemon import DEMO, Daemon, sluice

TEXT = "The old man said that"
QUESTION = ("--chat", "--prompt", "What is the capital of France?", "--max-tokens", "16")


def changed(path, change):
    g = gf.read(DEMO)
    change(g.keys)
    gf.write(g, path / "model.gguf")
    return path / "model.gguf"


def notes_of(model):
    return json.loads(sluice("inspect", "--model", model, "--json").stdout)["notes"]


def prompt_tokens(d, *args):
    return d.generate("--prompt", TEXT, "--max-tokens", "1", *args)["usage"]["prompt_tokens"]


def notes_in_log(d, kind):
    return [line for line in d.text().splitlines() if f'msg="{kind}"' in line and "note=" in line]


@pytest.fixture(scope="module")
def plain():
    with Daemon(DEMO, "--threads", "2") as d:
        assert not notes_in_log(d, "tokenizer") and not notes_in_log(d, "context")
        return {"raw": prompt_tokens(d), "chat": prompt_tokens(d, "--chat"), "answer": d.generate(*QUESTION)["text"]}


def test_beginning_of_prompts(tmp_path, plain):
    def change(keys):
        keys["tokenizer.ggml.bos_token_id"] = (gf.U32, 2036)
        keys["tokenizer.ggml.add_bos_token"] = (gf.BOOL, True)
    model = changed(tmp_path, change)
    with Daemon(model, "--threads", "2") as d:
        assert prompt_tokens(d) == plain["raw"] + 1
        assert prompt_tokens(d, "--chat") == plain["chat"] + 1
        # "<|endoftext|>" is that token: where the text writes it itself it is not doubled
        assert d.generate("--prompt", "<|endoftext|>" + TEXT, "--special", "--max-tokens",
                          "1")["usage"]["prompt_tokens"] == plain["raw"] + 1
    (tmp_path / "text").write_text(TEXT)
    ids = json.loads(sluice("tokenize", "--model", model, "--text", tmp_path / "text", "--json").stdout)["tokens"]
    assert ids[0] == 2036 and len(ids) == plain["raw"] + 1


def test_control_tokens_called_plain(tmp_path, plain):
    names = ("<|im_start|>", "<|im_end|>")

    def change(keys):
        t, (e, types) = keys["tokenizer.ggml.token_type"]
        tokens = keys["tokenizer.ggml.tokens"][1][1]
        keys["tokenizer.ggml.token_type"] = (t, (e, [1 if tokens[i] in names else x for i, x in enumerate(types)]))
    model = changed(tmp_path, change)
    with Daemon(model, "--threads", "2") as d:
        assert d.generate(*QUESTION)["text"] == plain["answer"]
        said = notes_in_log(d, "tokenizer")
        assert len(said) == 1 and all(n in said[0] for n in names)
    assert len(notes_of(model)) == 1
    (tmp_path / "text").write_text("<|im_start|>user")
    args = ("--text", tmp_path / "text", "--json", "--special")
    assert sluice("tokenize", "--model", model, *args).stdout == sluice("tokenize", "--model", DEMO, *args).stdout


@pytest.mark.parametrize("key,t,value", [("eom_token_id", gf.I32, -1), ("fim_pad_token_id", gf.U32, 4294967295),
                                         ("unknown_token_id", gf.U32, 4294967295), ("eos_token_id", gf.U32, 151645)])
def test_ids_of_no_token(tmp_path, plain, key, t, value):
    model = changed(tmp_path, lambda keys: keys.update({"tokenizer.ggml." + key: (t, value)}))
    with Daemon(model, "--threads", "2") as d:
        assert d.generate(*QUESTION)["text"] == plain["answer"]
        said = notes_in_log(d, "tokenizer")
        assert len(said) == 1 and key in said[0] and "ignoring" in said[0]
    assert len(notes_of(model)) == 1 and key in notes_of(model)[0]


def test_context_beyond_training():
    with Daemon(DEMO, "--threads", "2", "--ctx", "40000", "--parallel", "1") as d:
        said = notes_in_log(d, "context")
        assert len(said) == 1 and "ctx=40000" in said[0] and "trained=32768" in said[0]


def test_inspect_without_a_tokenizer(tmp_path):
    model = changed(tmp_path, lambda keys: keys.update({"tokenizer.ggml.pre": (gf.STRING, "unheard-of")}))
    assert len(notes_of(model)) == 1 and "unheard-of" in notes_of(model)[0]
    assert "note          " in sluice("inspect", "--model", model).stdout
