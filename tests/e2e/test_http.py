# SPDX-License-Identifier: MIT
"""HTTP: what is answered, how it is worded, and what is refused. docs/http.md says the same in words."""
import concurrent.futures
import contextlib
import ctypes
import gzip
import json
import os
import pathlib
import platform
import re
import signal
import socket
import struct
import subprocess
import time
import urllib.parse

import pytest

from daemon import BUILD, DEMO, sluice
from http_client import HttpDaemon, parse_events, post_bytes, read_all

FRANCE = {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 12}
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def d():
    with HttpDaemon("--ctx", "2048", "--alias", "demo", "--queue", "8", "--sse-ping", "1") as daemon:
        yield daemon


def error_of(answer):
    error = answer["error"]
    assert {"message", "type", "code", "param"} <= set(error)
    return error


# ---- questions about the daemon ----

def test_health_and_models(d):
    assert d.get("/health")[::2] == (200, {"status": "ok"})
    model = d.get("/v1/models")[2]["data"][0]
    assert model["id"] == "demo" and model["max_model_len"] == 2048
    assert set(model["meta"]) == {"n_ctx", "n_ctx_train", "n_vocab", "n_embd", "n_params", "size"}
    assert model["architecture"] == {"input_modalities": ["text"], "output_modalities": ["text"]}
    assert d.get("/models")[2]["data"][0]["meta"] == model["meta"]
    props = d.get("/props")[2]
    assert props["default_generation_settings"]["n_ctx"] == 2048 and props["total_slots"] == 4
    assert props["model_path"] == str(DEMO) and props["modalities"] == {"vision": False, "audio": False}
    assert "chat_template" in props and "chat_template_caps" in props and props["build_info"]
    params = props["default_generation_settings"]["params"]
    assert params["dry_base"] == 1.75 and params["dry_allowed_length"] == 2 and params["dry_penalty_last_n"] == -1
    assert params["dry_sequence_breakers"] == ["\n", ":", '"', "*"]
    assert [s["id"] for s in d.get("/slots")[2]] == [0, 1, 2, 3]


def test_a_model_by_its_name(d):
    (model,) = d.get("/v1/models")[2]["data"]
    assert d.get("/v1/models/demo")[::2] == d.get("/models/d%65mo")[::2] == (200, model)
    status, headers, body = d.ask("HEAD", "/v1/models/demo")
    assert status == 200 and body == b"" and int(headers["content-length"]) > 0
    for name in ("other", "demo/", "Demo", "x/demo", "a%22b"):
        status, _, answer = d.get("/v1/models/" + name)
        error = error_of(answer)
        assert status == 404 and urllib.parse.unquote(name) in error["message"] and "demo" in error["message"]
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "model_not_found", "model")
    assert d.ask("HEAD", "/v1/models/other")[::2] == (404, b"")
    assert error_of(d.get("/v1/models/")[2])["code"] is None and d.get("/v1/modelsdemo")[0] == 404
    for method in ("DELETE", "PUT"):
        assert d.ask(method, "/v1/models/demo")[1]["allow"] == "GET"
    status, headers, _ = d.ask("POST", "/v1/models/demo", {"x": 1})
    assert status == 405 and headers["allow"] == "GET"


def test_the_loop_comes_first(d):
    """Where this process may ask for it: the threads that serve clients are run before those that compute."""
    tasks = pathlib.Path(f"/proc/{d.process.pid}/task")
    nice = {(t / "comm").read_text().strip(): int((t / "stat").read_text().rsplit(")", 1)[1].split()[16]) for t in tasks.iterdir()}
    limit = re.search(r"Max nice priority +(\d+)", pathlib.Path("/proc/self/limits").read_text())
    may = int(re.search(r"CapEff:\t(\w+)", pathlib.Path("/proc/self/status").read_text()).group(1), 16) >> 23 & 1
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if may or 20 - int(limit.group(1)) <= own - 10:
        assert nice["sluiced"] == max(-20, own - 10)
    assert nice["sluice-engine"] == own


