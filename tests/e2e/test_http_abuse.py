# SPDX-License-Identifier: MIT
"""HTTP under bad clients: a good one is served meanwhile, and descriptors and memory come back. What takes minutes (deadlines,
kill -9, the cache at its limit) is in tests/long."""
import contextlib
import json
import os
import random
import select
import signal
import socket
import threading
import time

import pytest

from daemon import BUILD
from http_client import HttpDaemon, parse_events, post_bytes, read_all

JSON = "Content-Type: application/json"
FRANCE = {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 12}


class Count(int):
    """A number of descriptors that says in a failure's message what they are."""

    def __repr__(self):
        return f"{int(self)}: {self.names}"


def descriptors(d):
    folder, names = f"/proc/{d.process.pid}/fd", {}
    for fd in os.listdir(folder):
        with contextlib.suppress(OSError):  # closed meanwhile
            names[int(fd)] = os.readlink(f"{folder}/{fd}")
    count = Count(len(names))
    count.names = names
    return count


def resident(d):
    for line in open(f"/proc/{d.process.pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError


def mib(plain, address=None):
    """A bound in MiB as bytes. AddressSanitizer keeps what was freed for a while; ThreadSanitizer (of gcc 12) has four bytes of its own
    for each that is touched."""
    return (5 * plain if "thread" in BUILD.name else address or plain if "address" in BUILD.name else plain) << 20


def back_to(value, most, timeout=60):
    end = time.monotonic() + timeout
    while (now := value()) > most:
        assert time.monotonic() < end, (now, most)
        time.sleep(0.1)


HI = [{"role": "user", "content": "Hi"}]


def watch(d, waits, done):
    """How long /health takes, again and again."""
    while not done.is_set():
        start = time.monotonic()
        d.get("/health")
        waits.append(time.monotonic() - start)
        time.sleep(0.05)


def good(d):
    start = time.monotonic()
    assert "Paris" in d.post("/v1/completions", FRANCE)["choices"][0]["text"]
    assert d.get("/health")[0] == 200
    return time.monotonic() - start


def connect(d, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", d.port), timeout=60, source_address=(source, 0))


def is_closed(s, timeout=5):
    """Whether the daemon ends the connection within that time, with an answer before or without."""
    s.settimeout(timeout)
    try:
        while s.recv(65536):
            pass
        return True
    except socket.timeout:
        return False
    except OSError:
        return True


@contextlib.contextmanager
def peak_of(d):
    """The most memory that was resident meanwhile, beyond what was before: {"bytes": n}."""
    start, most, stop = resident(d), {"bytes": 0}, threading.Event()

    def watch():
        while not stop.wait(0.01):
            most["bytes"] = max(most["bytes"], resident(d) - start)

    thread = threading.Thread(target=watch)
    thread.start()
    yield most
    stop.set()
    thread.join()


@pytest.fixture(scope="module")
def d():
    with HttpDaemon("--ctx", "2048", "--queue", "64") as daemon:
        for _ in range(3):
            good(daemon)
        yield daemon


def test_ten_thousand_connections_with_two_thousand_held():
    with HttpDaemon("--ctx", "512") as d:
        good(d)
        before = descriptors(d)
        held = []
        for i in range(10000):  # of eight clients, so that the bound on all connections is met too
            s = connect(d, f"127.0.0.{2 + i % 8}")
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


def test_who_finds_no_descriptor_is_told():
    """A limit of 40: who comes then has an answer that clients understand, not a connection that ends without a word."""
    with HttpDaemon("--ctx", "512", prefix=["prlimit", "--nofile=40:40"]) as d:
        d.process.send_signal(signal.SIGSTOP)  # or who came before gives way to each, one by one
        held, answers, end = [connect(d) for _ in range(60)], [], time.monotonic() + 60
        d.process.send_signal(signal.SIGCONT)
        while not any(answers) and time.monotonic() < end:
            for s in select.select(held, [], [], 1)[0]:
                held.remove(s)
                answers.append(read_all(s))
                s.close()
        head, _, body = next(a for a in answers if a).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in head and b"Connection: close" in head, head
        assert f"Content-Length: {len(body)}".encode() in head
        error = json.loads(body)["error"]
        assert error["code"] == "too_many_connections" and "too many connections" in error["message"]
        assert "descriptors have run out" in d.text()
        for s in held:
            s.close()
        good(d)


def test_the_last_descriptor_is_no_refusal():
    """accept() without a free descriptor fails also where nobody stands at the door."""
    with HttpDaemon("--ctx", "512", prefix=["prlimit", "--nofile=40:40"]) as d:
        held, gone = [], []
        while not gone:  # until one gives way: then the last descriptor has been used
            held.append(connect(d))
            gone = select.select(held, [], [], 0.05)[0]
        assert read_all(gone[0]) == b""
        assert "refused" not in d.text()
        for s in held:
            s.close()
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


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("tokens", [1500, 2])
def test_ended_streams_leave_no_descriptors_beside_an_older_connection(d, version, tokens):
    """What the library closes in the middle of an answer, or at the end of one without chunks, it forgets."""
    with connect(d) as older:
        older.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert older.recv(4096).startswith(b"HTTP/1.1 200")
        before = descriptors(d)
        body = json.dumps({"prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True, "stream": True}).encode()
        whole = post_bytes("/v1/completions", body, JSON, f"Content-Length: {len(body)}").replace(b"HTTP/1.1", version)
        for _ in range(16):
            with connect(d) as s:
                s.sendall(whole)
                s.recv(100)
        back_to(lambda: descriptors(d), before + 4)
        assert older.send(b"GET") == 3


def test_an_end_that_is_seen_before_the_request_cancels_it(d):
    """All bytes and the end at once: the daemon may see the end first."""
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": 1900, "ignore_eos": True}).encode()
    whole = post_bytes("/v1/completions", body, JSON, f"Content-Length: {len(body)}")
    began = d.status()["tokens_generated"]
    for _ in range(30):
        with connect(d) as s:
            s.sendall(whole)
    back_to(lambda: d.status()["active"] + d.status()["waiting"], 0)
    assert d.status()["tokens_generated"] - began < 30 * 1900 / 2  # a second of them at the most, unless the machine stalls


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


# ---- slow and half-closed ----

HELD = {
    "headers": b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "body": post_bytes("/v1/completions", b'{"prompt":"', JSON, "Content-Length: 100000"),
    "chunks": post_bytes("/v1/completions", b'5\r\n{"pro\r\n', JSON, "Transfer-Encoding: chunked"),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HELD)
def test_slow_requests_keep_nobody_out(d, kind):
    """More of them than a client may have connections, each with a byte now and then; the good client has the same address."""
    before, held = descriptors(d), []
    for i in range(600):
        s = connect(d)
        s.sendall(HELD[kind])
        held.append(s)
        if i % 150 == 149:
            for other in held:
                with contextlib.suppress(OSError):
                    other.send(b"x")
            good(d)
    assert descriptors(d) < before + 300
    for s in held:
        s.close()
    back_to(lambda: descriptors(d), before + 4)
    good(d)


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\n", HELD["body"], HELD["chunks"]],
                         ids=["nothing", "line", "headers", "body", "chunks"])
def test_half_closed_connections_are_ended(d, sent):
    before, held = descriptors(d), []
    for _ in range(50):
        s = connect(d)
        s.sendall(sent)
        s.shutdown(socket.SHUT_WR)
        held.append(s)
    assert all(is_closed(s) for s in held)
    good(d)
    for s in held:
        s.close()
    back_to(lambda: descriptors(d), before + 4)


def test_descriptors_run_out():
    """A daemon that may have 150 of them: it neither turns about its listener nor keeps a good client out."""
    with HttpDaemon("--ctx", "512", prefix=["/bin/bash", "-c", 'ulimit -n 150; exec "$@"', "bash"]) as d:
        good(d)
        d.filled()
        before, held = descriptors(d), []
        for i in range(400):
            s = connect(d)
            with contextlib.suppress(OSError):
                s.sendall(HELD["headers"])
            held.append(s)
        ticks = sum(map(int, open(f"/proc/{d.process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
        time.sleep(1)
        spent = sum(map(int, open(f"/proc/{d.process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])) - ticks
        assert spent < os.sysconf("SC_CLK_TCK") // 2, f"{spent} ticks in a second of doing nothing"
        end = time.monotonic() + 60  # the first to come may be sent away: somebody idle gave way for the next
        while True:
            try:
                good(d)
                break
            except OSError:
                assert time.monotonic() < end
        for s in held:
            s.close()
        back_to(lambda: descriptors(d), before + 4)
        assert "descriptors have run out" in d.text()


# ---- large and broken bodies ----

def pour(s, part, total):
    """Sends @part over and over; the bytes that went before the daemon had enough."""
    sent = 0
    try:
        while sent < total:
            sent += s.send(part)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize("headers, part", [
    (("Content-Length: 1073741824",), b" " * 65536),
    (("Transfer-Encoding: chunked",), b"10000\r\n" + b" " * 65536 + b"\r\n"),
    (("Transfer-Encoding: chunked",), b"1\r\n \r\n" * 4096),
], ids=["length", "chunks", "chunks of a byte"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_body_of_a_gigabyte_is_refused(d, method, headers, part):
    with peak_of(d) as most, connect(d) as s:
        s.sendall(post_bytes("/v1/completions", b"", JSON, *headers).replace(b"POST", method.encode()))
        assert pour(s, part, 1 << 30) < 400 << 20
        assert is_closed(s)
    assert most["bytes"] < mib(100, address=250)
    good(d)


def test_large_bodies_of_many_are_bounded_together(d):
    """16 clients that each send 31 MiB and do not end: the largest of them go, and a good one is served."""
    part = b" " * (1 << 20)
    with peak_of(d) as most:
        held = [connect(d) for _ in range(16)]
        for s in held:
            s.settimeout(5)
            s.sendall(post_bytes("/v1/completions", b"", JSON, f"Content-Length: {32 << 20}"))
        for s in held:
            pour(s, part, 31 << 20)
        good(d)
        for s in held:
            s.close()
    assert 100 << 20 < most["bytes"] < mib(400)
    back_to(lambda: resident(d), resident(d))
    good(d)


PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/completions", "/completion",
         "/apply-template", "/tokenize", "/detokenize"]
BROKEN = [
    b"[" * 100000, b'{"a":' * 100000, b'{"messages":' + b"[" * 127 + b"]" * 127 + b"}", b'{"prompt":"' + b"\\" * 100001,
    b'{"prompt":"\xc0\xaf","messages":"\xff"}', b'{"\xed\xa0\x80":1}', b'{"prompt":"\xf5\x80\x80\x80"}',
    b'{"messages":[{"role":"user","content":"\xe2\x82"}]}', b'{"max_tokens":' + b"9" * 100000 + b"}", b'{"a":"\x00"}',
    b"\xef\xbb\xbf{}", b'{"prompt":{"a":[{}]},"messages":{"a":1},"input":{"x":1},"content":[[]],"tokens":{"b":2}}',
    b'{"messages":[{"role":"user","content":[{"type":"text","text":{"text":1}}]}],"prompt":[[[1]]],"input":[[1]]}',
    b'{"messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":[1]}}]}],"tools":[{"type":"function"}]}',
    b'{"prompt":"\xc0\xaf","max_tokens":1}', b'{"prompt":"\xed\xa0\x80","max_tokens":1}',
    b'{"messages":[[]],"tools":[[]],"prompt":[null],"input":[null],"content":null,"tokens":[null]}',
]


def is_utf8(body):
    with contextlib.suppress(UnicodeDecodeError):
        return body.decode() is not None
    return False


@pytest.mark.parametrize("path", PATHS)
def test_broken_bodies_at_every_path(d, path):
    for body in BROKEN:
        status, _, answer = d.ask("POST", path, body, {"Content-Type": "application/json"})
        assert status == 400 or (status == 200 and is_utf8(body)), (body[:50], answer)
        assert status == 200 or answer["error"]["message"], (body[:50], answer)
    good(d)


def test_chats_beyond_any_context_are_read_and_called_too_long(d):
    """Many system messages become one text: in a time that grows with them alone, or the worker's deadline comes."""
    many = {"messages": [{"role": "system", "content": "You help."}] * 300000 + [{"role": "user", "content": "Hi"}]}
    for body in (many, {"messages": [{"role": "user", "content": "a " * 4000000}]}):
        error = d.post("/v1/chat/completions", {**body, "max_tokens": 1}, check=400)["error"]
        assert error["type"] == "exceed_context_size_error" and error["code"] == "context_length_exceeded", error
    good(d)


def test_text_that_is_all_values_does_not_become_gigabytes(d):
    for inside in (b"0," * (15 << 20), b"[]," * (10 << 20), b'{"a":1},' * (3 << 20)):
        with peak_of(d) as most:
            status, _, answer = d.ask("POST", "/v1/completions", b'{"prompt":[' + inside[:-1] + b"]}",
                                      {"Content-Type": "application/json"})
        assert status == 413 and "values" in answer["error"]["message"]
        assert most["bytes"] < mib(150)
    good(d)


def test_a_million_variables_are_refused_and_a_million_values_hold_nobody_up(d):
    """Each rendering copied all of them; letting go of them was the loop's work."""
    many = {f"key{i}": i for i in range(1000000)}
    error = d.post("/v1/chat/completions", {"messages": HI, "max_tokens": 1, "chat_template_kwargs": many}, check=400)["error"]
    assert error["param"] == "chat_template_kwargs" and error["message"].endswith("at most 1024 members"), error
    for body in ({"messages": HI, "chat_template_kwargs": {"x": many}}, {"messages": [{**HI[0], "x": many}]}):
        waits, done = [], threading.Event()
        other = threading.Thread(target=lambda: watch(d, waits, done))
        other.start()
        assert d.post("/v1/chat/completions", {**body, "max_tokens": 1})["choices"]
        done.set()
        other.join()
        assert sorted(waits)[len(waits) // 2] < 1, waits
    good(d)


# ---- what proxies and we could read differently ----

GOOD = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("hosts", (["localhost", "evil.example"], ["evil.example", "localhost"], ["localhost", "localhost"]), ids="-".join)
def test_a_request_has_one_host(d, hosts):
    """RFC 9112, 3.2: 400. The first alone was looked at."""
    answer = d.raw(b"GET /v1/models HTTP/1.1\r\n" + b"".join(b"Host: %s\r\n" % h.encode() for h in hosts) + b"\r\n" + GOOD)
    assert answer.startswith(b"HTTP/1.1 400") and b"one Host" in answer and answer.count(b"HTTP/1.1 ") == 1, answer


@pytest.mark.parametrize("head", [
    ["Content-Length: 5", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", "Content-Length: 5"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: identity"],
    ["Transfer-Encoding: gzip, chunked"],
    ["Transfer-Encoding: chunked, identity"],
    ["Transfer-Encoding: \x0bchunked"],
    ["Content-Length: 5", "Content-Length: 5"],
    ["Content-Length: 5, 5"],
    ["Content-Length: +5"],
    ["Content-Length: -1"],
    ["Content-Length: 0x5"],
    ["Content-Length: 5 5"],
    ["Content-Length: 18446744073709551621"],
    ["Content-Length: 99999999999999999999999"],
    ["Content-Length:"],
    ["Content-Length : 5"],
    ["Content-Length\t: 5"],
    ["Transfer-Encoding : chunked"],
])
def test_a_length_that_can_be_read_in_two_ways_is_refused(d, head):
    """Nothing behind such a request is taken for another one."""
    answer = d.raw(post_bytes("/v1/completions", b"0\r\n\r\n" + GOOD, JSON, *head))
    # (libmicrohttpd's own answers have their head twice: docs/http.md)
    assert answer.startswith(b"HTTP/1.1 4") and b"HTTP/1.1 2" not in answer and b'"status":"ok"' not in answer, answer
    assert answer.count(b"HTTP/1.1 ") == 1 or b"<html>" in answer, answer
    assert b"connection: close" in answer.lower(), answer


@pytest.mark.parametrize("chunks", [b"-1\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"5;" + b"x" * 60000 + b"\r\n", b"zz\r\n\r\n",
                                    b"7fffffffffffffff\r\n" + b" " * 1000], ids=["minus", "huge", "extension", "none", "endless"])
def test_broken_chunks_end_the_connection(d, chunks):
    with connect(d) as s:
        s.sendall(post_bytes("/v1/completions", chunks, JSON, "Transfer-Encoding: chunked"))
        s.shutdown(socket.SHUT_WR)
        assert is_closed(s)
    good(d)


def test_oversize_headers_one_by_one_and_together(d):
    for extra in (["X-A: " + "a" * 100000], [f"X-{i}: {'b' * 60}" for i in range(3000)], ["A" * 100000 + ": 1"]):
        with connect(d) as s:
            with contextlib.suppress(OSError):
                s.sendall(post_bytes("/v1/completions", b"{}", JSON, "Content-Length: 2", *extra))
            assert is_closed(s)
    with connect(d) as s:
        with contextlib.suppress(OSError):
            s.sendall(b"GET /" + b"x" * 200000 + b" HTTP/1.1\r\n\r\n")
        assert is_closed(s)
    good(d)


# ---- keep-alive and pipelining ----

def test_pipelined_generations_are_answered_in_order(d):
    texts = []
    with connect(d) as s:
        for n in (1, 2, 3, 4, 5):
            body = json.dumps({**FRANCE, "max_tokens": n}).encode()
            s.sendall(post_bytes("/v1/completions", body, JSON, f"Content-Length: {len(body)}"))
        s.sendall(GOOD)
        answer = read_all(s).decode()
    for part in answer.split("HTTP/1.1 200 OK")[1:]:
        texts.append(json.loads(part.split("\r\n\r\n", 1)[1]))
    assert [t["usage"]["completion_tokens"] for t in texts[:-1]] == [1, 2, 3, 4, 5] and texts[-1] == {"status": "ok"}


def test_one_connection_of_thousands_of_requests(d):
    before, memory = descriptors(d), resident(d)
    ask = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(d) as s:
        for _ in range(40):
            s.sendall(ask * 100)
            got = b""
            while got.count(b"HTTP/1.1 200") < 100 or not got.endswith(b"]}"):
                part = s.recv(1 << 20)
                assert part
                got += part
        good(d)
    with connect(d) as s:  # and one that asks without end and reads nothing
        s.settimeout(2)
        assert pour(s, ask * 100, 64 << 20) < 32 << 20
        good(d)
    assert resident(d) < memory + mib(32, address=150)
    back_to(lambda: descriptors(d), before + 4)


# ---- beside a long prompt ----

def beside(d, s):
    """Questions one after another until @s gives data: (what @s gave, seconds of each question, silences). Of each silence of
    @s its seconds, and those of the longest round of questions in it: how late this busy machine let us and the daemon be."""
    got, times, silences, rounds, last = b"", [], [], [], time.monotonic()
    s.settimeout(0.0001)
    while b"data: " not in got:
        start = time.monotonic()
        for path in ("/health", "/props", "/slots", "/metrics"):
            began = time.monotonic()
            assert d.get(path)[0] == 200
            times.append(time.monotonic() - began)
        with contextlib.suppress(socket.timeout):
            part = s.recv(65536)
            assert part, got
            got += part
            silences.append((time.monotonic() - last, max(rounds + [time.monotonic() - start])))
            rounds, last = [], time.monotonic()
            continue
        rounds.append(time.monotonic() - start)
    return got, times, silences


def test_questions_are_answered_beside_a_long_prompt_and_the_stream_shows_life():
    """/health and the like within 50 ms (their median here: this machine may be busy); a comment in the stream as soon as it
    was silent for a second. That is due within one round of questions, of which each wakes the daemon, and seen in another."""
    with HttpDaemon("--ctx", "8192", "--parallel", "2", "--sse-ping", "1") as d:
        good(d)
        body = json.dumps({"prompt": [17 + i % 199 for i in range(8000)], "max_tokens": 4, "stream": True, "cache_prompt": False}).encode()
        with connect(d) as s:
            s.sendall(post_bytes("/v1/completions", body, JSON, "Connection: close", f"Content-Length: {len(body)}"))
            got, times, silences = beside(d, s)
            s.settimeout(60)
            got += read_all(s)
        assert b"[DONE]" in got
        assert all(seconds < 1 + 2 * late for seconds, late in silences), silences
        assert sorted(times)[len(times) // 2] < 0.05, (silences, len(times), sorted(times)[-5:])
        assert parse_events(got.split(b"\r\n\r\n", 1)[1].decode(errors="replace")) is not None
