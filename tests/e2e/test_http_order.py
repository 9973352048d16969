# SPDX-License-Identifier: MIT
"""Description: of several bad fields of a request the first one is named, in the order of docs/http.md, by every API that generates."""
import re

import pytest

from daemon import ROOT
from http_client import HttpDaemon

# What is wrong for each field of the two tables; None: nothing is, when it is read.
BAD = {
    "max_tokens": 1.5, "max_completion_tokens": "x", "max_output_tokens": "x", "n_predict": -2, "n": 0,
    "temperature": "hot", "top_k": 1.5, "top_p": 2, "min_p": -1, "seed": "x",
    "repeat_penalty": "x", "repetition_penalty": -1, "repeat_last_n": 0.5, "frequency_penalty": 1000, "presence_penalty": "x",
    "logit_bias": 3, "min_tokens": -1,
    "typical_p": 2, "top_n_sigma": "x", "xtc_probability": 2, "xtc_threshold": -1, "dry_multiplier": -1, "dry_base": "x",
    "dry_allowed_length": -1, "dry_penalty_last_n": -2, "dry_sequence_breakers": [3],
    "logprobs": "x", "top_logprobs": 99, "n_probs": -1, "stop": 3, "stream": "yes", "stream_options": 1,
    "ignore_eos": "x", "timings_per_token": 1, "return_progress": 1, "t_max_predict_ms": -1,
    "spec": "often", "cache_prompt": "x", "id_slot": -2, "user": None,
    "response_format": 1, "json_schema": None, "grammar": 3, "regex": 3,
    "guided_json": "{", "guided_regex": 3, "guided_choice": [], "guided_grammar": 3, "structured_outputs": 1, "prompt_logprobs": 21, "echo": "x", "return_tokens": 1, "suffix": "y",
    "tools": [{"type": "function"}], "tool_choice": 3, "parallel_tool_calls": "x", "continue_final_message": "x",
    "add_generation_prompt": 1, "functions": [], "function_call": None, "chat_template_kwargs": {"messages": []},
    "reasoning_content": None, "reasoning": None, "prompt": {}, "messages": "hello",
}
# What must be there for a field behind it to be looked at
GOOD = {"dry_multiplier": 1, "max_tokens": 3}
COMPLETION = ("echo", "return_tokens", "suffix")
OPENAI = "prompt_logprobs"
CHAT = ("tools", "tool_choice", "parallel_tool_calls", "continue_final_message", "add_generation_prompt", "functions", "chat_template_kwargs")
APIS = {  # path: (fields of the tables that it does not have, others with what is wrong, the last one)
    "/v1/chat/completions": (COMPLETION, {}, "messages"),
    "/v1/completions": (("return_tokens", *CHAT), {}, "prompt"),
    "/completion": ((OPENAI, "echo", "suffix", *CHAT), {}, "prompt"),
    "/v1/responses": ((OPENAI, *COMPLETION, "continue_final_message", "add_generation_prompt", "functions", "chat_template_kwargs"),
                      {"text": {"format": 1}, "previous_response_id": "r", "conversation": "c", "prompt": {"id": "p"}, "background": True,
                       "reasoning": 3}, "input"),
    "/v1/messages": ((OPENAI, *COMPLETION, "parallel_tool_calls", "continue_final_message", "add_generation_prompt", "functions", "chat_template_kwargs"),
                     {"output_config": 3, "thinking": 3, "output_format": 3, "system": 3}, "messages"),
}


def documented():
    """The fields of the tables of docs/http.md that begin with `prompt` and with `messages`, in order."""
    text, names = (ROOT / "docs" / "http.md").read_text(), []
    for first in ("prompt", "messages"):
        table = text[text.index(f"| `{first}` |"):].split("\n\n")[0]
        for row in table.splitlines():
            # fields only: what is within brackets is a value or a part of one, but for another name of the same field
            cell = re.sub(r"\((?!`repetition_penalty`\)|`include_usage`\))[^)]*\)", "", row.split("|")[1])
            names += [n for n in re.findall(r"`([\w.]+)`", cell) if n not in ("include_usage", "auto")]
    return names


@pytest.fixture(scope="module")
def d():
    with HttpDaemon("--ctx", "512") as daemon:
        yield daemon


def test_every_documented_field_has_a_fault():
    assert set(documented()) == set(BAD) and len(documented()) == len(BAD)


@pytest.mark.parametrize("path", APIS)
def test_the_first_bad_field_is_named(d, path):
    without, more, last = APIS[path]
    bad = {name: BAD[name] for name in documented() if BAD[name] is not None and name not in (*without, "prompt", "messages")}
    at = list(bad).index("tools") if "tools" in bad else len(bad)
    order = [*list(bad)[:at], *more, *list(bad)[at:], last]
    bad.update(more)
    bad[last] = 3
    if path == "/v1/messages":
        bad["tools"] = [{"input_schema": {}}]
    for i, name in enumerate(order):
        body = {n: GOOD[n] for n in order[:i] if n in GOOD}
        body.update({n: bad[n] for n in reversed(order[i:])})  # the request's own order is no matter
        status, _, answer = d.ask("POST", path, body)
        if path != "/v1/messages":
            assert (status, answer["error"]["param"]) == (400, name), answer
        else:  # Anthropic's envelope has no param
            assert status == 400 and re.search(rf"\b{name}\b", answer["error"]["message"]), (name, answer)


@pytest.mark.parametrize("path,last", [(p, a[2]) for p, a in APIS.items() if a[2] in ("messages", "input")])
def test_what_is_no_list_or_object_is_not_left_out(d, path, last):
    """An answer without the tools or the form that was asked for would be wrong, and nobody would know why."""
    for name in ("tools", *(["text"] if last == "input" else [])):
        for value in ("x", 3, True, {"a": 1} if name == "tools" else ["x"]):
            error = d.post(path, {last: [{"role": "user", "content": "Hi"}], "max_tokens": 1, name: value}, check=400)["error"]
            assert error["message"].startswith(f"{name} must be")


def test_responses_name_their_own_fields(d):
    hi = [{"role": "user", "content": "Hi"}]
    for more, name in (({"input": []}, "input"), ({"input": [{"type": "web_search_call"}]}, "input"), ({"input": [{"role": "user", "content": 5}]}, "input"), ({"input": [{"role": "user"}]}, "input"),
                       ({"instructions": 5}, "instructions"), ({"reasoning": {"effort": 5}}, "reasoning")):
        assert d.post("/v1/responses", {"input": hi, "max_output_tokens": 1, **more}, check=400)["error"]["param"] == name


def test_tool_choice_of_another_type_is_named(d):
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "allowed_tools"}}
    error = d.post("/v1/chat/completions", body, check=400)["error"]
    assert error["param"] == "tool_choice" and "of type allowed_tools is not supported" in error["message"]