def slice_ns(tid):
    """The time slice of a thread, as sched_getattr(2) tells it on x86-64 from Linux 6.12 on; else 0."""
    attr = ctypes.create_string_buffer(48)
    if platform.machine() != "x86_64" or ctypes.CDLL(None).syscall(315, tid, attr, len(attr), 0):
        return 0
    return struct.unpack_from("=Q", attr, 24)[0]


def test_the_loop_has_short_slices(d):
    """No permission is needed for that: who sleeps most of the time has its turn before those that compute."""
    tasks = pathlib.Path(f"/proc/{d.process.pid}/task")
    engine = next(int(t.name) for t in tasks.iterdir() if (t / "comm").read_text().strip() == "sluice-engine")
    if not slice_ns(engine):
        pytest.skip("this kernel tells no time slices")
    assert slice_ns(d.process.pid) == 100000 < slice_ns(engine)


def test_uses_of_experts(d):
    d.post("/v1/completions", FRANCE)
    said = d.get("/experts")[2]
    assert said["n_expert"] == 32 and [row["layer"] for row in said["layers"]] == [0, 1, 2, 3]
    sums = [sum(row["uses"]) for row in said["layers"]]
    assert all(len(row["uses"]) == 32 for row in said["layers"]) and sums[0] % said["n_expert_used"] == 0
    assert sums[0] >= said["n_expert_used"] * 5 and len(set(sums)) == 1


