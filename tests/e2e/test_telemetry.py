# SPDX-License-Identifier: MIT
"""Description: `sluice telemetry` on this machine and on recorded ones.

The shape is that of the documented interface; the values lie between two readings of /sys and /proc taken around it; what
this machine does not say is null and never 0; recorded machines and hostile ones give what they hold and never a crash.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from daemon import BUILD, NOBODY, ROOT, short_dir, sluice

TREES = ROOT / "tests" / "unit" / "telemetry" / "trees"
NODES = pathlib.Path("/sys/devices/system/node")
PCI = pathlib.Path("/sys/bus/pci/devices")

RATES = ["read_bytes_per_s", "write_bytes_per_s", "total_bytes_per_s"]
NODE_FIELDS = {"id", "total_bytes", "free_bytes", "hugepages", "distance", "peak_bytes_per_s", *RATES}
PCI_FIELDS = {"bdf", "node", "class", "speed_gts", "width", "max_speed_gts", "max_width", "bandwidth_bytes_per_s", "degraded"}
DISK_FIELDS = {"name", "node", "read_bytes_per_s", "inflight"}
SOURCES = {None, "module", "perf", "sysfs", "nvml", "given", "script"}


def telemetry(*args, **kw):
    return json.loads(sluice("telemetry", "--json", "--interval", "0.1", *args, **kw).stdout)


def is_count(value):
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def check_shape(t):
    assert {"sources", "updated_ns", "nodes", "pci", "disks"} <= set(t)
    assert set(t["sources"].values()) <= SOURCES and t["sources"]
    assert isinstance(t["updated_ns"], int)
    for n in t["nodes"]:
        assert NODE_FIELDS <= set(n)
        assert isinstance(n["id"], int)
        assert all(is_count(n[f]) for f in ["total_bytes", "free_bytes", "peak_bytes_per_s", *RATES])
        assert len(n["distance"]) == len(t["nodes"]) and all(is_count(d) for d in n["distance"])
        for size, pool in n["hugepages"].items():
            assert re.fullmatch(r"\d+kB", size)
            assert {"total", "free"} <= set(pool) and all(is_count(v) for v in pool.values())
    for p in t["pci"]:
        assert PCI_FIELDS <= set(p)
        assert p["degraded"] in (None, True, False)
        assert all(is_count(p[f]) for f in ["node", "width", "max_width", "bandwidth_bytes_per_s"])
        assert all(p[f] is None or p[f] > 0 for f in ["speed_gts", "max_speed_gts"])
    for d in t["disks"]:
        assert DISK_FIELDS <= set(d)
        assert all(is_count(d[f]) for f in ["node", "read_bytes_per_s", "inflight"])


def between(value, a, b, slack=0):
    assert min(a, b) - slack <= value <= max(a, b) + slack, (a, value, b)


def meminfo(node):
    text = (NODES / f"node{node}" / "meminfo").read_text()
    return {k: int(v) * 1024 for k, v in re.findall(r"Node \d+ (\w+):\s+(\d+) kB", text)}


def online_nodes():
    ids = []
    for part in (NODES / "online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        ids += range(int(first), int(last or first) + 1)
    return ids


def test_shape():
    check_shape(telemetry())


def test_memory_within_two_readings():
    # Others use memory meanwhile: the value must lie between the readings with what may happen in between.
    ids = online_nodes()
    for _ in range(5):
        before = {i: meminfo(i) for i in ids}
        t = telemetry()
        after = {i: meminfo(i) for i in ids}
        assert [n["id"] for n in t["nodes"]] == ids
        try:
            for n in t["nodes"]:
                a, b = before[n["id"]], after[n["id"]]
                assert n["total_bytes"] == a["MemTotal"] == b["MemTotal"]
                between(n["free_bytes"], a["MemFree"], b["MemFree"], slack=64 << 20)
                between(n["anon_bytes"], a["AnonPages"], b["AnonPages"], slack=64 << 20)
            return
        except AssertionError as e:
            moved = e
            time.sleep(0.5)
    raise moved


def test_huge_pages_and_distance():
    t = telemetry()
    for n in t["nodes"]:
        d = NODES / f"node{n['id']}"
        pools = {p.name[len("hugepages-"):]: p for p in (d / "hugepages").iterdir()}
        assert set(n["hugepages"]) == set(pools)
        for size, pool in n["hugepages"].items():
            assert pool["total"] == int((pools[size] / "nr_hugepages").read_text())
            assert 0 <= pool["free"] <= pool["total"]
        assert n["distance"] == [int(x) for x in (d / "distance").read_text().split()]


def test_disks_within_two_readings():
    def reads():
        return {f[2]: int(f[5]) * 512 for f in (line.split() for line in open("/proc/diskstats"))}

    before = reads()
    t = telemetry()
    after = reads()
    assert t["disks"], "this machine has a disk"
    for d in t["disks"]:
        between(d["read_bytes"], before[d["name"]], after[d["name"]])
        # what was read in the tenth of a second cannot be more than what was read around it
        assert d["read_bytes_per_s"] * t["interval_ns"] / 1e9 <= after[d["name"]] - before[d["name"]] + 1
        assert (pathlib.Path("/sys/block") / d["name"]).exists()


def read_or_none(path):
    try:
        return path.read_text().strip()
    except OSError:
        return None


def test_pci_as_sysfs_says():
    for p in telemetry()["pci"]:
        d = PCI / p["bdf"]
        assert p["class"] == d.joinpath("class").read_text().strip()
        node = int(read_or_none(d / "numa_node") or -1)
        assert p["node"] == (node if node >= 0 else None)
        for field, name in [("max_width", "max_link_width"), ("max_speed_gts", "max_link_speed")]:
            if read_or_none(d / name) is None:
                assert p[field] is None
                assert p["degraded"] is None


def test_unknown_is_null():
    """Here nothing counts the memory controllers unless a PMU of theirs exists."""
    pmus = [p.name for p in pathlib.Path("/sys/bus/event_source/devices").iterdir()]
    t = telemetry("--no-module")
    if not any(re.match(r"uncore_imc|amd_umc|amd_df", p) for p in pmus):
        assert t["sources"]["memory_bandwidth"] is None
        for n in t["nodes"]:
            assert all(n[f] is None for f in RATES)
        assert any("memory-controller counters" in note for note in t["notes"])


def test_cost_and_ages():
    t = telemetry()
    print(f"a sample took {t['cost_ns'] / 1e6:.2f} ms")
    assert t["cost_ns"] > 0
    assert t["interval_ns"] >= 100e6
    assert t["age_ns"]["memory"] == 0 or t["sources"]["memory"] == "module"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which root only may")
def test_unprivileged():
    folder = pathlib.Path(short_dir())
    folder.chmod(0o755)
    program = shutil.copy(BUILD / "sluice", folder)
    p = subprocess.run([*NOBODY, program, "telemetry", "--json", "--interval", "0.1"],
                       capture_output=True, text=True, timeout=120)
    assert p.returncode == 0, p.stderr
    check_shape(json.loads(p.stdout))


def test_watch():
    p = sluice("telemetry", "--watch", "--json", "--interval", "0.05", "--count", "3")
    samples = [json.loads(line) for line in p.stdout.splitlines()]
    assert len(samples) == 3
    for s in samples:
        check_shape(s)
    assert samples[0]["updated_ns"] < samples[1]["updated_ns"] < samples[2]["updated_ns"]


def test_watch_ends_by_a_signal():
    p = subprocess.Popen([str(BUILD / "sluice"), "telemetry", "--watch", "--json", "--interval", "0.05"],
                         stdout=subprocess.PIPE, text=True)
    assert json.loads(p.stdout.readline())["nodes"]
    p.send_signal(signal.SIGINT)
    p.stdout.read()
    assert p.wait(60) == 0


def test_text():
    out = sluice("telemetry", "--interval", "0.05").stdout
    for word in ["NODE", "DISK", "PEAK", "GiB", "memory_bandwidth", "note:"]:
        assert word in out, out


def test_usage():
    sluice("telemetry", "--nonsense", check=2)
    sluice("telemetry", "--interval", "0", check=2)
    sluice("telemetry", "--root", "/nonexistent", "--interval", "0.02", check=1)
    sluice("telemetry", "--script", "/nonexistent", check=1)


def unpack(name, root):
    """A recorded machine: the form is described in tests/unit/telemetry/tree.h."""
    block = None
    for line in (TREES / f"{name}.tree").read_text().splitlines():
        if line.startswith("|"):
            with open(block, "a") as f:
                f.write(line[1:].removeprefix(" ") + "\n")
            continue
        if not line or line.startswith("#"):
            continue
        path, arrow, target = line.partition(" -> ")
        path, equals, content = path.partition(" = ")
        at = root / path.removesuffix(":")
        at.parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            at.symlink_to(target)
        else:
            at.write_text(content + "\n" if equals else "")
            block = at
    return root


def recorded(name, tmp_path):
    return telemetry("--root", unpack(name, tmp_path), "--no-perf")


def test_recorded_links(tmp_path):
    t = recorded("links", tmp_path)
    check_shape(t)
    pci = {p["bdf"]: p for p in t["pci"]}
    assert pci["0000:01:00.0"]["degraded"] is True
    assert (pci["0000:01:00.0"]["width"], pci["0000:01:00.0"]["max_width"]) == (8, 16)
    assert pci["0000:02:00.0"]["degraded"] is None and pci["0000:02:00.0"]["may_be_idle"] is True
    assert pci["0000:02:00.0"]["speed_gts"] == 2.5 and pci["0000:02:00.0"]["max_speed_gts"] == 16
    assert pci["0000:03:00.0"]["degraded"] is False
    assert pci["0000:07:00.0"]["limit_bdf"] == "0000:05:00.0"
    assert pci["0000:08:00.0"]["asleep"] is True and pci["0000:08:00.0"]["speed_gts"] is None
    assert pci["0000:09:00.0"]["width"] is None


def test_recorded_nodes(tmp_path):
    t = recorded("memoryless", tmp_path)
    check_shape(t)
    assert [n["id"] for n in t["nodes"]] == [0, 1, 3]
    assert t["nodes"][1]["total_bytes"] == 0
    assert t["nodes"][2]["distance"] == [30, 40, 10]


def test_recorded_peaks(tmp_path):
    t = recorded("xeon", tmp_path)
    check_shape(t)
    assert t["nodes"][0]["peak_bytes_per_s"] == 204800 << 20
    assert t["sources"]["memory_bandwidth_peak"] == "sysfs"
    assert t["nodes"][1]["hugepages"] == {}


def test_given_peaks(tmp_path):
    peaks = tmp_path / "peaks.json"
    peaks.write_text(json.dumps({"nodes": [{"id": 0, "read_bytes_per_s": 12500000000}]}))
    t = telemetry("--peaks", peaks)
    assert t["nodes"][0]["peak_bytes_per_s"] == 12500000000
    assert t["nodes"][0]["peak_source"] == "given"
    peaks.write_text("{")
    sluice("telemetry", "--peaks", peaks, check=1)


def test_hostile(tmp_path):
    root = unpack("epyc", tmp_path)
    for at in [p for p in root.rglob("*") if p.is_file() and not p.is_symlink()]:
        at.write_bytes(b"\xff\x00 99999999999999999999 kB\n-1,,")
    t = telemetry("--root", root)
    check_shape(t)
    assert all(n["total_bytes"] is None for n in t["nodes"])


def test_script(tmp_path):
    script = tmp_path / "script"
    script.write_text("sample 0\nnode 0 socket=0 peak=1000000 free=5\n"
                      "counter 0 kind=read socket=0 bytes=64 count=0 enabled=0 running=0\n"
                      "sample 1000\nnode 0 socket=0 peak=1000000\n"
                      "counter 0 kind=read socket=0 bytes=64 count=1000 enabled=1000000000 running=500000000\n")
    t = telemetry("--script", script)
    check_shape(t)
    assert t["nodes"][0]["read_bytes_per_s"] == 128000
    assert t["nodes"][0]["free_bytes"] is None
    assert t["sources"]["memory_bandwidth"] == "script"
