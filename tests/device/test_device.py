# SPDX-License-Identifier: MIT
"""Description: the daemon with --device cuda over the fake CUDA runtime (build/emu/sluiced, make test-device).

The very kernels and the very device code run on the CPU: logits within the bounds of the fixtures of the qwen families and
greedy answers as theirs; the same bits however a prompt is cut, in company, with any budget, threads and order of streams;
what the device cannot compute is refused by name; calls that fail end requests by name and never hang.
"""
import concurrent.futures
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import faults  # noqa: E402
import random_model  # noqa: E402
from daemon import BUILD, DEMO, PATIENCE, Daemon, fixture, reference, sluice  # noqa: E402
from test_fixtures import kl  # noqa: E402

EMU = pathlib.Path(os.environ.get("DEVICE_PROGRAM") or BUILD / "emu" / "sluiced")  # another: made with sanitizers
DEFAULTS = ["--device", "cuda", "--ctx", "512", "--parallel", "4", "--threads", "2"]


def device(model, *args, **kw):
    return Daemon(model, *DEFAULTS, *args, program=EMU, **kw)


def run(model, ids, *args, **kw):
    with device(model, *args, **kw) as d:
        return d.eval_ids(ids)[1]


def moe_tokens(n):
    return reference("moe/moe-q4_k_m", whole=False)[0]["tokens"][:n]


@pytest.mark.parametrize("kv", ["f16", "q8_0"])
@pytest.mark.parametrize("name,n", [("moe/moe-q4_k_m", 24), ("dense/dense-q4_k_m", 16), ("qwen3moe/qwen3moe-q2_k", 24)])
def test_fixture(name, n, kv):
    """Both mixers, a shared expert, dense triples and a family without recurrent layers."""
    ref, expected = reference(name, whole=False)
    with device(fixture(f"{name}.gguf"), "--kv-type", kv) as d:
        logits = d.eval_ids(ref["tokens"][:n])[1]
        greedy = ref["greedy"][0]
        out = d.generate_ids(greedy["prompt"], "--max-tokens", min(4, len(greedy["ids"])))
    divergence = kl(expected[:n], logits)
    print(f"{name} {kv}: mean KL {divergence.mean():.3g} (bound {ref['bound_mean_kl']:.3g}), median "
          f"{numpy.median(divergence):.3g} (bound {ref['bound_median_kl']:.3g})")
    assert divergence.mean() <= ref["bound_mean_kl"]
    assert numpy.median(divergence) <= ref["bound_median_kl"]
    assert out["tokens"] == greedy["ids"][:4]


@pytest.fixture(scope="module")
def one_run():
    return run(DEMO, moe_tokens(20), "--host-budget", "100%", "--device-policy", "cpu")


@pytest.mark.parametrize("args,env", [
    (["--batch", "1", "--parallel", "1"], {}), (["--batch", "7"], {}), (["--batch", "64", "--threads", "1"], {}),
    (["--host-budget", "25%"], {}), (["--cpu", "avx2", "--batch", "9"], {}),
    (["--batch", "8"], {"SLUICE_EMU_SEED": "1"}), (["--batch", "20"], {"SLUICE_EMU_SEED": "2"}),
    (["--batch", "7"], {"SLUICE_EMU_SEED": "3"})], ids=str)
def test_same_logits(one_run, args, env):
    got = run(DEMO, moe_tokens(20), *args, env=env)
    assert (got == one_run).all(), f"{(got != one_run).sum()} of {got.size} logits differ"


def test_company(one_run):
    """Four sequences at once, in places that were used before."""
    ids = moe_tokens(20)
    with device(DEMO, "--host-budget", "50%", "--batch", "16") as d:
        d.eval_ids(ids[:7])
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            sizes = [20, 11, 5, 20]
            for n, logits in zip(sizes, pool.map(lambda n: eval_alone(d, ids[:n]), sizes)):
                assert (logits == one_run[:n]).all(), f"{n} tokens in company"


def test_company_of_nine(one_run):
    """Up to nine sequences at once: more than decode's kernels have columns for."""
    ids, sizes = moe_tokens(20), [3, 6, 2, 5, 4, 3, 2, 5, 4]
    with device(DEMO, "--host-budget", "100%", "--parallel", "9", "--batch", "16") as d:
        for company in (1, 2, 5, 8, 9):
            with concurrent.futures.ThreadPoolExecutor(company) as pool:
                for n, logits in zip(sizes, pool.map(lambda n: eval_alone(d, ids[:n]), sizes[:company])):
                    assert (logits == one_run[:n]).all(), f"{n} tokens in company of {company}"


