# SPDX-License-Identifier: MIT
"""HTTP under bad clients: a good one is served meanwhile, and descriptors and memory come back."""
import json
import os
import random
import socket
import time

from http_client import HttpDaemon, post_bytes, read_all

JSON = "Content-Type: application/json"
FRANCE = {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 12}


def descriptors(d):
    return len(os.listdir(f"/proc/{d.process.pid}/fd"))


def resident(d):
    for line in open(f"/proc/{d.process.pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError


def back_to(value, most, timeout=20):
    end = time.monotonic() + timeout
    while value() > most and time.monotonic() < end:
        time.sleep(0.1)
    assert value() <= most, (value(), most)


def good(d):
    start = time.monotonic()
    assert "Paris" in d.post("/v1/completions", FRANCE)["choices"][0]["text"]
    assert d.get("/health")[0] == 200
    return time.monotonic() - start


def connect(d):
    return socket.create_connection(("127.0.0.1", d.port), timeout=20)


def test_ten_thousand_connections_with_two_thousand_held():
    with HttpDaemon("--ctx", "512") as d:
        good(d)
        before = descriptors(d)
        held = []
        for i in range(10000):
            s = connect(d)
            if i % 5 == 0:
                s.sendall(b"GET /health HTTP/1.1\r\nHost: x")  # never finished
                held.append(s)
            else:
                s.close()
            if i % 2500 == 0:
                good(d)
        good(d)
        for s in held:
            s.close()
        back_to(lambda: descriptors(d), before + 4)
        good(d)


def test_abandoned_broken_and_endless_requests():
    rng = random.Random(7)
    long = json.dumps({"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "stream": True}).encode()
    whole = post_bytes("/v1/completions", long, JSON, f"Content-Length: {len(long)}")
    chat = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1500, "ignore_eos": True}).encode()
    whole_chat = post_bytes("/v1/chat/completions", chat, JSON, f"Content-Length: {len(chat)}")
    with HttpDaemon("--ctx", "2048", "--queue", "200") as d:
        for _ in range(3):
            good(d)
        before, memory = descriptors(d), resident(d)
        for i in range(150):
            s = connect(d)
            data = rng.choice([whole, whole_chat])
            kind = i % 5
            if kind == 0:  # gone at once
                s.sendall(data)
            elif kind == 1:  # gone in the middle of the request
                s.sendall(data[:rng.randrange(1, len(data))])
            elif kind == 2:  # gone in the middle of the answer
                s.sendall(data)
                s.settimeout(0.2)
                try:
                    s.recv(100)
                except socket.timeout:
                    pass
            elif kind == 3:  # bytes that are none of HTTP's
                s.sendall(bytes(rng.randrange(256) for _ in range(200)) + b"\r\n\r\n")
            else:  # a changed request
                changed = bytearray(data)
                for _ in range(5):
                    changed[rng.randrange(len(changed))] = rng.randrange(256)
                s.sendall(bytes(changed))
            s.close()
            if i % 30 == 0:
                good(d)
        back_to(lambda: d.status()["active"] + d.status()["waiting"], 0)
        good(d)
        back_to(lambda: descriptors(d), before + 4)
        assert resident(d) < memory + (64 << 20)


def test_a_reader_that_does_not_read_harms_nobody():
    body = json.dumps({"prompt": ["Once upon a time"] * 2, "n": 2, "max_tokens": 900, "ignore_eos": True, "stream": True,
                       "timings_per_token": True}).encode()
    with HttpDaemon("--ctx", "2048", "--queue", "64") as d:
        good(d)
        memory = resident(d)
        slow = []
        for _ in range(4):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", d.port))
            s.sendall(post_bytes("/v1/completions", body, JSON, "Connection: close", f"Content-Length: {len(body)}"))
            slow.append(s)
        time.sleep(1)
        assert resident(d) < memory + (64 << 20)
        assert d.get("/health")[0] == 200
        slow[0].settimeout(60)
        assert b"[DONE]" in read_all(slow[0])[-200:]  # one that reads after all gets everything
        for s in slow[1:]:
            s.close()
        back_to(lambda: d.status()["active"] + d.status()["waiting"], 0)
        good(d)
