# SPDX-License-Identifier: MIT
"""instructor: a plain answer through it, and an object by a forced tool (its first mode) and by a JSON schema. The bundled model may
fill an object with white space up to its limit: instructor then says that the answer is incomplete, which is right."""
import sys
from typing import Literal

import instructor
import openai
from pydantic import BaseModel

CLIENT = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class City(BaseModel):
    name: Literal["Paris", "Rome"]


plain = instructor.from_openai(CLIENT).chat.completions.create(model="local", response_model=None, messages=QUESTION, temperature=0,
                                                               max_tokens=40)
assert "Paris" in plain.choices[0].message.content
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    try:
        city = instructor.from_openai(CLIENT, mode=mode).chat.completions.create(
            model="local", response_model=City, messages=QUESTION, temperature=0, max_tokens=200, max_retries=0)
        print(f"{mode.value}: {city.name!r}")
    except Exception as e:  # of several classes, by release
        assert "incomplete" in str(e), e
        print(f"{mode.value}: {e}")
print("all as expected")
