# SPDX-License-Identifier: MIT
"""Description: sluice batch: OpenAI's batch lines in and out, results that depend neither on kills nor on company, faults by
line, Ctrl-C, a daemon that goes and comes back. The job of 320 documents is tests/long/test_batch.py."""
import json
import os
import resource
import signal
import subprocess
import time

import pytest

from daemon import BUILD, DEMO, Daemon, sluice
from http_client import HttpDaemon
from native import Client

CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"


@pytest.fixture(scope="module")
def daemon():
    with Daemon(DEMO, "--threads", 1, "--ctx", 1024, "--parallel", 3) as d:
        yield d


def request(name, url=CHAT, text="Once", **body):
    ask = {"input": text} if url == RESPONSES else {"prompt": text} if url == TEXT else {"messages": [{"role": "user", "content": text}]}
    limit = "max_output_tokens" if url == RESPONSES else "max_tokens"
    return {"custom_id": name, "method": "POST", "url": url, "body": {**ask, limit: 8, "temperature": 0, **body}}


def requests(n):
    """Greedy and seeded ones, of all four kinds."""
    urls = [CHAT, TEXT, RESPONSES, MESSAGES]
    sampled = lambda i: {"temperature": 1.0, "seed": i} if i % 3 == 0 and urls[i % 4] in (CHAT, TEXT) else {}
    return [request(f"doc-{i}", urls[i % 4], f"Story number {i} " + "begins and goes on. " * 9, **sampled(i)) for i in range(n)]