def test_link_of_others(tmp_path):
    """Fills keep to what NVML says that others leave of the link, while it changes."""
    nvml, rx = tmp_path / "nvml.so", tmp_path / "rx"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", faults.ROOT / "tests" / "unit" / "telemetry" / "fake_nvml.c", "-o", nvml],
                   check=True)
    model = random_model.write(tmp_path / "model.gguf", DEMO, width=64)
    rx.write_text("0")
    left = []
    with Daemon(model, "--device", "cuda", "--ctx", "256", "--batch", "1", "--parallel", "1", "--threads", "2", "--device-budget", "300M",
                program=EMU, env={"SLUICE_NVML": str(nvml), "FAKE_NVML_RX": str(rx), "SLUICE_EMU_SEED": "1"}) as d:
        for kib in (0, 4000000000):
            rx.write_text(str(kib))
            time.sleep(1)
            for _ in range(4):  # rates are looked at after 32 steps
                d.generate_ids([1, 2, 3], "--max-tokens", "12", "--ignore-eog")
            left.append(of_device(d)["link_free_gbs"])
    print(left)
    assert left[0] > 0 and 0 < left[1] < left[0] / 3, left


def eval_alone(d, ids):
    """Daemon.eval_ids() with files of its own, for calls at once."""
    where = pathlib.Path(d.dir) / f"{time.monotonic_ns()}-{len(ids)}"
    where.mkdir()
    (where / "ids").write_text(json.dumps(list(map(int, ids))))
    sluice("eval", "--socket", d.socket, "--tokens", where / "ids", "--dump-logits", where / "out.npy", "--json")
    return numpy.load(where / "out.npy")


def counts_of(path):
    """What the runtime has counted when its process ended."""
    return {name: int(n) for name, n in (line.rsplit(" ", 1) for line in path.read_text().splitlines())}


def test_launches(one_run, tmp_path):
    """A token of decode takes a graph a layer, of 15 kernels at the most, counted by the runtime; with slots and without."""
    for policy in ("cpu", "hit"):
        where = tmp_path / policy
        with device(DEMO, "--host-budget", "100%", "--device-policy", policy, "--batch", "1", "--parallel", "1",
                    env={"SLUICE_EMU_COUNT": str(where)}) as d:
            assert (d.eval_ids(moe_tokens(4))[1] == one_run[:4]).all()
            said = of_device(d)["launches"]
        counts = counts_of(where)
        print(policy, counts, said)
        assert counts["eager"] == 1, "kernels are loaded when the device is opened, not in a step"
        assert counts["graphs"] and counts["graphs"] % 4 == 0, counts
        assert counts["most_of_a_graph"] <= 15 and counts["in_graphs"] <= 15 * counts["graphs"], counts
        assert said == counts["in_graphs"] + counts["alone"], (said, counts)


@pytest.mark.parametrize("name,word", [("gpt-oss/gpt-oss-mxfp4", "not computed on the device"),
                                       ("gemma4/gemma4-q4_k_m", "on the device"),
                                       ("deepseek2/deepseek2-q4_k_m", "on the device")])
