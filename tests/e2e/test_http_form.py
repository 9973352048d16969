# SPDX-License-Identifier: MIT
"""Description: answers over HTTP held to a form: schemas, JSON objects, grammars, expressions, forced and strict calls,
behind a thought, with drafts, in streams, at any temperature."""
import json
import re

import pytest

from daemon import need_shared
from http_client import HttpDaemon

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Tell me of Paris."}], "max_tokens": 400, "temperature": 1.5}
PLACE = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "kind": {"enum": ["town", "river"]}, "n": {"type": "integer", "minimum": 1, "maximum": 99}},
         "required": ["name", "kind", "n"], "additionalProperties": False}
CALLS = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if tools %}<tool_call>{{ tools | tojson }}</tool_call>{% endif %}<|im_start|>assistant
"""
XML = CALLS.replace("<tool_call>", "<tool_call><function=x>")
THINKING = CALLS + """{% if not enable_thinking is defined or enable_thinking %}<think>
{% endif %}{# </think> #}"""


def tool(name, strict=None, **props):
    f = {"name": name, "parameters": {"type": "object", "properties": props, "required": list(props), "additionalProperties": False}}
    return {"type": "function", "function": {**f, **({} if strict is None else {"strict": strict})}}


TOOLS = [tool("weather", place={"type": "string", "maxLength": 8}, days={"type": "integer", "minimum": 1, "maximum": 5}), tool("stop")]


def is_place(v):
    return list(v) == ["name", "kind", "n"] and len(v["name"]) <= 12 and v["kind"] in ("town", "river") and 1 <= v["n"] <= 99


@pytest.fixture(scope="module")
def d(tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "t.jinja"
    path.write_text(CALLS)
    with HttpDaemon("--ctx", "1024", "--parallel", "2", "--chat-template", path) as daemon:
        yield daemon


def content(answer):
    return answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("more", [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE, "strict": True}}},
    {"response_format": {"type": "json_object", "schema": PLACE}}, {"json_schema": PLACE},
    {"response_format": {"type": "json_schema", "schema": PLACE}},
    {"guided_json": PLACE}, {"guided_json": json.dumps(PLACE)}, {"structured_outputs": {"json": PLACE}},
])
def test_schemas(d, more):
    for seed in range(5):
        assert is_place(json.loads(content(d.post(CHAT, {**ASK, **more, "seed": seed}))))


def test_streams_and_other_paths(d):
    form = {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}}
    events = [e for _, e in d.stream(CHAT, {**ASK, **form}) if e != "[DONE]"]
    assert is_place(json.loads("".join(e["choices"][0]["delta"].get("content") or "" for e in events)))
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    answer = d.post("/v1/responses", {"input": "Paris", "max_output_tokens": 400, "text": {"format": {"type": "json_schema", "name": "p", "schema": PLACE}}})
    assert is_place(json.loads(answer["output"][-1]["content"][0]["text"]))
    for more in ({"output_config": {"format": {"type": "json_schema", "schema": PLACE}}}, {"output_format": {"type": "json_schema", "schema": PLACE}}):
        answer = d.post("/v1/messages", {"messages": ASK["messages"], "max_tokens": 400, **more})
        assert is_place(json.loads(answer["content"][-1]["text"]))
    assert re.fullmatch("[ab]{3}", d.post("/v1/completions", {"prompt": "x", "max_tokens": 20, "regex": "[ab]{3}", "temperature": 2})["choices"][0]["text"])
    assert d.post("/completion", {"prompt": "x", "n_predict": 40, "grammar": 'root ::= "yes" | "no"'})["content"] in ("yes", "no")
    answer = d.post("/v1/completions", {"prompt": ["x", "y"], "n": 3, "max_tokens": 20, "regex": "(one|two|three)", "temperature": 2})
    assert all(c["text"] in ("one", "two", "three") for c in answer["choices"]) and len(answer["choices"]) == 6


def test_any_object(d):
    answer = d.post(CHAT, {**ASK, "response_format": {"type": "json_object"}})
    if answer["choices"][0]["finish_reason"] == "stop":
        assert isinstance(json.loads(content(answer)), dict)
    else:
        assert content(answer).startswith("{")


