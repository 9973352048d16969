# SPDX-License-Identifier: MIT
"""Chats over HTTP are read from where they part from what a slot holds: of every prompt at most what is new and 64 tokens,
new being the tokens behind the longest beginning of its text that was rendered or written before; and what is answered
has the bits of a run that reads the same ids whole. With the templates of published models: chats, tool loops of ten
calls, thoughts that are left out or kept, the forms of Claude Code and Codex, an edited message, two chats in turn."""
import json
import struct

import pytest

from daemon import DEMO, fixture, need_shared
from http_client import HttpDaemon

HEAD = struct.Struct("<8sII QQQQ II 16s64sQ")  # daemon/engine/saved_file.c
SLACK = 64
STORY = "The miller had three sons, his mill, a donkey and a cat; the sons ground, the donkey carried the flour, and the cat caught mice. "


def last(most, holds):
    """The greatest n up to @most for which it holds; it does for all below."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


class Watched:
    """A daemon whose one slot is saved behind every answer: the ids that it really read and wrote."""

    def __init__(self, path, *args, model=DEMO, template=None, **kw):
        if template:
            args = (*args, "--chat-template", need_shared(f"fixtures/templates/{template}.jinja"))
        self.path, self.texts = path, []
        self.d = HttpDaemon("--parallel", "1", "--prefix-cache", "64M", "--slot-save-path", path, "--reasoning-field", "both", *args, model=model, **kw)

    def __enter__(self):
        self.d.__enter__()
        return self

    def __exit__(self, *exc):
        self.d.__exit__(*exc)

    def ids(self):
        self.d.post("/slots/0?action=save", {"filename": "now"})
        data = (self.path / "now").read_bytes()
        n = HEAD.unpack_from(data)[7]
        return list(struct.unpack_from(f"<{n}I", data, HEAD.size))

    def text(self, ids):
        return self.d.post("/detokenize", {"tokens": ids})["content"]

    def new(self, ids):
        """Tokens behind the longest beginning that is known."""
        text = self.text(ids)
        common = max((last(len(text), lambda n: t.startswith(text[:n])) for t in self.texts), default=0)
        return len(ids) - last(len(ids), lambda n: len(self.text(ids[:n])) <= common)

    def ask(self, path, body, known=True):
        """The answer, after its promises were looked at."""
        answer = self.d.post(path, {"temperature": 0, **body})
        usage = answer["usage"]
        if "prompt_tokens" in usage:
            n, cached = usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
        elif "cache_read_input_tokens" in usage:
            cached = usage["cache_read_input_tokens"]
            n = usage["input_tokens"] + cached
        else:
            n, cached = usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]
        ids = self.ids()
        if known:
            new = self.new(ids[:n])
            assert n - cached <= new + SLACK, f"{n} tokens, {cached} cached, {new} new"
        self.texts.append(self.text(ids))
        whole = self.d.post("/completion", {"prompt": ids[:n], "n_predict": len(ids) - n + 1, "temperature": 0,
                                            "return_tokens": True, "cache_prompt": False, "ignore_eos": True})
        assert whole["tokens"][:len(ids) - n] == ids[n:], "other bits than without the cache"
        return answer


def said(answer):
    m = answer["choices"][0]["message"]
    return {k: v for k, v in m.items() if k in ("role", "content", "reasoning_content")}


def user(text):
    return {"role": "user", "content": text}


TOOLS = [{"type": "function", "function": {"name": name, "description": f"{name} of a file. {STORY}", "parameters": {
    "type": "object", "properties": {"path": {"type": "string", "description": "where"}, "limit": {"type": "integer"}},
    "required": ["path"]}}} for name in ("read_file", "list_directory", "search")]


@pytest.mark.parametrize("template, kwargs", [
    (None, {}), ("Qwen-Qwen3-0.6B", {"enable_thinking": False}), ("Qwen3.5-4B", {}),
    ("Qwen3.5-4B", {"preserve_thinking": True}), ("Qwen-QwQ-32B", {})])
def test_chats(tmp_path, template, kwargs):
    """Thoughts stripped from history or kept, by the template's own rules."""
    with Watched(tmp_path, "--ctx", "2048", template=template) as w:
        messages = [{"role": "system", "content": STORY * 4}]
        for turn in range(3):
            messages.append(user(f"Question {turn}: {STORY}"))
            messages.append(said(w.ask("/v1/chat/completions", {"messages": messages, "max_tokens": 14, **kwargs}, turn > 0)))


@pytest.mark.parametrize("template, model", [("Qwen3-Coder", "recurrent"), ("Qwen3.5-4B", "recurrent"), ("Qwen3-Coder", "plain")])
def test_tool_loop_of_ten_calls(tmp_path, template, model):
    file = DEMO if model == "recurrent" else fixture("qwen3moe/qwen3moe-q2_k.gguf")
    with Watched(tmp_path, "--ctx", "4096", template=template, model=file) as w:
        messages = [{"role": "system", "content": "You help with files."}, user("Look at everything. " + STORY)]
        for call in range(10):
            answer = said(w.ask("/v1/chat/completions", {"messages": messages, "tools": TOOLS, "max_tokens": 10}, call > 0))
            arguments = json.dumps({"path": f"/srv/{call}.txt", "limit": call})
            messages.append({**answer, "tool_calls": [{"id": f"call_{call}", "type": "function", "function": {
                "name": "read_file", "arguments": arguments}}]})
            messages.append({"role": "tool", "tool_call_id": f"call_{call}", "content": f"line {call}: {STORY}"})


