# SPDX-License-Identifier: MIT
"""Requests as programs send them, with all the fields that their public sources have: Zed, Home Assistant's probe, Claude
Code's small requests and stream, Codex's stream; /infill; an answer that Anthropic's client began."""
import json

import pytest

import gguf_file as gf
from daemon import DEMO
from http_client import HttpDaemon
from test_prefix_chats import TOOLS, claude_code, codex

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def d():
    with HttpDaemon("--ctx", "4096", "--alias", "demo") as daemon:
        yield daemon


def test_zed(d):
    """crates/open_ai: content as text or parts, null beside calls, results of tools as parts."""
    body = {
        "model": "local", "stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 9,
        "stop": [], "temperature": 1.0, "tool_choice": "auto", "parallel_tool_calls": False, "prompt_cache_key": "thread-1",
        "reasoning_effort": "medium", "tools": TOOLS,
        "messages": [
            {"role": "system", "content": "You are in an editor."},
            {"role": "user", "content": [{"type": "text", "text": "Look at"}, {"type": "text", "text": "this."}]},
            {"role": "assistant", "content": None, "reasoning_content": "A file.", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "read_file", "arguments": "{\"path\":\"a\"}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "x = 1"}]}]}
    events = [e for _, e in d.stream(CHAT, body, Authorization="Bearer none")]
    assert events[-1] == "[DONE]" and events[0]["choices"][0]["delta"]["role"] == "assistant"
    chunks = [e for e in events[:-1] if e["choices"]]
    assert all({"index", "delta", "finish_reason"} <= set(c["choices"][0]) for c in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length", "tool_calls")
    usage = events[-2]["usage"]
    assert usage["completion_tokens"] <= 9 and usage["completion_tokens_details"]["reasoning_tokens"] == 0


def test_home_assistant(d):
    """A tool without properties, and so few tokens that nothing can come of it: what it wants to see is no error."""
    body = {"model": "local", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "stream": False,
            "tools": [{"type": "function", "function": {"name": "HassTurnOn", "description": "", "parameters": {
                "type": "object", "properties": {}, "required": []}, "strict": False}}], "user": "01K", "top_p": 1.0}
    answer = d.post(CHAT, body)
    assert answer["choices"][0]["finish_reason"] in ("length", "stop") and answer["usage"]["completion_tokens"] <= 3
    assert d.get("/v1/models")[2]["data"]


def test_claude_code_beside_its_chat(d):
    """Whether there is a model, what a conversation will cost, a title in a form of its own; then the stream."""
    quota = {"model": "claude-haiku-4-5", "max_tokens": 1, "messages": [{"role": "user", "content": "quota"}],
             "metadata": {"user_id": "user_0"}}
    answer = d.post("/v1/messages?beta=true", quota, **{"anthropic-version": "2023-06-01", "anthropic-beta": "a,b", "x-api-key": "k"})
    assert answer["usage"]["output_tokens"] == 1 and answer["stop_reason"] == "max_tokens"
    body = claude_code([{"role": "user", "content": "Hello."}], 1)
    count = d.post("/v1/messages/count_tokens?beta=true", {k: body[k] for k in ("model", "system", "messages", "tools", "thinking")})
    events = d.stream("/v1/messages?beta=true", body)
    names = [name for name, _ in events]
    assert names[:2] == ["message_start", "ping"] and names[-2:] == ["message_delta", "message_stop"]
    assert names.count("content_block_start") == names.count("content_block_stop") > 0
    usage = events[-2][1]["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == count["input_tokens"] > 300
    assert events[-2][1]["delta"]["stop_reason"] in ("max_tokens", "end_turn", "tool_use")
    again = d.stream("/v1/messages?beta=true", body)  # its first event says already what was cached
    began, ended = again[0][1]["message"]["usage"], again[-2][1]["usage"]
    assert began["cache_read_input_tokens"] == ended["cache_read_input_tokens"] > 250
    assert began["input_tokens"] == ended["input_tokens"]


def test_an_answer_that_was_begun(d):
    """A last message of the assistant's is gone on with, as Anthropic's own servers do it."""
    def ask(*messages):
        return d.post("/v1/messages", {"messages": list(messages), "max_tokens": 20, "temperature": 0, "thinking": {"type": "disabled"}})
    user = {"role": "user", "content": "What is the capital of France?"}
    begun = "The capital of"
    body = {"messages": [user, {"role": "assistant", "content": begun}], "continue_final_message": True, "add_generation_prompt": False}
    prompt = d.post("/apply-template", body)["prompt"]
    assert prompt.endswith(begun)
    rest = d.post("/completion", {"prompt": prompt, "n_predict": 20, "temperature": 0})["content"]
    assert d.post(CHAT, {**body, "max_tokens": 20, "temperature": 0})["choices"][0]["message"]["content"] == rest
    for content in (begun, [{"type": "text", "text": begun}]):
        answer = ask(user, {"role": "assistant", "content": content})
        assert answer["content"][0]["text"] == rest


def test_codex_streams(d):
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]},
             {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Short."}], "encrypted_content": None},
             {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "x", "status": "completed"},
             {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
             {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And now?"}]}]
    events = d.stream("/v1/responses", codex(items), **{"session_id": "s", "originator": "codex_cli_rs", "OpenAI-Beta": "responses=experimental"})
    assert [e["sequence_number"] for _, e in events] == list(range(len(events)))
    assert events[0][0] == "response.created" and events[-1][0] == "response.completed"
    final = events[-1][1]["response"]
    done = [e["item"] for name, e in events if name == "response.output_item.done"]
    assert done == final["output"] and final["usage"]["total_tokens"] > 0 and final["id"] == events[0][1]["response"]["id"]
    assert [e["output_index"] for name, e in events if name == "response.output_item.added"] == list(range(len(done)))


def test_thoughts_are_counted(d):
    """Of the answer's tokens those that thoughts came with."""
    with HttpDaemon("--ctx", "1024", "--chat-template-kwargs", json.dumps({"enable_thinking": True})) as thinking:
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "temperature": 0}
        answer = thinking.post(CHAT, body)
        usage = answer["usage"]
        thought = "reasoning_content" in answer["choices"][0]["message"]
        assert usage["completion_tokens_details"]["reasoning_tokens"] == (usage["completion_tokens"] if thought else 0)


# ---- filling in ----

INFILL = {"input_prefix": "def add(a, b):\n    ", "input_suffix": "\n\nprint(add(1, 2))\n", "n_predict": 6, "temperature": 0,
          "return_tokens": True}


def test_infill_needs_tokens_for_it(d):
    error = d.post("/infill", INFILL, check=501)["error"]
    assert error["type"] == "not_supported_error" and "filling in the middle" in error["message"]


def test_infill(tmp_path):
    """With tokens that the file names: they stand around the texts, and no text becomes one of them."""
    g = gf.read(DEMO)
    kind, texts = g.keys["tokenizer.ggml.tokens"]
    texts = texts[1] if isinstance(texts, tuple) else texts
    special = [i for i, t in enumerate(texts) if (t.decode() if isinstance(t, bytes) else t).startswith("<|")][:5]
    for name, id in zip(("pre", "suf", "mid", "rep", "sep"), special):
        g.keys[f"tokenizer.ggml.fim_{name}_token_id"] = (gf.U32, id)
    gf.write(g, tmp_path / "fim.gguf")
    pre, suf, mid, rep, sep = (t.decode() if isinstance(t, bytes) else t for t in (texts[i] for i in special))
    with HttpDaemon("--ctx", "1024", model=tmp_path / "fim.gguf") as d:
        answer = d.post("/infill", INFILL)
        assert answer["prompt"] == f"{pre}{INFILL['input_prefix']}{suf}{INFILL['input_suffix']}{mid}" and len(answer["tokens"]) <= 6
        same = d.post("/completion", {"prompt": answer["prompt"], "n_predict": 6, "temperature": 0, "return_tokens": True})
        assert same["tokens"] == answer["tokens"] and same["tokens_evaluated"] == answer["tokens_evaluated"]
        forged = d.post("/infill", {**INFILL, "input_prefix": mid})
        plain = d.post("/infill", {**INFILL, "input_prefix": "x"})
        assert forged["tokens_evaluated"] > plain["tokens_evaluated"]
        extra = d.post("/infill", {**INFILL, "input_extra": [{"filename": "a.py", "text": "x = 1"}, {"text": "y"}], "prompt": "return"})
        assert extra["prompt"] == (f"{rep}myproject\n{sep}a.py\nx = 1\n{sep}tmp\ny\n{sep}filename\n{pre}{INFILL['input_prefix']}"
                                   f"{suf}{INFILL['input_suffix']}{mid}return")
        events = [e for _, e in d.stream("/infill", INFILL)]
        assert "".join(e["content"] for e in events) == answer["content"] and events[-1]["stop"]
        for wrong, param in (({"input_prefix": 3}, "input_prefix"), ({"input_extra": 1}, "input_extra"), ({"input_extra": [{}]}, "input_extra"),
                             ({"prompt": []}, "prompt")):
            assert d.post("/infill", {**INFILL, **wrong}, check=400)["error"]["param"] == param
        assert d.post("/infill", {"prompt": "x"}, check=400)["error"]["param"] == "input_prefix"
