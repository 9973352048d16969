# SPDX-License-Identifier: MIT
"""Description: `sluice doctor` leaves nothing behind, knows the limits of a process here, and advises only what it knows."""
import json
import os
import signal
import subprocess
import time

import pytest

from cgroup import Group
from daemon import BUILD, DEMO, ROOT, Daemon, sluice

GIB = 1 << 30


def doctor(*args, prefix=(), **kw):
    p = subprocess.run([*prefix, str(BUILD / "sluice"), "doctor", "--no-memory", "--json", *map(str, args)],
                       capture_output=True, text=True, timeout=60, **kw)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout)


@pytest.fixture(scope="module")
def no_tmpfile(tmp_path_factory):
    out = tmp_path_factory.mktemp("preload") / "no_tmpfile.so"
    subprocess.run([*os.environ.get("CC", "gcc").split(), "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC",
                    str(ROOT / "tests" / "e2e" / "helpers" / "no_tmpfile.c"), "-o", str(out)], check=True)
    return out


# ---- the test file ----

def written(pid):
    """Bytes of the test file that @pid has open, 0 where it has none yet."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            path = os.readlink(f"/proc/{pid}/fd/{fd}")
            if "(deleted)" in path and "memfd" not in path:
                return os.stat(f"/proc/{pid}/fd/{fd}").st_size
        except OSError:
            pass
    return 0


@pytest.mark.parametrize("preload", [False, True], ids=["unnamed", "named"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_leaves_no_file(tmp_path, no_tmpfile, number, preload):
    env = {**os.environ, **({"LD_PRELOAD": str(no_tmpfile)} if preload else {})}
    p = subprocess.Popen([str(BUILD / "sluice"), "doctor", "--no-memory", "--seconds", "30", "--disk", str(tmp_path)],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env,
                         preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in (signal.SIGINT, signal.SIGHUP)])
    end = time.monotonic() + 60
    while not written(p.pid):
        assert p.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    p.send_signal(number)
    assert p.wait(60) in (-number, 130)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preload", [False, True], ids=["unnamed", "named"])
def test_the_end_leaves_no_file(tmp_path, no_tmpfile, preload):
    env = {**os.environ, **({"LD_PRELOAD": str(no_tmpfile)} if preload else {})}
    assert doctor("--disk", tmp_path, "--seconds", "0.1", env=env)["disk_read_gbs"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to(tmp_path):
    p = sluice("doctor", "--no-memory", "--disk", "/proc", check=1)
    assert "/proc: cannot write a test file" in p.stderr


def test_alignment_is_what_a_file_says(tmp_path):
    """Without a file nothing is known of its disk: a plan from this JSON then asks the model's, instead of taking a usual value."""
    (tmp_path / "m.json").write_text(json.dumps(doctor()))
    assert json.loads((tmp_path / "m.json").read_text())["read_align_bytes"] is None
    seen = doctor("--model", DEMO, "--seconds", "0.1")["read_align_bytes"]
    assert doctor("--disk", DEMO, "--seconds", "0.1")["read_align_bytes"] == seen
    planned = json.loads(sluice("plan", DEMO, "--machine", tmp_path / "m.json", "--json").stdout)
    assert planned["read_align_bytes"] == seen


# ---- limits and advice ----

def machine(root, **files):
    """A copy of /proc and /sys: two nodes of 8 GiB, huge pages possible and none reserved."""
    files = {"proc/meminfo": "MemTotal: 16777216 kB\nMemFree: 8388608 kB\nMemAvailable: 12582912 kB\n",
             "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "0\n",
             "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "0\n",
             "sys/devices/system/node/online": "0-1\n", **files}
    for node in (0, 1):
        at = f"sys/devices/system/node/node{node}/"
        files[at + "meminfo"] = f"Node {node} MemTotal: 8388608 kB\nNode {node} MemFree: 4194304 kB\n"
        for name in ("nr", "free", "surplus"):
            files[f"{at}hugepages/hugepages-2048kB/{name}_hugepages"] = "0\n"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_advice_on_huge_pages_needs_a_model(tmp_path):
    root = machine(tmp_path)
    j = doctor("--root", root)
    assert len(j["nodes"]) == 2
    assert not [a for a in j["advice"] if "hugepages" in a["command"] or "experts" in a["problem"]], j["advice"]
    j = doctor("--root", root, "--model", DEMO, "--seconds", "0.1")
    pages = [a for a in j["advice"] if "hugepages" in a["command"]]
    assert len(pages) == 3, j["advice"]  # of the machine, and of each node