def test_edited_last_message_and_two_chats_in_turn(tmp_path):
    with Watched(tmp_path, "--ctx", "2048") as w:
        chats = [[{"role": "system", "content": STORY * 4}, user("One: " + STORY)], [user("Two: " + STORY * 3)]]
        for turn in range(3):
            for chat in chats:
                answer = w.ask("/v1/chat/completions", {"messages": chat, "max_tokens": 12}, turn > 0)
                chat += [said(answer), user(f"And then, {turn}?")]
        edited = [*chats[0][:-1], user("And then nothing else at all?")]
        w.ask("/v1/chat/completions", {"messages": edited, "max_tokens": 12})
        for text in ("First of all tell me why.", "First of all tell me when."):
            w.ask("/v1/chat/completions", {"messages": [*edited[:-1], user(text)], "max_tokens": 12})


def claude_code(messages, turn):
    """A request of Claude Code 2: its marks for caching, a line that changes with each request, tools, a budget."""
    return {
        "model": "claude-sonnet-4-5-20250929", "max_tokens": 12, "stream": False, "temperature": 0,
        "metadata": {"user_id": "user_0_account__session_1"},
        "system": [
            {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1.37.{turn}; cc_entrypoint=cli; cch={turn:05x};"},
            {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": STORY * 5, "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": t["function"]["name"], "description": t["function"]["description"],
                   "input_schema": {**t["function"]["parameters"], "$schema": "http://json-schema.org/draft-07/schema#",
                                    "additionalProperties": False}} for t in TOOLS],
        "tool_choice": {"type": "auto"}, "thinking": {"type": "enabled", "budget_tokens": 4000},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "messages": messages}


@pytest.mark.parametrize("template", [None, "Qwen3.5-4B"])
def test_claude_code(tmp_path, template):
    with Watched(tmp_path, "--ctx", "4096", template=template) as w:
        messages = [{"role": "user", "content": [
            {"type": "text", "text": f"<system-reminder>{STORY}</system-reminder>"},
            {"type": "text", "text": "Fix the test.", "cache_control": {"type": "ephemeral"}}]}]
        for turn in range(3):
            answer = w.ask("/v1/messages?beta=true", claude_code(messages, 3), turn > 0)
            assert answer["type"] == "message" and answer["stop_reason"] in ("max_tokens", "end_turn", "tool_use")
            use = {"type": "tool_use", "id": f"toolu_{turn}", "name": "read_file", "input": {"path": "/a", "limit": turn}}
            messages.append({"role": "assistant", "content": [b for b in answer["content"] if b["type"] != "tool_use"] + [use]})
            messages.append({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": f"toolu_{turn}", "content": [{"type": "text", "text": STORY}]},
                {"type": "text", "text": f"<system-reminder>{turn}</system-reminder>"}]})


def test_the_mark_of_claude_code_changes_nothing(tmp_path):
    """cch= is another with every request: what is behind it is known all the same."""
    with Watched(tmp_path, "--ctx", "4096") as w:
        body = claude_code([user("Hello. " + STORY)], 1)
        w.ask("/v1/messages", body, False)
        body["system"][0]["text"] = body["system"][0]["text"].replace("cch=00001", "cch=fffff")
        w.ask("/v1/messages", body)


def codex(items):
    """A request of Codex: everything comes again each time, nothing is stored."""
    return {
        "model": "gpt-5.1-codex", "stream": False, "store": False, "instructions": "You are Codex. " + STORY * 4,
        "input": items, "tool_choice": "auto", "parallel_tool_calls": False, "max_output_tokens": 12,
        "reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199a213-81c0-7800-8aa1-bbab2a035a53", "service_tier": "auto", "text": {"verbosity": "medium"},
        "tools": [*({"type": "function", "name": t["function"]["name"], "description": t["function"]["description"],
                     "strict": False, "parameters": t["function"]["parameters"]} for t in TOOLS),
                  {"type": "web_search", "external_web_access": False},
                  {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}}]}


@pytest.mark.parametrize("template", [None, "Qwen3.5-4B"])
def test_codex(tmp_path, template):
    with Watched(tmp_path, "--ctx", "4096", template=template) as w:
        items = [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "<permissions>none</permissions>"}]},
                 {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context>" + STORY}]},
                 {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]}]
        for turn in range(3):
            answer = w.ask("/v1/responses", codex(items), turn > 0)
            assert answer["object"] == "response" and answer["status"] in ("completed", "incomplete")
            items += [{k: v for k, v in item.items() if k not in ("status", "id")} for item in answer["output"]]
            items += [{"type": "function_call", "name": "read_file", "arguments": json.dumps({"path": "/a", "limit": turn}), "call_id": f"c{turn}"},
                      {"type": "function_call_output", "call_id": f"c{turn}", "output": f"line {turn}: {STORY}"}]


def test_second_turn_of_a_chat_of_twelve_thousand_tokens(tmp_path):
    with Watched(tmp_path, "--ctx", "14336", "--batch", "512") as w:
        messages = [user(STORY * 245)]
        answer = w.ask("/v1/chat/completions", {"messages": messages, "max_tokens": 12}, False)
        w.ask("/v1/chat/completions", {"messages": [*messages, said(answer), user("And?")], "max_tokens": 12})
