# SPDX-License-Identifier: MIT
"""Description: /v1/completions with echo and logprobs: what the prompt's own tokens were likely to be, to the bit what a decode
step gave for them, as programs that score texts (lm-eval) ask for it; and vLLM's prompt_logprobs, of chats too."""
import json
import re

import pytest

from http_client import HttpDaemon

PATH = "/v1/completions"
TEXT = "The capital of France is"
LONG = "Naïve cafés of Zürich — déjà vu 東京. The river runs to the sea, and the sea is wide. " * 12


@pytest.fixture(scope="module")
def d():
    with HttpDaemon("--ctx", "2048", "--parallel", "2") as daemon:
        yield daemon


def tokens(d, text):
    return d.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]


def scored(d, prompt, **more):
    """The one choice of a prompt that is echoed, with what must hold of any."""
    choice, = d.post(PATH, {"prompt": prompt, "max_tokens": 0, "temperature": 0, "logprobs": 2, "echo": True, **more})["choices"]
    check(choice, 2 if "logprobs" not in more else more["logprobs"])
    return choice


def check(choice, top):
    lists = choice["logprobs"]
    n = len(lists["tokens"])
    assert n == len(lists["token_logprobs"]) == len(lists["top_logprobs"]) == len(lists["text_offset"])
    assert lists["token_logprobs"][0] is None and lists["top_logprobs"][0] is None and lists["text_offset"][0] == 0
    assert all(x <= 0 for x in lists["token_logprobs"][1:])
    assert all(len(likely) <= top + 1 and list(likely.values()) == sorted(likely.values(), reverse=True) for likely in lists["top_logprobs"][1:])
    assert all(likely[token] == own for token, own, likely in zip(*(lists[name][1:] for name in ("tokens", "token_logprobs", "top_logprobs"))))
    ends = [*lists["text_offset"][1:], len(choice["text"])]
    for token, at, end in zip(lists["tokens"], lists["text_offset"], ends):
        assert token.startswith("bytes:") or choice["text"][at:end] == token or (token == "<|im_end|>" and at == end)


def test_scores_of_a_prompt_are_those_of_decoding_it(d):
    ids = tokens(d, TEXT)
    answer = d.post("/completion", {"prompt": ids, "n_predict": 24, "temperature": 0.9, "seed": 3, "ignore_eos": True, "return_tokens": True})["tokens"]
    decoded, = d.post(PATH, {"prompt": ids, "max_tokens": 24, "temperature": 0.9, "seed": 3, "ignore_eos": True, "logprobs": 5})["choices"]
    assert len(answer) == 24
    for spread in range(2):  # the second time much of it is cached
        read = scored(d, ids + answer, logprobs=5)
        assert read["finish_reason"] == "length" and read["text"].startswith(TEXT)
        for name in ("tokens", "token_logprobs", "top_logprobs"):
            assert read["logprobs"][name][len(ids):] == decoded["logprobs"][name], name
        assert [at - len(TEXT) for at in read["logprobs"]["text_offset"][len(ids):]] == decoded["logprobs"]["text_offset"]


def test_scores_do_not_depend_on_steps_budgets_and_company(d):
    whole = scored(d, LONG)["logprobs"]
    assert len(whole["tokens"]) > 300
    with HttpDaemon("--ctx", "2048", "--parallel", "2", "--batch", "16", "--host-budget", "50%") as small:
        assert scored(small, LONG)["logprobs"] == whole
        one, two = small.post(PATH, {"prompt": [TEXT, LONG], "max_tokens": 0, "logprobs": 2, "echo": True})["choices"]
        assert one["logprobs"] == scored(d, TEXT)["logprobs"] and two["logprobs"] == whole


def test_an_answer_goes_on_behind_the_prompt(d):
    plain, = d.post(PATH, {"prompt": TEXT, "max_tokens": 6, "temperature": 0, "logprobs": 1})["choices"]
    both = d.post(PATH, {"prompt": TEXT, "max_tokens": 6, "temperature": 0, "logprobs": 1, "echo": True, "n": 2})
    n = len(tokens(d, TEXT))
    for choice in both["choices"]:
        check(choice, 1)
        assert choice["text"] == TEXT + plain["text"] and choice["finish_reason"] == plain["finish_reason"]
        assert choice["logprobs"]["token_logprobs"][n:] == plain["logprobs"]["token_logprobs"]
    assert both["usage"]["prompt_tokens"] == n
    bare = scored(d, TEXT, logprobs=0)
    assert all(len(likely) == 1 for likely in bare["logprobs"]["top_logprobs"][1:])
    assert d.post(PATH, {"prompt": [TEXT, "Hi"], "max_tokens": 0, "echo": True})["choices"][1]["text"] == "Hi"


@pytest.mark.parametrize("n", [0, 5])
def test_as_a_stream(d, n):
    body = {"prompt": [TEXT, LONG], "max_tokens": n, "temperature": 0, "logprobs": 3, "echo": True}
    whole = d.post(PATH, body)["choices"]
    events = [e["choices"][0] for _, e in d.stream(PATH, body) if e != "[DONE]"]
    for i, want in enumerate(whole):
        mine = [e for e in events if e["index"] == i]
        assert "".join(e["text"] for e in mine) == want["text"] and mine[-1]["finish_reason"] == want["finish_reason"]
        for name in want["logprobs"]:
            assert [x for e in mine if e["logprobs"] for x in e["logprobs"][name]] == want["logprobs"][name]