def test_refused(name, word):
    """A family whose blocks the device does not have, in a sentence."""
    p = subprocess.run([str(EMU), "--model", str(fixture(f"{name}.gguf")), "--socket", "/nonexistent/s", "--device", "cuda"],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 1 and "--device cuda" in p.stderr and word in p.stderr, p.stderr


@pytest.mark.parametrize("call", ["cudaMalloc:5", "cudaMallocHost:2", "cudaStreamCreateWithFlags:1", "cudaGetDeviceCount:1"])
def test_open_fails(call):
    """What fails at start ends the start, by name."""
    p = subprocess.run([str(EMU), "--model", str(DEMO), "--socket", "/nonexistent/s", *DEFAULTS],
                       capture_output=True, text=True, timeout=60, env={**os.environ, "SLUICE_EMU_FAIL": call})
    assert p.returncode == 1 and "--device cuda" in p.stderr, p.stderr


@pytest.mark.parametrize("args,vram,words", [
    ([], "2000000", ["do not hold the model's", "of KV cache", "lower --ctx"]),
    (["--device-budget", "2M"], "900000000", ["2.00 MiB do not hold the model's"]),
    (["--device-budget", "1G"], "900000000", ["--device-budget", "1.00 GiB", "more than is free"])])
def test_no_memory(args, vram, words):
    """Less memory on the device than is needed or asked for: the numbers are told, and what to change."""
    p = subprocess.run([str(EMU), "--model", str(DEMO), "--socket", "/nonexistent/s", *DEFAULTS, *args],
                       capture_output=True, text=True, timeout=60, env={**os.environ, "SLUICE_EMU_VRAM": vram})
    assert p.returncode == 1 and all(w in p.stderr for w in words), p.stderr


@pytest.fixture(scope="module")
def cpu_run():
    """What the CPU alone makes of them: the bits after a device was lost."""
    return run(DEMO, moe_tokens(20), "--device", "none", "--host-budget", "100%")


def ask(d, ids):
    """Logits, or None and the daemon's sentence where the request failed."""
    where = pathlib.Path(d.dir) / f"asked-{time.monotonic_ns()}"
    where.with_suffix(".ids").write_text(json.dumps(list(map(int, ids))))
    p = sluice("eval", "--socket", d.socket, "--tokens", where.with_suffix(".ids"), "--dump-logits", where.with_suffix(".npy"),
               "--json", check=None, timeout=100)
    return (numpy.load(where.with_suffix(".npy")), "") if p.returncode == 0 else (None, p.stdout + p.stderr)


@pytest.mark.parametrize("call", ["cudaLaunchKernelExC:40", "cudaMemcpyAsync:2", "cudaStreamQuery:3", "cudaMemsetAsync:1"])
def test_step_fails(one_run, call):
    """A call that fails once in a step ends its request by name, and leaves the next one whole."""
    with device(DEMO, "--host-budget", "100%", "--device-policy", "cpu", env={"SLUICE_EMU_FAIL": call}) as d:
        got, said = ask(d, moe_tokens(6))
        assert got is None and "the device failed" in said, said
        assert (ask(d, moe_tokens(6))[0] == one_run[:6]).all()
        assert of_device(d)["state"] == "ok"


@pytest.mark.parametrize("call", ["cudaLaunchKernelExC:60!", "cudaStreamQuery:2+", "cudaMemcpyAsync:9+", "cuMemMap:1+", "hang:60"])
def test_lost(cpu_run, call):
    """A device that is lost ends what it was computing by name; weights are read again and the CPU goes on alone, which is shown."""
    ids = moe_tokens(6)
    with device(DEMO, "--host-budget", "50%", "--device-policy", "hit", env={"SLUICE_EMU_FAIL": call}) as d:
        for _ in range(4):
            got, said = ask(d, ids)
            if got is None:
                assert "the device" in said, said
            elif of_device(d)["state"] == "lost":
                break
        assert got is not None and (got == cpu_run[:6]).all(), said
        assert of_device(d)["state"] == "lost" and of_device(d)["resident"] == 0
        assert any("the device was lost" in f and "the CPU computes alone" in f for f in d.status()["fallbacks"])
        assert (ask(d, ids)[0] == cpu_run[:6]).all()


@pytest.mark.parametrize("call", ["hang:60", "hang:150", "cudaStreamWaitEvent:2!", "cudaMemcpyAsync:60+", "cudaEventRecord:5+"])
def test_lost_in_prompt(one_run, cpu_run, call):
    """The same while a prompt's experts pass through the ring: by name, with the device's bits or the CPU's, and nobody waits long."""
    ids = moe_tokens(20)
    with device(DEMO, "--host-budget", "100%", "--device-policy", "fetch", "--batch", "20", env={"SLUICE_EMU_FAIL": call}) as d:
        for n in (20, 9, 9, 9):
            began = time.monotonic()
            got, said = ask(d, ids[:n])
            assert time.monotonic() - began < 60 * PATIENCE
            assert got is not None or "the device" in said, said
            assert got is None or (got == one_run[:n]).all() or (got == cpu_run[:n]).all()
        assert got is not None, said


CALLS = ["cudaDriverGetVersion", "cudaGetDeviceCount", "cudaSetDevice", "cudaGetDeviceProperties", "cudaStreamCreateWithFlags",
         "cudaMemGetInfo", "cudaMalloc", "cudaMallocHost", "cudaHostAlloc", "cudaHostGetDevicePointer", "cudaHostRegister",
         "cudaEventCreateWithFlags", "cudaMemcpy", "cudaMemcpyAsync", "cudaMemsetAsync", "cudaLaunchKernelExC", "cudaStreamQuery",
         "cudaEventRecord", "cudaEventQuery", "cudaEventElapsedTime", "cudaStreamWaitEvent", "cudaStreamBeginCapture",
         "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch", "cudaGraphDestroy", "cudaGraphExecDestroy",
         "cudaHostUnregister", "cudaStreamDestroy", "cudaEventDestroy", "cudaFree", "cudaFreeHost", "cudaGetDriverEntryPointByVersion",
         "cuMemGetAllocationGranularity", "cuMemAddressReserve", "cuMemAddressFree", "cuMemCreate", "cuMemMap", "cuMemSetAccess",
         "cuMemUnmap", "cuMemRelease"]
# What the first step calls, every one, what memory that comes and goes needs, and the end
IN_FIRST = {"decode": ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphDestroy",
                       "cudaLaunchKernelExC"],
            "prompt": ["cudaSetDevice"]}