def test_drafts_change_nothing(d):
    """The same seed gives the same answer, whatever is drafted."""
    items = {"type": "array", "items": {"enum": ["river", "rivers", "town"]}, "minItems": 30, "maxItems": 30}
    ask = {**ASK, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": items}}, "seed": 5, "temperature": 0.7}
    plain = d.post(CHAT, {**ask, "spec": "off"})
    drafted = d.post(CHAT, {**ask, "spec": "ngram"})
    assert content(plain) == content(drafted) and len(json.loads(content(plain))) == 30
    assert "draft_n" not in plain["timings"] or plain["timings"]["draft_n"] == 0


def test_forced_calls(d):
    for seed in range(3):
        message = d.post(CHAT, {**ASK, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "seed": seed})["choices"][0]
        call, = message["message"]["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        assert message["finish_reason"] == "tool_calls" and call["function"]["name"] in ("weather", "stop")
        assert call["function"]["name"] == "stop" or (len(arguments["place"]) <= 8 and 1 <= arguments["days"] <= 5)
    named = {"type": "function", "function": {"name": "stop"}}
    call, = d.post(CHAT, {**ASK, "tools": TOOLS, "tool_choice": named, "parallel_tool_calls": False})["choices"][0]["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("stop", {})
    use = d.post("/v1/messages", {**ASK, "tools": [{"name": "stop", "input_schema": {"type": "object", "additionalProperties": False}}], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}})
    assert use["content"][-1]["type"] == "tool_use" and use["stop_reason"] == "tool_use"


@pytest.mark.parametrize("form", ["hermes", "xml"])
def test_forced_calls_that_are_cut_have_no_content(tmp_path, form):
    """By their length or a stop text, in each API, whole and as a stream: neither the begun tag nor what follows it."""
    (tmp_path / "t.jinja").write_text(XML if form == "xml" else CALLS)
    with HttpDaemon("--ctx", "1024", "--chat-template", tmp_path / "t.jinja") as d:
        def streamed(body):
            chunks = [e["choices"][0] for _, e in d.stream(CHAT, body) if e != "[DONE]"]
            return "".join(c["delta"].get("content") or "" for c in chunks), [c for c in chunks if "tool_calls" in c["delta"]], chunks[-1]["finish_reason"]

        ask = {"messages": ASK["messages"], "temperature": 1.5, "tools": [TOOLS[0]], "tool_choice": "required"}
        for n in [*range(1, 9), 14]:
            for seed in range(2):
                body = {**ask, "max_tokens": n, "seed": seed}
                choice = d.post(CHAT, body)["choices"][0]
                assert choice["message"]["content"] == "" and choice["finish_reason"] == "length" and "tool_calls" not in choice["message"], choice
                assert streamed(body) == ("", [], "length")
            use = d.post("/v1/messages", {**ask, "max_tokens": n, "tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}})
            assert use["content"] == [] and use["stop_reason"] == "max_tokens", use
            item = d.post("/v1/responses", {"input": "Tell me.", "max_output_tokens": n, "tool_choice": "required",
                                            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]})
            assert item["status"] == "incomplete" and all(not part["text"] for o in item["output"] for part in o.get("content", [])), item
        stopped = d.post(CHAT, {**ask, "max_tokens": 200, "stop": ["call"]})["choices"][0]
        assert not stopped["message"]["content"] and stopped["finish_reason"] == "stop", stopped


def test_calls_in_place_of_a_form_that_are_cut(d):
    """A form beside tools: the answer is JSON, whole or cut, or it is calls, and then a cut one leaves no content."""
    form = {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}, "tools": TOOLS}
    first = d.post("/tokenize", {"content": "<tool_call>", "parse_special": True})["tokens"][0]
    for n in range(1, 9):
        answers = [d.post(CHAT, {**ASK, **form, "max_tokens": n, "logit_bias": {str(first): bias}})["choices"][0] for bias in (100, -100)]
        assert all(a["finish_reason"] == "length" for a in answers)
        assert not answers[0]["message"]["content"] and answers[1]["message"]["content"].lstrip()[:1] in ("", "{"), answers


def test_strict_tools(d):
    """A text without a call stays one; a call, once begun, is held (here it is begun in the prompt's stead by a form)."""
    answer = d.post(CHAT, {**ASK, "tools": [tool("stop", True)], "max_tokens": 30})["choices"][0]
    assert answer["finish_reason"] in ("length", "stop", "tool_calls")
    d.post(CHAT, {**ASK, "tools": [tool("f", True, x={"not": {}})]}, check=400)
    d.post(CHAT, {**ASK, "tools": [tool("f", False, x={"not": {}})], "max_tokens": 1})


def test_calls_in_xml(tmp_path):
    (tmp_path / "t.jinja").write_text(XML)
    with HttpDaemon("--ctx", "1024", "--chat-template", tmp_path / "t.jinja") as d:
        for seed in range(3):
            call = d.post(CHAT, {**ASK, "tools": [TOOLS[0]], "tool_choice": "required", "parallel_tool_calls": False, "seed": seed, "temperature": 0.3,
                                 "max_tokens": 900})["choices"][0]
            if call["finish_reason"] == "length":  # a text ends when the model closes it
                continue
            arguments = json.loads(call["message"]["tool_calls"][0]["function"]["arguments"])
            assert isinstance(arguments["place"], str) and 1 <= arguments["days"] <= 5


@pytest.mark.parametrize("template", ["Qwen-Qwen3-0.6B", "Qwen3-Coder", "GLM-4.6", "MiniMax-M2", "deepseek-ai-DeepSeek-V3.1", "moonshotai-Kimi-K2",
                                      "openai-gpt-oss-120b"])
def test_forced_calls_of_every_family(template):
    """Required, named, strict; one call or several; each by the family's own template. A thought that comes first is closed by a bias."""
    with HttpDaemon("--ctx", "4096", "--chat-template", need_shared(f"fixtures/templates/{template}.jinja")) as d:
        ids = d.post("/tokenize", {"content": "</think>", "parse_special": True})["tokens"]
        tools = [tool("weather", True, place={"type": "string", "enum": ["Oslo", "Rome"]}, days={"type": "integer", "minimum": 1, "maximum": 5}), tool("stop", True)]
        for f in tools:
            f["function"]["description"] = "What it does."
        ask = {**ASK, "tools": tools, "enable_thinking": False, "max_tokens": 600, "logit_bias": {str(ids[0]): 100} if len(ids) == 1 else {}}
        named = {"type": "function", "function": {"name": "weather"}}
        done = 0
        for seed, choice in enumerate(["required", named, "required", named]):
            answer = d.post(CHAT, {**ask, "tool_choice": choice, "parallel_tool_calls": seed > 1, "seed": seed})["choices"][0]
            if answer["finish_reason"] == "length":  # it called on and on, or thought
                continue
            calls = [c["function"] for c in answer["message"]["tool_calls"]]
            assert answer["finish_reason"] == "tool_calls" and calls and (seed > 1 or len(calls) == 1) and not answer["message"].get("content")
            for call in calls:
                arguments = json.loads(call["arguments"])
                assert call["name"] == "weather" or (choice == "required" and call["name"] == "stop" and arguments == {})
                assert call["name"] == "stop" or (arguments["place"] in ("Oslo", "Rome") and 1 <= arguments["days"] <= 5 and len(arguments) == 2)
            done += 1
        assert done >= 2, answer


def test_a_thought_is_free(tmp_path):
    """The form begins behind </think>: with a bias towards it the thought ends at once."""
    (tmp_path / "t.jinja").write_text(THINKING)
    with HttpDaemon("--ctx", "1024", "--reasoning-field", "reasoning_content", "--chat-template", tmp_path / "t.jinja") as d:
        form = {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": PLACE}}}
        answer = d.post(CHAT, {**ASK, **form, "max_tokens": 40})["choices"][0]
        assert answer["finish_reason"] == "length" and answer["message"]["reasoning_content"]
        answer = d.post(CHAT, {**ASK, **form, "enable_thinking": False})["choices"][0]
        text = answer["message"]["content"]
        assert answer["finish_reason"] == "length" or is_place(json.loads(text))


@pytest.mark.parametrize("more, param, said", [
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}, "strict": True}}}, "response_format", "not cannot be held"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}}, "response_format", "type x"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format", "schema"),
    ({"response_format": {"type": "xml"}}, "response_format", "xml"), ({"grammar": "root ::= x"}, "grammar", "no rule x"),
    ({"regex": "(?=a)"}, "regex", "look-around"), ({"grammar": 'root ::= "a"', "regex": "a"}, "regex", "one form"),
    ({"guided_json": "{"}, "guided_json", "not valid JSON"), ({"guided_json": "[]"}, "guided_json", "must be a JSON object"),
    ({"guided_choice": "a"}, "guided_choice", "list"), ({"guided_choice": ["a", ""]}, "guided_choice", "not empty"),
    ({"guided_regex": "(?=a)"}, "guided_regex", "look-around"), ({"guided_choice": ["a"], "guided_regex": "a"}, "guided_choice", "one form"),
    ({"structured_outputs": {"structural_tag": {}}}, "structured_outputs", "choice"),
    ({"structured_outputs": {}}, "structured_outputs", "choice"), ({"structured_outputs": {"schema": PLACE}}, "structured_outputs", "choice"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "one form"),
    ({"structured_outputs": {"json": PLACE}, "regex": "a"}, "structured_outputs", "one form"),
    ({"tool_choice": "required"}, "tool_choice", "no tools"), ({"tool_choice": "maybe", "tools": TOOLS}, "tool_choice", "maybe"),
    ({"tool_choice": {"type": "function", "function": {"name": "nobody"}}, "tools": TOOLS}, "tool_choice", "nobody"),
])
def test_refused_with_the_field(d, more, param, said):
    error = d.post(CHAT, {**ASK, **more}, check=400)["error"]
    assert error["param"] == param and said in error["message"]


