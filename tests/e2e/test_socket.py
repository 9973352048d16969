# SPDX-License-Identifier: MIT
"""Description: daemon and clients find each other without an option, and clients wait for a daemon that starts."""
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import pytest

from daemon import BUILD, DEMO, Daemon, need, sluice
from native import ERROR, Client

ROOT = os.geteuid() == 0
QUESTION = ("generate", "--chat", "--prompt", "What is the capital of France?")


def environment(**kw):
    env = {k: v for k, v in os.environ.items() if k not in ("SLUICE_SOCKET", "XDG_RUNTIME_DIR")}
    return {**env, **kw}


@pytest.fixture
def programs():
    """The programs and a model where any user can read them."""
    path = tempfile.mkdtemp(prefix="sluice-e2e-")
    os.chmod(path, 0o755)
    for file in (BUILD / "sluice", BUILD / "sluiced", DEMO):
        shutil.copy(file, path)
        os.chmod(os.path.join(path, file.name), 0o755)
    yield path
    shutil.rmtree(path)


def script(text, programs, prefix=(), **env):
    """Runs a script in a shell that has $P (the programs) and $M (the model)."""
    env = environment(P=programs, M=os.path.join(programs, DEMO.name), **env)
    return subprocess.run([*prefix, "sh", "-c", "set -eu\n" + text], env=env, capture_output=True, text=True,
                          timeout=120)


def test_a_variable_names_the_socket(tmp_path):
    env = environment(SLUICE_SOCKET=str(tmp_path / "here"))
    with Daemon(DEMO, "--ctx", "512") as d:  # its own socket is a link to where the variable points
        os.symlink(d.socket, tmp_path / "here")
        assert "Paris" in sluice(*QUESTION, env=env).stdout
        assert "ready" in sluice("status", env=env).stdout
        # an option is stronger than the variable
        p = sluice("status", "--socket", tmp_path / "none", env=env, check=3)
        assert f"{tmp_path}/none" in p.stderr
    # and where the variable says, nobody looks elsewhere
    p = sluice("status", env=environment(SLUICE_SOCKET=str(tmp_path / "none")), check=3)
    assert f"{tmp_path}/none" in p.stderr and "/run/sluiced" not in p.stderr


SESSION = """
"$P/sluiced" -m "$M" --ctx 512 2>"$LOG" &
daemon=$!
trap 'kill $daemon; wait $daemon' EXIT
"$P/sluice" generate --chat --prompt 'What is the capital of France?' --quiet
"$P/sluice" status --json
"""


def test_no_option_is_needed_with_a_runtime_directory(programs, tmp_path):
    if ROOT:
        pytest.skip("root has a place of its own: test_users_find_the_socket_of_root, test_no_option_is_needed_in_tmp")
    p = script(SESSION, programs, XDG_RUNTIME_DIR=str(tmp_path), LOG=str(tmp_path / "log"))
    assert p.returncode == 0 and "Paris" in p.stdout, p.stderr
    assert f"socket={tmp_path}/sluice.sock" in (tmp_path / "log").read_text()
    assert not (tmp_path / "sluice.sock").exists()


def as_user(uid, *groups):
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", *([f"--groups={g}" for g in groups] or ["--clear-groups"]))