def write(path, lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def batch(d, *args, check=0, **kw):
    return sluice("batch", "--socket", d.socket, *args, check=check, **kw)


def start(d, *args, **kw):
    return subprocess.Popen([str(BUILD / "sluice"), "batch", "--socket", d.socket, *map(str, args)], stderr=subprocess.PIPE, text=True, **kw)


def results(path):
    """custom_id or line -> its result."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = {r["custom_id"] or r["error"]["line"]: r for r in lines}
    assert len(found) == len(lines)
    return found


def said(result):
    """What the model said: text, why it ended, how many tokens; ids and times are of the run."""
    body = result["response"]["body"]
    if "choices" in body:
        c = body["choices"][0]
        return c.get("text") or c["message"]["content"], c["finish_reason"], body["usage"]["completion_tokens"]
    if "output" in body:
        return [p["text"] for o in body["output"] for p in o["content"]], body["status"], body["usage"]["output_tokens"]
    return body["content"], body["stop_reason"], body["usage"]["output_tokens"]


def until(path, n, p):
    """Waits until n results are there."""
    end = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < n:
        assert time.monotonic() < end and p.poll() is None, p.communicate()
        time.sleep(0.002)


def test_killed_alone_and_in_company(daemon, tmp_path):
    asked = write(tmp_path / "all.jsonl", requests(16))
    whole, alone, killed = (tmp_path / f"{name}.jsonl" for name in ("whole", "alone", "killed"))
    err = batch(daemon, asked, "-o", whole, "--ordered").stderr
    assert f"16 lines in {whole}, 0 failed" in err
    assert [json.loads(line)["custom_id"] for line in whole.read_text().splitlines()] == [f"doc-{i}" for i in range(16)]
    batch(daemon, asked, "-o", alone, "--parallel", 1)
    for n in (2, 6, 11):
        p = start(daemon, asked, "-o", killed)
        until(killed, n, p)
        p.kill()
        p.communicate()
    with open(killed, "ab") as f:
        f.write(b'{"id":"batch_req_1","custom_id":"doc-2')  # as a kill within a write leaves it
    err = batch(daemon, asked, "-o", killed).stderr
    assert "its last line was cut, 38 bytes" in err and "of 16 lines are in" in err
    want = {name: said(r) for name, r in results(whole).items()}
    assert len(want) == 16 and all(r["error"] is None and r["response"]["status_code"] == 200 for r in results(whole).values())
    assert {name: said(r) for name, r in results(alone).items()} == want
    assert {name: said(r) for name, r in results(killed).items()} == want
    before = killed.read_bytes()
    assert "16 lines" in batch(daemon, asked, "-o", killed).stderr and killed.read_bytes() == before


def test_faults_by_line(daemon, tmp_path):
    lines = [request("good", text="A"), "{not JSON", request("url", "/v1/embeddings"), request("long", text="word " * 3000),
             {"custom_id": "body", "url": CHAT}, {**request("x"), "custom_id": None}, request("stream", stream=True), "",
             request("bad", temperature="hot"), request("last", TEXT)]
    asked = write(tmp_path / "asked.jsonl", lines)
    err = batch(daemon, asked, "-q", check=1).stderr
    assert err == ""
    found = results(tmp_path / "asked.results.jsonl")
    assert set(found) == {"good", 2, "url", "long", "body", 6, "stream", "bad", "last"}
    assert all(list(r) == ["id", "custom_id", "response", "error"] for r in found.values())
    code = lambda name: found[name]["error"]["code"]
    assert (code(2), code("url"), code("body"), code(6), code("stream")) == ("invalid_json", "invalid_url", "invalid_body", "missing_custom_id", "invalid_body")
    for name in ("long", "bad"):
        assert found[name]["error"] is None and found[name]["response"]["status_code"] == 400
        assert found[name]["response"]["body"]["error"]["message"]
    for name in ("good", "last"):
        assert found[name]["response"]["status_code"] == 200 and found[name]["response"]["request_id"].startswith("req-")
    assert "9 lines" in batch(daemon, asked, check=1).stderr  # nothing is left to do, and it still did not go well


def test_a_file_from_windows(daemon, tmp_path):
    """A mark before the text, and line ends of two bytes."""
    asked = tmp_path / "asked.jsonl"
    asked.write_bytes(b"\xef\xbb\xbf" + b"".join(json.dumps(request(name, text="A")).encode() + b"\r\n" for name in ("first", "second")))
    batch(daemon, asked, "-q")
    assert {name: r["response"]["status_code"] for name, r in results(tmp_path / "asked.results.jsonl").items()} == {"first": 200, "second": 200}


def test_refusals(daemon, tmp_path):
    twice = write(tmp_path / "twice.jsonl", [request("a"), request("b"), request("a")])
    assert "line 3: its custom_id is that of line 1 already" in batch(daemon, twice, check=1).stderr
    assert not (tmp_path / "twice.results.jsonl").exists()
    one = write(tmp_path / "one.jsonl", [request("a")])
    assert "in one file" in batch(daemon, one, "-o", one, check=1).stderr
    assert "a batch needs a file" in batch(daemon, "/dev/null", check=1).stderr
    assert "a batch needs a file" in batch(daemon, one, "-o", "/dev/full", check=1).stderr
    assert "No such file" in batch(daemon, tmp_path / "none", check=1).stderr
    assert batch(daemon, check=2).stderr
    assert "--http" in sluice("batch", one, "--http", "https://x", check=2).stderr
    sluice("batch", one, "--socket", tmp_path / "none", "--wait", 0, check=3)
    sluice("batch", one, "--http", f"unix:{tmp_path}/none", "--wait", 0, check=3)
    assert results_of_nothing(tmp_path / "one.results.jsonl")
    assert "1 line in" in batch(daemon, one).stderr


def results_of_nothing(path):
    return not path.exists() or path.read_text() == ""


def test_keys_prefix_and_addresses(tmp_path):
    """Over TCP and a Unix socket with a key; over the native socket without one; without one elsewhere: 401, by line."""
    (tmp_path / "keys").write_text("# ours\nfirst-key\n")
    asked = write(tmp_path / "asked.jsonl", [request("a"), request("b", TEXT)])
    with HttpDaemon("--ctx", 512, "--api-key-file", tmp_path / "keys", "--api-prefix", "/llm", "--http", f"unix:{tmp_path}/h") as d:
        tcp = f"http://127.0.0.1:{d.port}/llm"
        for name, args in {"tcp": ("--http", tcp), "unix": ("--http", f"unix:{tmp_path}/h")}.items():
            if name == "unix":
                continue  # a Unix socket has the prefix too, which unix:PATH cannot say
            sluice("batch", asked, "-o", tmp_path / name, *args, "--api-key-file", tmp_path / "keys")
        batch(d, asked, "-o", tmp_path / "native")
        sluice("batch", asked, "-o", tmp_path / "env", "--http", tcp, env={**os.environ, "SLUICE_API_KEY": "first-key"})
        assert "API key" in sluice("batch", asked, "-o", tmp_path / "no", "--http", tcp, check=1).stderr
        sluice("batch", asked, "-o", tmp_path / "no", "--http", tcp, "--parallel", 1, check=1)
        assert all(r["response"]["status_code"] == 401 for r in results(tmp_path / "no").values())
        found = [{k: said(r) for k, r in results(tmp_path / name).items()} for name in ("tcp", "native", "env")]
        assert found[0] == found[1] == found[2] and len(found[0]) == 2
    with HttpDaemon("--ctx", 512, address=f"unix:{tmp_path}/u") as d:
        sluice("batch", asked, "-o", tmp_path / "unix", "--http", f"unix:{tmp_path}/u")
        assert {k: said(r) for k, r in results(tmp_path / "unix").items()} == found[0]


def test_interrupted(daemon, tmp_path):
    asked = write(tmp_path / "asked.jsonl", [request(str(i), TEXT, "Once", max_tokens=150, ignore_eos=True) for i in range(40)])
    out = tmp_path / "asked.results.jsonl"
    p = start(daemon, asked)
    until(out, 2, p)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and "of 40 lines are in" in err and "the same command goes on" in err
    done = out.read_text()
    assert done.endswith("\n") and 2 <= done.count("\n") < 40


def test_daemon_that_goes_and_comes_back(tmp_path):
    asked = write(tmp_path / "asked.jsonl", [request(str(i), TEXT, "Once", max_tokens=60, ignore_eos=True) for i in range(12)])
    out = tmp_path / "asked.results.jsonl"
    with Daemon(DEMO, "--threads", 1, "--ctx", 512) as d:
        p = start(d, asked)
        until(out, 2, p)
        d.process.kill()
        d.process.wait()
        with Daemon(DEMO, "--threads", 1, "--ctx", 512) as second:
            os.replace(second.socket, d.socket)
            _, err = p.communicate(timeout=60)
            assert p.returncode == 0, err
            assert len(results(out)) == 12 and len({json.dumps(said(r)) for r in results(out).values()}) == 1


def test_no_descriptors_for_more_connections(daemon, tmp_path):
    """Six are open before the first connection: two go on with all of it, and nobody takes the daemon for gone."""
    asked = write(tmp_path / "asked.jsonl", requests(12))
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
    err = batch(daemon, asked, "--parallel", 4, "--ordered", preexec_fn=limit).stderr
    assert err.splitlines()[0].startswith("12 lines in"), err
    assert len(results(tmp_path / "asked.results.jsonl")) == 12


def test_the_native_socket_gives_connections(daemon):
    """Each is its own; a client that goes cancels what it asked; an address that browsers reach is not there."""
    import array
    import socket
    with Client(daemon.socket) as c:
        ends = []
        for number in (1, 2):
            c.send(9, number, b"\x08\0\0\0\0\0\0\0")
            data, control, _, _ = c.s.recvmsg(4096, socket.CMSG_SPACE(64))
            assert data[4:8] == b"\x0c\x01\x02\x00"
            fds = array.array("i")
            fds.frombytes(control[0][2][:4])
            ends.append(socket.socket(fileno=fds[0]))
        assert [e.type for e in ends] == [socket.SOCK_STREAM] * 2
    for e in ends:  # they outlive the connection that asked for them
        e.settimeout(20)
        e.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b""
        while part := e.recv(65536):
            text += part
        assert text.startswith(b"HTTP/1.1 200") and b'"object":"list"' in text.replace(b" ", b"")
        e.close()
    with Client(daemon.socket) as c:
        c.send(9, 1, b"\x08\0\0\0\1\0\0\0")
        assert b"unknown flags" in c.until(0x1ff, 1)[1]
