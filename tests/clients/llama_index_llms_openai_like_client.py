# SPDX-License-Identifier: MIT
"""llama-index-llms-openai-like: chat, completion, both streamed, and a function-calling request."""
import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

ARGS = {"model": "local", "api_base": sys.argv[1] + "/v1", "api_key": "none", "temperature": 0, "context_window": 8192}
QUESTION = "What is the capital of France?"


def get_weather(city: str) -> str:
    """Weather of a city."""
    return "sunny"


llm = OpenAILike(is_chat_model=True, is_function_calling_model=True, max_tokens=40, **ARGS)
whole = llm.chat([ChatMessage(role="system", content="Be short."), ChatMessage(role="user", content=QUESTION)])
assert "Paris" in whole.message.content
plain = llm.complete(QUESTION).text
assert "".join(p.delta or "" for p in llm.stream_chat([ChatMessage(role="user", content=QUESTION)])) == plain
answer = llm.chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg=QUESTION)
assert answer.message is not None and llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False) is not None
text = OpenAILike(is_chat_model=False, max_tokens=8, **ARGS)
assert "Paris" in text.complete("The capital of France is").text
assert "Paris" in "".join(p.delta for p in text.stream_complete("The capital of France is"))
print("all as expected")
