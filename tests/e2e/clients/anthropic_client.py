# SPDX-License-Identifier: MIT
"""The usual calls of the anthropic package. usage: anthropic_client.py URL"""
import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1], api_key="none", max_retries=0)
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0}
TOOLS = [{"name": "get_weather", "description": "Weather of a city", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]


def text_of(message):
    return "".join(b.text for b in message.content if b.type == "text")


message = client.messages.create(model="any", max_tokens=40, messages=FRANCE, extra_body=GREEDY)
assert message.role == "assistant" and message.model == "demo" and message.stop_reason == "end_turn"
assert "Paris" in text_of(message) and message.usage.output_tokens > 0 and message.usage.cache_read_input_tokens >= 0

with client.messages.stream(model="any", max_tokens=40, messages=FRANCE, extra_body=GREEDY) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert text == text_of(message) == text_of(final) and final.stop_reason == "end_turn"
assert final.usage.output_tokens == message.usage.output_tokens

events = [e.type for e in client.messages.create(model="any", max_tokens=40, messages=FRANCE, extra_body=GREEDY, stream=True)]
assert events[0] == "message_start" and events[-2:] == ["message_delta", "message_stop"]
assert events.count("content_block_start") == events.count("content_block_stop") == 1

history = [{"role": "user", "content": [{"type": "text", "text": "Hello.", "cache_control": {"type": "ephemeral"}}]},
           {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""},
                                             {"type": "text", "text": "I look."},
                                             {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}]},
           {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [
               {"type": "text", "text": "sunny"}]}, {"type": "text", "text": "And what is the capital of France?"}]}]
system = [{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}]
answer = client.messages.create(model="any", max_tokens=30, system=system, messages=history, tools=TOOLS,
                                tool_choice={"type": "auto"}, extra_query={"beta": "true"})
assert answer.content
counted = client.messages.count_tokens(model="any", system=system, messages=history, tools=TOOLS)
assert counted.input_tokens == answer.usage.input_tokens + answer.usage.cache_read_input_tokens
assert client.messages.count_tokens(model="any", messages=[{"role": "user", "content": "word " * 4000}]).input_tokens > 4000

stopped = client.messages.create(model="any", max_tokens=40, messages=FRANCE, extra_body=GREEDY, stop_sequences=["Paris"])
assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == "Paris" and "Paris" not in text_of(stopped)
assert client.messages.create(model="any", max_tokens=2, messages=FRANCE).stop_reason == "max_tokens"

# a call that is asked for comes, and holds to its schema
town = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}
for choice in ({"type": "any"}, {"type": "tool", "name": "visit"}):
    forced = client.messages.create(model="any", max_tokens=300, messages=FRANCE, tool_choice=choice,
                                    tools=[{"name": "visit", "description": "Go there", "input_schema": town}])
    calls = [b for b in forced.content if b.type == "tool_use"]
    assert calls and all(b.name == "visit" and b.input["city"] in ("Paris", "Rome") for b in calls), forced

for wrong in (dict(messages=[]), dict(messages=FRANCE, tools=TOOLS, tool_choice={"type": "tool", "name": "no_such_tool"}),
              dict(messages=[{"role": "user", "content": [{"type": "image", "source": {
                  "type": "base64", "media_type": "image/png", "data": "AA"}}]}])):
    try:
        client.messages.create(model="any", max_tokens=5, **wrong)
    except anthropic.BadRequestError as e:
        assert e.body["type"] == "error" and e.body["error"]["type"] == "invalid_request_error" and e.body["error"]["message"]
    else:
        raise AssertionError(wrong)
print("all as expected")
