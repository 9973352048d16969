# SPDX-License-Identifier: MIT
"""Description: sluice chat: turns that begin with what is known, in a pipe and on a terminal: editing, Ctrl-C, commands, history,
text that would steer the terminal."""
import contextlib
import fcntl
import http.server
import itertools
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

from daemon import BUILD, DEMO, Daemon, sluice

FIRST = "What is the capital of France?"
PARIS = "The capital of France is Paris."


@pytest.fixture(scope="module")
def daemon():
    with Daemon(DEMO, "--threads", 1, "--ctx", 2048) as d:
        yield d


def chat(d, text, *args, check=0):
    return sluice("chat", "--socket", d.socket, *args, input=text, check=check)


def figures(err):
    """(tokens of the prompt, of them known) of each answer."""
    return [(int(a), int(b or 0)) for a, b in re.findall(r"prompt (\d+) tokens(?:, ([1-9]\d*) of them known)?, first", err)]


def test_in_a_pipe(daemon, tmp_path):
    """Two turns; the second begins with the first, which is known. Saved, loaded, cleared."""
    saved = tmp_path / "talk.json"
    settings = ("--set", "temperature=0", "--set", "max_tokens=24")
    p = chat(daemon, f'{FIRST}\nAnd of\\\nItaly? {FIRST * 6}\nAnd?\n/save {saved}\n', *settings)
    assert p.stdout.startswith(PARIS + "\n") and "\033" not in p.stdout + p.stderr
    (n1, _), (n2, _), (n3, known) = figures(p.stderr)
    assert n1 < n2 < n3 and known >= n2 * 0.8, p.stderr
    talk = json.loads(saved.read_text())
    assert [m["role"] for m in talk["messages"]] == ["user", "assistant"] * 3
    assert talk["messages"][2]["content"].startswith("And of\nItaly? What") and talk["system"] is None
    assert talk["params"] == {"temperature": 0, "max_tokens": 24} and talk["messages"][1]["content"] == PARIS
    again = chat(daemon, '"""\nMore\nof it\n"""\n/save ' + str(saved) + "\n", "--load", saved, "-q", "--system", "Be terse.")
    assert not figures(again.stderr)
    talk = json.loads(saved.read_text())
    assert len(talk["messages"]) == 8 and talk["messages"][6]["content"] == "More\nof it" and talk["system"] == "Be terse."
    assert "a new conversation" in chat(daemon, "/clear\n/quit\nnot asked\n", "--load", saved).stderr


def test_what_is_refused(daemon, tmp_path):
    assert "there is no such parameter" in chat(daemon, "", "--set", "heat=1", check=2).stderr
    assert "No such file" in chat(daemon, "", "--load", tmp_path / "none", check=1).stderr
    p = chat(daemon, "word " * 4000 + "\nHi\n", check=1)
    assert "context" in p.stderr and not p.stdout
    sluice("chat", "--socket", tmp_path / "none", "--wait", 0, input="Hi\n", check=3)
    for args, given, said in (((), b"Hi\ncaf\xe9\nnot asked\n", "the line is not valid UTF-8, at byte 3"), (("--system", b"\xe9"), b"", "--system: it is not valid UTF-8")):
        p = subprocess.run([BUILD / "sluice", "chat", "--socket", daemon.socket, *args], input=given, capture_output=True, timeout=60)
        assert p.returncode == (2 if args else 1) and said in p.stderr.decode(), p.stderr