CHOICES = ["a.c", "[x]{2}", "(y|z)*", "^q$", "\\d+", "one\ntwo\t", "/-?", "\u00e4\u4f60 \U0001f600"]


@pytest.mark.parametrize("more", [{"guided_choice": CHOICES}, {"structured_outputs": {"choice": CHOICES}}])
def test_choices(d, more):
    """One of the texts, letter by letter, whatever an expression would make of them."""
    got = {content(d.post(CHAT, {**ASK, **more, "seed": seed, "temperature": 50, "top_k": 0, "min_p": 0, "top_p": 1})) for seed in range(24)}
    assert got <= set(CHOICES) and len(got) > 3
    for one in CHOICES:
        assert content(d.post(CHAT, {**ASK, "guided_choice": [one]})) == one


@pytest.mark.parametrize("more, match", [
    ({"guided_regex": "ab?"}, "ab?"), ({"structured_outputs": {"regex": "ab?"}}, "ab?"), ({"guided_grammar": 'root ::= "x" | "yy"'}, "x|yy"),
    ({"structured_outputs": {"grammar": 'root ::= "x" | "yy"'}}, "x|yy"), ({"structured_outputs": {"json_object": True}}, r"(?s)\{.*"),
])
def test_the_same_under_other_names(d, more, match):
    assert re.fullmatch(match, content(d.post(CHAT, {**ASK, **more})))


