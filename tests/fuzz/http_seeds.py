# SPDX-License-Identifier: MIT
"""Writes seeds for fuzz_http, a request or two of each path and kind: http_seeds.py OUT_DIR"""
import json
import pathlib
import sys

TOOLS = [{"type": "function", "function": {"name": "get", "description": "d", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}, "o": {"type": "object"}}}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": '{"city": "Paris", "n": 1}'}}
WRITTEN = "<think>hm</think>text <tool_call>{\"name\": \"get\", \"arguments\": {\"city\": \"P\"}}</tool_call>$"
XML = "<tool_call>\n<function=get>\n<parameter=city>\nParis\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>$"
HARMONY = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.get <|constrain|>json<|message|>{\"n\":1}<|call|>$"
CHAT = [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}, {"role": "user", "content": "And?"}]
PATHS = ["chat", "responses", "messages", "count_tokens", "completions", "completion", "apply", "tokenize", "detokenize", "infill"]

REQUESTS = {
    "chat": [
        {"messages": CHAT, "tools": TOOLS, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 50},
        {"messages": [{"role": "user", "content": WRITTEN}], "tools": TOOLS, "n": 2, "logprobs": True, "top_logprobs": 3},
        {"messages": [{"role": "user", "content": XML}], "tools": TOOLS, "stream": True, "parallel_tool_calls": False},
        {"messages": [{"role": "user", "content": HARMONY}], "tools": TOOLS, "stream": True, "reasoning_effort": "low"},
        {"messages": [{"role": "developer", "content": "D"}, {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
         "continue_final_message": True, "add_generation_prompt": False, "chat_template_kwargs": {"enable_thinking": True}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}], "tool_choice": "none"},
        {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema", "json_schema": {"schema": {}}},
         "temperature": 1.5, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "logit_bias": {"5": -100}, "stop": ["a", "$"], "seed": 1},
    ],
    "responses": [
        {"input": "Hi", "stream": True, "instructions": "I", "metadata": {"a": "b"}, "max_output_tokens": 20},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": WRITTEN}]},
                   {"type": "function_call", "call_id": "c", "name": "get", "arguments": "{}"},
                   {"type": "function_call_output", "call_id": "c", "output": "o"},
                   {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
                   {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}],
         "tools": [{"type": "function", "name": "get", "parameters": {}, "strict": False}, {"type": "web_search"}], "stream": True},
        {"input": "x", "previous_response_id": "resp_1", "text": {"format": {"type": "text"}}, "reasoning": {"effort": "low"}},
    ],
    "messages": [
        {"max_tokens": 50, "messages": [{"role": "user", "content": WRITTEN}], "stream": True, "system": [{"type": "text", "text": "S"}],
         "tools": [{"name": "get", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
         "thinking": {"type": "enabled", "budget_tokens": 100}, "stop_sequences": ["x"]},
        {"max_tokens": 5, "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""}, {"type": "text", "text": "b"},
                                              {"type": "tool_use", "id": "t1", "name": "get", "input": {"n": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "o"}]}]}]},
    ],
    "count_tokens": [{"messages": [{"role": "user", "content": "Hi"}], "system": "S", "tools": []}],
    "completions": [
        {"prompt": "Once", "max_tokens": 20, "stream": True, "stream_options": {"include_usage": True}, "echo": True, "logprobs": 2},
        {"prompt": ["a", [1, 2, 3]], "n": 2, "best_of": 1, "suffix": None}, {"prompt": [1, "b", 2], "logit_bias": [[5, 1.0], ["x", False]]},
    ],
    "completion": [
        {"prompt": "ab", "n_predict": 5, "stream": True, "return_tokens": True, "n_probs": 2, "timings_per_token": True,
         "return_progress": True, "cache_prompt": False, "id_slot": 0, "t_max_predict_ms": 100},
        {"prompt": "ab", "repeat_penalty": 1.1, "repeat_last_n": 64, "dry_multiplier": 0.8, "dry_sequence_breakers": ["\n"],
         "xtc_probability": 0.1, "typical_p": 0.9, "top_n_sigma": 1, "min_tokens": 2, "ignore_eos": True, "grammar": "root ::= [a-z]+"},
    ],
    "apply": [{"messages": CHAT, "tools": TOOLS, "add_generation_prompt": True}],
    "tokenize": [{"content": "Hi $", "add_special": True, "parse_special": True, "with_pieces": True}],
    "detokenize": [{"tokens": [72, 105, 256]}],
    "infill": [{"input_prefix": "a", "input_suffix": "b"}],
}
RAW = {
    "get": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /props HTTP/1.1\r\nHost: localhost\r\n\r\nGET /slots HTTP/1.1\r\n\r\n",
    "metrics": b"GET /metrics HTTP/1.1\r\nHost: a.example:80\r\nOrigin: http://a.example:80\r\nX-Request-Id: abc\r\n\r\n",
    "chunked": b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"5\r\n{\"pro\r\n8;x=y\r\nmpt\":1} \r\n0\r\nT: 1\r\n\r\n",
    "lengths": b"POST /completion HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "expect": b"POST /tokenize HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n"
              b"{\"content\":\"a\"}",
    "head": b"HEAD / HTTP/1.1\r\n\r\nOPTIONS * HTTP/1.1\r\nOrigin: null\r\n\r\nDELETE /v1/models HTTP/1.0\r\n\r\nGET /%2e%2e/?a=b&c HTTP/1.1\r\n\r\n",
    "stream": b"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\nContent-Length: 69\r\n\r\n"
              b"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stream\":true,\"n\":2     }",
}


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    for kind, bodies in REQUESTS.items():
        for i, body in enumerate(bodies):
            (out / f"{kind}{i}").write_bytes(bytes([i % 3, PATHS.index(kind)]) + json.dumps(body).encode())
    for name, data in RAW.items():
        (out / f"raw-{name}").write_bytes(b"\0\x80" + data)


main(pathlib.Path(sys.argv[1]))
