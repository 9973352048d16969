# SPDX-License-Identifier: MIT
"""Description: forms over the native protocol: sluice generate --schema, --gbnf, --regex; what is refused and how; a cancel and a stopping
daemon that do not wait for a compilation."""
import json
import re
import struct
import subprocess
import time

import pytest

from daemon import DEMO, Daemon, sluice
from native import ACCEPTED, DONE, ERROR, GENERATE, TOKEN, TOKENS_IN, Client, end_of

SCHEMA, LOOSE, GBNF, REGEX = 1, 2, 3, 4
PLACE = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "n": {"type": "integer", "minimum": 1, "maximum": 99}},
         "required": ["name", "n"], "additionalProperties": False}
# compiling it takes a second or so
SLOW = "root ::= " + " | ".join(f'[^a-{chr(98 + i % 20)}] [^x]{{2,{i % 7 + 3}}} "k{i}"' for i in range(60000))


@pytest.fixture(scope="module")
def d():
    with Daemon(DEMO, "--ctx", "1024", "--parallel", "2") as daemon:
        yield daemon


def generate(c, number, form, text, ids=(1, 2, 3), max_tokens=200, padded=True, n=None):
    text = text if isinstance(text, bytes) else text.encode()
    body = struct.pack(f"<{len(ids)}I", *ids) + text + bytes(-len(text) % 4 if padded else 0)
    fixed = struct.pack("<IIQ2IfIffQII", 152, TOKENS_IN, len(body), max_tokens, 0, 1.5, 0, 0, 0, number, 0, 0)
    fixed += bytes(144 - len(fixed)) + struct.pack("<II", form, len(text) if n is None else n)
    c.send(GENERATE, number, fixed, body)


def answer(c, number):
    """(kind of the last message, text or sentence)."""
    text = b""
    while True:
        kind, n, fixed, payload = c.receive()
        assert n == number
        if kind == TOKEN:
            text += payload
        elif kind == DONE:
            return kind, text.decode(), end_of(fixed, payload)
        elif kind == ERROR:
            return kind, payload.decode(), struct.unpack_from("<I", fixed, 4)[0]
        else:
            assert kind == ACCEPTED


def ask(d, *args, check=0):
    return sluice("generate", "--socket", d.socket, "--quiet", "-n", "300", "-t", "1.5", "--seed", "7", *args, check=check)


def test_command(d, tmp_path):
    (tmp_path / "s").write_text(json.dumps(PLACE))
    (tmp_path / "g").write_text('root ::= ("a" | "b"){3}')
    value = json.loads(ask(d, "--schema", tmp_path / "s", "Paris").stdout)
    assert list(value) == ["name", "n"] and 1 <= value["n"] <= 99 and len(value["name"]) <= 12
    assert re.fullmatch("[ab]{3}", ask(d, "--gbnf", tmp_path / "g", "x").stdout.strip())
    assert ask(d, "--regex", "yes|no", "--chat", "Is it?").stdout.strip() in ("yes", "no")


def test_refused_and_loose(d, tmp_path):
    (tmp_path / "s").write_text('{"type": "string", "maxLength": 4, "not": {"const": "x"}}')
    p = ask(d, "--schema", tmp_path / "s", "x", check=None)
    assert p.returncode == 1 and "not cannot be held" in p.stderr
    assert len(json.loads(ask(d, "--schema", tmp_path / "s", "--loose", "x").stdout)) <= 4
    (tmp_path / "bad").write_text("{")
    assert "no JSON" in ask(d, "--schema", tmp_path / "bad", "x", check=None).stderr
    assert "no rule x" in ask(d, "--gbnf", write(tmp_path / "g", "root ::= x"), "x", check=None).stderr
    assert "look-around" in ask(d, "--regex", "(?=a)", "x", check=None).stderr
    for option, given in (("--schema", "/dev/null"), ("--gbnf", "/dev/null"), ("--regex", "")):
        assert f"{given or option} is empty" in ask(d, option, given, "x", check=1).stderr


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("form, text, more, code", [
    (5, "a", {}, 18), (REGEX, "", {}, 18), (0, "a", {}, 18), (REGEX, "ab", {"n": 3 << 20}, 18), (REGEX, "ab", {"padded": False}, 18),
    (REGEX, "(", {}, 18), (REGEX, "(?=a)", {}, 24), (SCHEMA, '{"not": {}}', {}, 24), (SCHEMA, b"\xff", {}, 18), (SCHEMA, "{} {}", {}, 18),
])
def test_codes(d, form, text, more, code):
    with Client(d.socket) as c:
        generate(c, 1, form, text, **more)
        assert answer(c, 1)[::2] == (ERROR, code)
        generate(c, 2, LOOSE, '{"enum": ["on", "off"]}')  # the connection goes on
        assert answer(c, 2)[1] in ('"on"', '"off"')


