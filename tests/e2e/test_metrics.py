# SPDX-License-Identifier: MIT
"""Description: `sluice metrics` is well-formed Prometheus text and agrees with `sluice status`."""
import json
import os
import pathlib
import re
import subprocess

import pytest

from daemon import BUILD, ROOT, Daemon, sluice

SAMPLE = re.compile(r'^([a-z_]+)(\{[a-z]+="(?:[^"\\\n]|\\.)*"(?:,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? (\S+)$')


def parse(text):
    """{name with labels: value}, after checking what the format asks for."""
    kinds, values, family = {}, {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in kinds, f"{family} comes twice"
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == family and kind in ("counter", "gauge", "histogram")
            kinds[name] = kind
        else:
            m = SAMPLE.match(line)
            assert m, line
            name = re.sub("_(bucket|sum|count)$", "", m[1]) if kinds.get(family) == "histogram" else m[1]
            assert name == family and family in kinds
            assert (kinds[family] == "counter") == family.endswith("_total")
            assert m[1] + (m[2] or "") not in values
            values[m[1] + (m[2] or "")] = float(m[3])
    return values


def test_metrics_agree_with_status(tmp_path):
    with Daemon(ROOT / "models" / "demo-moe-q4_k_m.gguf", "--numa", "split:2") as d:
        d.generate_ids([1, 2, 3], "--max-tokens", "5")
        d.filled()
        status = d.status()
        out = tmp_path / "sluice.prom"
        p = subprocess.run([str(BUILD / "sluice"), "metrics", "--socket", d.socket, "--output", str(out)],
                           capture_output=True, text=True, timeout=60)
        assert p.returncode == 0 and not p.stdout, p.stderr
        values = parse(out.read_text())
        assert [f.name for f in tmp_path.iterdir()] == ["sluice.prom"]
        assert values["sluice_up"] == 1
        for name, key in (("tokens_generated_total", "tokens_generated"), ("expert_hits_total", "hits"),
                          ("expert_misses_total", "misses"), ("disk_read_bytes_total", "bytes_read"),
                          ("budget_bytes", "budget_bytes"), ("experts", "experts_total")):
            assert values["sluice_" + name] == status[key], name
        assert values["sluice_first_token_seconds_count"] == values["sluice_queue_seconds_count"] == 1
        assert values["sluice_inter_token_seconds_count"] == status["tokens_generated"] - 1
        assert values['sluice_inter_token_seconds_bucket{le="+Inf"}'] == status["tokens_generated"] - 1
        assert sum(v for k, v in values.items() if k.startswith("sluice_requests_total{")) == 1
        assert 0 < values["sluice_first_token_seconds_sum"] <= values["sluice_request_seconds_sum"]
        assert any(k.startswith("sluice_build_info{") for k in values)
        assert values["sluice_disk_read_seconds_count"] > 0 and values["sluice_disk_read_seconds_sum"] > 0
        assert values['sluice_disk_read_seconds_bucket{le="1e-06"}'] <= values['sluice_disk_read_seconds_bucket{le="0.001"}']
        assert values["sluice_stall_wait_seconds_sum"] == pytest.approx(status["stall_seconds"])
        assert values["sluice_prefix_lookups_total"] == 1 and values["sluice_prefix_hits_total"] == 0
        again = [3] * 200
        for _ in range(2):
            d.generate_ids(again, "--max-tokens", "2")
        s = d.status()
        assert s["prefix_lookups"] == 3 and s["prefix_found"] == 1 and s["prefix_pages"] >= 4 and s["prefix_points"] >= 1
        assert s["fills"] >= 0 and s["reads_in_flight"] == 0


def metrics(*args, status=0):
    p = subprocess.run([str(BUILD / "sluice"), "metrics", "--interval", "0.05", *map(str, args)], capture_output=True,
                       text=True, timeout=60)
    assert p.returncode == status, p.stderr
    return p.stdout


def test_metrics_as_json(tmp_path):
    with Daemon(ROOT / "models" / "demo-moe-q4_k_m.gguf") as d:
        d.generate_ids([1, 2, 3], "--max-tokens", "5")
        j = json.loads(metrics("--socket", d.socket, "--json"))
        assert j["up"] is True and set(j) == {"up", "daemon", "machine"}
        status, machine = d.status(), json.loads(sluice("telemetry", "--json", "--interval", "0.05").stdout)
        assert j["daemon"]["tokens_generated"] == status["tokens_generated"] > 0
        assert set(j["daemon"]) == set(status) and set(j["machine"]) == set(machine)
        out = tmp_path / "j"
        assert metrics("--socket", d.socket, "--json", "--output", out) == ""
        assert json.loads(out.read_text())["up"] is True
    j = json.loads(metrics("--socket", tmp_path / "none", "--json", status=3))
    assert j["up"] is False and j["daemon"] is None and j["machine"]


def test_output_goes_to_any_kind_of_file(tmp_path):
    with Daemon(ROOT / "models" / "demo-moe-q4_k_m.gguf") as d:
        assert parse(metrics("--socket", d.socket, "--output", "-"))["sluice_up"] == 1
        os.mkfifo(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        os.symlink("/dev/null", tmp_path / "null")
        metrics("--socket", d.socket, "--output", tmp_path / "pipe")
        assert os.read(reader, 7) == b"# HELP "
        os.close(reader)
        metrics("--socket", d.socket, "--output", tmp_path / "null")
        assert (tmp_path / "null").is_symlink()  # a device is written to, never replaced
        p = sluice("eval", "--socket", d.socket, "--prompt", "It was", "--dump-logits", tmp_path / "null", check=1)
        assert "not a file" in p.stderr and (tmp_path / "null").is_symlink()
        assert {f.name for f in tmp_path.iterdir()} == {"pipe", "null"}


def node_totals():
    """{node: bytes} of the nodes' own files; without NUMA of /proc/meminfo."""
    files = {int(p.parent.name[4:]): p for p in pathlib.Path("/sys/devices/system/node").glob("node*/meminfo")}
    return {node: int(re.search(r"MemTotal:\s+(\d+) kB", path.read_text())[1]) * 1024
            for node, path in (files or {0: pathlib.Path("/proc/meminfo")}).items()}


def test_machine_alone():
    before = node_totals()
    p = subprocess.run([str(BUILD / "sluice"), "metrics"], capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stderr
    after = node_totals()
    values = parse(p.stdout)
    # Like with like: the machine's memory is /proc/meminfo's, a node's is its own file's. On some virtual
    # machines the nodes' files tell of less than half of the whole, and of more from hour to hour.
    meminfo = int(re.search(r"MemTotal:\s+(\d+) kB", open("/proc/meminfo").read())[1]) * 1024
    assert values["sluice_machine_memory_bytes"] == meminfo
    assert 0 < values["sluice_machine_available_bytes"] <= meminfo
    assert 0 < values["sluice_limit_bytes"] <= meminfo
    nodes = {int(re.search(r'node="(\d+)"', k)[1]): v for k, v in values.items()
             if k.startswith("sluice_node_memory_bytes{")}
    assert set(nodes) == set(before)
    for node, total in nodes.items():
        assert min(before[node], after[node]) <= total <= max(before[node], after[node])
    if sluice("status", check=None).returncode == 3:  # else this machine has a daemon of its own
        assert not any(k.startswith("sluice_tokens") for k in values)
        assert values["sluice_up"] == 0 and not p.stderr  # nobody named one
        p = subprocess.run([str(BUILD / "sluice"), "metrics"], capture_output=True, text=True, timeout=60,
                           env={**os.environ, "SLUICE_SOCKET": ""})
        assert p.returncode == 0 and not p.stderr  # nor does an empty variable


def test_a_dead_daemon_is_down_in_the_file(tmp_path):
    """The file says so, whatever it said before; the machine's series go on; the status is that of `sluice status`."""
    out = tmp_path / "sluice.prom"

    def told(socket, status):
        p = subprocess.run([str(BUILD / "sluice"), "metrics", "--socket", str(socket), "--output", str(out)],
                           capture_output=True, text=True, timeout=60)
        assert p.returncode == status and not p.stdout
        assert not status or "no daemon" in p.stderr
        assert [f.name for f in tmp_path.iterdir()] == ["sluice.prom"]
        return parse(out.read_text())

    with Daemon(ROOT / "models" / "demo-moe-q4_k_m.gguf") as d:
        assert told(d.socket, 0)["sluice_up"] == 1
        d.process.kill()
        d.process.wait()
        values = told(d.socket, 3)  # the socket file is still there
        assert values["sluice_up"] == 0
        assert not any(k.startswith(("sluice_tokens", "sluice_build")) for k in values)
        assert any(k.startswith("sluice_node_memory_bytes{") for k in values)
    assert told(tmp_path / "none" / "s", 3)["sluice_up"] == 0
    p = subprocess.run([str(BUILD / "sluice"), "metrics", "--socket", str(tmp_path / "none")], capture_output=True,
                       text=True, timeout=60)
    assert p.returncode == 3 and parse(p.stdout)["sluice_up"] == 0


def test_refusals(tmp_path):
    p = subprocess.run([str(BUILD / "sluice"), "metrics", "--output", str(tmp_path / "no" / "dir.prom")],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 1 and "dir.prom" in p.stderr
