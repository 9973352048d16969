# SPDX-License-Identifier: MIT
"""The verbs of the sluice command and the example client against the real daemon, as a user meets them."""
import csv
import io
import json
import math
import os
import re
import signal
import socket
import subprocess
import time

import numpy
import pytest

from daemon import BUILD, DEMO, ROOT, Daemon, sluice

QUESTION = ("--chat", "--prompt", "What is the capital of France?")


@pytest.fixture(scope="module")
def d():
    with Daemon(DEMO, "--ctx", "32768", "--parallel", "2") as daemon:
        daemon.filled()
        yield daemon


def ask(d, *args, check=0, **kw):
    return sluice(args[0], "--socket", d.socket, *args[1:], check=check, **kw)


# ---- generate ----

def test_text_goes_to_stdout_and_figures_to_stderr(d):
    p = ask(d, "generate", *QUESTION)
    assert p.stdout == "The capital of France is Paris.\n"
    assert re.fullmatch(r"[\d.]+ tok/s \(\d+ tokens\), prompt [\d.]+ tok/s \(\d+ tokens\), first token \d+ ms; "
                        r"expert hit rate [\d.]+ %, from memory .+, from disk .+\n", p.stderr), p.stderr
    assert ask(d, "generate", *QUESTION, "--quiet").stderr == ""


def test_json_has_what_the_interface_says(d):
    j = d.generate(*QUESTION)
    assert j["text"] == "The capital of France is Paris."
    assert j["stop_reason"] == "stop"
    assert j["usage"] == {"prompt_tokens": j["usage"]["prompt_tokens"], "completion_tokens": len(j["tokens"])}
    assert j["usage"]["prompt_tokens"] > 5
    assert j["timings"]["prompt_per_second"] > 0 and j["timings"]["predicted_per_second"] > 0
    assert j["timings"]["ttft_ms"] > 0
    assert j["experts"]["hits"] > 0
    short = d.generate(*QUESTION, "--max-tokens", "3")
    assert short["stop_reason"] == "length" and short["tokens"] == j["tokens"][:3]
    none = d.generate(*QUESTION, "--max-tokens", "0")
    assert none["tokens"] == [] and none["text"] == ""


def test_all_forms_of_a_prompt_agree(d, tmp_path):
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    file = tmp_path / "prompt"
    file.write_text(text)
    ids = json.loads(sluice("tokenize", "--model", DEMO, "--text", file, "--special", "--json").stdout)["tokens"]
    expected = d.generate("--prompt", text, "--special")
    assert "Paris" in expected["text"]
    for other in (d.generate("--prompt-file", str(file), "--special"), d.generate_ids(ids),
                  d.generate("--prompt-file", "-", "--special", input=text)):
        assert other["tokens"] == expected["tokens"] and other["text"] == expected["text"]
    assert d.generate("--prompt", text)["usage"]["prompt_tokens"] > len(ids)  # not parsed unless asked


def test_control_tokens_are_shown_only_raw(d):
    assert "<|im_end|>" not in d.generate(*QUESTION)["text"]
    assert d.generate(*QUESTION, "--raw")["text"].endswith("<|im_end|>")
    more = d.generate(*QUESTION, "--ignore-eog", "--max-tokens", "30")
    assert len(more["tokens"]) == 30 and more["stop_reason"] == "length"


def test_seeds(d):
    args = ("--prompt", "It was", "--temperature", "1.5", "--max-tokens", "24", "--top-k", "50", "--top-p", "0.95",
            "--min-p", "0.01")
    a, b = d.generate(*args, "--seed", "1"), d.generate(*args, "--seed", "1")
    others = [d.generate(*args, "--seed", str(s))["tokens"] for s in (2, 3, 4)]
    assert a["tokens"] == b["tokens"]
    assert any(o != a["tokens"] for o in others)


