# SPDX-License-Identifier: MIT
"""Description: prompts that begin as earlier ones did go on from there, with the tokens of a daemon that reuses nothing:
a second turn of a chat of 12k tokens, a tool loop of ten calls, sixteen at once, pages that are short, text that comes
back in other tokens; on a model with recurrent state and on one without."""
import concurrent.futures

import pytest

from daemon import DEMO, Daemon, fixture, sluice

MODELS = {"recurrent": lambda: DEMO, "plain": lambda: fixture("qwen3moe/qwen3moe-q2_k.gguf")}
LONG = ["--ctx", "16384", "--parallel", "2", "--batch", "512"]


def ids(n, seed, most=900):
    out = []
    for _ in range(n):
        seed = (seed * 1103515245 + 12345) & 0xffffffff
        out.append((seed >> 8) % most)
    return out


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


def ask(d, prompt, n=12):
    r = d.generate_ids(prompt, "--max-tokens", n, "--ignore-eog")
    assert r["usage"]["prompt_tokens"] == len(prompt)
    return r["tokens"], r["cached_tokens"]


@pytest.mark.parametrize("model", ["plain"], indirect=True)  # of the other one: test_prefix_chats.py
def test_second_turn_of_a_long_chat(model):
    """It reads at most what is new and 64 tokens, and says the same as a daemon that reads it all."""
    first = ids(12000, 1)
    with Daemon(model, *LONG) as d:
        answer, cached = ask(d, first)
        assert cached == 0
        second = first + answer + ids(150, 2)
        got, cached = ask(d, second)
        assert len(second) - cached <= 150 + 64
        s = d.status()
        assert s["tokens_reused"] == cached
    with Daemon(model, *LONG, "--prefix-cache", "off") as d:
        assert ask(d, second) == (got, 0)
        assert d.status()["prefix_bytes"] == 0


def test_tool_loop_and_two_chats_in_turn(model):
    """Ten calls each, in turns; every answer as without reuse."""
    chats = [ids(700, 10), ids(700, 10)[:400] + ids(300, 11)]
    said = []
    with Daemon(model, "--ctx", "2048", "--parallel", "2") as d:
        for call in range(10):
            for k, c in enumerate(chats):
                got, cached = ask(d, c, 6)
                if call:
                    assert len(c) - cached <= 30 + 1, (call, k)
                said.append((list(c), got))
                c += got + ids(30, 100 + call + k)
    with Daemon(model, "--ctx", "2048", "--parallel", "2", "--prefix-cache", "off") as d:
        for prompt, got in said[::3]:
            assert ask(d, prompt, 6) == (got, 0)


def test_sixteen_at_once(model):
    """The same system text, in company, with as many pages as there are and with few: the same as alone."""
    prompts = [ids(150, 5) + ids(20 + 5 * i, 20 + i) for i in range(16)]
    with Daemon(model, "--ctx", "512", "--parallel", "1", "--prefix-cache", "off") as d:
        alone = [[ask(d, p, 40)[0] for p in prompts]]
        then = [p + a + ids(12, 9) for p, a in zip(prompts, alone[0])]
        alone.append([ask(d, p, 40)[0] for p in then])
        one = d.status()["kv_bytes"]
    for args in ([], ["--kv-budget", one + one // 8], ["--kv-type", "f16", "--batch", "48", "--prefix-cache", "1M"]):
        with Daemon(model, "--ctx", "512", "--parallel", "16", *args) as d, concurrent.futures.ThreadPoolExecutor(16) as pool:
            for turn, expected in zip((prompts, then), alone):
                got = list(pool.map(lambda p: ask(d, p, 40), turn))
                assert [g[0] for g in got] == expected, args
            assert sum(g[1] for g in got) > 0 or "--kv-budget" in args


def test_text_comes_back():
    """An answer as text, with what follows: known up to where the texts part, however it is cut into tokens."""
    with Daemon(DEMO, "--ctx", "2048") as d:
        text = "The miller had three sons, his mill, a donkey and a cat. " * 8
        r = d.generate("--prompt", text, "--max-tokens", "40", "--ignore-eog")
        again = d.generate("--prompt", text + r["text"] + " And then", "--max-tokens", "4", "--ignore-eog")
        new = again["usage"]["prompt_tokens"] - again["cached_tokens"]
        assert again["cached_tokens"] > r["usage"]["prompt_tokens"] and new <= 64


def test_refusals():
    for value, text in (("lots", "a size such as 2G, auto or off"), ("-1", "a size such as 2G")):
        p = sluice("plan", DEMO, "--prefix-cache", value, check=2)
        assert text in p.stderr
    p = sluice("plan", DEMO, "--kv-budget", "4K", check=1)
    assert "--kv-budget" in p.stderr and "does not hold one sequence" in p.stderr