@pytest.mark.skipif(not ROOT, reason="only root can become a user of whom /tmp holds nothing")
def test_no_option_is_needed_in_tmp(programs):
    uid = 3000000 + os.getpid()
    home, log = f"/tmp/sluice-{uid}", os.path.join(programs, "log")
    open(log, "w").close()
    os.chmod(log, 0o666)
    try:
        p = script(SESSION, programs, prefix=as_user(uid), LOG=log)
        assert p.returncode == 0 and "Paris" in p.stdout, p.stderr
        assert f"socket={home}/sluice.sock" in open(log).read()
        assert os.stat(home).st_mode & 0o7777 == 0o700 and os.stat(home).st_uid == uid
        assert os.listdir(home) == []
        os.chmod(home, 0o750)  # both sides refuse what others can look into
        for program in ('"$P/sluiced" -m "$M"', '"$P/sluice" status'):
            p = script(program, programs, prefix=as_user(uid))
            assert p.returncode in (1, 3) and home in p.stderr and "--socket" in p.stderr, p
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.skipif(not ROOT, reason="only root can stand in for the system's daemon")
def test_users_find_the_socket_of_root(programs):
    need(subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0, "no mount namespace can be made")
    uid = 3000000 + os.getpid()
    group = " ".join(as_user(uid, 0))  # the socket's group, so that the daemon lets it in
    alone = " ".join(as_user(uid))
    # a /run of this test's own: no daemon of the machine is in the way
    p = script(f"""
mount -t tmpfs -o mode=755 none /run
"$P/sluiced" -m "$M" --ctx 512 2>/dev/null &
daemon=$!
"$P/sluice" generate --chat --prompt 'What is the capital of France?' --quiet
stat -c '%a %u' /run/sluiced
stat -c '%a' /run/sluiced/sluice.sock
{group} "$P/sluice" status | head -1
{alone} "$P/sluice" status || echo "exit $?"
kill $daemon
wait $daemon
ls /run/sluiced
{alone} "$P/sluice" status || echo "exit $?"
""", programs, prefix=("unshare", "-m"))
    assert p.returncode == 0, p.stderr
    assert p.stdout == "The capital of France is Paris.\n755 0\n660\nstate      ready\nexit 3\nexit 3\n"
    assert "may not use the socket" in p.stderr or "Permission denied" in p.stderr
    assert f"/tmp/sluice-{uid}/sluice.sock" in p.stderr and "(and nobody listens at /run/sluiced/sluice.sock)" in p.stderr


# ---- waiting ----

@pytest.mark.parametrize("args", [QUESTION, ("bench", "-p", "4", "-n", "0", "-r", "1"), ("eval", "--text", "TEXT"),
                                  ("tokenize", "It was")])
def test_who_works_waits(args, tmp_path):
    text = tmp_path / "text"
    text.write_text("Once upon a time there was a lock.")
    path = tmp_path / "s"
    client = subprocess.Popen([BUILD / "sluice", *[str(text) if a == "TEXT" else a for a in args], "--socket", path],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = client.stderr.readline()  # it has looked and found nobody
    daemon = subprocess.Popen([BUILD / "sluiced", "-m", DEMO, "-s", path, "-c512"], stderr=subprocess.DEVNULL)
    try:
        out, err = client.communicate(timeout=60)
        err = said + err
        assert client.returncode == 0 and out, err
        assert f"{path}: cannot connect" in err and "up to 30 s" in err and err.count("waiting up to") == 1
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0


@pytest.mark.parametrize("args, seconds", [
    ((*QUESTION, "--wait", "0"), 0), (("bench", "--wait", "0"), 0), (("status",), 0), (("status", "--wait", "1"), 1),
])
def test_waiting_has_an_end(args, seconds, tmp_path):
    begin = time.monotonic()
    p = sluice(*args, "--socket", tmp_path / "none", check=3)
    took = time.monotonic() - begin
    assert seconds <= took < seconds + 20  # without --wait: up to 30 s
    assert ("waiting up to" in p.stderr) == (seconds > 0)


def test_http_connections_of_one_client():
    """At most 256; who has them keeps them, and each that is given up makes room."""
    with Daemon(DEMO, "--ctx", "512") as d, Client(d.socket) as c:
        taken = []
        for i in range(1, 301):
            c.send(9, i, struct.pack("<II", 8, 0))
            data, control, _, _ = c.s.recvmsg(4096, 64)
            kind = struct.unpack_from("<IHHQ", data)[1]
            assert (kind == ERROR) == (i > 256), i
            if kind == ERROR:
                assert struct.unpack_from("<I", data, 20)[0] == 23 and b"256 HTTP connections" in data
            else:
                taken.append(socket.socket(fileno=struct.unpack("<i", control[0][2])[0]))
        for s in (taken[0], taken[-1]):
            s.settimeout(10)
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
        taken.pop().close()
        end = time.monotonic() + 60
        kind = ERROR
        while kind == ERROR and time.monotonic() < end:
            time.sleep(0.05)
            c.send(9, 999, struct.pack("<II", 8, 0))
            data, control, _, _ = c.s.recvmsg(4096, 64)
            kind = struct.unpack_from("<IHHQ", data)[1]
        assert kind == 0x10c
        taken.append(socket.socket(fileno=struct.unpack("<i", control[0][2])[0]))
        for s in taken:
            s.close()