def test_several_at_once(d):
    """Each is answered for itself, in the order in which their forms are ready."""
    with Client(d.socket) as c:
        for i in range(1, 7):
            generate(c, i, REGEX, f"({i}|{i + 1}){{2}}")
        text, open_ = {}, set(range(1, 7))
        while open_:
            kind, n, fixed, payload = c.receive()
            assert kind in (ACCEPTED, TOKEN, DONE)
            if kind == TOKEN:
                text[n] = text.get(n, b"") + payload
            if kind == DONE:
                open_.remove(n)
        assert all(re.fullmatch(f"({i}|{i + 1}){{2}}", text[i].decode()) for i in text) and len(text) == 6


def test_an_id_that_waits_is_open(d):
    with Client(d.socket) as c:
        generate(c, 1, GBNF, SLOW[:60000].rsplit(" | ", 1)[0])
        generate(c, 1, REGEX, "a")
        kinds = [c.receive() for _ in range(2)]
        assert any(k[0] == ERROR and struct.unpack_from("<I", k[2], 4)[0] == 22 for k in kinds)


def test_cancel_does_not_wait(d):
    """The compilation alone takes long; its cancelled request ends at once. The best of some: the machine may stall."""
    with Client(d.socket) as c:
        best = 1.0
        for number in range(1, 16, 2):
            began = time.monotonic()
            memfd_generate(c, number, GBNF, SLOW)
            assert answer(c, number)[0] in (DONE, ERROR)
            whole = time.monotonic() - began
            memfd_generate(c, number + 1, GBNF, SLOW)
            time.sleep(min(whole / 4, 0.3))
            began = time.monotonic()
            c.cancel(number + 1)
            kind, _, end = answer(c, number + 1)
            took = time.monotonic() - began
            print(f"whole {whole:.2f} s, cancelled after {took * 1000:.0f} ms")
            if kind == DONE:
                assert end[0] == "cancelled" and end[3] == 0
            best = min(best, took / whole)
            if best < 0.5:
                return
        raise AssertionError(f"a cancelled compilation took {best:.2f} of a whole one")


def memfd_generate(c, number, form, text):
    """The same by a sealed memfd, as what is long travels."""
    import array
    import fcntl
    import os
    import socket
    text = text.encode()
    body = struct.pack("<3I", 1, 2, 3) + text + bytes(-len(text) % 4)
    fd = os.memfd_create("form", os.MFD_ALLOW_SEALING)
    os.write(fd, body)
    fcntl.fcntl(fd, 1033, 0x2 | 0x4 | 0x8)  # F_ADD_SEALS
    fixed = struct.pack("<IIQ2IfIffQII", 152, TOKENS_IN, len(body), 20, 0, 0, 0, 0, 0, 0, 0, 0)
    fixed += bytes(144 - len(fixed)) + struct.pack("<II", form, len(text))
    c.s.sendmsg([struct.pack("<IHHQ", 16 + len(fixed), GENERATE, 1, number) + fixed],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    os.close(fd)


def test_a_stopping_daemon_does_not_wait():
    with Daemon(DEMO, "--ctx", "512") as d, Client(d.socket) as c:
        memfd_generate(c, 1, GBNF, SLOW)
        time.sleep(0.05)
        began = time.monotonic()
        d.process.terminate()
        kind, said, code = answer(c, 1)
        assert kind == ERROR and code in (18, 21, 26) or kind == DONE, (kind, said)
        d.process.wait(60)
        print(f"stopped after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 30


def test_a_client_that_goes_leaves_nothing(d):
    for _ in range(3):
        c = Client(d.socket)
        memfd_generate(c, 1, GBNF, SLOW)
        c.s.close()
    with Client(d.socket) as c:
        generate(c, 1, REGEX, "ok")
        assert answer(c, 1)[1] == "ok"
    assert subprocess.run(["kill", "-0", str(d.process.pid)]).returncode == 0
