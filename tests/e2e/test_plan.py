# SPDX-License-Identifier: MIT
"""Description: `sluice plan` says what the daemon takes, to the byte: its status, doctor, inspect, plan and simulator have the
same numbers for every family, budget, context, cache type, batch and thread count, also where a control group bounds it.
"""
import functools
import json
import subprocess

import pytest

import gguf_file
from cgroup import Group
from daemon import BUILD, DATA, DEMO, FIXTURES, Daemon, sluice

GIB = 1 << 30
SIZES = ("dense_bytes", "dense_memory_bytes", "budget_least_bytes", "budget_all_bytes")
SAME = SIZES + ("kv_bytes", "prefix_bytes", "state_bytes", "scratch_bytes", "form_bytes", "budget_bytes", "slots", "reasons")
CHOSEN = ("threads", "ctx", "parallel", "batch")


def models():
    """The bundled model and one file of each family; with SHARED every form of each family. A vocabulary alone is no
    model, and qwen4exp is a family that is refused.
    """
    found = {DEMO}
    for root in (DATA, FIXTURES):
        found |= {p for p in root.glob("*/*.gguf") if "-of-" not in p.name or "00001-of-" in p.name}
    found = {p for p in found if p.parent.name not in ("tokenizer", "qwen4exp")}
    names = {}
    for path in sorted(found, key=lambda p: (p.name, str(p))):
        names.setdefault(path.name, path)
    return list(names.values())


MODELS = models()


def plan(model, *args, **kw):
    return json.loads(sluice("plan", model, "--json", *args, **kw).stdout)


@functools.cache
def inspect(model):
    return json.loads(sluice("inspect", model, "--json").stdout)


def doctor(*args, prefix=()):
    p = subprocess.run([*prefix, str(BUILD / "sluice"), "doctor", "--no-memory", "--json", "--seconds", "0.1", *map(str, args)],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout)


@pytest.fixture(scope="module")
def here():
    """This machine as doctor tells of it."""
    return doctor()


def machine_of(path, here, status):
    """A machine as it was when the daemon that tells @status started."""
    path.write_text(json.dumps({**here, "limits": status["limits"], "read_align_bytes": None}))
    return path


def compare(planned, told, keys):
    for key in keys:
        assert planned[key] == told[key], (key, planned[key], told[key])


OPTIONS = [
    [],
    ["--host-budget", "100%", "--ctx", "1000", "--parallel", "2", "--batch", "64", "--threads", "1"],
    ["--host-budget", "50%", "--ctx", "4096", "--parallel", "1", "--kv-type", "q8_0", "--threads", "3"],
    ["--host-budget", "25%", "--ctx", "512", "--parallel", "7", "--batch", "3", "--threads", "2", "--numa", "split:3"],
    ["--host-budget", "least", "--ctx", "300", "--batch", "1024", "--cpu", "scalar", "--numa", "off"],
]


def options_of(model, options):
    """"least" becomes the bytes; a cache that the model's heads do not fit becomes the other kind."""
    least = inspect(model)["budget_least_bytes"]
    options = [str(least) if o == "least" else o for o in options]
    if not least and "--host-budget" in options:
        options = options[2:]
    refused = sluice("plan", model, *options, check=None).stderr
    return [o if o != "q8_0" or "q8_0 needs" not in refused else "f16" for o in options]


def simulated(trace, options, status):
    """What the simulator makes of the budget in @options, which the daemon of @status divided."""
    asked = dict(zip(options[::2], options[1::2])).get("--host-budget", str(status["budget_bytes"]))
    asked = ["--share", asked] if asked.endswith("%") else ["--budget", asked]
    return json.loads(sluice("trace", "sim", trace, "--policy", "lru", "--json", *asked).stdout)[0]


@pytest.mark.parametrize("options", OPTIONS, ids=["default", "all", "half", "quarter", "least"])
@pytest.mark.parametrize("model", MODELS, ids=lambda p: p.stem)
def test_the_daemon_takes_what_was_planned(model, options, here, tmp_path):
    """The simulator is asked on a trace that this daemon recorded."""
    options = options_of(model, options)
    refused = sluice("plan", model, *options, check=None)
    if refused.returncode:  # a share of the smallest models is less than one token's experts
        sentence = refused.stderr.removeprefix("sluice plan: ").strip()
        assert "too small: need at least" in sentence
        p = subprocess.run([BUILD / "sluiced", "--model", model, "--socket", tmp_path / "s", *options], capture_output=True,
                           text=True, timeout=60)
        assert p.returncode == 1 and sentence in p.stderr
        return
    experts = inspect(model)["experts"]
    trace = tmp_path / "t.trace"
    with Daemon(model, "--no-fill", *options, *(["--trace", trace] if experts else [])) as d:
        status = d.status()
        if experts:
            d.generate_ids([1, 2, 3, 4], "--max-tokens", "2", "--ignore-eog")
    planned = plan(model, "--machine", machine_of(tmp_path / "m.json", here, status), *options)
    compare(planned, status, SAME + CHOSEN)
    assert planned["memory_free_bytes"] == status["limits"]["memory_free_bytes"]
    assert status["reasons"]
    if not experts:
        assert status["slots"] == []
        return
    sim = simulated(trace, options, status)
    assert sim["slot_classes"] == status["slots"]
    assert sim["budget_bytes"] == status["budget_bytes"]
    assert sim["slots"] == sum(s["slots"] for s in status["slots"])
    least = status["budget_least_bytes"]
    assert f"need at least {least} bytes" in sluice("trace", "sim", trace, "--budget", least - 1, check=1).stderr


