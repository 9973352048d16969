# SPDX-License-Identifier: MIT
"""The real daemon and the real command, for tests: start, ask, stop. Standard library and numpy only.

BUILD (default build) says where the programs are. Files of the tests lie in tests/data; the wide matrix of fixtures and
the published traces lie in SHARED (default ../shared), which a clone need not have: what needs them is skipped by name,
or fails where NEED_SHARED is set, as in continuous integration.
"""
import atexit
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("ASAN_OPTIONS", "detect_stack_use_after_return=0")  # gcc bug 110027, see tests/run.sh
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
if not BUILD.is_absolute():
    BUILD = ROOT / BUILD
SHARED = pathlib.Path(os.environ.get("SHARED", ROOT.parent / "shared"))
if not SHARED.is_absolute():
    SHARED = ROOT / SHARED
FIXTURES = SHARED / "fixtures"
DEMO = ROOT / "models" / "demo-moe-q4_k_m.gguf"


DATA = ROOT / "tests" / "data"
# How many times as long daemons may take to start, to answer and to stop: programs made with sanitizers, a busy machine
PATIENCE = float(os.environ.get("PATIENCE") or 1)


def need_shared(name="fixtures"):
    """The path of a file or folder of SHARED; the test that asks is skipped, and counted, where it is missing."""
    path = SHARED / name
    if not path.exists():
        if os.environ.get("NEED_SHARED", "0") not in ("", "0"):
            pytest.fail(f"{path} is missing: set SHARED to the folder that holds it")
        pytest.skip(f"needs {name} of SHARED, which is not here")
    return path


def need(may, why):
    """Skips the test that asks, by name, where this user or machine lacks something; fails with NEED_ROOT=1 (CI)."""
    if not may:
        if os.environ.get("NEED_ROOT", "0") not in ("", "0"):
            pytest.fail(why)
        pytest.skip(why)


def fixture(name):
    """The path of a fixture ("dense/dense-q4_k_m.gguf"): in tests/data if it is there, else in SHARED."""
    path = DATA / name
    return path if path.exists() else need_shared(f"fixtures/{name}")


def reference(name, whole=True):
    """(what is known of a model, its reference logits): all positions where SHARED is there, else (or if not @whole) the
    first 64, which tests/data has. Logits have a row for each of the first positions of "tokens"."""
    import numpy
    wide = FIXTURES / f"{name}.json"
    path = wide if whole and wide.exists() else fixture(f"{name}.json")
    return json.load(open(path)), numpy.load(path.with_suffix(".npy"))


def cpu_levels():
    flags = set()
    for line in open("/proc/cpuinfo"):
        if line.startswith("flags"):
            flags = set(line.split(":")[1].split())
            break
    levels = ["scalar"]
    if {"avx2", "fma", "f16c"} <= flags:
        levels.append("avx2")
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"} <= flags:
        levels.append("avx512")
    return levels


def sluice(*args, check=0, timeout=120, **kw):
    """Runs build/sluice; returns the CompletedProcess. check: the exit status it must have (None: any)."""
    p = subprocess.run([str(BUILD / "sluice"), *map(str, args)], capture_output=True, text=True,
                       timeout=timeout * PATIENCE, **kw)
    assert check is None or p.returncode == check, f"sluice {args}: exit {p.returncode}\n{p.stdout}\n{p.stderr}"
    return p


# Runs what stands behind it as a user who may do nothing. A clone below /root is closed to that user: copies run.
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def short_dir():
    """A new folder with a short path, as sockets need one; gone when the test run ends, however its daemons did."""
    path = tempfile.mkdtemp(prefix="sluice-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


class Daemon:
    """with Daemon(model, "--threads", "1") as d: d.generate(...)"""

    def __init__(self, model, *args, env=None, prefix=(), wait=120, program=None):
        self.dir = short_dir()
        self.socket = os.path.join(self.dir, "s")
        self.log = os.path.join(self.dir, "log")
        self.args = [*prefix, str(program or BUILD / "sluiced"), "--model", str(model), "--socket", self.socket, *map(str, args)]
        self.env = {**os.environ, **(env or {})}
        self.wait = wait * PATIENCE

    def start(self):
        self.process = subprocess.Popen(self.args, stderr=open(self.log, "w"), stdout=subprocess.DEVNULL,
                                        stdin=subprocess.DEVNULL, env=self.env)

    def __enter__(self):
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:  # whatever it was: nobody else would end it
            self.process.kill()
            self.process.wait()
            raise
        return self

    def wait_until_ready(self):
        end = time.monotonic() + self.wait
        while time.monotonic() < end:
            assert self.process.poll() is None, f"sluiced ended with {self.process.returncode}:\n{self.text()}"
            if os.path.exists(self.socket):
                p = sluice("status", "--socket", self.socket, "--json", check=None)
                if p.returncode == 0 and json.loads(p.stdout)["state"] == "ready":
                    return
            time.sleep(0.02)
        raise AssertionError(f"sluiced was not ready in {self.wait} s:\n{self.text()}")

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"sluiced did not stop within {60 * PATIENCE:g} s of SIGTERM:\n" + self.text())
            code, log = self.process.returncode, self.text()
            shutil.rmtree(self.dir, ignore_errors=True)
            assert exc[0] or code == 0, f"sluiced ended with {code}:\n{log}"

    def text(self):
        return open(self.log).read()

    def status(self):
        return json.loads(sluice("status", "--socket", self.socket, "--json").stdout)

    def filled(self, timeout=120):
        """Waits for the background fill to end; returns the status."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            s = self.status()
            if s["state"] == "ready" and not s["filling"]:
                return s
            time.sleep(0.05)
        raise AssertionError(f"still filling after {timeout} s")

    def generate(self, *args, check=0, **kw):
        return json.loads(sluice("generate", "--socket", self.socket, "--json", *args, check=check, **kw).stdout)

    def generate_ids(self, ids, *args):
        return self.generate("--prompt-tokens", json.dumps(list(ids)), *args)

    def eval_ids(self, ids, *args, **kw):
        """(json, logits) of scoring the ids; @kw: as sluice()."""
        import numpy
        tokens, out = os.path.join(self.dir, "tokens.json"), os.path.join(self.dir, "logits.npy")
        json.dump(list(map(int, ids)), open(tokens, "w"))
        p = sluice("eval", "--socket", self.socket, "--tokens", tokens, "--perplexity", "--dump-logits", out,
                   "--json", *args, **kw)
        return json.loads(p.stdout), numpy.load(out)
