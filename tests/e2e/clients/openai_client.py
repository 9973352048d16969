# SPDX-License-Identifier: MIT
"""The usual calls of the openai package. usage: openai_client.py URL"""
import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]


def models():
    (model,) = client.models.list().data
    assert model.id == "demo" and client.models.retrieve("demo") == model
    try:
        client.models.retrieve("org/other")
        raise SystemExit("a model that is not there")
    except openai.NotFoundError as e:
        assert e.code == "model_not_found" and "org/other" in e.message


def chat():
    answer = client.chat.completions.create(model="any", messages=FRANCE, temperature=0, max_tokens=40)
    assert answer.object == "chat.completion" and answer.model == "demo"
    choice = answer.choices[0]
    assert "Paris" in choice.message.content and choice.message.role == "assistant"
    assert choice.finish_reason == "stop" and choice.message.tool_calls is None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    return choice.message.content


def chat_stream(whole):
    stream = client.chat.completions.create(model="any", messages=FRANCE, temperature=0, max_completion_tokens=40,
                                            stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole
    assert chunks[-2].choices[0].finish_reason == "stop"
    with client.chat.completions.stream(model="any", messages=FRANCE, temperature=0, max_tokens=40) as helper:
        assert helper.until_done().get_final_completion().choices[0].message.content == whole


def roles_and_parts(whole):
    messages = [{"role": "developer", "content": "Answer."}, {"role": "system", "content": "Be short."},
                {"role": "user", "content": [{"type": "text", "text": "Hello."}]},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
                {"role": "user", "content": "What is the capital of France?"}]
    answer = client.chat.completions.create(model="any", messages=messages, tools=TOOLS, temperature=0, max_tokens=30)
    assert answer.choices[0].message.content is not None or answer.choices[0].message.tool_calls
    many = client.chat.completions.create(model="any", messages=FRANCE, n=3, temperature=0, max_tokens=40)
    assert [c.message.content for c in many.choices] == [whole] * 3
    going_on = client.chat.completions.create(
        model="any", messages=[*FRANCE, {"role": "assistant", "content": "The capital of France is"}], temperature=0,
        max_tokens=20, extra_body={"continue_final_message": True, "add_generation_prompt": False})
    assert "Paris" in going_on.choices[0].message.content


def completions():
    answer = client.completions.create(model="any", prompt="The capital of France is", temperature=0, max_tokens=8)
    assert "Paris" in answer.choices[0].text and answer.choices[0].finish_reason == "stop"
    text = "".join(c.choices[0].text for c in client.completions.create(
        model="any", prompt="The capital of France is", temperature=0, max_tokens=8, stream=True))
    assert text == answer.choices[0].text
    scored = client.completions.create(model="any", prompt="The capital of France is Paris.", temperature=0, max_tokens=0, logprobs=1, echo=True)
    scored, lists = scored.choices[0], scored.choices[0].logprobs
    assert scored.text == "The capital of France is Paris." == "".join(lists.tokens) and scored.finish_reason == "length"
    assert lists.token_logprobs[0] is None and all(p < 0 for p in lists.token_logprobs[1:]) and len(lists.top_logprobs) == len(lists.tokens)
    assert [scored.text[at:].startswith(t) for at, t in zip(lists.text_offset, lists.tokens)] == [True] * len(lists.tokens)
    stopped = client.chat.completions.create(model="any", messages=FRANCE, temperature=0, stop=["Paris"])
    assert "Paris" not in stopped.choices[0].message.content


def forms():
    """Answers and calls that are held to a schema."""
    town = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": False}
    answer = client.chat.completions.create(model="any", messages=FRANCE, max_tokens=300, response_format={
        "type": "json_schema", "json_schema": {"name": "town", "strict": True, "schema": town}})
    assert json.loads(answer.choices[0].message.content)["city"] in ("Paris", "Rome"), answer
    visit = [{"type": "function", "function": {"name": "visit", "description": "Go there", "parameters": town}}]
    for choice in ("required", {"type": "function", "function": {"name": "visit"}}):
        answer = client.chat.completions.create(model="any", messages=FRANCE, max_tokens=300, tools=visit, tool_choice=choice)
        calls = answer.choices[0].message.tool_calls
        assert calls and all(c.function.name == "visit" and json.loads(c.function.arguments)["city"] in ("Paris", "Rome")
                             for c in calls), answer


def faults():
    for error, call in (
        (openai.BadRequestError, lambda: client.chat.completions.create(model="any", messages=[])),
        (openai.BadRequestError, lambda: client.chat.completions.create(model="any", messages=FRANCE, tool_choice="required")),
        (openai.BadRequestError, lambda: client.chat.completions.create(
            model="any", messages=FRANCE, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "no_such_tool"}})),
        (openai.BadRequestError, lambda: client.chat.completions.create(model="any", messages=FRANCE,
                                                                        response_format={"type": "yaml"})),
        (openai.BadRequestError, lambda: client.chat.completions.create(model="any", messages=[{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}])),
        (openai.BadRequestError, lambda: client.chat.completions.create(model="any", messages=[{"role": "user", "content":
                                                                                                "word " * 4000}])),
        (openai.InternalServerError, lambda: client.embeddings.create(model="any", input="x")),
    ):
        try:
            call()
        except error as e:
            assert e.body["message"] and "type" in e.body
            if "maximum context length" in e.body["message"]:
                assert e.code == "context_length_exceeded"
        else:
            raise AssertionError(f"{error} was expected")


models()
content = chat()
chat_stream(content)
roles_and_parts(content)
completions()
forms()
faults()
print("all as expected")
