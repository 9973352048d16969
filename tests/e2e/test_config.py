# SPDX-License-Identifier: MIT
"""Description: configuration files of sluiced: order, refusals by line, the dump, and what SIGHUP reloads."""
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from daemon import BUILD, DEMO, ROOT, Daemon


def sluiced(*args, check=0):
    p = subprocess.run([str(BUILD / "sluiced"), *map(str, args)], capture_output=True, text=True, timeout=60)
    assert p.returncode == check, f"exit {p.returncode}: {p.stdout}{p.stderr}"
    return p


def write(folder, text, **others):
    """folder/sluiced.conf and folder/conf.d/NAME.conf; returns the path of the first."""
    path = folder / "sluiced.conf"
    path.write_text(text)
    for name, more in others.items():
        (folder / "conf.d").mkdir(exist_ok=True)
        (folder / "conf.d" / f"{name}.conf").write_text(more)
    return path


def values(text):
    """[(name, value)] of the lines that say something."""
    return [tuple(line.split(" = ", 1)) for line in text.splitlines() if line and line[0] != "#"]


def test_order(tmp_path):
    path = write(tmp_path, "[sluiced]\nmodel = a.gguf\n threads = 2 ; both\nhttp = 127.0.0.1:1\nhttp = unix:/tmp/h\nqueue = 3\n",
                 b10="queue = 4\nno-fill = yes\n", b20="queue = 5\n# queue = 6\nno-fill = no\n")
    said = values(sluiced("--config", path, "--ctx", 99, "--threads=1", "--dump-config").stdout)
    assert said == [("model", "a.gguf"), ("threads", "1"), ("ctx", "99"), ("no-fill", "no"), ("http", "127.0.0.1:1"),
                    ("http", "unix:/tmp/h"), ("queue", "5")]
    # a list of the command line replaces the file's; an empty value takes back what files said
    said = values(sluiced("--config", path, "--http", "127.0.0.1:2", "--dump-config").stdout)
    assert ("http", "127.0.0.1:2") in said and ("http", "unix:/tmp/h") not in said
    write(tmp_path, path.read_text(), b30="http =\nhttp = 127.0.0.1:3\n")
    assert [v for n, v in values(sluiced("--config", path, "--dump-config").stdout) if n == "http"] == ["127.0.0.1:3"]


def test_dump_is_read_again(tmp_path):
    """Every option stands in the dump, and what is written there means the same."""
    first = sluiced("--model", DEMO, "--queue", 7, "--no-fill", "--chat-template-kwargs", '{"a": "b;c"}', "--dump-config").stdout
    rows = sluiced("--list-options").stdout.splitlines()
    names = {row.split("\t")[1][2:] for row in rows if row.startswith("option")}
    assert names - set(re.findall(r"^#?([a-z-]+) = ", first, re.M)) == {"help", "version", "config", "check-config", "dump-config"}
    path = write(tmp_path, first)
    second = sluiced("--config", path, "--dump-config").stdout
    assert values(first) == values(second)
    assert "no fault found" in sluiced("--config", path, "--check-config").stdout


def test_manual_names_what_is_reloaded():
    """sluiced.conf(5) lists the options that the dump marks."""
    blocks = sluiced("--dump-config").stdout.split("\n\n")
    marked = {re.match(r"# ([a-z-]+):", b).group(1) for b in blocks if "SIGHUP reloads it" in b}
    page = (ROOT / "man/sluiced.conf.5.scd").read_text().split("# RELOADING")[1].split("the keys in")[0]
    assert marked == set(re.findall(r"\*([a-z-]+)\*", page)) - {"systemctl reload"} and marked


@pytest.mark.parametrize("text, why", [
    ("model = m\nthread = 2\n", "sluiced.conf:2: unknown option thread"),
    ("model = m\n\nthreads = two\n", "sluiced.conf:3: --threads: two is not a number"),
    ("model = m\nno-fill = perhaps\n", "sluiced.conf:2: no-fill: perhaps is neither yes nor no"),
    ("model = m\nthreads\n", "sluiced.conf:2: neither \"name = value\" nor a comment"),
    ("model = m\n= 3\n", "sluiced.conf:2: neither \"name = value\" nor a comment"),
    ("[daemon]\nmodel = m\n", "sluiced.conf:2: only the section [sluiced] is known"),
    ("model = m\nhelp = yes\n", "sluiced.conf:2: unknown option help"),
    ("model = m\nalias = " + "x" * 300 + "\n", "sluiced.conf:2: the line is too long"),
    ("model = m\nalias = x\n", "--alias has no effect without --http"),
    ("threads = 2\n", "--model FILE is missing"),
    ("model = m\nhttp = 127.0.0.1:1\n" * 9, "sluiced.conf:18: --http: at most 8"),
    ("model = m\n" * 1025, "sluiced.conf:1025: too many settings"),
    ("model = m\nhttp = 8080\n", "sluiced.conf:2: --http: 8080 is a port alone: 127.0.0.1:8080"),
    ("model = m\nhttp = http://localhost:8080\n", "sluiced.conf:2: --http: http://localhost:8080 is a URL: HOST:PORT alone is meant, such as 127.0.0.1:8080"),
    ("model = m\nhttp = here\n", "sluiced.conf:2: --http: here is not HOST:PORT, unix:PATH or systemd"),
    ("model = m\nhttp = unix:/" + "x" * 120 + "\n", "sluiced.conf:2: --http: "),
    ("model = m\npolicy = best\n", "sluiced.conf:2: --policy: no policy is called 'best'"),
    ("model = m\ncpu = avx9\n", "sluiced.conf:2: --cpu: avx9 is not one of"),
    ("model = /none/m.gguf\n", "--model /none/m.gguf: No such file"),
    (f"model = {DEMO}\nchat-template = /none\n", "--chat-template /none: No such file"),
    (f"model = {DEMO}\nslot-save-path = {DEMO}\n", "Not a directory"),
    (f"model = {DEMO}\nhttp = 0.0.0.0:1\n", "other machines can reach this address"),
    (f"model = {DEMO}\nhttp = *:1\n", "other machines can reach this address"),
    (f"model = {DEMO}\nhttp = [::]:1\n", "other machines can reach this address"),
])
def test_refused(tmp_path, text, why):
    p = sluiced("--config", write(tmp_path, text), "--check-config", check=2)
    assert why in p.stderr and not p.stdout


