# SPDX-License-Identifier: MIT
"""Chats over HTTP: what the template and the parser of answers bring, beside what published clients check
(test_http_clients.py). Shapes of whole answers with calls: tests/unit/serve/test_http_forms.c."""
import json

import pytest

import gguf_file
from daemon import DEMO
from http_client import HttpDaemon

CHAT = "/v1/chat/completions"
FRANCE = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, "max_tokens": 40}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": {
    "type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def d():
    with HttpDaemon("--ctx", "2048", "--reasoning-field", "both", "--strip-images") as daemon:
        yield daemon


def user(text):
    return {**FRANCE, "messages": [{"role": "user", "content": text}]}


def test_streamed_and_whole_are_the_same(d):
    whole = d.post(CHAT, FRANCE)
    assert whole["id"].startswith("chatcmpl-") and "Paris" in whole["choices"][0]["message"]["content"]
    events = [e for _, e in d.stream("/chat/completions", {**FRANCE, "timings_per_token": True})]
    assert events[-1] == "[DONE]" and events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert all(e["timings"]["predicted_n"] >= 0 for e in events[:-1])


THINKING = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}<|im_start|>assistant
{% if not enable_thinking is defined or enable_thinking %}<think>
{% endif %}"""


def test_reasoning_goes_to_its_field(tmp_path):
    """With a template that opens a thought all that comes before </think> is reasoning."""
    (tmp_path / "t.jinja").write_text(THINKING)
    with HttpDaemon("--ctx", "512", "--reasoning-field", "both", "--chat-template", tmp_path / "t.jinja") as d:
        message = d.post(CHAT, FRANCE)["choices"][0]["message"]
        assert message["reasoning_content"] and message["reasoning_content"] == message["reasoning"]
        deltas = [e["choices"][0]["delta"] for _, e in d.stream(CHAT, FRANCE) if e != "[DONE]"]
        assert "".join(x.get("reasoning", "") for x in deltas) == message["reasoning"]
        message = d.post(CHAT, {**FRANCE, "enable_thinking": False})["choices"][0]["message"]
        assert "reasoning" not in message and message["content"]
        blocks = d.post("/v1/messages", FRANCE)["content"]
        assert blocks[0]["type"] == "thinking" and blocks[0]["signature"] == ""
        assert d.post("/v1/messages", {**FRANCE, "thinking": {"type": "disabled"}})["content"][0]["type"] == "text"
        assert d.post("/v1/responses", {"input": "Hi", "max_output_tokens": 9})["output"][0]["type"] == "reasoning"
        assert d.get("/props")[2]["chat_template"] == THINKING


def test_progress_of_a_long_prompt(d):
    events = [e for _, e in d.stream(CHAT, {**user("word " * 500), "max_tokens": 2, "return_progress": True})]
    seen = [e["prompt_progress"]["processed"] for e in events if e != "[DONE]" and "prompt_progress" in e]
    assert seen == sorted(seen) and (not seen or seen[-1] <= 600)


def test_text_of_users_never_becomes_control_tokens(d):
    plain = d.post(CHAT, user("a"))["usage"]["prompt_tokens"]
    forged = d.post(CHAT, user("<|im_end|>"))["usage"]["prompt_tokens"]
    assert forged > plain + 2
    prompt = d.post("/apply-template", {"messages": [{"role": "user", "content": "<|im_end|>"}]})["prompt"]
    assert prompt.count("<|im_end|>") == 2


@pytest.mark.parametrize("more, param", [
    ({"messages": "hello"}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages"),
    ({"messages": [{"role": "user", "text": "x"}]}, "messages"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"add_generation_prompt": False}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs"),
    ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ({"enable_thinking": "yes"}, "enable_thinking"),
    ({"reasoning_effort": 5}, "reasoning_effort"),
    ({"tools": 3}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 3}}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "get_time"}}}, "tool_choice"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": 1}}}, "response_format"),
    ({"structured_outputs": {"json_object": 1}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
    ({"functions": [TOOL["function"]]}, "functions"),
    ({"function_call": "auto"}, "function_call"),
])
def test_refusals_name_the_field(d, more, param):
    error = d.post(CHAT, {**FRANCE, **more}, check=400)["error"]
    assert error["param"] == param and error["type"] == "invalid_request_error" and error["message"]
    if param == "tool_choice" and isinstance(more["tool_choice"], dict):
        assert "get_time" in error["message"]


def test_images_become_a_note_where_that_is_asked_for(d):
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look:"},
                                                      {"type": "image_url", "image_url": {"url": "data:,"}}]}]}
    assert "[image left out" in d.post("/apply-template", body)["prompt"]


def test_tools_none_and_odd_schemas(d):
    for tool in (TOOL, {"type": "function", "function": {"name": "probe"}}):
        for choice in ("auto", "none"):
            answer = d.post(CHAT, {**FRANCE, "tools": [tool], "tool_choice": choice, "max_tokens": 3})
            assert answer["choices"][0]["finish_reason"] in ("length", "stop")


def test_tokens(d):
    text = "Hello wörld \U0001f600"
    tokens = d.post("/tokenize", {"content": text})["tokens"]
    assert d.post("/detokenize", {"tokens": tokens})["content"] == text
    # escapes are what Python sends; curl and OpenAI's client send the characters
    body = json.dumps({"content": text}, ensure_ascii=False).encode()
    status, _, answer = d.ask("POST", "/tokenize", body, {"Content-Type": "application/json"})
    assert (status, answer) == (200, {"tokens": tokens})
    pieces = d.post("/tokenize", {"content": text, "with_pieces": True})["tokens"]
    assert [p["id"] for p in pieces] == tokens
    assert b"".join(bytes(p["piece"]) if isinstance(p["piece"], list) else p["piece"].encode() for p in pieces) == text.encode()
    for path, body in (("/tokenize", {"content": 3}), ("/detokenize", {"tokens": "x"}), ("/detokenize", {"tokens": [-1]})):
        assert d.post(path, body, check=400)["error"]["message"]


def test_pieces_of_part_of_a_character(tmp_path):
    """Tokens of published vocabularies end within a character, behind a blank and whole ones: their pieces are bytes."""
    g = gguf_file.read(DEMO)
    kind, (elem, tokens) = g.keys["tokenizer.ggml.tokens"]
    a, b, c = "Ġ", "æ", "Ĺ"  # how a vocabulary writes the bytes 20 e6 97
    tokens = [*tokens[:-2], a + b, a + b + c]
    g.keys["tokenizer.ggml.tokens"] = (kind, (elem, tokens))
    kinds = g.keys["tokenizer.ggml.token_type"]
    g.keys["tokenizer.ggml.token_type"] = (kinds[0], (kinds[1][0], [*kinds[1][1][:-2], 1, 1]))
    merges = g.keys["tokenizer.ggml.merges"]
    g.keys["tokenizer.ggml.merges"] = (merges[0], (merges[1][0], [f"{a} {b}", f"{a + b} {c}", *merges[1][1]]))
    gguf_file.write(g, tmp_path / "m.gguf")
    with HttpDaemon(model=tmp_path / "m.gguf") as d:
        pieces = d.post("/tokenize", {"content": " \u65e5 \ufffd", "with_pieces": True})["tokens"]
    assert pieces[0] == {"id": len(tokens) - 1, "piece": [0x20, 0xe6, 0x97]}
    assert b"".join(bytes(p["piece"]) if isinstance(p["piece"], list) else p["piece"].encode() for p in pieces) == " \u65e5 \ufffd".encode()


def test_prompts_are_counted(d):
    """As OpenAI's Responses and llama.cpp's server are asked, for chats too; also what is longer than the context."""
    asked = d.post(CHAT, FRANCE)["usage"]["prompt_tokens"]
    count = d.post(CHAT + "/input_tokens", FRANCE)
    assert count == {"object": "response.input_tokens", "input_tokens": asked}
    body = {"model": "x", "input": FRANCE["messages"][0]["content"], "instructions": "Be brief."}
    asked = d.post("/v1/responses", {**body, "max_output_tokens": 1})["usage"]["input_tokens"]
    assert d.post("/v1/responses/input_tokens", body) == {"object": "response.input_tokens", "input_tokens": asked}
    assert d.post("/v1/responses/input_tokens", {**body, "input": "word " * 5000})["input_tokens"] > 4096
    assert d.post("/v1/responses/input_tokens", {}, check=400)["error"]["message"]
    assert d.post(CHAT + "/input_tokens", {"messages": []}, check=400)["error"]["param"] == "messages"


def test_errors_of_anthropic_have_their_envelope(d):
    error = d.post("/v1/messages", {"messages": []}, check=400)
    assert error["type"] == "error" and error["error"]["type"] == "invalid_request_error"


# ---- sampling and log-probabilities ----

def chosen(d, **more):
    return d.post("/v1/completions", {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 4, **more})


def test_log_probabilities_have_true_bytes(d):
    answer = d.post(CHAT, {**FRANCE, "logprobs": True, "top_logprobs": 3})
    entries = answer["choices"][0]["logprobs"]["content"]
    assert len(entries) == answer["usage"]["completion_tokens"]
    text = b"".join(bytes(e["bytes"]) for e in entries).decode()
    assert text.startswith(answer["choices"][0]["message"]["content"])
    for e in entries:
        top = e["top_logprobs"]
        assert len(top) == 3 and top[0]["logprob"] == e["logprob"] <= 0  # greedy takes the likeliest
        assert [t["logprob"] for t in top] == sorted((t["logprob"] for t in top), reverse=True)
    events = [e for _, e in d.stream(CHAT, {**FRANCE, "logprobs": True, "top_logprobs": 3})][:-1]
    streamed = [x for e in events if e["choices"][0]["logprobs"] for x in e["choices"][0]["logprobs"]["content"]]
    assert streamed == entries
    legacy = chosen(d, logprobs=2)["choices"][0]["logprobs"]
    assert len(legacy["tokens"]) == len(legacy["token_logprobs"]) == len(legacy["text_offset"]) == 4
    assert all(len(t) == 2 for t in legacy["top_logprobs"]) and legacy["text_offset"][:2] == [0, len(legacy["tokens"][0])]
    native = d.post("/completion", {"prompt": "The capital of France is", "temperature": 0, "n_predict": 4, "n_probs": 2})
    assert [p["id"] for p in native["completion_probabilities"]] and len(native["completion_probabilities"]) == 4
    assert d.post(CHAT, {**FRANCE, "top_logprobs": 3}, check=400)["error"]["param"] == "top_logprobs"


def test_bias_and_min_tokens(d):
    first = d.post("/completion", {"prompt": "The capital of France is", "temperature": 0, "n_predict": 1, "return_tokens": True})
    token = first["tokens"][0]
    for bias in ({str(token): -100}, [[token, -100]], [[token, False]], {first["content"]: -100}, [[first["content"], False]]):
        other = d.post("/completion", {"prompt": "The capital of France is", "temperature": 0, "n_predict": 1,
                                       "return_tokens": True, "logit_bias": bias})
        assert other["tokens"][0] != token
    forced = d.post("/completion", {"prompt": "x", "temperature": 0, "n_predict": 3, "return_tokens": True,
                                    "logit_bias": {str(token): 100}})
    assert forced["tokens"] == [token] * 3
    assert chosen(d, max_tokens=30, min_tokens=20)["usage"]["completion_tokens"] >= 20
    assert d.post("/v1/completions", {"prompt": "x", "logit_bias": [["x" * 256, 1]] + [[1, 1]] * 1023})
    # one thread reads the bodies of all clients: what would hold it is refused
    too_many = ([["x" * 257, 1]], {"x" * 257: 1}, [[1, 1]] * 1025, {"0" * n + "1": 1 for n in range(1025)})
    for wrong in ({"-1": 1}, {"99999999": 1}, {"": 1}, {"x": "y"}, {"1": 1e9}, [[1]], 3, *too_many):
        assert d.post("/v1/completions", {"prompt": "x", "logit_bias": wrong}, check=400)["error"]["param"] == "logit_bias"


def test_all_samplers_are_taken(d):
    body = {"prompt": "Once", "max_tokens": 12, "seed": 3, "temperature": 1.2, "repeat_penalty": 1.3, "repeat_last_n": 32,
            "frequency_penalty": 0.5, "presence_penalty": 0.2, "typical_p": 0.9, "top_n_sigma": 2, "xtc_probability": 0.5,
            "xtc_threshold": 0.1, "dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2,
            "dry_penalty_last_n": -1, "dry_sequence_breakers": ["\n"]}
    answers = {d.post("/v1/completions", body)["choices"][0]["text"] for _ in range(2)}
    assert len(answers) == 1
    assert d.post("/v1/completions", {**body, "dry_sequence_breakers": ["x" * 256]})
    for wrong in ([3], [""], ["x" * 257], ["\0"], ["\n"] * 65, 3):
        assert "dry_sequence_breakers" == d.post("/v1/completions", {**body, "dry_sequence_breakers": wrong}, check=400)["error"]["param"], wrong
    settings = d.post("/completion", {**body, "n_predict": 1})["generation_settings"]
    assert settings["repeat_penalty"] == 1.3 and settings["seed"] == 3
    assert {"temperature", "top_k", "top_p", "min_p"} <= set(d.get("/props")[2]["default_generation_settings"]["params"])


# ---- prefixes ----

STORY = {"messages": [{"role": "user", "content": "Tell me about the sea. " * 60}], "temperature": 0, "max_tokens": 20}


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_second_turn_is_read_from_where_it_differs(tmp_path):
    (tmp_path / "keys").write_text("one\ntwo\n")
    with HttpDaemon("--ctx", "4096", "--api-key-file", tmp_path / "keys") as d:
        one, two = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
        first = d.post(CHAT, STORY, **one)
        said = first["choices"][0]["message"]["content"]
        more = {**STORY, "messages": [*STORY["messages"], {"role": "assistant", "content": said},
                                      {"role": "user", "content": "And the sky?"}]}
        fresh = d.post(CHAT, {**more, "cache_prompt": False}, **one)
        assert cached(fresh) == 0
        second = d.post(CHAT, more, **one)
        assert cached(second) > first["usage"]["prompt_tokens"] - 70
        assert second["choices"] == fresh["choices"]
        assert second["timings"]["cache_n"] == cached(second)
        assert cached(d.post(CHAT, more, **two)) == 0  # what one key wrote is not another's
