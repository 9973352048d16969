# SPDX-License-Identifier: MIT
"""Description: the logits do not depend on the expert budget, threads, reader, prompt chunks or company.

One reference run; every other way to run the same tokens must give the same bits.
"""
import concurrent.futures
import re
import subprocess

import pytest

from daemon import BUILD, DEMO, Daemon, cpu_levels, fixture, reference

def tokens():
    return reference("moe/moe-q4_k_m", whole=False)[0]["tokens"]


def run(*args):
    with Daemon(DEMO, *args) as d:
        return d.eval_ids(tokens())[1]


def least_budget():
    """What the daemon says when it is given too little."""
    p = subprocess.run([str(BUILD / "sluiced"), "--model", str(DEMO), "--socket", "/nonexistent/s",
                        "--host-budget", "1"], capture_output=True, text=True, timeout=60)
    assert p.returncode == 1, p.stderr
    return int(re.search(r"need at least (\d+) bytes", p.stderr)[1])


@pytest.fixture(scope="module", params=cpu_levels())
def one_run(request):
    return request.param, run("--cpu", request.param, "--threads", "2", "--host-budget", "100%")


@pytest.mark.parametrize("args", [
    ["--host-budget", "50%"], ["--host-budget", "25%"], ["--threads", "1"], ["--io", "uring"], ["--io", "pread"],
    ["--io", "pread", "--host-budget", "25%", "--threads", "1"], ["--batch", "1"], ["--batch", "7"],
    ["--batch", "64", "--host-budget", "25%"], ["--batch", "7", "--host-budget", "30%", "--predict", "router"], ["--policy", "lru", "--host-budget", "25%"], ["--threads", "3"],
    ["--numa", "split:2"], ["--numa", "split:3", "--host-budget", "25%", "--threads", "1"],
    ["--numa", "split:8", "--batch", "1"], ["--numa", "off"]],
    ids=" ".join)
def test_same_logits(one_run, args):
    level, expected = one_run
    defaults = [] if "--threads" in args else ["--threads", "2"]
    got = run("--cpu", level, *defaults, *args)
    assert (got == expected).all(), f"{(got != expected).sum()} of {got.size} logits differ"


FAMILIES = ["glm4moe/glm4moe-q4_k_m", "minimax-m2/minimax-m2-q4_k_m", "gpt-oss/gpt-oss-mxfp4",
            "gemma4/gemma4-q4_k_m", "deepseek2/deepseek2-q4_k_m"]  # each has blocks of its own


@pytest.mark.parametrize("level", cpu_levels())
@pytest.mark.parametrize("name", FAMILIES)
def test_families(name, level):
    """The same for the properties of other families' blocks, in fewer ways; and alone or in company."""
    path, ids = fixture(f"{name}.gguf"), reference(name, whole=False)[0]["tokens"]
    defaults = ["--cpu", level, "--parallel", "4"]
    with Daemon(path, *defaults, "--threads", "2", "--host-budget", "100%") as d:
        expected = d.eval_ids(ids)[1]
        prompts = [ids[i * 9:i * 9 + 12] for i in range(4)]
        alone = [d.generate_ids(p, "--max-tokens", "24")["tokens"] for p in prompts]
    for args in (["--threads", "1", "--io", "pread"], ["--threads", "3", "--host-budget", "60%", "--batch", "7"],
                 ["--batch", "4", "--policy", "lru", "--host-budget", "60%", "--predict", "router"], ["--numa", "split:3", "--io", "uring"]):
        with Daemon(path, *defaults, *args) as d:
            got = d.eval_ids(ids)[1]
            assert (got == expected).all(), f"{name} {args}: {(got != expected).sum()} logits differ"
            with concurrent.futures.ThreadPoolExecutor(5) as pool:
                score = pool.submit(lambda: d.eval_ids(ids)[1])
                together = list(pool.map(lambda p: d.generate_ids(p, "--max-tokens", "24")["tokens"], prompts))
            assert together == alone and (score.result() == expected).all(), f"{name} {args} in company"


def test_least_budget(one_run):
    level, expected = one_run
    need = least_budget()
    got = run("--cpu", level, "--host-budget", need)
    assert (got == expected).all()
    p = subprocess.run([str(BUILD / "sluiced"), "--model", str(DEMO), "--socket", "/nonexistent/s",
                        "--host-budget", str(need - 1)], capture_output=True, text=True, timeout=60)
    assert p.returncode == 1 and f"need at least {need} bytes" in p.stderr


@pytest.mark.parametrize("kv", ["f16", "q8_0"])
def test_scoring_equals_generation(kv):
    """Tokens that were generated one by one score the same when they are given as a prompt."""
    ids = tokens()[:40]
    with Daemon(DEMO, "--kv-type", kv) as d:
        out = d.generate_ids(ids, "--max-tokens", "60")["tokens"]
        _, logits = d.eval_ids(ids + out)
        assert len(out) >= 1
        best = logits.argmax(-1)
        for i, token in enumerate(out):
            assert best[len(ids) + i - 1] == token
    with Daemon(DEMO, "--kv-type", kv, "--batch", "1", "--host-budget", "25%") as d:
        assert (d.eval_ids(ids + out)[1] == logits).all()


def test_alone_or_in_company(one_run):
    level, expected = one_run
    ids = tokens()
    with Daemon(DEMO, "--cpu", level, "--parallel", "4", "--host-budget", "50%") as d:
        prompts = [ids[i * 30:i * 30 + 20] for i in range(8)]
        alone = [d.generate_ids(p, "--max-tokens", "40")["tokens"] for p in prompts]
        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            score = pool.submit(lambda: d.eval_ids(ids)[1])
            together = list(pool.map(lambda p: d.generate_ids(p, "--max-tokens", "40")["tokens"], prompts))
            logits = score.result()
        assert together == alone
        assert (logits == expected).all()


def test_sampling_is_seeded():
    ids = tokens()[:20]
    with Daemon(DEMO) as d:
        args = ["--max-tokens", "30", "--temperature", "1", "--top-k", "50", "--top-p", "0.95", "--min-p", "0.01"]
        one = d.generate_ids(ids, *args, "--seed", "7")["tokens"]
        assert one == d.generate_ids(ids, *args, "--seed", "7")["tokens"]
        others = [d.generate_ids(ids, *args, "--seed", str(s))["tokens"] for s in range(8, 12)]
        assert any(o != one for o in others)
