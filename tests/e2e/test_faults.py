# SPDX-License-Identifier: MIT
"""Description: disks that fail, files that change, limits that bite, clients that vanish.

What must come of each is in the table of faults the project promises to survive (docs/operation.md).
"""
import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import gguf_file
import native
from daemon import BUILD, DEMO, NOBODY, ROOT, Daemon, need, sluice
from http_client import HttpDaemon, read_all

LEAST = ["--host-budget", "25%", "--no-fill"]
PROMPT = ["--chat", "--prompt", "What is the capital of France?", "--max-tokens", "24"]


@pytest.fixture(scope="session")
def helpers(tmp_path_factory):
    """Compiles the helper programs; returns their folder."""
    out = tmp_path_factory.mktemp("helpers")
    source = ROOT / "tests" / "e2e" / "helpers"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=True)
    subprocess.run(["gcc", "-O1", "-D_GNU_SOURCE", "-o", out / "no_uring", source / "no_uring.c"], check=True)
    subprocess.run(["gcc", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", out / "no_watch.so", source / "no_watch.c"],
                   check=True)
    subprocess.run(["gcc", "-O1", "-D_GNU_SOURCE", "-o", out / "faultfs", source / "faultfs.c",
                    *flags.stdout.split()], check=True)
    return out


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "model.gguf"
    shutil.copyfile(DEMO, path)
    return path


@pytest.fixture
def faulty(helpers, tmp_path):
    """(path of the model on the faulty file system, function that sets the rules)"""
    need(os.access("/dev/fuse", os.R_OK | os.W_OK), "a file system of our own needs /dev/fuse")
    mount, rules = tmp_path / "mnt", tmp_path / "rules"
    mount.mkdir()
    rules.write_text("")
    process = subprocess.Popen([helpers / "faultfs", DEMO, rules, mount, "-f"])
    end = time.monotonic() + 60
    while not (mount / "model.gguf").exists():
        assert process.poll() is None and time.monotonic() < end, "the FUSE file system did not mount"
        time.sleep(0.02)
    yield mount / "model.gguf", rules.write_text
    subprocess.run(["fusermount3", "-u", "-z", mount], check=False)
    process.terminate()
    process.wait(60)


def expert_range():
    """(offset, length) in the file of its largest tensor of experts."""
    whole = DEMO.read_bytes()
    tensor = max((t for t in gguf_file.read(DEMO).tensors if "_exps" in t.name), key=lambda t: len(t.data))
    return whole.find(tensor.data), len(tensor.data)


@pytest.mark.parametrize("io", ["uring", "pread"])
def test_unreadable_experts_fail_only_their_request(faulty, io):
    path, rules = faulty
    offset, length = expert_range()
    with Daemon(path, "--io", io, *LEAST) as d:
        good = d.generate(*PROMPT)["text"]
        rules(f"eio {offset} {length}\n")
        p = sluice("generate", "--socket", d.socket, "--json", "--prompt", "It is a truth universally acknowledged",
                   "--max-tokens", "40", check=1)
        assert json.loads(p.stdout)["stop_reason"] == "error" or "reading" in p.stderr
        assert re.search(r"expert", p.stdout + p.stderr)
        rules("")
        assert d.generate(*PROMPT)["text"] == good
        assert d.status()["state"] == "ready"


@pytest.mark.parametrize("io", ["uring", "pread"])
def test_a_passing_error_is_retried(faulty, io):
    path, rules = faulty
    offset, length = expert_range()
    rules(f"once {offset} {length}\n")
    with Daemon(path, "--io", io, *LEAST) as d:
        assert "Paris" in d.generate(*PROMPT)["text"]


@pytest.mark.parametrize("io", ["uring", "pread"])
def test_short_and_slow_reads(faulty, io):
    path, rules = faulty
    rules("short 40000\nslow 1\n")
    with Daemon(path, "--io", io, *LEAST, wait=120) as d:
        assert "Paris" in d.generate(*PROMPT)["text"]


def test_truncated_while_running(copy):
    with Daemon(copy, *LEAST) as d:
        good = d.generate(*PROMPT)["text"]
        assert "Paris" in good
        offset, _ = expert_range()
        os.truncate(copy, offset)
        failed = 0
        for prompt in ("def __init__(self", "My dear Watson,", "KING RICHARD III:", "Alice was beginning"):
            p = sluice("generate", "--socket", d.socket, "--json", "--prompt", prompt, "--max-tokens", "20", check=None)
            assert p.returncode in (0, 1)
            failed += p.returncode
            if p.returncode:
                assert "model.gguf" in p.stdout + p.stderr, "the message names the file"
        assert failed, "nothing failed although experts are gone"
        s = d.status()
        assert s["state"] == "ready"
        assert any("model.gguf" in f for f in s["fallbacks"]), "the status says that the file was cut"
        shutil.copyfile(DEMO, copy)  # the same inode, whole again


def test_renamed_over_while_running(copy):
    with Daemon(copy, *LEAST) as d:
        good = d.generate(*PROMPT)["text"]
        other = copy.with_name("other")
        other.write_bytes(b"nothing of use")
        os.rename(other, copy)
        for _ in range(2):
            assert d.generate(*PROMPT)["text"] == good
        assert d.generate("--prompt", "My dear Watson,", "--max-tokens", "20")["stop_reason"] in ("stop", "length")
        assert any("another file" in f for f in d.status()["fallbacks"]), "the status reports it"


def test_empty_hugepage_pool():
    free = int(open("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read())
    with Daemon(DEMO) as d:
        s = d.status()
        if free == 0:
            assert s["arena"] in ("thp", "4k")
            assert any("hugetlb" in f for f in s["fallbacks"])
        assert "Paris" in d.generate(*PROMPT)["text"]


def test_hugepages_are_used_where_there_are_some():
    pool = "/proc/sys/vm/nr_hugepages"
    before = open(pool).read()
    need(os.access(pool, os.W_OK), "only root may write nr_hugepages")
    try:
        open(pool, "w").write("64")
        need(int(open(pool).read()) >= 32, "the kernel gave no hugepages for the test")
        with Daemon(DEMO) as d:
            assert d.status()["arena"] == "hugetlb"
            assert "Paris" in d.generate(*PROMPT)["text"]
    finally:
        open(pool, "w").write(before)


def test_small_memlock_without_the_capability(tmp_path):
    """As a user without CAP_IPC_LOCK and with 8 MiB that may be locked: works, says what it lacks."""
    if os.getuid() != 0:
        prefix = ["prlimit", "--memlock=8388608"]
    else:
        prefix = ["prlimit", "--memlock=8388608", *NOBODY, "--inh-caps=-all", "--bounding-set=-all"]
    model = tmp_path / "model.gguf"
    shutil.copyfile(DEMO, model)
    program = shutil.copy(BUILD / "sluiced", tmp_path)
    for p in [tmp_path, *tmp_path.parents]:
        if str(p).startswith("/tmp/"):
            os.chmod(p, 0o755)
    d = Daemon(model, prefix=prefix, program=program)
    os.chmod(d.dir, 0o777)
    with d:
        assert "Paris" in d.generate(*PROMPT)["text"]
        assert d.status()["io"] == "uring"


def test_io_uring_refused(helpers):
    prefix = [str(helpers / "no_uring")]
    with Daemon(DEMO) as d:
        good = d.generate(*PROMPT)["text"]
    with Daemon(DEMO, prefix=prefix) as d:
        s = d.status()
        assert s["io"] == "pread"
        assert any("io_uring" in f for f in s["fallbacks"])
        assert d.generate(*PROMPT)["text"] == good
    p = subprocess.run([*prefix, str(BUILD / "sluiced"), "--model", DEMO, "--socket", "/tmp/none", "--io", "uring"],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 1 and "io_uring" in p.stderr


def endless(d, n=3000):
    """A client that keeps a stream open for a long time: its first request already (a warm-up would end by itself)."""
    return subprocess.Popen([str(BUILD / "sluice"), "bench", "--socket", d.socket, "-p", "0", "-n", str(n), "-r", "50",
                             "--no-warmup", "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(what, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_client_killed_in_a_stream():
    with Daemon(DEMO, "--ctx", "32768", "--parallel", "1") as d:
        client = endless(d, 32000)
        assert wait_for(lambda: d.status()["active"] == 1, 60)
        client.send_signal(signal.SIGKILL)
        client.wait()
        assert wait_for(lambda: d.status()["active"] == 0, 60)
        ends = sluice("metrics", "--socket", d.socket).stdout
        assert 'sluice_requests_total{reason="cancelled"} 1\n' in ends, "its request went on after the client was gone"
        assert "Paris" in d.generate(*PROMPT)["text"]


def test_client_stopped_in_a_stream():
    with Daemon(DEMO, "--ctx", "32768", "--parallel", "2") as d:
        client = endless(d, 32000)
        try:
            assert wait_for(lambda: d.status()["active"] == 1, 60)
            client.send_signal(signal.SIGSTOP)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:  # others are served meanwhile
                assert "Paris" in pool.submit(d.generate, *PROMPT).result(60)["text"]
            # its request may have come to its own end before, its connection never
            assert wait_for(lambda: "client dropped" in d.text(), 60), "a client that does not read keeps its place"
            assert wait_for(lambda: d.status()["active"] == 0, 60)
        finally:
            client.kill()
            client.wait()
        assert "Paris" in d.generate(*PROMPT)["text"]


def test_connections_that_the_kernel_does_not_watch(helpers, tmp_path):
    """Each is ended, and the next are served where it watches again."""
    full = tmp_path / "full"
    env = {"LD_PRELOAD": str(helpers / "no_watch.so"), "NO_WATCH": str(full),
           "ASAN_OPTIONS": os.environ["ASAN_OPTIONS"] + ":verify_asan_link_order=0"}
    with HttpDaemon(env=env) as d:
        assert d.get("/health")[0] == 200
        full.touch()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", d.port), timeout=60) as s:
                assert read_all(s) == b""
        full.unlink()
        assert d.get("/health")[0] == 200
        # the one that asks is left; those before are put away within moments
        assert wait_for(lambda: b"\nsluice_http_connections 1\n" in d.get("/metrics")[2], 60)


SLOW_MS = 4000  # of one read: what ends sooner has not waited for one


@pytest.fixture
def stuck(faulty):
    """(daemon, client, seconds) in the middle of a cold prompt of 512 tokens whose reads have just become slow."""
    path, rules = faulty
    with Daemon(path, "--ctx", "1024", *LEAST) as d, native.Client(d.socket) as c:
        rules(f"slow {SLOW_MS}\n")
        c.generate(1, [(i * 37 + 11) % 1900 for i in range(512)], 8)
        c.until(native.ACCEPTED, 1)
        end = time.monotonic() + 60
        while not d.status()["misses"]:
            assert time.monotonic() < end
            time.sleep(0.01)
        yield d, c
        rules("")


def test_cancel_in_a_cold_prompt(stuck, record_property):
    """A step of one layer's reads is not waited for: the request ends while they are still on their way."""
    d, c = stuck
    began = time.monotonic()
    c.cancel(1)
    stop, _, read, generated, _ = c.done(1)
    took = time.monotonic() - began
    record_property("milliseconds", took * 1000)
    print(f"cancelled after {took * 1000:.1f} ms, reads take {SLOW_MS} ms")
    assert (stop, read, generated) == ("cancelled", 0, 0)
    assert took < SLOW_MS / 1000 / 2


def test_sigterm_in_a_cold_prompt(stuck):
    """The request ends at once; the daemon when the reads in flight have come, and begins no other."""
    d, c = stuck
    began = time.monotonic()
    d.process.send_signal(signal.SIGTERM)
    stop, code, _, _, sentence = c.done(1)
    took = time.monotonic() - began
    print(f"ended after {took * 1000:.1f} ms, reads take {SLOW_MS} ms")
    assert (stop, code) == ("error", native.SHUTDOWN) and "stopping" in sentence
    assert took < SLOW_MS / 1000 / 2
    assert d.process.wait(60) == 0
