# SPDX-License-Identifier: MIT
"""What takes too long for make test, each with a target of its own:

    make test-deadlines   every deadline of HTTP at its stated time, a good client meanwhile: 80 s
    make test-kill        kill -9 at random moments, KILLS=200 times: each start is clean, the last daemon answers
    make soak             SOAK_SECONDS=3600 at the prefix cache's limit: memory within the plan, descriptors as at the start
"""
import contextlib
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from daemon import DEMO, short_dir, sluice  # noqa: E402
from http_client import HttpDaemon, post_bytes  # noqa: E402
from test_http_abuse import JSON, connect, descriptors, good, resident  # noqa: E402


def is_open(s):
    """Whether the daemon's end is (ours hears of its closing only when it has taken what lies before it)."""
    ends = [f":{port:04X}" for port in (s.getpeername()[1], s.getsockname()[1])]
    for line in open("/proc/self/net/tcp").readlines()[1:]:
        fields = line.split()
        if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
            return fields[3] == "01"  # established
    return False


def test_deadlines():
    """docs/http.md's limits: first headers 10 s, body 60 s, idle 75 s, a reader that takes nothing 30 s."""
    stream = json.dumps({"prompt": ["Once upon a time"] * 2, "n": 2, "max_tokens": 15000, "ignore_eos": True, "stream": True,
                         "logprobs": 20}).encode()
    with HttpDaemon("--ctx", "16384", "--parallel", "6") as d:
        good(d)
        before, memory, found = descriptors(d), resident(d), {}
        clients = {"headers": b"GET /health HTTP/1.1\r\nHost: x", "body": post_bytes("/v1/completions", b"{", JSON, "Content-Length: 9"),
                   "idle": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
                   "reader": post_bytes("/v1/completions", stream, JSON, f"Content-Length: {len(stream)}")}

        def watch(name, data):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", d.port))
            s.sendall(data)
            if name == "idle":
                time.sleep(0.5)
                s.recv(4096)
            start = time.monotonic()
            with contextlib.suppress(OSError):  # reset: it has no name any more
                while time.monotonic() - start < 120 and is_open(s):
                    time.sleep(0.1)
            found[name] = time.monotonic() - start
            s.close()

        threads = [threading.Thread(target=watch, args=item) for item in clients.items()]
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            good(d)
            time.sleep(1)
        print({k: round(v, 1) for k, v in found.items()})
        for name, seconds in (("headers", 10), ("reader", 30), ("body", 60), ("idle", 75)):
            late = 20 if name == "reader" else 6  # which has to be written full first
            assert seconds - 1 < found[name] < seconds + late, found
        assert resident(d) < memory + (64 << 20)
        end = time.monotonic() + 20
        while (descriptors(d) > before + 2 or d.status()["active"]) and time.monotonic() < end:
            time.sleep(0.1)
        assert descriptors(d) <= before + 2 and not d.status()["active"]