IN_STEPS = {"decode": ["cudaMemcpyAsync", "cudaMemsetAsync", "cudaStreamQuery", "cudaEventRecord", "cudaEventQuery",
                       "cudaEventElapsedTime", "cudaLaunchKernelExC", "cudaGraphLaunch"],
            "prompt": ["cudaMemcpyAsync", "cudaMemsetAsync", "cudaStreamQuery", "cudaEventRecord", "cudaEventQuery",
                       "cudaEventElapsedTime", "cudaLaunchKernelExC", "cudaStreamWaitEvent"]}
AT_END = ["cudaGraphExecDestroy", "cudaHostUnregister", "cudaStreamDestroy", "cudaEventDestroy", "cudaFree", "cudaFreeHost",
          "cuMemAddressFree"]
OF_MEMORY = ["cudaMemGetInfo", "cuMemCreate", "cuMemMap", "cuMemSetAccess", "cuMemUnmap", "cuMemRelease"]
OF_BUDGET = {"cuMemCreate": 60, "cuMemRelease": 20}  # of these: a budget that calls them, in percent of the experts; 40 before
PHASES = {"decode": (2, "1", "random:1"), "prompt": (11, "20", "fetch")}  # tokens, --batch, --device-policy
UNMEASURED = 5  # seconds of a request, where no other was measured


class Faulty:
    """A daemon that decodes or reads prompts, whose runtime's calls can be made to fail from now on."""

    def __init__(self, phase, tmp_path, one_run, cpu_run):
        n, batch, policy = PHASES[phase]
        self.ids, self.good, self.alone = moe_tokens(n), one_run[:n], cpu_run[:n]
        self.wishes, self.counts, self.plain = tmp_path / "wishes", tmp_path / "counts", 0
        self.batch, self.config = batch, tmp_path / "sluiced.conf"
        self.config.write_text(f"device-budget = {budget_bytes(40, batch)}\n")
        self.daemon = device(DEMO, "--config", self.config, "--host-budget", "100%", "--device-policy", policy, *alone(batch), env={"SLUICE_EMU_FAIL": f"@{self.wishes}", "SLUICE_EMU_COUNT": str(self.counts)})

    def wish(self, fault):
        new = self.wishes.with_suffix(".new")
        new.write_text(fault)
        new.rename(self.wishes)

    def budget(self, percent):
        """The device's memory is to be that of so many experts from now on: until it has begun to be."""
        before = of_device(self.daemon)["vram_bytes"]
        self.config.write_text(f"device-budget = {budget_bytes(percent, self.batch)}\n")
        self.daemon.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 5 * PATIENCE
        while of_device(self.daemon)["vram_bytes"] == before:
            assert time.monotonic() < end, before
            time.sleep(0.02)

    def ask(self, what):
        """Whether a request had its answer: with the device's bits or the CPU's, else it ended by name. Nobody waits for long: a
        second, and what a few requests without faults take just then.
        """
        began = time.monotonic()
        got, said = ask(self.daemon, self.ids)
        took = time.monotonic() - began
        print(f"{what or 'none'}: {took:.2f} s, {said[:90].strip() or 'answered'}", flush=True)
        if not what:
            self.plain = max(took, 0.9 * self.plain)
        assert took < PATIENCE * (1 + 4 * (self.plain or UNMEASURED)), (what, took, self.plain)
        assert "the device" in said if got is None else (got == self.good).all() or (got == self.alone).all(), (what, said)
        return got is not None


def test_calls_known(one_run, tmp_path):
    """The lists of calls are what the runtime has seen of daemons that start, decode, read prompts and end."""
    called, late = set(), set()
    for policy in ("random:1", "fetch"):
        args = ["--host-budget", "100%", "--device-policy", policy, "--device-budget", budget_bytes(40, "20"), *alone("20")]
        wishes, counts = tmp_path / f"wishes-{policy}", tmp_path / policy
        with device(DEMO, *args, env={"SLUICE_EMU_FAIL": f"@{wishes}", "SLUICE_EMU_COUNT": str(counts)}) as d:
            wishes.write_text("none")  # what is called from now on is late
            assert (d.eval_ids(moe_tokens(13))[1] == one_run[:13]).all()
            d.generate_ids(moe_tokens(3), "--max-tokens", "3")
        called |= {name.split()[1] for name in counts_of(counts) if name.startswith("called ")}
        late |= {name.split()[1] for name in counts_of(counts) if name.startswith("late ")}
    assert called == set(CALLS), (called - set(CALLS), set(CALLS) - called)
    known = {*OF_MEMORY, *AT_END}.union(*IN_FIRST.values(), *IN_STEPS.values())
    assert late <= known and late >= known - set(OF_MEMORY), (late - known, known - late)