@pytest.mark.parametrize("model", MODELS, ids=lambda p: p.stem)
def test_inspect_and_doctor_tell_the_same(model, tmp_path):
    machine = doctor("--model", model)
    (tmp_path / "m.json").write_text(json.dumps(machine))
    planned = plan(model, "--machine", tmp_path / "m.json")
    seen = inspect(model)
    compare(planned, seen, SIZES)
    compare(planned, machine["model"], SAME + ("experts_share",))
    assert machine["model"]["experts_bytes"] == planned["budget_all_bytes"]
    assert machine["vram_bytes"] == planned["vram_bytes"]
    if machine["disk_read_gbs"] and "mem_read_gbs" in machine:
        assert machine["model"]["bound_tokens_per_second"] == planned["bound_tokens_per_second"]
    assert seen["slots"] == [{k: s[k] for k in ("slot_bytes", "experts")} for s in planned["slots"]]
    classes = {}
    for c in seen["expert_classes"]:
        classes[c["slot_bytes"]] = classes.get(c["slot_bytes"], 0) + len(c["layers"]) * seen["experts"]
    sizes = {}
    for s in seen["slots"]:
        sizes[s["slot_bytes"]] = sizes.get(s["slot_bytes"], 0) + s["experts"]
    assert classes == sizes


def test_the_parts_add_up():
    p = plan(DEMO, "--host-budget", "40%")
    host = p["tiers"]["host"]
    assert host["bytes"] == sum(p[k] for k in ("dense_memory_bytes", "kv_bytes", "prefix_bytes", "state_bytes", "scratch_bytes", "budget_bytes"))
    assert p["budget_bytes"] == sum(s["slot_bytes"] * s["slots"] for s in p["slots"])
    assert p["budget_all_bytes"] == sum(s["slot_bytes"] * s["experts"] for s in p["slots"])
    routed = inspect(DEMO)["routed_bytes_per_token"]
    assert abs(p["tiers"]["disk"]["bytes_per_token"] - routed * (1 - p["experts_share"])) <= 1
    assert host["bytes_per_token"] > routed
    assert p["state_bytes"] > 0 and p["kv_bytes"] > 0


def test_in_a_group(here, tmp_path):
    """An automatic budget and lowered defaults, where memory is short."""
    with Group("memory", 72 << 20) as g:
        with Daemon(DEMO, "--no-fill", prefix=g.prefix()) as d:
            status = d.status()
        seen = {**here, "cores": status["threads"]}
        planned = plan(DEMO, "--machine", machine_of(tmp_path / "m.json", seen, status))
        compare(planned, status, SAME + CHOSEN)
        assert planned["budget_bytes"] < planned["budget_all_bytes"] or planned["ctx"] < 16384 or planned["parallel"] < 4
        assert any("cgroup" in r for r in planned["reasons"])