# ---- kill -9 ----

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Killed(HttpDaemon):
    """Daemons one after the other in the same folder, on the same socket and port."""

    def __init__(self, folder, port, *args):
        super().__init__("--ctx", "2048", *args, address=f"127.0.0.1:{port}")
        self.dir, self.socket, self.log = folder, os.path.join(folder, "s"), os.path.join(folder, "log")
        self.args[self.args.index("--socket") + 1] = self.socket

    def start(self):
        self.process = subprocess.Popen(self.args, stderr=open(self.log, "w"), stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def clients_until(stop, port, seed):
    """Requests without end; what a killed daemon does to them is no matter."""
    rng = random.Random(seed)
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": 100, "ignore_eos": True, "stream": True}).encode()
    while not stop.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            s.sendall(post_bytes("/v1/completions", body, JSON, "Connection: close", f"Content-Length: {len(body)}"))
            for _ in range(rng.randrange(20)):
                if not s.recv(4096):
                    break
        time.sleep(0.01)


def test_kill():
    kills = int(os.environ.get("KILLS", "200"))
    folder, port, rng, stop, ready = short_dir(), free_port(), random.Random(1), threading.Event(), 0
    threads = [threading.Thread(target=clients_until, args=(stop, port, i)) for i in range(3)]
    for t in threads:
        t.start()
    try:
        for i in range(kills):
            d = Killed(folder, port)
            d.start()
            time.sleep(rng.choice([0.05, 0.3, 1.0, 2.0]) * rng.random())
            assert d.process.poll() is None, f"start {i} ended with {d.process.returncode}:\n{d.text()}"
            ready += 'msg="ready"' in d.text() or "msg=ready" in d.text()
            d.process.kill()
            d.process.wait()
    finally:
        stop.set()
        for t in threads:
            t.join()
    print(f"{kills} kills, {ready} of them of a daemon that was ready")
    assert ready > kills // 10
    d = Killed(folder, port)
    with d:
        good(d)
        assert sorted(os.listdir(folder)) == ["log", "s"]
    assert not os.path.exists(d.socket)


# ---- an hour at the cache's limit ----

def test_soak():
    seconds, rng = int(os.environ.get("SOAK_SECONDS", "3600")), random.Random(1)
    args = ["--ctx", "4096", "--parallel", "4", "--prefix-cache", "48M"]
    plan = json.loads(sluice("plan", DEMO, *args, "--json").stdout)["tiers"]["host"]["bytes"]
    words = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text().split()
    systems = [" ".join(words[i * 50:i * 50 + 300]) for i in range(12)]
    with HttpDaemon(*args, "--queue", "64") as d:
        good(d)
        before, most, samples, counts, stop = descriptors(d), 0, [], {"answers": 0, "cached": 0, "gone": 0}, threading.Event()

        def client(seed):
            r = random.Random(seed)
            while not stop.is_set():
                talk = [{"role": "system", "content": r.choice(systems)}]
                for _ in range(r.randrange(1, 5)):
                    talk.append({"role": "user", "content": " ".join(r.choices(words, k=r.randrange(5, 120)))})
                    body = {"messages": talk, "max_tokens": r.randrange(1, 60)}
                    if r.random() < 0.2:  # gone in the middle
                        data = json.dumps({**body, "stream": True}).encode()
                        with contextlib.suppress(OSError), connect(d) as s:
                            s.sendall(post_bytes("/v1/chat/completions", data, JSON, f"Content-Length: {len(data)}"))
                            s.recv(2000)
                        counts["gone"] += 1
                        break
                    status, _, answer = d.ask("POST", "/v1/chat/completions", body, timeout=300)
                    if status != 200:
                        assert status == 400 and "context" in answer["error"]["message"], answer
                        break
                    counts["answers"] += 1
                    counts["cached"] += answer["usage"]["prompt_tokens_details"]["cached_tokens"]
                    talk.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"] or "x"})

        threads = [threading.Thread(target=client, args=(rng.random(),)) for _ in range(5)]
        for t in threads:
            t.start()
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            time.sleep(1)
            samples.append(resident(d))
            most = max(most, samples[-1])
        stop.set()
        for t in threads:
            t.join()
        tenth = max(1, len(samples) // 10)
        print(f"{seconds} s, {counts}, resident at most {most >> 20} MiB, planned {plan >> 20} MiB; mean of each tenth, MiB:",
              [sum(samples[i:i + tenth]) // len(samples[i:i + tenth]) >> 20 for i in range(0, len(samples), tenth)])
        assert counts["answers"] > seconds // 10 and counts["cached"]
        assert most < plan + (64 << 20), "what was planned, the program itself and its stacks"
        assert sum(samples[-tenth:]) / tenth < sum(samples[tenth:2 * tenth]) / tenth + (8 << 20)
        end = time.monotonic() + 20
        while descriptors(d) > before + 4 and time.monotonic() < end:
            time.sleep(0.1)
        assert descriptors(d) <= before + 4
        good(d)
