# SPDX-License-Identifier: MIT
"""Description: sluice template, and a daemon started with another template or with variables for it."""
import json
import subprocess

import pytest

from daemon import BUILD, DEMO, Daemon, sluice

TEMPLATE = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{{ 'mode ' + mode if mode }}{{ strftime_now('%Y') if year }}{% endif %}
"""
HI = {"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": True}


@pytest.fixture(scope="module")
def jinja(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "chat.jinja"
    path.write_text(TEMPLATE)
    return path


def render(*args, check=0, **request):
    return sluice("template", "--input", "-", *args, input=json.dumps(request), check=check)


def test_renders(jinja):
    out = render("-t", jinja, **HI, chat_template_kwargs={"mode": "x"}).stdout
    assert out == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nmode x"
    assert render("-t", jinja, vars={"messages": [], "add_generation_prompt": True}).stdout == "<|im_start|>assistant\n"
    assert render("-t", jinja, "--now", "2031-01-02T03:04:05", **HI, chat_template_kwargs={"year": 1}).stdout.endswith("\n2031")
    assert render("-m", DEMO, **HI).stdout == render("-m", DEMO, "--raw", **HI).stdout == \
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    late = [*HI["messages"], {"role": "system", "content": "a"}, {"role": "developer", "content": [{"type": "text", "text": "b"}]}]
    assert render("-t", jinja, messages=late).stdout.count("<|im_start|>user\n[system message]\n") == 2
    assert "['" not in render("-t", jinja, messages=late).stdout and "<|im_start|>developer" in render("-t", jinja, "--raw", messages=late).stdout


def test_integers_keep_their_digits(tmp_path):
    """As in Python, up to 38 of them: what a model wrote into a call's arguments comes back to it as it was."""
    path = tmp_path / "t.jinja"
    path.write_text("{{ x | tojson }} {{ x[0] + 1 }}")
    whole = [10**20, -(2**63) - 1, 2**64, -(10**38 - 1), 10**38 - 1, 1]
    assert render("-t", path, vars={"x": whole}).stdout == f"{json.dumps(whole)} {10**20 + 1}"
    path.write_text("{{ x | tojson }}")
    assert render("-t", path, vars={"x": [10**40]}).stdout == "[1e+40]"
    path.write_text("{{ messages[1].tool_calls[0].function.arguments | tojson }}")
    call = {"type": "function", "function": {"name": "send", "arguments": '{"wei": 123456789012345678901}'}}
    out = render("-t", path, messages=[*HI["messages"], {"role": "assistant", "content": None, "tool_calls": [call]}]).stdout
    assert out == call["function"]["arguments"]


def test_caps():
    caps = json.loads(sluice("template", "-m", DEMO, "--caps").stdout)
    assert caps["supports_system_role"] and caps["supports_enable_thinking"] and not caps["supports_tools"]


def test_refusals(tmp_path, jinja):
    no = tmp_path / "no.jinja"
    no.write_text("{{ raise_exception('Only one turn, ' ~ messages[0].role ~ '!') }}")
    assert render("-t", no, **HI, check=1).stderr == "sluice template: the template refuses: Only one turn, user!\n"
    no.write_text("a\n{{ nope.x }}")
    assert f"{no}: line 2 of the chat template: 'nope' is undefined" in render("-t", no, **HI, check=1).stderr
    assert "messages[0].role: 'robot'" in render("-t", jinja, messages=[{"role": "robot"}], check=1).stderr
    assert "'tools' cannot be set" in render("-t", jinja, **HI, chat_template_kwargs={"tools": []}, check=1).stderr
    assert "own template" in render("-t", jinja, **HI, chat_template="x", check=1).stderr
    assert "no list of messages" in render("-t", jinja, check=1).stderr
    assert sluice("template", "-t", jinja, "--input", "-", input="[1", check=1).stderr.startswith("sluice template: -: ")
    assert render("-t", jinja, "--now", "noon", **HI, check=1).stderr
    sluice("template", "--input", "-", check=2)
    sluice("template", "-t", jinja, check=2)


def test_daemon(tmp_path, jinja):
    with Daemon(DEMO, "--threads", "1", "--ctx", "512", "--chat-template", jinja, "--chat-template-kwargs", '{"mode": "y"}') as d:
        ids = sluice("tokenize", "--socket", d.socket, "--chat", "Hi").stdout
    assert ids == sluice("tokenize", "-m", DEMO, "--special", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nmode y").stdout


@pytest.mark.parametrize("args, sentence", [
    (["--chat-template", "/nowhere"], "--chat-template /nowhere: No such file or directory: a file is meant"),
    (["--chat-template-kwargs", "[]"], "--chat-template-kwargs: no JSON object"),
    (["--chat-template-kwargs", '{"a": 1} x'], "--chat-template-kwargs: no valid JSON: "),
    (["--chat-template-kwargs", "{'a': 1}"], "--chat-template-kwargs: no valid JSON: "),
    (["--chat-template-kwargs", '{"messages": []}'], "'messages' cannot be set"),
])
def test_daemon_refuses(args, sentence, tmp_path):
    p = subprocess.run([BUILD / "sluiced", "--model", DEMO, "--socket", tmp_path / "s", *args], capture_output=True, text=True, timeout=60)
    assert p.returncode == 1 and sentence in p.stderr