@pytest.mark.parametrize("phase,name", [(p, n) for p in PHASES for n in IN_STEPS[p]] + [("decode", n) for n in OF_MEMORY])
def test_calls_in_steps(one_run, cpu_run, tmp_path, phase, name):
    """A call fails once within a request: that one ends by name or has its bits, the next has them from the device. It fails for
    good: requests end by name until the device is lost, or have their bits.
    """
    f = Faulty(phase, tmp_path, one_run, cpu_run)
    with f.daemon as d:
        assert f.ask("")
        f.wish(f"{name}:1")
        if name in OF_BUDGET:
            f.budget(OF_BUDGET[name])
        f.ask(name)
        f.wish("none")
        assert f.ask("") and of_device(d)["state"] == "ok"
    assert name == "cudaMemGetInfo" or counts_of(f.counts).get(f"failed {name}")
    f = Faulty(phase, tmp_path, one_run, cpu_run)
    f.wish("none")
    with f.daemon:
        assert f.ask("")
        f.wish(f"{name}:2+")
        if name in OF_BUDGET:
            f.budget(OF_BUDGET[name])
        answers = [f.ask(name) for _ in range(4)]  # two failed steps make a device that is lost; the first may call it but once
        assert any(answers[:3]) and any(answers[1:]), answers


@pytest.mark.parametrize("phase,name", [(p, n) for p in PHASES for n in IN_FIRST[p]])
def test_first_step(one_run, cpu_run, tmp_path, phase, name):
    """A call of a layer's recording fails, once and for good, and one that the first prompt makes."""
    for how in (":1", ":2+"):
        f = Faulty(phase, tmp_path, one_run, cpu_run)
        f.wish("none")
        with f.daemon as d:
            f.wish(name + how)
            answers = [f.ask(name) for _ in range(3)]
            assert answers[2] and (how != ":1" or (answers[1] and of_device(d)["state"] == "ok")), (how, answers)
        assert counts_of(f.counts).get(f"failed {name}") or name == "cudaSetDevice", how  # its second may never come


def test_load_fails(tmp_path):
    """The last call that gives weights their memory, or carries them there, fails: the start ends by name."""
    with device(DEMO, env={"SLUICE_EMU_COUNT": str(tmp_path / "counts")}):
        pass
    counts = counts_of(tmp_path / "counts")
    for name in ("cudaMalloc", "cudaMemcpy", "cudaSetDevice"):
        p = subprocess.run([str(EMU), "--model", str(DEMO), "--socket", str(tmp_path / "s"), *DEFAULTS], capture_output=True, text=True,
                           timeout=60, env={**os.environ, "SLUICE_EMU_FAIL": f"{name}:{counts[f'called {name}']}"})
        assert p.returncode == 1 and "--device cuda" in p.stderr, (name, p.stderr)


@pytest.mark.parametrize("name", CALLS)
def test_calls(one_run, cpu_run, name):
    """Each call fails the first time, and from there on for good: a start ends by name, requests fail by name or have the bits of
    the device or, once that is lost, of the CPU; nobody hangs, and the daemon ends as told.
    """
    for how in (":1", ":1+"):
        try:
            d = device(DEMO, "--host-budget", "100%", "--device-policy", "fetch", "--batch", "20",
                       env={"SLUICE_EMU_FAIL": name + how}).__enter__()
        except AssertionError as e:
            assert "--device cuda" in str(e) or "weights" in str(e), (how, str(e))
            continue
        try:
            for i, n in enumerate((9, 4, 4, 4)):  # two failed steps make a device that is lost
                if i > 1 and got is not None:
                    break
                got, said = ask(d, moe_tokens(n))
                if got is None:
                    assert "the device" in said, (how, said)
                    continue
                assert (got == one_run[:n]).all() or (got == cpu_run[:n]).all(), (how, n)
            assert got is not None, (how, said)
        finally:
            d.__exit__(None, None, None)


def of_device(d):
    return d.status()["device"]


def settled(d, seconds=60):
    """The device's part of the status when every slot is filled, or after so long."""
    end = time.monotonic() + seconds * PATIENCE
    while of_device(d)["resident"] < of_device(d)["slots"] and time.monotonic() < end:
        time.sleep(0.1)
    return of_device(d)


def alone(batch):
    """--batch; 1 for steps of one token, which is decode: a graph a layer. Others are parts of prompts."""
    return ["--batch", batch, "--parallel", "1" if batch == "1" else "4"]


def plan(*args, piece=4096):
    """The device's part of a plan, for memory that comes in pieces as the fake runtime gives it: a GPU's are of 2 MiB."""
    machine = BUILD / "emu" / f"machine-{os.getpid()}-{piece}.json"  # of its own, where several runs share a build
    machine.write_text(json.dumps({"memory_bytes": 8 << 30, "cores": 2, "vram_piece_bytes": piece}))
    try:
        return json.loads(sluice("plan", DEMO, *DEFAULTS[2:], *args, "--machine", machine, "--json").stdout)["device"]
    finally:
        machine.unlink()


