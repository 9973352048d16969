# SPDX-License-Identifier: MIT
"""Routing traces: `sluice trace` on the published ones, and what `sluiced --trace` records."""
import json
import random
import subprocess
import sys

import pytest

from daemon import BUILD, DEMO, ROOT, Daemon, need_shared, sluice

TRACES = {  # layers, experts, used, prompt tokens, generated tokens, uses, frequencies
    "qwen.route.csv": (48, 128, 6, 28, 128, 44766, 0),
    "gemma.route.csv": (30, 128, 6, 29, 128, 28260, 0),
    "gptoss.route.csv": (36, 128, 2, 85, 64, 10560, 0),
    "kimi-linear.jsonl": (26, 256, 8, 0, 300, 62400, 0),
    "olmoe.jsonl": (16, 64, 8, 0, 299, 38272, 0),
    "397b.freq": (60, 512, 10, 0, 0, 0, 15500),
    "122b.freq": (48, 256, 8, 0, 0, 0, 3179),
}


def stats(path):
    return json.loads(sluice("trace", "stats", path, "--json").stdout)


@pytest.mark.parametrize("name", TRACES)
def test_convert(name, tmp_path):
    source, once, twice = need_shared(f"traces/{name}"), tmp_path / "1", tmp_path / "2"
    sluice("trace", "convert", source, once)
    sluice("trace", "convert", once, twice)
    assert once.read_bytes() == twice.read_bytes()
    assert once.read_text().startswith("route_trace v1\n")
    s = stats(once)
    assert s == stats(source)
    assert (s["layers"], s["experts"], s["experts_used"], s["prefill_tokens"], s["decode_tokens"], s["uses"],
            s["frequencies"]) == TRACES[name]


def test_sim_side_by_side():
    trace = need_shared("traces/qwen.route.csv")
    out = json.loads(sluice("trace", "sim", trace, "--share", "6,25", "--json").stdout)
    rate = {(r["policy"], r["slots"]): r["all"]["hit_ratio"] for r in out}
    assert len(rate) == 6
    for slots in (369, 1536):
        assert rate["belady", slots] > rate["lfu", slots] > rate["lru", slots]
    text = sluice("trace", "sim", trace).stdout
    assert "belady" in text and "generated" in text


def test_sim_says_what_the_trace_does_not(tmp_path):
    """A trace without slot_bytes has no bytes of slots: null, not 0 or 1."""
    out = json.loads(sluice("trace", "sim", need_shared("traces/qwen.route.csv"), "--policy", "lru", "--slots", "96", "--json").stdout)[0]
    assert out["budget_bytes"] is None and {c["slot_bytes"] for c in out["slot_classes"]} == {None}
    assert sum(c["slots"] for c in out["slot_classes"]) == out["slots"] == 96


def test_status_tells_no_recall_of_prompts():
    """What is read ahead in a prompt is no guess: neither a recall nor a gain of them is known."""
    with Daemon(DEMO, "--no-fill", "--host-budget", "60%", "--threads", "1") as d:
        d.generate_ids(list(range(100, 400)), "--max-tokens", "0")
        told = d.status()["prediction"]
        assert told["reads"] > 0 and told["recall"] is None and told["gain"] is None
        line = next(x for x in sluice("status", "--socket", d.socket).stdout.splitlines() if x.startswith("ahead "))
        assert line.endswith(" not needed"), line


def test_sim_names_lists_whole(tmp_path):
    lists = [tmp_path / "first", tmp_path / "second"]
    trace = need_shared("traces/gemma.route.csv")
    for path in lists:
        sluice("trace", "list", trace, path)
    rows = sluice("trace", "sim", trace, "--policy", ",".join(f"static:{p}" for p in lists), "--share", "25").stdout.splitlines()
    for path in lists:
        assert sum(r.startswith(f"static:{path} ") for r in rows) == 2  # of all uses, of generated tokens
    assert len({len(r) for r in rows if r}) == 1


