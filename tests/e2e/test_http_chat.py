# SPDX-License-Identifier: MIT
"""Chats over HTTP: what the template and the parser of answers bring, beside what published clients check
(test_http_clients.py). Shapes of whole answers with calls: tests/unit/serve/test_http_forms.c."""
import pytest

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
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"add_generation_prompt": False}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs"),
    ({"chat_template": "{{ 1 }}"}, "chat_template_kwargs"),
    ({"tools": 3}, "tools"),
    ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}, "tool_choice"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    ({"functions": [TOOL["function"]]}, "functions"),
])
def test_refusals_name_the_field(d, more, param):
    error = d.post(CHAT, {**FRANCE, **more}, check=400)["error"]
    assert error["param"] == param and error["type"] == "invalid_request_error" and error["message"]
    if param == "tool_choice" and isinstance(more["tool_choice"], dict):
        assert "get_weather" in error["message"]


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
    pieces = d.post("/tokenize", {"content": text, "with_pieces": True})["tokens"]
    assert [p["id"] for p in pieces] == tokens
    assert b"".join(bytes(p["piece"]) if isinstance(p["piece"], list) else p["piece"].encode() for p in pieces) == text.encode()
    for path, body in (("/tokenize", {"content": 3}), ("/detokenize", {"tokens": "x"}), ("/detokenize", {"tokens": [-1]})):
        assert d.post(path, body, check=400)["error"]["message"]


def test_errors_of_anthropic_have_their_envelope(d):
    error = d.post("/v1/messages", {"messages": []}, check=400)
    assert error["type"] == "error" and error["error"]["type"] == "invalid_request_error"
