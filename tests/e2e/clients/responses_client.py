# SPDX-License-Identifier: MIT
"""OpenAI's Responses with the openai package. usage: responses_client.py URL"""
import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
QUESTION = "What is the capital of France?"
TOOLS = [{"type": "function", "name": "get_weather", "description": "Weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}, "strict": False}, {"type": "web_search"}]

whole = client.responses.create(model="any", input=QUESTION, temperature=0, max_output_tokens=40)
assert whole.status == "completed" and "Paris" in whole.output_text
assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens

events = list(client.responses.create(model="any", input=[{"role": "user", "content": [
    {"type": "input_text", "text": QUESTION}]}], temperature=0, max_output_tokens=40, stream=True))
assert [e.sequence_number for e in events] == list(range(len(events)))
assert events[0].type == "response.created" and events[-1].type == "response.completed"
final = events[-1].response
assert final.output_text == whole.output_text and final.usage.output_tokens == whole.usage.output_tokens
done = [e.item for e in events if e.type == "response.output_item.done"]
assert done == final.output
assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
assert {e.response.id for e in events if hasattr(e, "response")} == {final.id}
with client.responses.stream(model="any", input=QUESTION, temperature=0, max_output_tokens=40) as stream:
    assert stream.until_done().get_final_response().output_text == whole.output_text

history = [{"role": "developer", "content": "Be short."}, {"role": "user", "content": "Hello."},
           {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
           {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{\"city\": \"Paris\"}"},
           {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
           {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is sunny."}]},
           {"role": "user", "content": QUESTION}]
answer = client.responses.create(model="any", input=history, instructions="You help.", tools=TOOLS, store=False,
                                 reasoning={"effort": "low"}, include=["reasoning.encrypted_content"], max_output_tokens=20)
assert answer.output
cut = client.responses.create(model="any", input=QUESTION, max_output_tokens=2)
assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"

town = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}
held = client.responses.create(model="any", input=QUESTION, max_output_tokens=300,
                               text={"format": {"type": "json_schema", "name": "town", "strict": True, "schema": town}})
assert json.loads(held.output_text)["city"] in ("Paris", "Rome"), held
forced = client.responses.create(model="any", input=QUESTION, max_output_tokens=300, tool_choice={"type": "function", "name": "visit"},
                                 tools=[{"type": "function", "name": "visit", "description": "Go there", "parameters": town}])
calls = [o for o in forced.output if o.type == "function_call"]
assert calls and all(json.loads(c.arguments)["city"] in ("Paris", "Rome") for c in calls), forced

for wrong in (dict(input=QUESTION, previous_response_id="resp_1"), dict(input=3), dict(input=[]),
              dict(input=QUESTION, text={"format": {"type": "yaml"}}),
              dict(input=QUESTION, tools=TOOLS, tool_choice={"type": "function", "name": "no_such_tool"})):
    try:
        client.responses.create(model="any", **wrong)
    except openai.BadRequestError as e:
        assert e.body["message"], wrong
    else:
        raise AssertionError(wrong)
print("all as expected")