def test_metrics_are_prometheus_text(d):
    status, headers, text = d.get("/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r'[a-z_:][a-z0-9_:]*(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [-+0-9.e]+$')
    lines = text.decode().splitlines()
    assert all(line.startswith("# ") or sample.match(line) for line in lines)
    assert any(line.startswith("sluice_http_requests_total ") for line in lines)
    assert any(line.startswith("sluice_memory") or "node=" in line for line in lines)


def test_head_options_and_ids(d):
    status, headers, body = d.ask("HEAD", "/health")
    assert status == 200 and body == b"" and int(headers["content-length"]) > 0
    status, headers, _ = d.ask("OPTIONS", "/v1/models")
    assert status == 204 and "access-control-allow-origin" not in headers
    assert d.get("/health", **{"X-Request-Id": "mine-1"})[1]["x-request-id"] == "mine-1"
    other = d.get("/health", **{"X-Request-Id": "not good\t"})[1]["x-request-id"]
    assert other.startswith("req-") and len(other) > 20


# ---- completions ----

def test_completion_of_text_ids_and_lists(d):
    text = d.post("/v1/completions", FRANCE)
    assert text["object"] == "text_completion" and text["model"] == "demo"
    choice = text["choices"][0]
    assert "Paris" in choice["text"] and choice["finish_reason"] == "stop" and choice["logprobs"] is None
    usage = text["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= 0
    assert text["timings"]["prompt_n"] + text["timings"]["cache_n"] == usage["prompt_tokens"]

    ids = json.loads(subprocess.run([BUILD / "sluice", "tokenize", "--socket", d.socket, "--json", FRANCE["prompt"]],
                                    capture_output=True, text=True, check=True).stdout)
    ids = ids["tokens"] if isinstance(ids, dict) else ids
    for prompt in (ids, [ids], [FRANCE["prompt"]], [*ids[:-1], " is"]):
        answer = d.post("/v1/completions", {**FRANCE, "prompt": prompt})
        assert answer["choices"][0]["text"] == choice["text"], prompt
    many = d.post("/v1/completions", {**FRANCE, "prompt": [FRANCE["prompt"], "The capital of Italy is"], "n": 2})
    assert [c["index"] for c in many["choices"]] == [0, 1, 2, 3]
    assert many["choices"][1]["text"] == choice["text"] and "Rome" in many["choices"][2]["text"]
    echo = d.post("/v1/completions", {**FRANCE, "echo": True})
    assert echo["choices"][0]["text"] == FRANCE["prompt"] + choice["text"]


def test_completion_stream_is_the_same_text(d):
    whole = d.post("/v1/completions", FRANCE)
    events = [e for _, e in d.stream("/v1/completions", {**FRANCE, "stream_options": {"include_usage": True}})]
    assert events[-1] == "[DONE]" and events[-2]["choices"] == []
    assert events[-2]["usage"] == whole["usage"]
    assert all(e["usage"] is None for e in events[:-2])
    assert "".join(e["choices"][0]["text"] for e in events[:-2]) == whole["choices"][0]["text"]
    assert [e["choices"][0]["finish_reason"] for e in events[:-2]][-1] == "stop"
    assert len({e["id"] for e in events[:-1]}) == 1


def test_native_fields(d):
    answer = d.post("/completion", {**FRANCE, "n_predict": 3, "return_tokens": True})
    assert answer["stop"] and answer["stop_type"] == "limit" and len(answer["tokens"]) == 3
    assert answer["tokens_predicted"] == 3 and answer["tokens_evaluated"] == answer["timings"]["prompt_n"] + \
        answer["timings"]["cache_n"] and answer["prompt"] == FRANCE["prompt"]
    assert "tokens_cached" in answer and not answer["truncated"]
    answer = d.post("/completion", {**FRANCE, "stop": ["Paris"]})
    assert answer["stop_type"] == "word" and answer["stopping_word"] == "Paris" and answer["content"].strip() == ""
    events = [e for _, e in d.stream("/completion", FRANCE)]
    assert events[-1]["stop"] and events[-1]["stop_type"] == "eos" and not events[0]["stop"]
    assert "Paris" in "".join(e["content"] for e in events)
    assert len(d.post("/completion", {**FRANCE, "n_predict": 2, "n_cmpl": 3})) == 3


@pytest.mark.parametrize("stop", ["aris", "Par", ["zzz", " Paris."], "ris."])
def test_stop_strings_over_tokens(d, stop):
    whole = d.post("/v1/completions", FRANCE)["choices"][0]["text"]
    first = min(whole.find(s) for s in ([stop] if isinstance(stop, str) else stop) if s in whole)
    assert d.post("/v1/completions", {**FRANCE, "stop": stop})["choices"][0]["text"] == whole[:first]
    events = [e for _, e in d.stream("/v1/completions", {**FRANCE, "stop": stop})][:-1]
    assert "".join(e["choices"][0]["text"] for e in events) == whole[:first]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_length_and_seed(d):
    one = d.post("/v1/completions", {**FRANCE, "max_tokens": 2})
    assert one["choices"][0]["finish_reason"] == "length" and one["usage"]["completion_tokens"] == 2
    ask = {"prompt": "Once upon a time", "max_tokens": 20, "temperature": 1.5, "seed": 7}
    assert d.post("/v1/completions", ask)["choices"] == d.post("/v1/completions", ask)["choices"]


def test_seeds(d):
    """64 bits; a double that is whole counts as such, -1 is a new one."""
    of = lambda text: d.ask("POST", "/completion", '{"prompt": "x", "n_predict": 1, "seed": %s}' % text, {"Content-Type": "application/json"})[2]
    for text in ("42", "42.0", "4.2e1", "18446744073709551615", "-9223372036854775808", "-2"):
        assert of(text)["generation_settings"]["seed"] == int(float(text) if "." in text else text) % 2**64
    new = [of(text)["generation_settings"]["seed"] for text in ("-1", "-1.0", "null")]
    assert len(set(new)) == 3 and max(new) < 2**32  # as JavaScript's numbers can hold it
    for text in ("18446744073709551616", "-9223372036854775809", "1e30", "0.5", '"42"', "true", "[1]"):
        assert error_of(of(text))["param"] == "seed", text


# ---- refusals ----

@pytest.mark.parametrize("body, param", [
    ({"max_tokens": 3}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [1, 99999999]}, "prompt"),
    ({"prompt": "x", "temperature": "hot"}, "temperature"),
    ({"prompt": "x", "temperature": -1}, "temperature"),
    ({"prompt": "x", "top_p": 2}, "top_p"),
    ({"prompt": "x", "n": 0}, "n"),
    ({"prompt": "x", "n": 1000}, "n"),
    ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
    ({"prompt": "x", "stream": "yes"}, "stream"),
    ({"prompt": "x", "stop": 3}, "stop"),
    ({"prompt": "x", "stop": ["a"] * 100}, "stop"),
    ({"prompt": "x", "stream_options": 1}, "stream_options"),
    ({"prompt": "x", "response_format": {"type": "xml"}}, "response_format"),
    ({"prompt": "x", "suffix": "y"}, "suffix"),
    ({"prompt": "x", "id_slot": -2}, "id_slot"),
    ({"prompt": "x", "id_slot": "1"}, "id_slot"),
])
def test_bad_fields_are_named(d, body, param):
    error = error_of(d.post("/v1/completions", body, check=400))
    assert error["type"] == "invalid_request_error" and error["param"] == param and param in error["message"]


@pytest.mark.parametrize("body", [
    b"", b"{", b"[1]", b'"x"', b'{"prompt":"x"} y', b'{"prompt":"x","temperature":NaN}', b'{"prompt":"x","seed":1e999}',
    b'{"prompt":"\xff\xfe"}', b"[" * 5000, b'{"a":' * 5000, b'{"prompt":"x\x00y"}',
])
def test_bad_json_is_refused(d, body):
    status, _, answer = d.ask("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    assert status == 400 and error_of(answer)["type"] == "invalid_request_error"


def test_numbers_and_surrogates_that_are_json_are_taken(d):
    body = b'{"prompt":"The \\ud800 sky","max_tokens":1,"temperature":1e-1,"seed":18446744073709551615,"zzz":null}'
    status, _, answer = d.ask("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    assert status == 200, answer


def test_too_long_says_both_numbers(d):
    error = error_of(d.post("/v1/completions", {"prompt": [5] * 3000, "max_tokens": 1}, check=400))
    assert error["type"] == "exceed_context_size_error" and error["code"] == "context_length_exceeded"
    assert error["n_prompt_tokens"] == 3000 and error["n_ctx"] == 2048
    assert "exceeds the available context size" in error["message"]
    assert "maximum context length is 2048 tokens" in error["message"]


def test_paths_and_methods(d):
    assert error_of(d.get("/nope")[2])["type"] == "not_found_error"
    status, headers, answer = d.get("/v1/completions")
    assert status == 405 and headers["allow"] == "POST" and error_of(answer)["param"] is None
    assert d.ask("DELETE", "/health")[0] == 405
    for path in ("/v1/embeddings", "/rerank", "/v1/reranking", "/infill"):
        assert error_of(d.post(path, {"input": "x"}, check=501))["message"]
    status, _, answer = d.ask("POST", "/v1/completions", b"prompt=x", {"Content-Type": "application/x-www-form-urlencoded"})
    assert status == 415 and error_of(answer)
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    status, _, answer = d.ask("POST", "/v1/completions", gzip.compress(b'{"prompt": "x", "max_tokens": 1}'), packed)
    assert status == 415 and "gzip" in error_of(answer)["message"]


def test_hosts_and_origins(d):
    for host in ("localhost", f"127.0.0.1:{d.port}", "[::1]:1", "a.localhost"):
        assert d.get("/health", Host=host)[0] == 200, host
    for host in ("evil.example", "localhost.evil.example", ""):
        status, _, answer = d.get("/health", Host=host)
        assert status == 403 and error_of(answer)["type"] == "permission_error", host
    assert d.get("/health", Origin=f"http://localhost:{d.port}", Host=f"localhost:{d.port}")[0] == 200
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        assert d.get("/health", Origin=origin)[0] == 403, origin


@pytest.mark.parametrize("headers", [
    [JSON, "Content-Length: 2", "Transfer-Encoding: chunked"],
    [JSON, "Content-Length: 2", "Content-Length: 2"],
    [JSON, "Content-Length: 2", "Content-Length: 3"],
])
def test_two_lengths_are_refused(d, headers):
    answer = d.raw(post_bytes("/v1/completions", b"{}", *headers))
    assert answer.startswith(b"HTTP/1.1 400") and b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_sizes(d):
    answer = d.raw(post_bytes("/v1/completions", b"", JSON, "Content-Length: 1000000000"))
    assert answer.startswith(b"HTTP/1.1 413") and b'"error"' in answer
    answer = d.raw(post_bytes("/v1/completions", b"", JSON, "X-Big: " + "x" * 30000))
    assert answer.startswith(b"HTTP/1.1 431")
    with socket.create_connection(("127.0.0.1", d.port), timeout=20) as s:
        s.sendall(post_bytes("/v1/completions", b"", JSON, "Transfer-Encoding: chunked"))
        part = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(700):
                s.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = read_all(s)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")
    assert d.get("/health")[0] == 200


# ---- clients that come and go ----

def wait_idle(d):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        s = d.status()
        if not s["active"] and not s["waiting"]:
            return True
        time.sleep(0.05)
    return False


LONG = {"prompt": "Once upon a time", "max_tokens": 1900, "temperature": 0.8, "seed": 1, "ignore_eos": True}


def cancelled(d):
    """Requests that ended so since the start."""
    return int(re.search(r'^sluice_requests_total{reason="cancelled"} (\d+)$', sluice("metrics", "--socket", d.socket).stdout, re.M)[1])


def is_cancelled_by(d, leave, stream=False):
    """Where the machine stalls an answer may come to its end before its client has gone: again then."""
    body = json.dumps({**LONG, "stream": stream}).encode()
    for _ in range(8):
        before, began = cancelled(d), d.status()["tokens_generated"]
        with socket.create_connection(("127.0.0.1", d.port), timeout=60) as s:
            s.sendall(post_bytes("/v1/completions", body, JSON, f"Content-Length: {len(body)}"))
            end = time.monotonic() + 60
            while d.status()["tokens_generated"] == began and time.monotonic() < end:
                time.sleep(0.01)
            leave(s)
            assert wait_idle(d)
        if cancelled(d) > before:
            return True
    return False


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_is_cancelled(d, stream):
    assert is_cancelled_by(d, lambda s: s.close(), stream)


def test_a_client_that_half_closes_is_cancelled(d):
    assert is_cancelled_by(d, lambda s: s.shutdown(socket.SHUT_WR))


def test_queue_is_bounded(d):
    """4 sequences and 8 in the queue: of 30 at once some are told to come again, the others are answered."""
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda i: d.ask("POST", "/v1/completions", {**LONG, "max_tokens": 300}), range(30)))
    counts = [a[0] for a in answers]
    assert set(counts) == {200, 429} and counts.count(200) >= 12
    refused = next(a for a in answers if a[0] == 429)
    assert int(refused[1]["retry-after"]) > 0 and error_of(refused[2])["type"] == "rate_limit_error"


def test_a_balancer_learns_that_no_slot_is_free(d):
    """?fail_on_no_slot=1 is 503 while all four slots compute (eight requests more wait for them); the plain question is answered."""
    ask, body = "/slots?fail_on_no_slot=1", json.dumps({**LONG, "stream": True}).encode()
    assert d.get(ask)[0] == 200
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            s = stack.enter_context(socket.create_connection(("127.0.0.1", d.port), timeout=300))
            s.sendall(post_bytes("/v1/completions", body, JSON, f"Content-Length: {len(body)}"))
        end = time.monotonic() + 60
        while (answer := d.get(ask))[0] == 200 and time.monotonic() < end:
            time.sleep(0.01)
        assert answer[0] == 503 and error_of(answer[2])["type"] == "unavailable_error"
        assert d.get("/slots?fail_on_no_slot=0")[0] == d.get("/slots")[0] == 200
    assert wait_idle(d) and d.get(ask)[0] == 200


def test_many_idle_connections_keep_nobody_out(d):
    held = [socket.create_connection(("127.0.0.1", d.port)) for _ in range(400)]
    assert "Paris" in d.post("/v1/completions", FRANCE)["choices"][0]["text"]
    for s in held:
        s.close()
    assert d.get("/health")[0] == 200


def test_keep_alive_and_pipelining(d):
    c = d.connect()
    for _ in range(3):
        c.request("POST", "/v1/completions", json.dumps(FRANCE), {"Content-Type": "application/json"})
        assert "Paris" in json.loads(c.getresponse().read())["choices"][0]["text"]
    c.close()
    get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert d.raw(get + get + last).count(b'{"status":"ok"}') == 3


def test_targets(d):
    """RFC 9112, 3.2.2: a server takes what is asked of a proxy. A path that ends amid itself is none."""
    host = f"HTTP/1.1\r\nHost: localhost:{d.port}\r\nConnection: close\r\n\r\n"
    for target in ("/health", f"http://localhost:{d.port}/health", "HTTP://localhost/health?x=1", "/%68ealth"):
        assert d.raw(f"GET {target} {host}".encode()).endswith(b'{"status":"ok"}'), target
    assert b"<html" in d.raw(f"GET http://localhost:{d.port} {host}".encode())
    for target in ("/health%00", "/health%00x", "http:/health", "http://localhost/none", "ftp://localhost/health"):
        assert d.raw(f"GET {target} {host}".encode()).startswith(b"HTTP/1.1 404 "), target


def test_a_body_that_waits_is_not_asked_for_in_vain(d):
    """RFC 9110, 10.1.1: a final answer stands for 100 where the headers are refused already."""
    def head(path, kind, *more):
        return post_bytes(path, b"", f"Content-Type: {kind}", "Content-Length: 30", "Expect: 100-continue", *more)

    for status, bytes_ in ((415, head("/v1/completions", "text/plain")), (404, head("/v1/none", "application/json")),
                           (403, head("/v1/completions", "application/json", "Origin: http://evil.example"))):
        answer = d.raw(bytes_)
        assert answer.startswith(b"HTTP/1.1 %d " % status) and b"Connection: close" in answer, answer
    with socket.create_connection(("127.0.0.1", d.port), timeout=20) as s:
        s.sendall(head("/v1/completions", "application/json"))
        assert s.recv(1000).startswith(b"HTTP/1.1 100 ")


def test_slow_headers_are_cut_off(d):
    with socket.create_connection(("127.0.0.1", d.port), timeout=60) as s:
        start = time.monotonic()
        s.settimeout(0.5)
        s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        while time.monotonic() - start < 60:
            try:
                s.sendall(b"X: y\r\n")
                if s.recv(100) == b"":
                    break
            except socket.timeout:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
        assert 8 < time.monotonic() - start < 60


# ---- keys, prefix, addresses ----

def test_keys_and_prefix(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# ours\nalpha-key\n\nbeta-key\n")
    with HttpDaemon("--ctx", "512", "--api-key-file", keys, "--api-prefix", "/llm", "--alias", "org/a b", "--cors-origin",
                    "https://chat.example.org", "--allow-host", "box.lan", address="0.0.0.0:0") as d:
        assert d.get("/llm/health")[0] == 200 and d.get("/health")[0] == 404
        assert d.get("/llm/health", Host="box.lan:80")[0] == 200 and d.get("/llm/health", Host="box")[0] == 403
        for headers in ({}, {"Authorization": "Bearer alpha"}, {"x-api-key": "alpha-key2"}, {"Authorization": "alpha-key"}):
            status, got, answer = d.get("/llm/v1/models", **headers)
            assert status == 401 and error_of(answer)["code"] == "invalid_api_key" and "www-authenticate" in got
            for name in ("org/a%20b", "other"):
                assert d.get("/llm/v1/models/" + name, **headers)[0] == 401
            assert d.ask("POST", "/llm/v1/completions", FRANCE, headers)[0] == 401
        for headers in ({"Authorization": "Bearer alpha-key"}, {"x-api-key": "beta-key"}):
            assert d.get("/llm/v1/models", **headers)[0] == 200
            for name in ("org/a%20b", "org%2Fa%20b", "org%2fa%20b"):
                assert d.get("/llm/v1/models/" + name, **headers)[2]["id"] == "org/a b"
            assert d.get("/llm/v1/models/org", **headers)[0] == d.get("/v1/models/org/a%20b", **headers)[0] == 404
        status, got, _ = d.ask("OPTIONS", "/llm/v1/completions", headers={"Origin": "https://chat.example.org"})
        assert status == 204 and got["access-control-allow-origin"] == "https://chat.example.org"
        assert "authorization" in got["access-control-allow-headers"].lower()
        asked = {"Origin": "https://chat.example.org", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-stainless-lang"}
        assert d.ask("OPTIONS", "/llm/v1/completions", headers=asked)[1]["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
        status, got, _ = d.ask("OPTIONS", "/llm/v1/completions", headers={**asked, "Origin": "https://other.example.org"})
        assert status == 403 and "access-control-allow-headers" not in got
        got = d.get("/llm/health", Origin="https://chat.example.org")[1]
        assert got["access-control-allow-origin"] == "https://chat.example.org" and got["vary"] == "Origin"
        assert d.get("/llm/health", Origin="https://other.example.org")[0] == 403


def run_refused(*args):
    p = subprocess.run([BUILD / "sluiced", "-m", DEMO, "-s", "/tmp/none/none", *args], capture_output=True, text=True,
                       timeout=30)
    assert p.returncode in (1, 2), p.stderr
    return p.stderr


def test_addresses_that_are_refused(tmp_path):
    sock = ["-s", str(tmp_path / "s")]
    assert "--no-auth" in run_refused(*sock, "--http", "0.0.0.0:0")
    assert "HOST:PORT" in run_refused(*sock, "--http", "here")
    assert "service manager" in run_refused(*sock, "--http", "systemd")
    assert "--api-prefix" in run_refused(*sock, "--http", "127.0.0.1:0", "--api-prefix", "x")
    assert "--api-key-file" in run_refused(*sock, "--http", "127.0.0.1:0", "--api-key-file", "/nowhere")
    (tmp_path / "f").write_text("x")
    assert "is not a socket" in run_refused(*sock, "--http", f"unix:{tmp_path}/f")


def test_unix_socket_and_activation(tmp_path):
    path = tmp_path / "h"
    with HttpDaemon("--ctx", "512", address=f"unix:{path}") as d:
        p = subprocess.run(["curl", "-sS", "--unix-socket", str(path), "http://any/v1/completions", "-H", JSON, "-d",
                            json.dumps(FRANCE)], capture_output=True, text=True, timeout=30, check=True)
        assert "Paris" in json.loads(p.stdout)["choices"][0]["text"]
        assert oct(path.stat().st_mode & 0o777) == "0o660"
    assert not path.exists()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(8)
        script = 'exec 3<&%d; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"' % s.fileno()
        with PassingDaemon(s, script) as d:
            assert d.get("/health")[0] == 200


class PassingDaemon(HttpDaemon):
    """A daemon that inherits a listening socket as a service manager would hand it over."""

    def __init__(self, s, script):
        os.set_inheritable(s.fileno(), True)
        super().__init__("--ctx", "512", address="systemd", prefix=["/bin/bash", "-c", script, "bash"])
        self.fd = s.fileno()

    def __enter__(self):
        popen = subprocess.Popen
        try:
            subprocess.Popen = lambda *a, **kw: popen(*a, pass_fds=[self.fd], **kw)
            return super().__enter__()
        finally:
            subprocess.Popen = popen


def test_sigterm_drains():
    with HttpDaemon("--ctx", "2048", "--drain", "20") as d:
        c = d.connect()
        c.request("POST", "/v1/completions", json.dumps({**LONG, "max_tokens": 700}), {"Content-Type": "application/json"})
        end = time.monotonic() + 60
        while not d.status()["tokens_generated"] and time.monotonic() < end:
            time.sleep(0.01)
        d.process.send_signal(signal.SIGTERM)
        answer = json.loads(c.getresponse().read())
        assert answer["usage"]["completion_tokens"] == 700
        assert d.process.wait(60) == 0
    with HttpDaemon("--ctx", "16384", "--drain", "0") as d:
        c = d.connect()
        c.request("POST", "/v1/completions", json.dumps({**LONG, "max_tokens": 16000, "stream": True}),
                  {"Content-Type": "application/json"})
        r = c.getresponse()
        d.process.send_signal(signal.SIGTERM)
        events = [e for _, e in parse_events(r.read().decode())]
        assert "error" in events[-2] and events[-1] == "[DONE]"
        assert d.process.wait(60) == 0