def test_machines_out_of_files(tmp_path):
    f = tmp_path / "m.json"

    def on(**fields):
        f.write_text(json.dumps(fields))
        return plan(DEMO, "--machine", f, "--threads", "2", "--batch", "512")
    p = on(memory_bytes=64 << 20, mem_read_gbs=10, disk_read_gbs=1, vram_bytes=8 * GIB, cpu_level="scalar")
    assert p["memory_free_bytes"] == 64 << 20 and p["vram_bytes"] == p["tiers"]["device"]["capacity_bytes"] == 8 * GIB
    assert p["bound_tokens_per_second"] == pytest.approx(
        1 / (p["tiers"]["host"]["bytes_per_token"] / 10e9 + p["tiers"]["disk"]["bytes_per_token"] / 1e9))
    assert p["tiers"]["host"]["bytes"] + p["system_bytes"] <= 64 << 20
    assert [c["parallel"] for c in p["largest_contexts"]] == [1, 2, 3, 4]
    less = tmp_path / "less.json"  # without the slack that advice leaves: docs/operation.md
    less.write_text(json.dumps({"memory_bytes": 60 << 20, "cpu_level": "scalar"}))
    for c in p["largest_contexts"]:  # taken as it is told, there too; a block of positions more is refused
        sizes = ["--ctx", c["ctx"], "--parallel", c["parallel"], "--threads", "2", "--batch", "512"]
        assert plan(DEMO, "--machine", f, *sizes)["ctx"] == plan(DEMO, "--machine", less, *sizes)["ctx"] == c["ctx"]
        sizes[1] += 256
        assert "lower --ctx or --parallel" in sluice("plan", DEMO, "--machine", less, *sizes, check=1).stderr
    gpu, small = on(memory_bytes=GIB, vram_bytes=64 << 20), on(memory_bytes=GIB, vram_bytes=64 << 20, vram_piece_bytes=65536)
    assert gpu["device"]["kv_bytes"] % (2 << 20) == gpu["device"]["slots_bytes"] % (2 << 20) == 0  # a driver gives 2 MiB at the least
    assert small["device"]["slots_bytes"] % (2 << 20)
    unknown = on()
    assert unknown["memory_free_bytes"] is None and unknown["largest_contexts"] == []
    assert "the memory of this machine is unknown" in unknown["reasons"][-1]
    assert on(read_align_bytes=4096, memory_bytes=GIB)["budget_all_bytes"] > on(read_align_bytes=512, memory_bytes=GIB)["budget_all_bytes"]
    two = on(memory_bytes=GIB, nodes=[{"id": 0, "cpus": 4, "total_bytes": GIB, "free_bytes": GIB},
                                      {"id": 1, "cpus": 4, "total_bytes": GIB, "free_bytes": GIB}])
    assert [(n["node"], n["share"]) for n in two["nodes"]] == [(0, 0.5), (1, 0.5)]


@pytest.mark.parametrize("text, sentence", [
    ("[1]", "is not a machine: it holds no JSON object"),
    ("{", "is not a machine: line 1"),
    ('{"memory_bytes": -1}', "memory_bytes must be a whole number"),
    ('{"memory_bytes": 1e9}', "memory_bytes must be a whole number"),
    ('{"memory_bytes": "64G"}', "memory_bytes must be a whole number"),
    ('{"limits": 3}', "limits must be an object"),
    ('{"nodes": {}}', "nodes must be a list"),
    ('{"nodes": [7]}', "nodes must be a list of objects"),
    ('{"cpu_level": "mmx"}', "cpu_level must be one of"),
    ('{"mem_read_gbs": -2}', "mem_read_gbs must be a number"),
    ('{"read_align_bytes": 1000}', "read_align_bytes must be a power of two"),
    ('{"memory_bytes": 1000000}', "free memory, raise that limit or take a smaller model"),
])
def test_refusals(tmp_path, text, sentence):
    f = tmp_path / "m.json"
    f.write_text(text)
    assert sentence in sluice("plan", DEMO, "--machine", f, check=1).stderr


def test_a_context_beyond_the_training():
    """One line then and none else; the daemon warns by the same comparison."""
    trained = plan(DEMO)["ctx_trained"]
    for ctx, lines in ((trained, 0), (trained + 1, 1)):
        said = [x for x in sluice("plan", DEMO, "--parallel", 1, "--ctx", ctx).stdout.splitlines() if "more than the model was trained for" in x]
        assert len(said) == lines and all(x.startswith("warning ") and f"({trained} tokens)" in x for x in said)


def test_usage(tmp_path):
    for args in ([], [DEMO, DEMO], [DEMO, "--numa", "most"], [DEMO, "--host-budget", "0%"], [DEMO, "--model", DEMO]):
        sluice("plan", *args, check=2)
    assert "No such file" in sluice("plan", tmp_path / "none", check=1).stderr
    assert "because    the budget is" in sluice("plan", DEMO).stdout


def test_doctor_where_the_daemon_would_not_start(tmp_path):
    """It tells the sizes all the same, and the daemon's own sentence."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemFree: 9000 kB\nMemAvailable: 9000 kB\n")
    j = doctor("--root", tmp_path, "--model", DEMO)
    compare(j["model"], inspect(DEMO), SIZES)
    assert j["model"]["budget_bytes"] == 0
    assert any(a["problem"].startswith("sluiced would not start with this model: ") for a in j["advice"])


def test_a_tokenizer_that_the_daemon_refuses(tmp_path):
    """Plan refuses such a file with the daemon's sentence, doctor names it beside the sizes."""
    g = gguf_file.read(DEMO)
    g.keys["tokenizer.ggml.pre"] = (gguf_file.STRING, "no-such-one")
    gguf_file.write(g, tmp_path / "m.gguf")
    why = 'tokenizer.ggml.pre: pre-tokenizer "no-such-one" is not known'
    with pytest.raises(AssertionError, match="sluiced ended with 1") as e:
        with Daemon(tmp_path / "m.gguf"):
            pass
    assert why.replace('"', '\\"') in str(e.value)
    assert why in sluice("plan", tmp_path / "m.gguf", check=1).stderr
    j = doctor("--model", tmp_path / "m.gguf")
    assert j["model"]["budget_bytes"] > 0
    assert any("would not start" in a["problem"] and why in a["problem"] for a in j["advice"])
