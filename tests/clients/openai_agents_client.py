# SPDX-License-Identifier: MIT
"""openai-agents: a run over Responses and one over chat completions, streamed, with a tool, and a second turn."""
import asyncio
import sys

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
CLIENT = AsyncOpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
QUESTION = "What is the capital of France?"


@function_tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return "sunny"


async def main():
    for model in (OpenAIResponsesModel("local", CLIENT), OpenAIChatCompletionsModel("local", CLIENT)):
        agent = Agent(name="a", model=model, model_settings=ModelSettings(temperature=0, max_tokens=40))
        whole = await Runner.run(agent, QUESTION)
        assert "Paris" in whole.final_output, whole.final_output
        stream = Runner.run_streamed(agent, QUESTION)
        kinds = [e.type async for e in stream.stream_events()]
        assert stream.final_output == whole.final_output and "raw_response_event" in kinds
        assert (await Runner.run(agent, whole.to_input_list() + [{"role": "user", "content": QUESTION}])).final_output
        helped = Agent(name="b", model=model, tools=[get_weather], model_settings=ModelSettings(temperature=0, max_tokens=40))
        assert (await Runner.run(helped, QUESTION, max_turns=3)).final_output is not None

asyncio.run(main())
print("all as expected")
