# SPDX-License-Identifier: MIT
"""Starts sluiced or llama.cpp's server on the same file with the same sequences and context, for clients.py."""
import http.client
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import bounds  # noqa: E402
import machine  # noqa: E402


class Server:
    """with Server(...) as s: s.host, s.port, s.ask("POST", "/tokenize", {...})"""

    host = "127.0.0.1"

    def __init__(self, limit=None, wait=900):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sluice-clients-"))
        self.limit, self.wait = limit, wait

    def __enter__(self):
        self.log = open(self.dir / "log", "w")
        self.process = subprocess.Popen([str(a) for a in self.command()], stdout=subprocess.DEVNULL, stderr=self.log,
                                        stdin=subprocess.DEVNULL, preexec_fn=self.limit.join if self.limit else None)
        end = time.monotonic() + self.wait
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.text()[-2000:]}")
            try:
                self.port = self.find_port()
                if self.port and self.ask("GET", "/health")[0] == 200 and self.is_ready():
                    return self
            except OSError:
                pass
            time.sleep(0.2)
        raise RuntimeError(f"{self.name} was not ready in {self.wait} s:\n{self.text()[-2000:]}")

    def __exit__(self, *exc):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def text(self):
        return (self.dir / "log").read_text(errors="replace")

    def is_ready(self):
        return True

    def ask(self, method, path, body=None, timeout=60):
        c = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, data

    def counters(self):
        """What the server has counted since its start (bounds.COUNTERS); None: it does not say."""
        return None

    def count(self, text):
        """How many tokens the server makes of a text."""
        return len(json.loads(self.ask("POST", "/tokenize", {"content": text})[1])["tokens"])


class Sluice(Server):
    name = "sluice"

    def __init__(self, args, **kw):
        super().__init__(**kw)
        self.args = args

    def command(self):
        a = self.args
        return [pathlib.Path(a.build) / "sluiced", "--model", a.model, "--socket", self.dir / "s", "--http", "127.0.0.1:0",
                "--threads", a.threads, "--ctx", a.ctx, "--parallel", a.parallel, "--host-budget", a.budget,
                "--queue", "1000", *a.sluice_args.split()]

    def counters(self):
        return bounds.counters(self.ask("GET", "/metrics")[1].decode())

    def io_depth(self):
        """Reads in flight at most; 0 and none: the reader's own."""
        m = re.search(r"--io-depth[ =](\d+)", self.args.sluice_args)
        return int(m.group(1)) if m and int(m.group(1)) else 32

    def find_port(self):
        m = re.search(r'msg="http" address="[^"]*:(\d+)"', self.text())
        return int(m.group(1)) if m else None

    def is_ready(self):  # as many experts in memory as may be
        p = subprocess.run([pathlib.Path(self.args.build) / "sluice", "status", "--socket", self.dir / "s", "--json"],
                           capture_output=True, text=True)
        return p.returncode == 0 and not json.loads(p.stdout)["filling"]


class Peer(Server):
    name = "llama-server"

    def __init__(self, args, **kw):
        super().__init__(**kw)
        self.args = args
        with socket.socket() as s:
            s.bind((self.host, 0))
            self.chosen = s.getsockname()[1]

    def command(self):
        a = self.args
        return [pathlib.Path(a.peer) / "llama-server", "-m", a.model, "--host", self.host, "--port", self.chosen,
                "-t", a.threads, "-c", a.ctx * a.parallel, "--parallel", a.parallel, *a.peer_args.split()]

    def find_port(self):
        return self.chosen