class Terminal:
    """sluice chat on a terminal of its own."""

    def __init__(self, tmp_path, *args, **env):
        self.fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.child, self.before, self.text = child, termios.tcgetattr(child), ""
        env = {**os.environ, "HOME": str(tmp_path), "TERM": "xterm", "LANG": "C", "LC_ALL": "", "XDG_STATE_HOME": "", **env}
        self.process = subprocess.Popen([str(BUILD / "sluice"), "chat", *map(str, args)], stdin=child, stdout=child, stderr=child,
                                        start_new_session=True, env=env, preexec_fn=self.begin)

    @staticmethod
    def begin():
        """As from a shell: a terminal that steers it, and no signal ignored (nohup and background jobs leave that behind)."""
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, word, timeout=60):
        """All that came up to this word, which is taken away."""
        end = time.monotonic() + timeout
        while word not in self.text:
            assert time.monotonic() < end, repr(self.text)
            if select.select([self.fd], [], [], 0.1)[0]:
                self.text += os.read(self.fd, 65536).decode()
        at = self.text.index(word) + len(word)
        came, self.text = self.text[:at], self.text[at:]
        return came

    def prompt(self):
        """Until a line is edited: libedit shows the prompt, and then sets the terminal for it."""
        came, end = self.until("\033[?2004h") + self.until("> "), time.monotonic() + 60
        while termios.tcgetattr(self.child)[3] & termios.ICANON:
            assert time.monotonic() < end
            time.sleep(0.002)
        return came

    def ends(self, status=0):
        with contextlib.suppress(OSError):
            while self.process.poll() is None or select.select([self.fd], [], [], 0)[0]:
                if select.select([self.fd], [], [], 0.1)[0]:
                    self.text += os.read(self.fd, 65536).decode()
        assert self.process.wait(60) == status, self.text
        assert termios.tcgetattr(self.child) == self.before


def test_on_a_terminal(daemon, tmp_path):
    t = Terminal(tmp_path, "--socket", daemon.socket, "--set", "temperature=0", "--set", "max_tokens=30")
    t.prompt()
    t.type("What is the capital of Grüße?\x7f\x7f\x7f\x7f\x7f\x7fFrance?\r")  # a character of two bytes is one
    assert "Paris" in t.until("first token")
    t.prompt()
    t.type("half a line\x03")  # given up
    t.until("Ctrl-D ends")
    t.prompt()
    t.type("\033[200~pasted\rlines\033[201~ of one message\r")
    t.until("first token")
    t.prompt()
    t.type(f"/save {tmp_path}/talk\r")
    t.until("4 messages are in")
    t.prompt()
    t.type("/quit\r")
    t.ends()
    talk = json.loads((tmp_path / "talk").read_text())
    assert [m["content"] for m in talk["messages"][::2]] == ["What is the capital of France?", "pasted\nlines of one message"]
    history = tmp_path / ".local/state/sluice/chat_history"
    assert "France" in history.read_text() and history.stat().st_mode & 0o777 == 0o600
    t = Terminal(tmp_path, "--socket", daemon.socket)
    t.prompt()
    t.type("\033[A" * 3)  # what was typed before: two commands, and the message
    t.until("pasted")
    t.type("\x03")
    t.prompt()
    t.type("\x04")
    t.ends()
    assert re.sub(r"\033\[\?\d+[hl]", "", t.text).endswith("\r\n"), repr(t.text)  # the shell's prompt begins a line


# ---- answers that no model here gives ----

class Server(http.server.ThreadingHTTPServer):
    refuses = 0  # connections that end before anything was read of them

    def verify_request(self, request, address):
        self.refuses -= 1
        return self.refuses < 0


class Fake(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"error": {"message": self.server.error}} if self.server.error else {}).encode()
        self.send_response(400 if self.server.error else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta in itertools.cycle(self.server.deltas) if self.server.endless else self.server.deltas:
            event = delta if isinstance(delta, str) else "data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": None}]})
            try:
                self.wfile.write((event + "\n\n").encode())
            except OSError:
                self.server.gone.append(self.client_address)
                return
            time.sleep(0.01 if self.server.endless else 0)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def fake(*deltas, endless=False, error=None):
    with Server(("127.0.0.1", 0), Fake) as s:
        s.deltas, s.asked, s.gone, s.endless, s.error = deltas, [], [], endless, error
        threading.Thread(target=s.serve_forever, daemon=True).start()
        yield s, f"http://127.0.0.1:{s.server_port}"
        s.shutdown()


