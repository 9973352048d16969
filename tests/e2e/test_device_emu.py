# SPDX-License-Identifier: MIT
"""Description: --device emu:vram=SIZE,link=RATE: slots in this machine's memory, filled at the rate of a link that is not there.

What lies in them is counted as hits and changes no bit; fills keep to the link and to the policy; the default finds no GPU here
and says so once.
"""
import json
import subprocess
import time

import pytest

from daemon import BUILD, DEMO, Daemon, reference, sluice


def tokens(n):
    return reference("moe/moe-q4_k_m", whole=False)[0]["tokens"][:n]


def of_device(d):
    return d.status()["device"]


def test_slots():
    """Fills at the rate of the link, hits once they have ended, and the bits of no device at all."""
    ids = tokens(24)
    with Daemon(DEMO, "--threads", "2", "--ctx", "256") as d:
        assert d.status()["device"] is None
        assert d.text().count("use=none") == 1, d.text()
        want = d.eval_ids(ids)[1]
    with Daemon(DEMO, "--threads", "2", "--ctx", "256", "--device", "emu:vram=900M,link=4M", "--device-policy", "hit",
                "--host-budget", "100%") as d:
        start, before = time.monotonic(), of_device(d)
        assert before["name"].startswith("emulated") and before["slots"] > 0
        assert (d.eval_ids(ids)[1] == want).all()
        while of_device(d)["fills"] < 3 and time.monotonic() < start + 60:
            time.sleep(0.05)
        now, seconds = of_device(d), time.monotonic() - start
        assert now["fills"] >= 3 and now["fill_bytes"] - before["fill_bytes"] <= 4e6 * 1.1 * (seconds + 2), (now, seconds)
        assert (d.eval_ids(ids)[1] == want).all()
        now = of_device(d)
        assert now["hits"] > 0 and now["misses"] > 0 and now["resident"] <= now["slots"], now


def test_shown():
    """status, bench and metrics count the same; what a device without kernels has not is null."""
    with Daemon(DEMO, "--threads", "2", "--ctx", "256", "--device", "emu:vram=900M,link=100M", "--host-budget", "100%") as d:
        before = of_device(d)
        rows = json.loads(sluice("bench", "--socket", d.socket, "-p", "0", "-n", "48", "-r", "2", "--no-warmup", "--json").stdout)
        now, row = of_device(d), rows[0]
        assert list(now)[:11] == ["name", "state", "vram_bytes", "slots", "resident", "hits", "misses", "fills", "fill_bytes",
                                  "launches", "handoff_us"]
        assert row["device"] == now["name"] and row["device_state"] == now["state"] and row["device_slots"] == now["slots"]
        for name in ("hits", "misses"):
            assert row["device_" + name] == now[name] - before[name], (name, row, now)
        assert 0 < row["device_hit_rate"] < 1 and row["device_link_gbs"] > 0
        assert row["device_overlap"] is None and now["overlap"] is None and row["backends"] == "CPU"
        assert now["link_free_gbs"] == pytest.approx(0.1, rel=0.1)  # nobody else uses it
        text = sluice("bench", "--socket", d.socket, "-p", "0", "-n", "4", "-r", "1", "--no-warmup").stdout
        assert "\ntg4        emulated" in text, text
        metrics = dict(line.rsplit(" ", 1) for line in sluice("metrics", "--socket", d.socket).stdout.splitlines())
        assert float(metrics["sluice_device_overlap_seconds_total"]) == 0
        assert float(metrics["sluice_device_link_free_bytes_per_second"]) == pytest.approx(1e8, rel=0.1)
    with Daemon(DEMO, "--threads", "2", "--ctx", "256") as d:
        row = json.loads(sluice("bench", "--socket", d.socket, "-p", "0", "-n", "4", "-r", "1", "--no-warmup", "--json").stdout)[0]
        assert row["device"] is None and row["device_hits"] is None and row["device_hit_rate"] is None


@pytest.mark.parametrize("name,word", [("emu:vram=1G,speed=2", "no device"), ("gpu", "no device"), ("emu:link=1G", "no device")])
def test_names(name, word):
    p = subprocess.run([str(BUILD / "sluiced"), "--model", str(DEMO), "--socket", "/nonexistent/s", "--device", name],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode and word in p.stderr, p.stderr


ONE = ["--threads", "2", "--ctx", "2048", "--parallel", "1", "--batch", "512"]


def memory(percent):
    """Bytes of a device that leave slots for so many of the demo's experts."""
    d = json.loads(sluice("plan", DEMO, *ONE[2:], "--device-budget", "1G", "--json").stdout)["device"]
    return d["bytes"] - sum(c["slots"] * c["slot_bytes"] for c in d["slots"]) * (100 - percent) // 100


def test_stops():
    """Where moves bring a layer nothing, fills stop, which is shown; what was filled stays."""
    with Daemon(DEMO, *ONE, "--host-budget", "100%", "--device", f"emu:vram={memory(40)},link=1G") as d:
        for round in range(12):
            d.generate_ids(tokens(4), "--max-tokens", "120", "--temperature", "1.5", "--seed", str(round))
            now = of_device(d)
            if now["fill_stops"]:
                break
        print(now)
        assert now["fills"] and now["link_gbs"] > 0 and 0 < now["hit_rate"] < 1, now
        assert now["fill_stops"] and now["fill_gain"] < 0.005, now


def test_simulator(tmp_path):
    """The simulator's hit rate on the daemon's own trace is within a point of the daemon's, its uses are the same; drafts
    that stayed count. What is left is that the daemon measures its rates (tests/unit/engine/test_vram.c: exact), and that it
    has chosen its first experts before the trace begins: so the trace is long enough for that to be no point of it."""
    trace = tmp_path / "trace"
    with Daemon(DEMO, *ONE, "--host-budget", "100%", "--trace", trace, "--device", f"emu:vram={memory(25)},link=100G") as d:
        end = time.monotonic() + 60
        while of_device(d)["resident"] < of_device(d)["slots"] and time.monotonic() < end:
            time.sleep(0.05)
        d.generate_ids(tokens(24), "--max-tokens", "1500", "--temperature", "1.2", "--seed", "3")
        now = of_device(d)
    p = sluice("trace", "sim", trace, "--policy", "vram", "--device-fills", "0.5", "--fill", "--slots", now["slots"],
               "--device-time", "0,100G,1000G", "--json")
    sim = json.loads(p.stdout)[0]
    print(now, sim)
    assert abs(100 * now["hit_rate"] - 100 * sim["all"]["hit_ratio"]) <= 1, (now, sim)
    assert now["hits"] + now["misses"] == sim["all"]["hits"] + sim["all"]["misses"]