def test_sim_refuses_what_is_no_policy():
    trace = need_shared("traces/gemma.route.csv")
    for bad, sentence in [("lfu,foo", "no policy is called 'foo'"), ("static", "policy static needs a file")]:
        assert f"--policy: {sentence}" in sluice("trace", "sim", trace, "--policy", bad, check=2).stderr
    for bad in ("oracle:2", "sometimes"):
        p = sluice("trace", "sim", trace, "--predict", bad, check=2)
        assert f'"{bad}" is not off, prompts or oracle:R with' in p.stderr


def test_list_serves_the_static_policy(tmp_path):
    trace = need_shared("traces/gemma.route.csv")
    sluice("trace", "list", trace, tmp_path / "hot")
    out = json.loads(sluice("trace", "sim", trace, "--policy", f"static:{tmp_path}/hot,lru", "--share", "25", "--fill",
                            "--json").stdout)
    assert out[0]["all"]["hit_ratio"] > out[1]["all"]["hit_ratio"]


def test_refusals(tmp_path):
    bad = tmp_path / "bad"
    bad.write_text("route_trace v1\ngeometry 2 4 2\ndata\nd 0 0 0 9\n")
    p = sluice("trace", "stats", bad, check=1)
    assert "line 4: expert 9 of 4" in p.stderr
    assert "no routing trace" in sluice("trace", "stats", "/dev/null", check=1).stderr
    assert "cannot open" in sluice("trace", "stats", tmp_path / "none", check=1).stderr
    sluice("trace", check=2)
    sluice("trace", "convert", bad, check=2)
    sluice("trace", "sim", bad, "--share", "0", check=1)


def test_daemon_records(tmp_path):
    """The trace holds every token of every layer, and the counters agree with it."""
    out = tmp_path / "run.trace"
    with Daemon(DEMO, "--threads", "1", "--trace", out, "--host-budget", "50%") as d:
        a = d.generate("--prompt", "Question: what is the capital of France?", "--max-tokens", "12", "--temperature", "0")
        b = d.generate("--prompt", "def main():", "--max-tokens", "5")
        status = d.status()
    s = stats(out)
    # the last token generated is never run through the model
    prompt = a["usage"]["prompt_tokens"] + b["usage"]["prompt_tokens"]
    done = a["usage"]["completion_tokens"] + b["usage"]["completion_tokens"] - 2
    assert s["prefill_tokens"] + s["decode_tokens"] == prompt + done
    assert s["decode_tokens"] == done
    assert s["layers"] == 4 and s["experts"] == 32 and s["experts_used"] == 4 and s["lost"] == 0
    assert s["uses"] == (prompt + done) * 4 * 4
    model = json.loads(sluice("inspect", "--model", DEMO, "--json").stdout)  # its bytes are in the trace
    assert s["dense_bytes"] == model["dense_bytes"] and 0 < s["dense_bytes_per_token"] <= s["dense_bytes"]
    assert s["bytes_per_token"] == model["routed_bytes_per_token"]
    sim = json.loads(sluice("trace", "sim", out, "--slots", 128, "--policy", "lru", "--json").stdout)[0]
    assert sim["all"]["hits"] + sim["all"]["misses"] == status["hits"] + status["misses"]


