# SPDX-License-Identifier: MIT
"""langchain-openai: ChatOpenAI over chat completions and Responses, streamed, in a batch, with a tool bound."""
import sys

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI

ARGS = {"base_url": sys.argv[1] + "/v1", "api_key": "none", "model": "local", "temperature": 0}
QUESTION = "What is the capital of France?"


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return "sunny"


chat = ChatOpenAI(max_tokens=40, stream_usage=True, **ARGS)
whole = chat.invoke([SystemMessage("Be short."), HumanMessage(QUESTION)])
assert "Paris" in whole.content and whole.usage_metadata["output_tokens"] > 0 and whole.response_metadata["finish_reason"] == "stop"
plain = chat.invoke(QUESTION).content
parts = list(chat.stream(QUESTION))
assert "".join(p.content for p in parts) == plain and any(p.usage_metadata for p in parts)
assert [m.content for m in chat.batch([QUESTION] * 3)] == [plain] * 3
assert chat.bind_tools([get_weather]).invoke(QUESTION) is not None
history = [HumanMessage("Weather?"), AIMessage("", tool_calls=[{"id": "c1", "name": "get_weather", "args": {"city": "Paris"}}]),
           ToolMessage("sunny", tool_call_id="c1"), HumanMessage(QUESTION)]
assert chat.bind_tools([get_weather]).invoke(history) is not None
responses = ChatOpenAI(use_responses_api=True, max_tokens=40, **ARGS)
assert "Paris" in responses.invoke(QUESTION).text
assert "Paris" in "".join(p.text for p in responses.stream(QUESTION))
assert "Paris" in OpenAI(max_tokens=8, **ARGS).invoke("The capital of France is")
print("all as expected")
