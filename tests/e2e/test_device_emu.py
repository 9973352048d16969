# SPDX-License-Identifier: MIT
"""Description: --device emu:vram=SIZE,link=RATE: slots in this machine's memory, filled at the rate of a link that is not there.

What lies in them is counted as hits and changes no bit; fills keep to the link and to the policy; the default finds no GPU here
and says so once.
"""
import subprocess
import time

import pytest

from daemon import BUILD, DEMO, Daemon, reference


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
        while of_device(d)["fills"] < 3 and time.monotonic() < start + 30:
            time.sleep(0.05)
        now, seconds = of_device(d), time.monotonic() - start
        assert now["fills"] >= 3 and now["fill_bytes"] <= 4e6 * 1.1 * (seconds + 2), (now, seconds)
        assert (d.eval_ids(ids)[1] == want).all()
        now = of_device(d)
        assert now["hits"] > 0 and now["misses"] > 0 and now["resident"] <= now["slots"], now


@pytest.mark.parametrize("name,word", [("emu:vram=1G,speed=2", "no device"), ("gpu", "no device"), ("emu:link=1G", "no device")])
def test_names(name, word):
    p = subprocess.run([str(BUILD / "sluiced"), "--model", str(DEMO), "--socket", "/nonexistent/s", "--device", name],
                       capture_output=True, text=True, timeout=30)
    assert p.returncode and word in p.stderr, p.stderr