def test_tokens_of_one_text_and_parts_of_characters(d):
    """A map by text: no key comes twice, and the likeliest token of a text counts; parts of characters are told by their bytes."""
    def unique(pairs):
        assert len(dict(pairs)) == len(pairs), pairs
        return dict(pairs)
    ids = [i for text in ("日本語", "😀", "naïve é", "Ж") for i in tokens(d, text)]
    body = {"prompt": ids, "max_tokens": 0, "logprobs": 20, "echo": True}
    c = d.connect()
    c.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
    lists = json.loads(c.getresponse().read(), object_pairs_hook=unique)["choices"][0]["logprobs"]
    parts = [t for t in lists["tokens"] if t.startswith("bytes:")]
    assert parts and all(re.fullmatch(r"bytes:(\\x[0-9a-f]{2})+", t) for t in parts)
    keys = [key for likely in lists["top_logprobs"][1:] for key in likely]
    assert any(key.startswith("bytes:") for key in keys) and not any("\ufffd" in key for key in keys)
    bytes_of = lambda t: bytes.fromhex(t[6:].replace("\\x", "")) if t.startswith("bytes:") else t.encode()
    assert b"".join(map(bytes_of, lists["tokens"])).decode() == "日本語😀naïve éЖ"


def test_as_lm_eval_asks(d):
    """Ids of context and continuation; one token more, which is left out; is the continuation what would have been chosen?"""
    context, answer = tokens(d, TEXT), tokens(d, " Paris.")
    lists = d.post(PATH, {"model": "any", "prompt": [context + answer], "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True})
    lists = lists["choices"][0]["logprobs"]
    assert len(lists["tokens"]) == len(context + answer) + 1
    rest = slice(len(context), -1)
    assert -1 < sum(lists["token_logprobs"][rest]) < 0
    assert all(token == max(top, key=top.get) for token, top in zip(lists["tokens"][rest], lists["top_logprobs"][rest]))


def test_what_is_refused(d):
    error = d.post(PATH, {"prompt": "a " * 3000, "max_tokens": 0, "echo": True, "logprobs": 1}, check=400)["error"]
    assert error["code"] == "context_length_exceeded"
    with HttpDaemon("--ctx", "16384", "--parallel", "1") as long:
        body = {"prompt": [[65] * 10000] * 8, "max_tokens": 0, "echo": True, "logprobs": 20}
        error = long.post(PATH, body, check=400)["error"]
        assert error["param"] == "logprobs" and "1680000 log-probabilities" in error["message"], json.dumps(error)


def check_ranked(entries, ids, top):
    """vLLM's list: null, then of each token a map of itself and of the likeliest, by id."""
    assert len(entries) == len(ids) and entries[0] is None
    for token, entry in zip(ids[1:], entries[1:]):
        own, by_rank = entry[str(token)], sorted(entry.values(), key=lambda e: e["rank"])
        assert next(iter(entry)) == str(token) and top <= len(entry) <= top + 1
        assert all(set(e) == {"logprob", "rank", "decoded_token"} for e in by_rank)
        assert [e["rank"] for e in by_rank if e is not own] == [r for r in range(1, top + 1) if r != own["rank"]]
        assert [e["logprob"] for e in by_rank] == sorted((e["logprob"] for e in by_rank), reverse=True)
        assert (len(entry) == top) == (own["rank"] <= top)


def test_prompt_logprobs_as_vllm_has_them(d):
    ids, body = tokens(d, TEXT), {"prompt": TEXT, "max_tokens": 3, "temperature": 0}
    lists = scored(d, TEXT)["logprobs"]
    for top in (0, 2, 20):
        choice, = d.post(PATH, {**body, "prompt_logprobs": top})["choices"]
        check_ranked(choice["prompt_logprobs"], ids, top)
        own = [e[str(i)] for i, e in zip(ids[1:], choice["prompt_logprobs"][1:])]
        assert [e["logprob"] for e in own] == lists["token_logprobs"][1:] and [e["decoded_token"] for e in own] == lists["tokens"][1:]
        assert choice["logprobs"] is None
    plain, = d.post(PATH, {**body, "logprobs": 1})["choices"]
    for more in ({"n": 2}, {"echo": True}):  # each side has as many as it asked for
        for choice in d.post(PATH, {**body, "logprobs": 1, "prompt_logprobs": 3, **more})["choices"]:
            check_ranked(choice["prompt_logprobs"], ids, 3)
            n = len(ids) if "echo" in more else 0
            assert all(choice["logprobs"][name][n:] == plain["logprobs"][name] for name in ("tokens", "token_logprobs", "top_logprobs"))
    assert "prompt_logprobs" not in plain


def test_prompt_logprobs_of_chats(d):
    body = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 2, "temperature": 0}
    ids = tokens(d, d.post("/apply-template", body)["prompt"])
    answer = d.post("/v1/chat/completions", {**body, "prompt_logprobs": 2, "n": 2})
    check_ranked(answer["prompt_logprobs"], ids, 2)
    assert all(c["logprobs"] is None and "prompt_logprobs" not in c for c in answer["choices"])
    both = d.post("/v1/chat/completions", {**body, "prompt_logprobs": 3, "logprobs": True, "top_logprobs": 1})
    check_ranked(both["prompt_logprobs"], ids, 3)
    assert [len(e["top_logprobs"]) for e in both["choices"][0]["logprobs"]["content"]] == [1, 1]
    assert "prompt_logprobs" not in d.post("/v1/chat/completions", body)


def test_prompt_logprobs_that_cannot_be(d):
    for wrong in ({"prompt_logprobs": -1}, {"prompt_logprobs": 21}, {"prompt_logprobs": 1, "stream": True}):
        assert d.post(PATH, {"prompt": "a", **wrong}, check=400)["error"]["param"] == "prompt_logprobs"
        assert d.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], **wrong}, check=400)["error"]["param"] == "prompt_logprobs"