def test_limits(tmp_path):
    root = machine(tmp_path)
    j = doctor("--root", root)
    assert j["memory_bytes"] == 16 * GIB and j["memory_free_bytes"] == 12 * GIB
    assert j["limits"]["memory_bytes"] == 16 * GIB and j["limits"]["memory_from"] == "machine"
    machine(root, **{"proc/self/cgroup": "0::/box\n",
                     "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
                     "sys/fs/cgroup/box/memory.max": f"{2 * GIB}\n", "sys/fs/cgroup/box/memory.current": f"{GIB}\n"})
    j = doctor("--root", root)
    assert j["memory_free_bytes"] == 12 * GIB
    assert j["limits"] == {"memory_bytes": 2 * GIB, "memory_free_bytes": GIB, "memory_from": "cgroup /sys/fs/cgroup/box",
                           "cpus": j["limits"]["cpus"], "cpus_from": j["limits"]["cpus_from"]}
    text = sluice("doctor", "--no-memory", "--root", root).stdout
    assert "a process here may take 1.00 GiB more of 2.00 GiB (cgroup /sys/fs/cgroup/box)" in text


def test_gpu_driver(tmp_path):
    """The version of NVIDIA's kernel module, and what --device cuda needs."""
    line = "NVRM version: NVIDIA UNIX {}x86_64 Kernel Module  {}  Sun Jun  1 00:00:00 UTC 2025\n"
    for text, version, old in [(line.format("", "580.65.06"), "580.65.06", False),
                               (line.format("Open ", "550.54.14"), "550.54.14", True),
                               ("nothing to read\n", None, False)]:
        root = machine(tmp_path, **{"proc/driver/nvidia/version": text})
        j = doctor("--root", root)
        assert j["gpu_driver"] == version
        assert any("r580 or newer" in a["problem"] for a in j["advice"]) == old, j["advice"]


@pytest.fixture(scope="module")
def nvml(tmp_path_factory):
    """A driver's library with a GPU of 24 GiB."""
    out = tmp_path_factory.mktemp("nvml") / "nvml.so"
    subprocess.run([*os.environ.get("CC", "gcc").split(), "-O1", "-shared", "-fPIC",
                    str(ROOT / "tests" / "unit" / "telemetry" / "fake_nvml.c"), "-o", str(out)], check=True)
    return {**os.environ, "SLUICE_NVML": str(out)}


def test_gpus(nvml):
    """The GPUs that the driver tells of, and what of a model would lie in their memory."""
    j = doctor("--model", DEMO, "--seconds", "0.1", env=nvml)
    gpu = j["gpus"][0]
    assert gpu["bdf"] == "0000:81:00.0" and gpu["memory_bytes"] == j["vram_bytes"] == 24 * GIB
    assert gpu["max_link_gen"] == 4 and gpu["max_link_width"] == 16
    there = j["model"]["device"]
    assert there["slots_bytes"] >= sum(c["slots"] * c["slot_bytes"] for c in there["slots"]) > 0  # whole blocks
    assert there["slots"][0]["slots"] == there["slots"][0]["experts"]  # all of them
    assert doctor()["gpus"] == []


def test_device_of_a_daemon():
    """A daemon that is asked tells of its device as its status does."""
    with Daemon(DEMO, "--threads", "2", "--ctx", "256", "--device", "emu:vram=900M,link=1G", "--device-policy", "hit") as d:
        j, status = doctor("--socket", d.socket), d.status()["device"]
        assert {k: j["device"][k] for k in ("name", "state", "vram_bytes", "slots")} == {
            k: status[k] for k in ("name", "state", "vram_bytes", "slots")}
        assert "\ndevice     emulated" in sluice("doctor", "--no-memory", "--socket", d.socket).stdout
    with Daemon(DEMO, "--threads", "2", "--ctx", "256") as d:
        assert doctor("--socket", d.socket)["device"] is None


def test_unknown_memory(tmp_path):
    """What cannot be read is unknown: null, and no ground for advice."""
    j = doctor("--root", tmp_path, "--model", DEMO, "--seconds", "0.1")
    assert j["memory_bytes"] is None and j["memory_free_bytes"] is None
    assert j["limits"]["memory_bytes"] is None and j["limits"]["memory_from"] == "unknown"
    assert not [a for a in j["advice"] if "free memory" in a["problem"]]
    assert j["model"]["budget_bytes"] > 0
    assert "memory     unknown, unknown free" in sluice("doctor", "--no-memory", "--root", tmp_path).stdout


def test_in_a_group():
    with Group("memory", 512 << 20) as g:
        j = doctor(prefix=g.prefix())
        assert j["limits"]["memory_bytes"] == 512 << 20 and j["limits"]["memory_from"] == f"cgroup {g.path}"
    with Group("cpu", 1) as g:
        assert doctor(prefix=g.prefix())["cores"] == 1


def test_measures_within_a_small_group():
    """The measurement of memory stays inside what the group has."""
    with Group("memory", 128 << 20) as g:
        p = subprocess.run([*g.prefix(), str(BUILD / "sluice"), "doctor", "--seconds", "0.2", "--json"],
                           capture_output=True, text=True, timeout=60)
        assert p.returncode == 0 and json.loads(p.stdout)["mem_read_gbs"] > 0, p
        assert g.kills() == 0
