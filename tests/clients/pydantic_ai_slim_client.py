# SPDX-License-Identifier: MIT
"""pydantic-ai-slim: agents over chat completions and Responses, whole and streamed, with a tool and a history."""
import asyncio
import sys

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

PROVIDER = OpenAIProvider(base_url=sys.argv[1] + "/v1", api_key="none")
SETTINGS = {"temperature": 0, "max_tokens": 40}
QUESTION = "What is the capital of France?"

agent = Agent(OpenAIChatModel("local", provider=PROVIDER), model_settings=SETTINGS)
whole = agent.run_sync(QUESTION)
assert "Paris" in whole.output
again = agent.run_sync(QUESTION, message_history=whole.all_messages())
assert again.output


@agent.tool_plain
def get_weather(city: str) -> str:
    """Weather of a city."""
    return "sunny"


assert agent.run_sync(QUESTION).output


async def streamed():
    async with Agent(OpenAIChatModel("local", provider=PROVIDER), model_settings=SETTINGS).run_stream(QUESTION) as result:
        assert await result.get_output() == whole.output

asyncio.run(streamed())
assert "Paris" in Agent(OpenAIResponsesModel("local", provider=PROVIDER), model_settings=SETTINGS).run_sync(QUESTION).output
print("all as expected")
