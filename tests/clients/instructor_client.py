# SPDX-License-Identifier: MIT
"""instructor: a plain answer through it; a forced tool (its first mode) and a JSON schema are served, or refused by name while
the daemon has no constrained output."""
import sys

import instructor
import openai
from pydantic import BaseModel

CLIENT = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class City(BaseModel):
    name: str


plain = instructor.from_openai(CLIENT).chat.completions.create(model="local", response_model=None, messages=QUESTION, temperature=0,
                                                               max_tokens=40)
assert "Paris" in plain.choices[0].message.content
for mode, word in ((instructor.Mode.TOOLS, "tool_choice"), (instructor.Mode.JSON_SCHEMA, "response_format")):
    try:
        city = instructor.from_openai(CLIENT, mode=mode).chat.completions.create(
            model="local", response_model=City, messages=QUESTION, temperature=0, max_tokens=60, max_retries=0)
        assert isinstance(city.name, str)
        print(f"{mode.value}: served, {city.name!r}")
    except Exception as e:  # instructor wraps what the openai package raises
        assert word in str(e) and "not supported" in str(e), e
        print(f"{mode.value}: refused by name")
print("all as expected")
