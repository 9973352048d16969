# SPDX-License-Identifier: MIT
"""Description: sluice top: its screens in a pipe and on a terminal of 80 columns, its keys, and a daemon that goes."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from daemon import BUILD, DEMO, Daemon, sluice


@pytest.fixture(scope="module")
def daemon():
    with Daemon(DEMO, "--threads", 1) as d:
        yield d


def work(d, n):
    return subprocess.Popen([str(BUILD / "sluice"), "generate", "--socket", d.socket, "-n", str(n), "--ignore-eog", "--prompt", "A"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_in_a_pipe(daemon):
    """Blocks of plain lines: no escapes, 80 columns; what is decoded meanwhile shows."""
    w = work(daemon, 2000)
    text = sluice("top", "--socket", daemon.socket, "-n", 4, "-i", 0.3).stdout
    w.terminate()
    w.wait(60)
    blocks = text.rstrip().split("\n\n")
    assert len(blocks) == 4 and "\033" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert max(float(re.search(r"^decode +([\d.]+) tok/s", b, re.M).group(1)) for b in blocks) > 0
    for word in ("state", "prompts", "requests", "latency", "memory", "experts", "disk"):
        assert re.search(rf"^{word} +\S", blocks[-1], re.M), blocks[-1]
    assert "experts   128 of 128 in memory, hit rate 100.0 %" in text or "filling" in text


def test_a_window_changes_nothing_in_a_pipe(daemon):
    """A look comes when it is due, not when the terminal beside has another size."""
    p = subprocess.Popen([str(BUILD / "sluice"), "top", "--socket", daemon.socket, "-n", "2", "-i", "1000"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    text = b""
    while not text.endswith(b"\n\n"):
        text += os.read(p.stdout.fileno(), 65536)
    p.send_signal(signal.SIGWINCH)
    assert not select.select([p.stdout], [], [], 0.5)[0], os.read(p.stdout.fileno(), 65536)
    p.terminate()
    p.communicate(timeout=60)


class Terminal:
    """sluice top on a terminal of its own."""

    def __init__(self, d, *args):
        self.fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(child)
        self.child = child
        self.process = subprocess.Popen([str(BUILD / "sluice"), "top", "--socket", d.socket, *map(str, args)], stdin=child,
                                        stdout=child, stderr=child, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.text = ""

    def until(self, word, timeout=60):
        end = time.monotonic() + timeout
        while word not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.fd], [], [], 0.1)[0]:
                self.text += os.read(self.fd, 65536).decode()


@pytest.mark.parametrize("key", ["q", "interrupt"])
def test_on_a_terminal(daemon, key):
    """One screen, drawn anew; q and Ctrl-C end it with success and leave the terminal as it was."""
    t = Terminal(daemon, "-i", 30)
    t.until("q ends")
    assert t.text.startswith("\033[H\033[J") and "state     ready" in t.text
    assert max(len(line) for line in t.text.replace("\033[H\033[J", "").splitlines()) <= 80
    os.write(t.fd, b"q" if key == "q" else b"\x03")
    assert t.process.wait(60) == 0
    assert termios.tcgetattr(t.child) == t.before


def test_in_a_small_window(daemon):
    """What a window has no room for is left out at the end and at the right; another size is drawn at once, not at the next look."""
    t = Terminal(daemon, "-i", 1000)
    t.until("q ends")
    t.text = ""
    fcntl.ioctl(t.child, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 20, 0, 0))
    t.until("prompts")
    os.write(t.fd, b"q")
    assert t.process.wait(60) == 0
    while select.select([t.fd], [], [], 0)[0]:
        t.text += os.read(t.fd, 65536).decode()
    screen = t.text.rpartition("\033[H\033[J")[2]
    lines = screen.splitlines()
    assert [line.split()[0] for line in lines] == ["Sluice", "state", "decode", "prompts"], t.text
    assert not screen.endswith("\n") and max(map(len, lines)) <= 20


def test_daemon_that_goes(daemon):
    with Daemon(DEMO, "--threads", 1) as d:
        p = subprocess.Popen([str(BUILD / "sluice"), "top", "--socket", d.socket, "-i", "0.1"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        assert p.stdout.readline()
        d.process.send_signal(signal.SIGTERM)
        out, err = p.communicate(timeout=60)
        assert p.returncode in (1, 3) and err.startswith("sluice top: "), err
    sluice("top", "--socket", d.socket, check=3)