def test_nothing_steers_the_terminal(tmp_path):
    evil = "\033]0;owned\a\033[2J\u009b31m\u202egnp.exe\033]52;c;aGk=\a\x7f"
    with fake({"reasoning_content": "thought" + evil}, {"content": "answer" + evil}, "data: [DONE]") as (s, url):
        t = Terminal(tmp_path, "--http", url)
        t.prompt()
        t.type("Hi\r")
        t.until("Hi\r\n")
        came = t.prompt()
        t.type("\x04")
        t.ends()
        # ours alone: dim, plain, how much is pasted, and libedit's
        left = re.sub(r"\033\[(2m|0m|\?2004[hl]|[JK]|\d*[CD])", "", came)
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", left), repr(left)
        assert "\033[2mthought" in came and "\033[0m" in came and "^[]0;owned^G" in came and "<U+009B>31m<U+202E>gnp" in came
        # elsewhere it is what it is, and no thoughts
        p = sluice("chat", "--http", url, input="Hi\n")
        assert p.stdout == "answer" + evil + "\n"
        assert s.asked[-1]["messages"] == [{"role": "user", "content": "Hi"}] and s.asked[-1]["stream"]


def test_an_answer_is_cancelled(tmp_path):
    """Ctrl-C ends the answer, at the other end too, and not the program; a second one at once does no more (as a signal: a
    terminal throws away what was not read yet at each Ctrl-C, and so the word that answers the first)."""
    with fake({"content": "on and "}, endless=True) as (s, url):
        t = Terminal(tmp_path, "--http", url)
        for n in (1, 2):
            t.prompt()
            t.type("Tell me\r")
            t.until("on and on and")
            if n == 1:
                t.type("\x03")
            else:
                os.kill(t.process.pid, signal.SIGINT)
                os.kill(t.process.pid, signal.SIGINT)
            t.until("cancelled")
            end = time.monotonic() + 60
            while len(s.gone) < n:
                assert time.monotonic() < end
                time.sleep(0.01)
        t.prompt()
        t.type("/quit\r")
        t.ends()
        said = s.asked[1]["messages"]  # what there was of the answer is part of the conversation
        assert [m["role"] for m in said] == ["user", "assistant", "user"] and said[1]["content"].startswith("on and on")


def test_a_signal_leaves_the_terminal_as_it_was(tmp_path):
    with fake({"content": "on and "}, endless=True) as (_, url):
        for number in (signal.SIGTERM, signal.SIGHUP):
            t = Terminal(tmp_path, "--http", url)
            t.prompt()
            t.type("Tell me\r")
            t.until("on and on and")
            t.process.send_signal(number)
            t.ends(-number)


def test_waiting_for_a_daemon_that_went(tmp_path):
    """One that ends the first connections is waited for; Ctrl-C ends the waiting."""
    with fake({"content": "here"}, "data: [DONE]") as (s, url):
        s.refuses = 2
        t = Terminal(tmp_path, "--http", url)
        t.prompt()
        t.type("Hi\r")
        t.until("here")
        t.prompt()
        s.shutdown()
        s.server_close()
        t.type("And?\r")
        t.until("; waiting")
        t.type("\x03")
        t.ends(130)


def test_an_error_does_not_steer(tmp_path):
    with fake(error="no \033]0;owned\a\u009b2Jway") as (_, url):
        write = tmp_path / "asked.jsonl"
        write.write_text('{"custom_id": "a", "url": "/v1/completions", "body": {}}\n')
        err = sluice("batch", write, "--http", url, check=1).stderr
        assert "no ?]0;owned???2Jway" in err and "\033" not in err


def test_failures_within_an_answer():
    for events, want in ((['data: {"error": {"message": "the disk is gone"}}', "data: [DONE]"], "the disk is gone"),
                         ([{"content": "half"}], "the connection ended within the answer")):
        with fake(*events) as (_, url):
            p = sluice("chat", "--http", url, input="Hi\nmore\n", check=1)
            assert want in p.stderr and p.stdout in ("", "half\n"), p