def test_no_fault_in_what_may_be(tmp_path):
    for text in ("http = 0.0.0.0:1\nno-auth = yes\n", "http = [::1]:1\nhttp = 127.1.2.3:1\nhttp = systemd\nhttp = unix:x\n",
                 "policy = random:7\ncpu = scalar\n"):
        assert "no fault" in sluiced("--config", write(tmp_path, f"model = {DEMO}\n{text}"), "--check-config").stdout


def test_a_model_without_its_option():
    assert "a model is given with --model FILE" in sluiced(DEMO, check=2).stderr
    assert "a model is" not in sluiced("--modle", DEMO, check=2).stderr


def test_missing_files(tmp_path):
    assert "No such file" in sluiced("--config", tmp_path / "none", "--check-config", check=2).stderr
    write(tmp_path, "model = m\n", x="queue = x\n")
    assert "conf.d/x.conf:1: --queue" in sluiced("--config", tmp_path / "sluiced.conf", check=2).stderr


def get(port, path, key=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as e:
        return e.code


def until(d, text):
    end = time.monotonic() + 60
    while text not in d.text():
        assert time.monotonic() < end, f"no {text!r} in\n{d.text()}"
        time.sleep(0.02)


def test_reload(tmp_path):
    """SIGHUP takes what the table marks, says what it leaves, and a fault leaves all as it was."""
    keys = tmp_path / "keys"
    keys.write_text("first\n")
    settings = f"http = 127.0.0.1:0\napi-key-file = {keys}\nqueue = 3\nthreads = 1\n"
    path = write(tmp_path, settings)
    with Daemon(DEMO, "--config", path) as d:
        port = re.search(r"http://127.0.0.1:(\d+)|127.0.0.1:(\d+)", d.text())
        port = next(g for g in port.groups() if g)
        assert get(port, "/v1/models", "first") == 200 and get(port, "/v1/models", "second") == 401
        keys.write_text("second\nfirst\n")
        path.write_text(settings.replace("queue = 3", "queue = 9").replace("threads = 1", "threads = 2") + "log-level = debug\n")
        d.process.send_signal(signal.SIGHUP)
        until(d, 'msg="configuration read again"')
        assert re.search(r'msg="reloaded" option=--queue from="3" to="9"', d.text())
        assert re.search(r'msg="not reloaded" option=--threads from="1" to="2" note=', d.text())
        assert get(port, "/v1/models", "second") == 200 and get(port, "/v1/models", "first") == 200
        until(d, 'msg="http request"')  # log-level came too
        path.write_text(settings.replace("queue = 3", "queue = many"))
        d.process.send_signal(signal.SIGHUP)
        until(d, 'msg="reload failed"')
        assert "sluiced.conf:3: --queue: many" in d.text()
        keys.write_text("\n")
        path.write_text(settings)
        d.process.send_signal(signal.SIGHUP)
        until(d, "holds no key")
        assert 'then="the keys are as before"' in d.text()
        assert re.search(r'msg="reloaded" option=--queue from="9" to="3"', d.text())
        assert get(port, "/v1/models", "second") == 200
        assert d.status()["state"] == "ready"


def test_signals_before_the_loop(tmp_path):
    """SIGHUP and SIGTERM that come while the daemon begins, here while it reads its configuration, wait for the loop."""
    path = tmp_path / "sluiced.conf"
    os.mkfifo(path)
    with subprocess.Popen([BUILD / "sluiced", "--model", DEMO, "--socket", tmp_path / "s", "--config", path],
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as p:
        with open(path, "w") as f:  # opened by both now
            p.send_signal(signal.SIGHUP)
            p.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            path.unlink()
            path.write_text("ctx = 512\n")  # for SIGHUP
            f.write("ctx = 512\n")
        said = p.communicate(timeout=60)[1]
    assert p.returncode == 0, (p.returncode, said)
    assert 'msg="configuration read again"' in said and 'msg="stopping" signal=15' in said


def affinity(thread):
    """None: it has ended, as the kernel's workers of io_uring do."""
    try:
        return os.sched_getaffinity(thread)
    except ProcessLookupError:
        return None


def test_cpus_of_the_whole_daemon(tmp_path):
    """--cpus keeps every thread to its list; a list of CPUs that the process may not use ends the start."""
    last = max(os.sched_getaffinity(0))
    with Daemon(DEMO, "--cpus", last) as d:
        threads = [int(t) for t in os.listdir(f"/proc/{d.process.pid}/task")]
        kept = [affinity(t) for t in threads]
        assert len(threads) >= 3 and all(a in (None, {last}) for a in kept) and kept.count({last}) >= 3, kept
        assert d.status()["limits"]["cpus"] == 1 and d.status()["threads"] == 1
    if 1023 not in os.sched_getaffinity(0):
        assert "none of the CPUs 1023" in sluiced("--model", DEMO, "--socket", tmp_path / "s", "--cpus", 1023, check=1).stderr
    assert "list of CPUs" in sluiced("--model", DEMO, "--cpus", "2-1", check=2).stderr