def test_reading_ahead_by_an_oracle(tmp_path):
    """What a trace's own requests use is read ahead: the same tokens, and what the simulator says of it."""
    out = tmp_path / "run.trace"
    asks = [["--prompt", p, "--max-tokens", "24", "--ignore-eog"] for p in ("def main():", "The capital of France")]
    common = [DEMO, "--threads", "2", "--no-fill", "--host-budget", "40%", "--spec", "off", "--prefix-cache", "off"]
    with Daemon(*common, "--trace", out, "--predict", "off") as d:
        plain = [d.generate(*a)["tokens"] for a in asks]
        budget = d.status()["budget_bytes"]
    for share in (0, 0.8, 1):
        with Daemon(*common, "--predict", f"oracle:{share}:{out}") as d:
            assert [d.generate(*a)["tokens"] for a in asks] == plain
            s = d.status()
        told = s["prediction"]
        assert told["mode"] == "oracle" and told["recall"] == pytest.approx(share, abs=0.06) and told["wasted"] == 0
        assert (told["reads"] > 0) == (share > 0) and told["reads"] == told["useful"] + told["late"]
        sim = json.loads(sluice("trace", "sim", out, "--budget", budget, "--policy", "lfu", "--json", "--predict",
                                f"oracle:{share}").stdout)[0]
        assert sim["all"]["hits"] + sim["all"]["misses"] == s["hits"] + s["misses"]
        assert sim["all"]["hits"] == pytest.approx(s["hits"] + told["late"], rel=0.03)
        assert sim["predicted"]["reads"] == pytest.approx(told["reads"], rel=0.1, abs=4)
    for bad in ("router", "oracle:2", f"oracle:1:{out}"):
        assert "--predict" in sluice("trace", "sim", out, "--predict", bad, check=2).stderr
    for bad in ("oracle:1", "oracle:1:", "sometimes"):
        p = subprocess.run([BUILD / "sluiced", "--model", DEMO, "--predict", bad], capture_output=True, text=True, timeout=60)
        assert p.returncode == 2 and "--predict" in p.stderr
    p = subprocess.run([BUILD / "sluiced", "--model", DEMO, "--socket", tmp_path / "s", "--predict", f"oracle:1:{DEMO}"],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 1 and "--predict" in p.stderr


@pytest.mark.parametrize("budget, batch", [("40%", 128), ("60%", 128), ("60%", 32)])
def test_reading_ahead_in_prompts(tmp_path, budget, batch):
    """The simulator reads the next layer's missing experts as the daemon does; there some are still under way when they are needed."""
    out, text = tmp_path / "run.trace", " ".join((ROOT / "README.md").read_text().split())
    with Daemon(DEMO, "--threads", "2", "--no-fill", "--host-budget", budget, "--batch", batch, "--spec", "off", "--prefix-cache", "off",
                "--ctx", "2048", "--trace", out) as d:
        for i in range(3):
            d.generate("--prompt", text[i * 700:i * 700 + 1500], "--max-tokens", "1", "--ignore-eog")
        s = d.status()
    told = s["prediction"]
    run = ("trace", "sim", out, "--budget", s["budget_bytes"], "--policy", "lfu", "--json", "--predict")
    plain, sim = (json.loads(sluice(*run, way).stdout)[0] for way in ("off", "prompts"))
    assert told["reads"] > 0 and plain["predicted"]["reads"] == 0
    assert sim["all"]["hits"] + sim["all"]["misses"] == s["hits"] + s["misses"]
    # 2.5 % apart on a free machine; where reads take long beside the computing (sanitizers), guesses hold slots for longer
    assert sim["all"]["hits"] == pytest.approx(s["hits"] + told["late"], rel=0.12) and sim["all"]["hits"] > plain["all"]["hits"]
    assert sim["predicted"]["reads"] == pytest.approx(told["reads"], rel=0.3)


def test_a_trace_is_not_written_over_by_chance(tmp_path):
    """Not by a second start, not by one that fails for another reason; --overwrite is asked for."""
    out = tmp_path / "run.trace"
    with Daemon(DEMO, "--threads", "1", "--trace", out) as d:
        d.generate("--prompt", "Once", "--max-tokens", "3")
        socket = d.socket
        p = subprocess.run([BUILD / "sluiced", "--model", DEMO, "--socket", socket, "--trace", tmp_path / "other"],
                           capture_output=True, text=True, timeout=60)
        assert p.returncode == 1 and "another process listens" in p.stderr
        assert not (tmp_path / "other").exists()  # no trace of a daemon that never ran
    before = out.read_bytes()
    assert stats(out)["uses"] > 0
    start = [BUILD / "sluiced", "--model", DEMO, "--socket", tmp_path / "s", "--trace", out]
    p = subprocess.run(start, capture_output=True, text=True, timeout=60)
    assert p.returncode == 1 and str(out) in p.stderr and "--overwrite" in p.stderr
    assert out.read_bytes() == before
    p = subprocess.run([*start[:3], "--socket", tmp_path / "no" / "s", "--trace", out, "--overwrite"],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 1 and out.read_bytes() == before
    with Daemon(DEMO, "--threads", "1", "--trace", out, "--overwrite") as d:
        d.generate("--prompt", "Twice", "--max-tokens", "9")
    assert out.read_bytes() != before and stats(out)["decode_tokens"] == 8


def test_full_disk_only_ends_the_trace(tmp_path):
    """A trace that cannot grow: status says so once, the answers stay the same, the file is readable."""
    out = tmp_path / "run.trace"
    ask = ("--prompt", "Once upon a time", "--max-tokens", "60", "--temperature", "0")
    with Daemon(DEMO, "--threads", "1") as d:
        want = d.generate(*ask)["tokens"]
    limited = ("import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
               "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); os.execv(sys.argv[1], sys.argv[1:])")
    with Daemon(DEMO, "--threads", "1", "--trace", out, prefix=(sys.executable, "-c", limited)) as d:
        for _ in range(4):
            assert d.generate(*ask)["tokens"] == want
        said = [text for text in d.status()["fallbacks"] if "ends here" in text]
    assert len(said) == 1 and "File too large" in said[0]
    assert stats(out)["uses"] > 0
    assert out.stat().st_size <= 20000


def test_device_time():
    """A device's fills take time by a model of a layer; what is no model is refused by name."""
    trace = need_shared("traces/qwen.route.csv")
    args = ["trace", "sim", trace, "--policy", "vram", "--share", "10", "--device-fills", "0.5", "--json"]
    fast, slow = (json.loads(sluice(*args, "--device-time", f"160,{cpu},25G,150G").stdout)[0] for cpu in ("120G", "1G"))
    assert fast["device_time"]["tokens_per_second"] > slow["device_time"]["tokens_per_second"] > 0, (fast, slow)
    assert fast["fill_bytes"] <= fast["allowed_bytes"] and fast["device_time"]["fills_on"]
    assert json.loads(sluice(*args).stdout)[0]["device_time"] is None
    for wrong in ("x", ",120G,25G", "160,1G", "160,0,1G", "-1,1G,1G", "160,1G,1G,1G,1G"):
        p = sluice(*args, "--device-time", wrong, check=None)
        assert p.returncode == 2 and "microseconds" in p.stderr, (wrong, p.stderr)
    p = sluice("trace", "sim", trace, "--device-time", "160,1G,1G", check=None)
    assert p.returncode == 2 and "--device-fills" in p.stderr, p.stderr


def rows_of(path):
    """[layer][token]: its experts in order."""
    rows = {}
    for line in path.read_text().splitlines():
        word = line.split()
        if word and word[0] in ("p", "d"):
            rows.setdefault(int(word[1]), []).append([int(use.split(":")[0]) for use in word[4:]])
    return rows


def test_a_model_of_a_trace(tmp_path):
    """make_model --routing: a model that routes as a trace says, expert by expert and in the router's order."""
    make = BUILD / "bench" / "make_model"
    subprocess.run(["make", "-s", f"O={BUILD}", str(make)], cwd=ROOT, check=True)
    lots, wanted, said, model = random.Random(7), tmp_path / "wanted", tmp_path / "said", tmp_path / "model.gguf"
    with open(wanted, "w") as f:
        f.write("route_trace v1\ngeometry 2 8 3\norder rank\ndata\n")
        for token in range(30):
            f.write(f"step {token + 1}\n" + "".join(
                f"d {layer} 0 {token} " + " ".join(map(str, lots.sample(range(8), 3))) + "\n" for layer in range(2)))
    args = [make, "--shape", "qwen3-30b-a3b", "--layers", "2", "--vocab", "1024", "--out", model]
    subprocess.run([*args, "--routing", wanted], check=True, capture_output=True)
    with Daemon(model, "--ctx", "256", "--parallel", "1", "--threads", "2", "--spec", "off", "--trace", said) as d:
        assert d.generate_ids([7], "--max-tokens", "40", "--ignore-eog")["tokens"] == [(8 + i) % 30 for i in range(40)]
    want, got = rows_of(wanted), rows_of(said)
    for layer in range(2):
        assert got[layer] == [want[layer][(7 + i) % 30] for i in range(len(got[layer]))] and len(got[layer]) >= 40
    wanted.write_text("route_trace v1\ngeometry 2 8 3\ndata\nd 0 0 0 9\n")
    p = subprocess.run([*args, "--routing", wanted], capture_output=True, text=True)
    assert p.returncode == 1 and "a row is none of its geometry" in p.stderr