def test_values_of_texts_count(d):
    """A schema as a text of JSON has no more values than a body may have: json-c takes 100 bytes for each."""
    many = '{"a": [' + "1," * (1 << 20) + "1]}"
    error = d.post(CHAT, {**ASK, "guided_json": many}, check=413)["error"]
    assert error["param"] == "guided_json" and "1048576 values" in error["message"]


def test_not_strict_leaves_out_what_cannot_be_held(d):
    schema = {"type": "string", "not": {"const": "x"}, "maxLength": 5}
    assert len(json.loads(content(d.post(CHAT, {**ASK, "json_schema": schema})))) <= 5


def test_an_empty_text_and_minimum_of_tokens(d):
    """Where the form has ended nothing but the end may come, however short the answer."""
    assert content(d.post(CHAT, {**ASK, "regex": "ab?", "min_tokens": 9})) in ("a", "ab")


def counts(d):
    return d.status()["forms"]


def test_what_comes_again_is_there(tmp_path):
    """The second request of a form compiles nothing and finds its masks; another key, or another byte, is another form."""
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    form = {"prompt": "x", "max_tokens": 60, "seed": 7, "temperature": 1, "json_schema": {**PLACE, "description": "again"}}
    with HttpDaemon("--ctx", "512", "--parallel", "2", "--api-key-file", keys) as d:
        def ask(key, **more):
            before = counts(d)
            text = d.post("/v1/completions", {**form, **more}, Authorization=f"Bearer {key}")["choices"][0]["text"]
            return text, {k: v - before[k] for k, v in counts(d).items()}
        cold, n = ask("one")
        assert n["compiled"] == 1 and n["found"] == 0 and n["masks"] > n["masks_cached"] and n["forms"] == 1
        warm, n = ask("one")
        assert warm == cold and n["compiled"] == 0 and n["found"] == 1 and n["masks"] == n["masks_cached"] > 10 and n["bytes"] == 0
        other, n = ask("two")
        assert other == cold and n["compiled"] == 1 and n["found"] == 0 and n["masks"] > n["masks_cached"]
        _, n = ask("one", json_schema={**PLACE, "description": "Again"})
        assert n["compiled"] == 1 and n["forms"] == 1
        metrics = d.ask("GET", "/metrics", headers={"Authorization": "Bearer one"})[2].decode()
        assert re.search(r"^sluice_forms_compiled_total 3$", metrics, re.M) and re.search(r"^sluice_forms_reused_total 1$", metrics, re.M)
        assert re.search(r"^sluice_masks_reused_total [1-9]", metrics, re.M) and re.search(r"^sluice_forms_kept 3$", metrics, re.M)


def test_forms_without_end(d):
    """Hundreds of schemas: what is kept stays within its bound, and everybody is answered."""
    for i in range(300):
        text = d.post("/v1/completions", {"prompt": "x", "max_tokens": 8, "regex": f"[ab]{{2}}|{i}cd"})["choices"][0]["text"]
        assert re.fullmatch(f"[ab]{{2}}|{i}cd", text)
    assert counts(d)["forms"] <= 256 and counts(d)["bytes"] <= 64 << 20 and counts(d)["compiled"] >= 300