@functools.lru_cache
def budget_bytes(percent, batch="512"):
    """Bytes of the device's memory that leave slots for so many of the demo's experts."""
    d = plan(*alone(batch), "--device-budget", "1G")
    slots = sum(c["slots"] * c["slot_bytes"] for c in d["slots"]) if percent else d["slots_bytes"]  # what a block has over would be one
    return str(d["bytes"] - slots * (100 - percent) // 100)


def test_gpu_pieces():
    """Where memory comes in pieces of 2 MiB, as on GPUs: taken at start is what a plan without a machine says, to the byte."""
    for budget, n in (("40M", 20), ("64M", 1)):
        p = json.loads(sluice("plan", DEMO, *DEFAULTS[2:], *alone(str(n)), "--device-budget", budget, "--json").stdout)["device"]
        assert p == plan(*alone(str(n)), "--device-budget", budget, piece=2 << 20)
        with device(DEMO, "--device-budget", budget, *alone(str(n)), env={"SLUICE_EMU_GRANULARITY": str(2 << 20)}) as d:
            now = of_device(d)
            assert now["vram_bytes"] == p["bytes"] and now["slots"] == sum(c["slots"] for c in p["slots"]), (now, p)
            assert p["slots_bytes"] % (2 << 20) == 0 and d.eval_ids(moe_tokens(2))[1].any()


def test_nearly_full(one_run):
    """A budget of nearly all that is free: what the start left to others counts when the weights are there. No slot goes."""
    budget = int(budget_bytes(100, "1"))
    with device(DEMO, "--host-budget", "100%", "--device-policy", "hit", "--device-budget", budget, *alone("1"),
                env={"SLUICE_EMU_VRAM": str(budget + (256 << 10))}) as d:
        before = settled(d)
        time.sleep(2.5)  # the driver is asked once a second
        assert (d.eval_ids(moe_tokens(4))[1] == one_run[:4]).all()
        assert of_device(d)["slots"] == before["slots"] == 128 and of_device(d)["vram_bytes"] == budget


@pytest.mark.parametrize("percent", [0, 10, 50, 100])
def test_residency(one_run, percent):
    """As many experts in slots as the budget holds, chosen once: the same logits as with all of them on the host."""
    ids = moe_tokens(8)
    batch = "512" if percent else "1"  # several sequences need a little more than one, which slots have meanwhile
    with device(DEMO, "--host-budget", "100%", "--device-policy", "hit", "--device-budget", budget_bytes(percent, batch),
                *alone(batch)) as d:
        before = settled(d) if percent else of_device(d)
        share = 100 * before["slots"] / 128
        assert abs(share - percent) < 4 and before["resident"] == before["slots"] == before["fills"], before
        for n in (8, 3):
            assert (d.eval_ids(ids[:n])[1] == one_run[:n]).all()
        after = of_device(d)
        uses = after["hits"] + after["misses"]
        assert uses and after["fills"] == before["fills"], after
        assert (after["hits"] == 0) == (percent == 0) and (after["misses"] == 0) == (percent == 100), after
        assert after["handoff_us"] > 0 and after["launches"] > 0 and after["state"] == "ok"
        assert 0 <= after["overlap"] <= 1, after


@pytest.mark.parametrize("seed", range(int(os.environ.get("DEVICE_SEEDS", "4"))))
def test_shuffled(one_run, seed):
    """Fills and evictions by lot in every step, streams in any order that the rules allow: the same logits."""
    ids, batch = moe_tokens(8), ["8", "1", "5"][seed % 3]
    with device(DEMO, "--host-budget", ["100%", "60%"][seed % 2], "--device-policy", f"random:{seed}", "--device-budget",
                budget_bytes([30, 10, 60][seed // 2 % 3], batch), *alone(batch), "--threads", str(1 + seed // 3 % 2),
                env={"SLUICE_EMU_SEED": str(seed + 1)}) as d:
        for n in (8, 4):
            got = d.eval_ids(ids[:n])[1]
            assert (got == one_run[:n]).all(), f"{(got != one_run[:n]).sum()} of {got.size} logits differ"
        now = of_device(d)
    assert now["hits"] and now["misses"] and now["fills"], now


@pytest.mark.parametrize("policy", ["vram", "fetch", "lru"])
def test_policies(one_run, policy):
    ids = moe_tokens(8)
    with device(DEMO, "--device-policy", policy, "--device-budget", budget_bytes(20)) as d:
        for n in (8, 5):
            assert (d.eval_ids(ids[:n])[1] == one_run[:n]).all()
        assert of_device(d)["hits"]


@pytest.mark.parametrize("fail,word", [("cudaHostRegister:1", "pass through"), ("cudaHostRegister:4", "pass through"), ("cudaMemcpyAsync:9", ""),
                                       ("cudaEventRecord:4+", ""), ("cudaEventQuery:5", "")])
def test_fills_fail(one_run, fail, word):
    """What goes wrong with fills costs experts on the device, never a request."""
    with device(DEMO, "--host-budget", "100%", "--device-policy", "hit", env={"SLUICE_EMU_FAIL": fail}) as d:
        settled(d, 3)
        assert (d.eval_ids(moe_tokens(6))[1] == one_run[:6]).all()
        assert word in " ".join(d.status()["fallbacks"])


def test_refused_memory(one_run):
    """Neither is the experts' memory registered nor a ring pinned: copies are waited for, decode and prompts have the same bits."""
    for nth in range(1, 30):  # pinned memory that every start needs comes first; the ring is the last of it
        d = device(DEMO, "--host-budget", "60%", "--device-policy", "fetch", "--batch", "9", "--device-budget", budget_bytes(40, "9"),
                   env={"SLUICE_EMU_FAIL": f"cudaHostRegister:1+,cudaMallocHost:{nth}+", "SLUICE_EMU_SEED": "3"})
        try:
            d.__enter__()
            break
        except AssertionError as e:
            assert "--device cuda: pinned memory" in str(e), e
    try:
        assert "fills of the device are waited for" in " ".join(d.status()["fallbacks"])
        for n in (20, 13):  # steps of nine send experts through the ring of slots, the rest is decode
            assert (d.eval_ids(moe_tokens(n))[1] == one_run[:n]).all()
        said = of_device(d)
        assert said["state"] == "ok" and said["fills"] and said["hits"], said
    finally:
        d.__exit__(None, None, None)


@pytest.mark.parametrize("policy,budget,host,seed", [("fetch", 30, "100%", 0), ("fetch", 50, "30%", 1), ("hit", 50, "40%", 2),
                                                     ("vram", 25, "100%", 3)])
def test_prompts(one_run, policy, budget, host, seed):
    """Experts of prompts sent through the ring (fetch: all of them), multiplied in slots, or left to the CPU, whole or cut."""
    for batch in ("20", "11"):
        with device(DEMO, "--host-budget", host, "--device-policy", policy, "--device-budget", budget_bytes(budget, batch),
                    "--batch", batch, env={"SLUICE_EMU_SEED": str(seed)}) as d:
            for n in (20, 13):
                got = d.eval_ids(moe_tokens(n))[1]
                assert (got == one_run[:n]).all(), f"{batch}: {(got != one_run[:n]).sum()} of {got.size} logits differ"
            assert of_device(d)["state"] == "ok"


LONG = int(os.environ.get("DEVICE_SEEDS", "4")) > 4


def steps_of(n, batch):
    """Positions [first, end) of each step of a prompt of @n tokens."""
    return [(first, min(first + batch, n)) for first in range(0, n, batch)]


def ran_of_steps(n, batch, ctx, groups):
    """Which kernels run, and how often, for a prompt of @n tokens in steps of up to @batch, of more than 8 each, of random_model's one layer, whose
    weights are floats (no forms of activations are made); its experts are multiplied in @groups groups in all.
    """
    steps = len(steps_of(n, batch))
    # pairs of a token and a part of 256 positions that the scratch of attention has room for (device_attend_pairs)
    parts = -(-ctx // 256)
    pairs = max(min(8, batch) * parts, min(batch * parts, 1024))
    # so many tokens a launch, of a step that ends at position end (attend_some)
    attention = sum(-(-(end - first) // max(1, pairs // -(-end // 256))) for first, end in steps_of(n, batch))
    return {"(rmsnorm_kernel<true, experts>)": 3 * steps,  # before attention, before experts, before the output: the last adds the experts up
            "(matvec_kernel<QUANT_F32, 2, ROWS, COLS>)": 5 * steps,  # Q, K, V, O, and the output's for all tokens: 64 MiB hold their logits
            "qkv_kernel<64>": steps,
            "(decode_kernel<q8, dim>)": attention, "join_kernel<dim>": attention,  # the parts, and their join
            "(logits_kernel<4, MANY_TOKENS>)": steps, "choose_kernel": steps,  # the router
            "publish_kernel": steps,  # its word to the host
            "expert_kernel<QUANT_F32>": 3 * groups, "glu_kernel": groups}  # gate, up, down


def most_groups(n, batch):
    """A group has up to as many pairs of a token and an expert as a step has tokens, or 512; an expert that does not fit begins the next one, so two
    groups that follow each other have more than that together. No more groups than the four experts, each of which is sent whole.
    """
    room = max(batch, 512)
    return sum(min(random_model.EXPERTS, 1 + 2 * (random_model.USED * (end - first) // (room + 1))) for first, end in steps_of(n, batch))


def test_steps_of_2048(tmp_path):
    """By default a step of a prompt has up to 2048 tokens, and takes no more launches for them but for attention, whose scratch holds 1024 pairs, and for
    experts, which are multiplied in up to three groups: each kernel runs as often as is known beforehand. Any cut has the same bits.
    """
    model = random_model.write(tmp_path / "model.gguf", DEMO, width=64)
    n, ctx = 2048 if LONG else 600, 2048
    ids = numpy.random.default_rng(5).integers(0, 900, n).tolist()
    got = {}
    for batch in (None, "512", "100"):
        args, tokens, counts = ["--batch", batch] if batch else [], int(batch or 2048), tmp_path / f"counts-{batch}"
        with Daemon(model, "--device", "cuda", "--ctx", str(ctx), "--parallel", "1", "--threads", "2", "--device-budget", "300M", *args,
                    program=EMU, env={"SLUICE_EMU_COUNT": str(counts)}) as d:
            assert d.status()["batch"] == tokens
            got[batch] = d.eval_ids(ids, timeout=3600 if LONG else 120)[1]
            launches = of_device(d)["launches"]
        ran = {name.removeprefix("ran "): k for name, k in counts_of(counts).items() if name.startswith("ran ")}
        groups = ran.get("glu_kernel", 0)
        print(batch, launches, ran)
        # experts may be left to the host: of few tokens, or while none was sent
        assert ran == {name: k for name, k in ran_of_steps(n, tokens, ctx, groups).items() if k}, batch
        assert groups <= most_groups(n, tokens), batch
        assert launches == sum(ran.values()), (batch, launches)
        assert (got[batch] == got[None]).all(), f"{batch}: {(got[batch] != got[None]).sum()} logits differ"


def test_long_runs():
    """Attention over pages and blocks of tokens, and DeltaNet, of a prompt in one step, cut at multiples of 64 and elsewhere."""
    ids = (moe_tokens(24) * 6)[:139]
    want = run(DEMO, ids)
    for batch in ("64", "37"):
        got = run(DEMO, ids, "--batch", batch)
        assert (got == want).all(), f"{batch}: {(got != want).sum()} of {got.size} logits differ"


def finds(program, one_run, seed, prompt=False):
    """Whether shuffled slots show the fault: other bits, or a request that fails. A prompt's experts are all sent."""
    ids = moe_tokens(20 if prompt else 8)
    batch = "20" if prompt else ["4", "1"][seed % 2]
    with Daemon(DEMO, *DEFAULTS, "--host-budget", "30%" if prompt else "100%", "--device-policy",
                "fetch" if prompt else f"random:{seed}", "--device-budget", budget_bytes(40, batch), *alone(batch),
                program=program, env={"SLUICE_EMU_SEED": str(seed)}) as d:
        where = pathlib.Path(d.dir) / "found.npy"
        (pathlib.Path(d.dir) / "found").write_text(json.dumps(list(map(int, ids))))
        for _ in range(3):
            p = sluice("eval", "--socket", d.socket, "--tokens", pathlib.Path(d.dir) / "found", "--dump-logits", where,
                       "--json", check=None, timeout=120)
            if p.returncode or not (numpy.load(where) == one_run[:len(ids)]).all():
                return True
    return False


@pytest.mark.parametrize("name", ["none", *faults.FAULTS])
def test_seeded(one_run, name, tmp_path):
    """Each fault that is put into the device's code shows; without one nothing does."""
    program = EMU if name == "none" else faults.build(name, tmp_path, BUILD.resolve())
    found = functools.partial(finds, program, one_run, prompt=name in faults.OF_PROMPTS)
    assert any(map(found, range(1, 2 if name == "none" else 5))) == (name != "none"), faults.FAULTS.get(name)


@pytest.mark.parametrize("batch", ["4", "20", "80"])
def test_cancel(one_run, batch):
    """A client that leaves within a step: the next one is served, with the same bits."""
    ids = moe_tokens(20)
    with device(DEMO, "--batch", batch, "--device-policy", "fetch") as d:
        p = subprocess.Popen([str(BUILD / "sluice"), "generate", "--socket", d.socket, "--prompt-tokens", json.dumps(ids * 4),
                              "--max-tokens", "4"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60 * PATIENCE
        while not d.status()["active"] and p.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        p.kill()
        p.wait()
        assert (d.eval_ids(ids[:13])[1] == one_run[:13]).all()
        assert d.generate_ids(ids[:3], "--max-tokens", "1")["tokens"]
