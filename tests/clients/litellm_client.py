# SPDX-License-Identifier: MIT
"""litellm: chat (whole, streamed, async), Responses, Anthropic's Messages, completions, and its own error for a long prompt."""
import asyncio
import sys

import litellm

URL = sys.argv[1]
OPENAI = {"model": "openai/local", "api_base": URL + "/v1", "api_key": "none", "temperature": 0, "max_tokens": 40}
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]

whole = litellm.completion(messages=FRANCE, **OPENAI)
text = whole.choices[0].message.content
assert "Paris" in text and whole.choices[0].finish_reason == "stop" and whole.usage.total_tokens > 0
chunks = list(litellm.completion(messages=FRANCE, stream=True, stream_options={"include_usage": True}, **OPENAI))
assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
assert litellm.stream_chunk_builder(chunks, messages=FRANCE).usage.completion_tokens == whole.usage.completion_tokens
assert asyncio.run(litellm.acompletion(messages=FRANCE, **OPENAI)).choices[0].message.content == text
assert litellm.completion(messages=FRANCE, tools=TOOLS, **OPENAI).choices[0].message is not None
assert "Paris" in litellm.completion(model="anthropic/local", api_base=URL, api_key="none", messages=FRANCE, temperature=0,
                                     max_tokens=40).choices[0].message.content
answer = litellm.responses(model="openai/local", api_base=URL + "/v1", api_key="none", input="What is the capital of France?",
                           temperature=0, max_output_tokens=40)
assert "Paris" in answer.output[-1].content[0].text
assert "Paris" in litellm.text_completion(model="text-completion-openai/local", api_base=URL + "/v1", api_key="none",
                                          prompt="The capital of France is", temperature=0, max_tokens=8).choices[0].text
try:
    litellm.completion(messages=[{"role": "user", "content": "word " * 40000}], **OPENAI)
except litellm.ContextWindowExceededError:
    pass
else:
    raise AssertionError("a prompt that does not fit is a ContextWindowExceededError")
print("all as expected")