def test_a_system_text_reaches_the_model(d):
    plain, told = d.generate(*QUESTION), d.generate(*QUESTION, "--system", "You answer in one word.")
    assert told["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]


def test_prompts_above_64_kib_arrive_whole(d, tmp_path):
    file = tmp_path / "prompt"  # by memfd; refused for its length, which says what arrived
    file.write_text("word " * 40000)
    n = len(json.loads(sluice("tokenize", "--model", DEMO, "--text", file, "--json").stdout)["tokens"])
    assert f"{n} tokens" in ask(d, "generate", "--prompt-file", file, check=1).stderr
    file.write_text(json.dumps([7] * 33000))
    assert "33000 tokens" in ask(d, "eval", "--tokens", file, check=1).stderr


def test_a_prompt_of_several_steps(d):
    ids = [17 + i % 200 for i in range(1500)]
    j = d.generate_ids(ids, "--max-tokens", "4", "--ignore-eog")
    assert j["usage"] == {"prompt_tokens": 1500, "completion_tokens": 4}


def test_ctrl_c_keeps_what_came(d):
    before = d.status()["tokens_generated"]
    p = subprocess.Popen([BUILD / "sluice", "generate", "--socket", d.socket, "--prompt", "It was", "--ignore-eog",
                          "--max-tokens", "30000", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while d.status()["tokens_generated"] == before and time.monotonic() < end:
        time.sleep(0.02)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130, err
    j = json.loads(out)
    assert j["stop_reason"] == "cancelled" and 0 < len(j["tokens"]) < 30000


def test_refusals_say_what_to_do(d):
    p = ask(d, "generate", "--prompt-tokens", "[1,999999]", check=1)
    assert "token 999999 at position 1" in p.stderr
    p = ask(d, "generate", "--prompt-tokens", json.dumps([1] * 32768), check=1)
    assert "--ctx" in p.stderr and p.stdout == ""
    p = ask(d, "generate", "--prompt", "", check=1)
    assert "empty" in p.stderr


@pytest.mark.parametrize("args", [
    (), ("nonsense",), ("generate",), ("generate", "--socket", "x"), ("generate", "--wait", "x", "--prompt", "x"),
    ("generate", "--socket", "x", "--prompt", "x", "--prompt-file", "y"),
    ("generate", "--socket", "x", "--prompt", "x", "--temperature", "-1"),
    ("generate", "--socket", "x", "--prompt", "x", "--max-tokens", "many"),
    ("generate", "--socket", "x", "--prompt-tokens", "[1]", "--chat"),
    ("generate", "--socket", "x", "--prompt-tokens", "1,2"),
    ("generate", "--socket", "x", "--prompt-tokens", "[1.5]"),
    ("status", "--socket"), ("eval", "--socket", "x"), ("bench", "--socket", "x", "-p", "1,x"),
    ("eval", "--socket", "x", "--text", "a", "--tokens", "b"), ("doctor", "--nonsense"),
])
def test_usage_errors_exit_2(args):
    p = sluice(*args, check=2)
    assert p.stdout == "" and p.stderr


@pytest.mark.parametrize("args", [("status",), ("generate", "--wait", "0", "--prompt", "x"),
                                  ("bench", "--wait", "0")])
def test_no_daemon_exits_3(args, tmp_path):
    p = sluice(*args, "--socket", tmp_path / "none", check=3)
    assert "sluiced" in p.stderr
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    sluice(*args, "--socket", tmp_path / "dead", check=3)


def test_help_of_every_verb():
    for verb in re.findall(r"^  (\w+)", sluice("help").stdout, re.M):
        p = sluice(verb, "--help") if verb not in ("help", "version") else sluice(verb)
        assert p.stdout


# ---- eval ----

def test_eval_agrees_with_its_own_logits(d, tmp_path):
    text = tmp_path / "text"
    text.write_text("It is a truth universally acknowledged, that a single man in possession of a good fortune.\n" * 3)
    out = tmp_path / "logits.npy"
    p = ask(d, "eval", "--text", text, "--perplexity", "--dump-logits", out, "--json")
    j = json.loads(p.stdout)
    ids = json.loads(sluice("tokenize", "--model", DEMO, "--text", text, "--json").stdout)["tokens"]
    logits = numpy.load(out)
    assert logits.dtype == numpy.float32 and logits.shape == (len(ids), 2048) and j["tokens"] == len(ids)
    x = logits.astype(numpy.float64)
    logp = x - x.max(1, keepdims=True)
    logp -= numpy.log(numpy.exp(logp).sum(1, keepdims=True))
    nll = -logp[numpy.arange(len(ids) - 1), ids[1:]].mean()
    assert abs(nll - j["nll"]) < 1e-5 and abs(j["perplexity"] - math.exp(j["nll"])) < 1e-9 * j["perplexity"]
    assert not (tmp_path / "logits.npy.part").exists()
    assert "perplexity" in ask(d, "eval", "--text", text).stdout
    again, same = d.eval_ids(ids)
    assert again == j and (same == logits).all()


def test_eval_edges(d, tmp_path):
    tokens = tmp_path / "t.json"
    tokens.write_text("[5]")
    j = json.loads(ask(d, "eval", "--tokens", tokens, "--json").stdout)
    assert j == {"tokens": 1, "nll": None, "perplexity": None}
    tokens.write_text("[]")
    assert "empty" in ask(d, "eval", "--tokens", tokens, check=1).stderr
    tokens.write_text(json.dumps([5] * 32769))
    p = ask(d, "eval", "--tokens", tokens, "--dump-logits", tmp_path / "no.npy", check=1)
    assert "context" in p.stderr
    assert not list(tmp_path.glob("no.npy*"))  # nothing half-written stays behind
    assert "No such file" in ask(d, "eval", "--text", tmp_path / "none", check=1).stderr


# ---- status, bench, doctor ----

def test_status_has_what_the_interface_says(d):
    s = d.status()
    for name in ("state filling model arch budget_bytes resident_bytes experts_total experts_resident hits misses "
                 "bytes_read stall_seconds tokens_generated cpu io arena fallbacks").split():
        assert name in s, name
    assert s["state"] == "ready" and s["arch"] == "qwen35moe" and s["experts_total"] == 128
    assert s["io"] in ("uring", "pread") and s["arena"] in ("hugetlb", "thp", "4k")
    assert isinstance(s["filling"], bool) and isinstance(s["fallbacks"], list)
    text = ask(d, "status").stdout
    assert "qwen35moe" in text and "128 of 128" in text
    for word in ("connection", "sequence", "thread"):
        (number, plural), = re.findall(rf"(?:^| )(\d+) {word}(s?)\b", text, re.M)
        assert plural == ("" if number == "1" else "s"), word


def test_bench_rows(d):
    p = ask(d, "bench", "-p", "32,64", "-n", "8", "-d", "0,16", "-r", "2", "--json")
    rows = json.loads(p.stdout)
    assert [(r["n_prompt"], r["n_gen"], r["n_depth"]) for r in rows] == \
        [(32, 0, 0), (64, 0, 0), (0, 8, 0), (32, 0, 16), (64, 0, 16), (0, 8, 16)]
    for r in rows:
        assert len(r["samples_ts"]) == 2 and abs(sum(r["samples_ts"]) / 2 - r["avg_ts"]) < 1e-6 * r["avg_ts"]
        n = r["n_prompt"] + r["n_gen"]
        assert abs(r["samples_ts"][0] - 1e9 * n / r["samples_ns"][0]) < 1e-6 * r["samples_ts"][0]
        m = r["avg_ts"]
        assert abs(r["stddev_ts"] - math.sqrt(sum((x - m) ** 2 for x in r["samples_ts"]))) < 1e-6 * m
        for name in ("hit_ratio", "miss_bytes_per_token", "stall_seconds", "read_gbs"):
            assert r[name] >= 0
        assert r["hit_ratio"] <= 1


def test_bench_reads_a_depth_once(d):
    before = json.loads(ask(d, "status", "--json").stdout)["tokens_reused"]
    p = ask(d, "bench", "-p", "32", "-n", "4", "-d", "256", "-r", "3", "--json")
    after = json.loads(ask(d, "status", "--json").stdout)["tokens_reused"]
    rows = json.loads(p.stdout)
    assert all(len(r["samples_ns"]) == 3 and min(r["samples_ns"]) > 0 for r in rows)
    assert 0 <= after - before <= 8 * 257  # at points only where the model has recurrent state
    assert rows[0]["gmadds"] > 0 and rows[0]["gmadds_share_of_peak"] is None
    assert rows[1]["sequence_bytes_per_token"] > 0


def test_bench_formats(d, tmp_path):
    text = tmp_path / "text"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 60)
    args = ("-p", "16", "-n", "4", "-r", "1", "--text", str(text))
    rows = list(csv.DictReader(io.StringIO(ask(d, "bench", *args, "-o", "csv").stdout)))
    assert [r["n_prompt"] for r in rows] == ["16", "0"] and float(rows[1]["avg_ts"]) > 0
    assert rows[0]["tokens"] == "text"
    peaks = tmp_path / "peaks.json"
    peaks.write_text('{"mem_read_gbs": 10, "disk_read_gbs": 1}')
    md = ask(d, "bench", *args, "--peaks", str(peaks)).stdout
    lines = [line for line in md.splitlines() if line.startswith("|")]
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "pp16" in lines[2] and "tg4" in lines[3] and "%)" in lines[3]
    assert "context" in ask(d, "bench", "-p", "40000", check=1).stderr


def test_doctor(tmp_path):
    p = sluice("doctor", "--model", DEMO, "--seconds", "0.2", "--json")
    j = json.loads(p.stdout)
    assert j["mem_read_gbs"] > 0.1 and j["disk_read_gbs"] > 0 and j["cores"] >= 1
    assert j["model"]["arch"] == "qwen35moe" and 0 < j["model"]["experts_share"] <= 1
    for a in j["advice"]:
        assert a["problem"]
    text = sluice("doctor", "--disk", tmp_path, "--seconds", "0.1", "--no-memory").stdout
    assert "reads      disk" in text and "reads      memory" not in text
    assert not list(tmp_path.iterdir())  # its test file is gone


# ---- the daemon as a program ----

def run_daemon(*args):
    return subprocess.run([BUILD / "sluiced", *map(str, args)], capture_output=True, text=True, timeout=60)


def test_daemon_usage(tmp_path):
    assert run_daemon("--help").returncode == 0
    assert run_daemon("--version").stdout.startswith("sluiced ")
    for args in ([], ["--socket", "x"], ["--model", DEMO, "--socket", "x", "--threads", "x"],
                 ["--model", DEMO, "--socket", "x", "--kv-type", "q4"]):
        assert run_daemon(*args).returncode == 2
    p = run_daemon("--model", tmp_path / "none.gguf", "--socket", tmp_path / "s")
    assert p.returncode == 1 and "none.gguf" in p.stderr
    p = run_daemon("--model", DEMO, "--socket", tmp_path / "s", "--host-budget", "4K")
    assert p.returncode == 1
    least = int(re.search(r"need at least (\d+) bytes", p.stderr).group(1))
    assert not (tmp_path / "s").exists()
    with Daemon(DEMO, "--host-budget", least) as d:  # and that number works
        assert "Paris" in d.generate(*QUESTION)["text"]
    p = run_daemon("--model", DEMO, "--socket", tmp_path / "s", "--host-budget", least - 1)
    assert p.returncode == 1 and f"need at least {least} bytes" in p.stderr


def test_socket_is_kept_by_its_daemon_and_freed_by_a_dead_one():
    with Daemon(DEMO) as d:
        p = run_daemon("--model", DEMO, "--socket", d.socket)
        assert p.returncode == 1 and "another process listens" in p.stderr
        assert d.status()["state"] == "ready"
        d.process.kill()
        d.process.wait()
        assert os.path.exists(d.socket)  # stale
        sluice("status", "--socket", d.socket, check=3)
        d.__enter__()
        assert "Paris" in d.generate(*QUESTION)["text"]
        path = d.socket
    assert not os.path.exists(path)


@pytest.mark.parametrize("args, meant", [(("generate", "-s", "42", "Hi"), True), (("bench", "-s", "7"), True), (("status", "-s", "42"), False)])
def test_a_seed_for_a_socket(tmp_path, args, meant):
    """-s is llama.cpp's --seed and our --socket: nobody waits for a socket that is a number, unless --wait says so."""
    p = sluice(*args, check=3, cwd=tmp_path, timeout=20)
    assert f"there is no socket {args[2]}" in p.stderr and (f"did you mean --seed {args[2]}?" in p.stderr) == meant
    if meant:
        p = sluice(*args, "--wait", "1", check=3, cwd=tmp_path, timeout=20)
        assert "waiting up to 1 s" in p.stderr and "did you mean" in p.stderr


def test_a_client_may_come_before_the_daemon(tmp_path):
    path = tmp_path / "s"
    client = subprocess.Popen([BUILD / "sluice", "generate", "--socket", path, "--wait", "30", *QUESTION],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "no daemon yet" in client.stderr.readline()
    daemon = subprocess.Popen([BUILD / "sluiced", "--model", DEMO, "--socket", path], stderr=subprocess.DEVNULL)
    try:
        assert "Paris" in client.communicate(timeout=60)[0]
        assert client.returncode == 0
    finally:
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(60) == 0


def test_a_daemon_that_does_not_answer():
    """Who only looks is told after ten seconds; a request waits on: so is a daemon that its manager just starts."""
    with Daemon(DEMO) as d:
        d.process.send_signal(signal.SIGSTOP)
        client = subprocess.Popen([BUILD / "sluice", "generate", "--socket", d.socket, "--chat", "--prompt", "What is the capital of France?"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert "does not answer" in sluice("status", "--socket", d.socket, check=3, timeout=30).stderr
            assert "does not answer; waiting" in client.stderr.readline()
        finally:
            d.process.send_signal(signal.SIGCONT)
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0 and "Paris" in out, err


def test_sigterm_ends_open_requests():
    with Daemon(DEMO) as d:
        p = subprocess.Popen([BUILD / "sluice", "generate", "--socket", d.socket, "--prompt", "It was", "--ignore-eog",
                              "--max-tokens", "15000", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end = time.monotonic() + 60
        while d.status()["active"] == 0 and time.monotonic() < end:
            time.sleep(0.02)
        d.process.terminate()
        assert d.process.wait(60) == 0
        out, _ = p.communicate(timeout=60)
        assert json.loads(out)["stop_reason"] == "error" and p.returncode == 1


def test_example_client(d):
    subprocess.run(["make", f"O={BUILD}", f"{BUILD}/example_generate"], cwd=ROOT, check=True, timeout=120)
    p = subprocess.run([BUILD / "example_generate", d.socket, "What is the capital of France?"], capture_output=True,
                       text=True, timeout=60)
    assert p.returncode == 0 and p.stdout.startswith("The capital of France is Paris.\n("), p.stderr
