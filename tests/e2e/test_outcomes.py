# SPDX-License-Identifier: MIT
"""Description: how requests end and what is known of them then (cancelled, cut by a stopping daemon, progress); signals;
the log."""
import json
import re
import shutil
import signal
import subprocess
import time

from daemon import BUILD, DEMO, Daemon, sluice
from native import DONE, LOGPROBS_OUT, PROGRESS, PROGRESS_OUT, SHUTDOWN, TOKEN, Client, end_of

LONG = [17 + i % 200 for i in range(12000)]


def slow(**kw):
    """Steps of a few tokens on one thread: a long prompt takes some seconds."""
    return Daemon(DEMO, "--ctx", "16384", "--parallel", "1", "--batch", "8", "--threads", "1", **kw)


def test_cancelled_while_waiting_reading_and_writing():
    with slow() as d, Client(d.socket) as c:
        c.generate(1, LONG, 10, PROGRESS_OUT)
        read = 0
        while not read:
            read, of, ppm = c.progress(1)
        assert of == len(LONG) and read < of and 0 <= ppm - int(1e6 * read / of) <= 1e6 * 8 / of  # a step is 8 tokens
        c.generate(2, LONG, 10)  # waits: there is one place
        c.cancel(2)
        assert c.done(2) == ("cancelled", 0, 0, 0, "")
        c.cancel(1)
        stop, code, n_prompt, n_generated, text = c.done(1)
        assert (stop, code, n_generated, text) == ("cancelled", 0, 0, "")
        assert read <= n_prompt < len(LONG)
        c.score(3, LONG, LOGPROBS_OUT | PROGRESS_OUT)
        read = c.progress(3)[0]
        c.cancel(3)
        stop, code, n_prompt, _, _ = c.done(3)
        assert (stop, code) == ("cancelled", 0) and read <= n_prompt < len(LONG)
        c.generate(4, LONG[:20], 16000)
        for _ in range(3):
            c.until(TOKEN, 4)
        c.cancel(4)
        stop, code, n_prompt, n_generated, _ = c.done(4)
        assert (stop, code, n_prompt) == ("cancelled", 0, 20) and 3 <= n_generated < 16000
        c.generate(5, LONG[:20], 4)  # nothing of them stays behind
        assert c.done(5)[:4] == ("length", 0, 20, 4)


def test_progress_is_for_those_who_ask():
    with slow() as d, Client(d.socket) as c:
        assert c.version == 2
        c.generate(1, LONG[:400], 1)
        c.generate(2, LONG[:400], 1, PROGRESS_OUT)
        seen = {1: [], 2: []}
        ended = set()
        while len(ended) < 2:
            kind, number, fixed, _ = c.receive()
            if kind == PROGRESS:
                assert number not in ended
                seen[number].append(int.from_bytes(fixed[4:8], "little"))
            elif kind == TOKEN:
                ended.add(number)
        assert not seen[1] and seen[2] == sorted(seen[2]) and seen[2][-1] == 400


def test_progress_moves_within_a_step():
    """A step of many tokens may wait long for its experts: a bar that stands still looks like a hang."""
    with Daemon(DEMO, "--ctx", "16384", "--batch", "8192", "--threads", "1") as d, Client(d.socket) as c:
        c.score(1, LONG, PROGRESS_OUT)
        seen = []
        while not seen or seen[-1][0] < len(LONG):
            seen.append(c.progress(1))
        assert seen == sorted(seen) and seen[-1] == (len(LONG), len(LONG), 1000000)
        assert any(read == 0 and ppm > 0 for read, _, ppm in seen), seen
        assert c.done(1)[:3] == ("length", 0, len(LONG))


def test_a_stopping_daemon_says_so_to_everyone():
    with slow() as d, Client(d.socket) as c:
        c.generate(1, LONG[:20], 16000)
        c.until(TOKEN, 1)
        c.generate(2, LONG, 5)  # waits
        d.process.send_signal(signal.SIGTERM)
        ends = {}
        while len(ends) < 2:
            kind, number, fixed, text = c.receive()
            if kind == DONE:
                ends[number] = end_of(fixed, text)
        assert ends[1][:3] == ("error", SHUTDOWN, 20) and ends[1][3] > 0
        assert ends[2][:4] == ("error", SHUTDOWN, 0, 0)
        assert ends[1][4] == ends[2][4] == "the daemon is stopping"
        assert d.process.wait(60) == 0


def test_a_prompt_cut_by_a_stopping_daemon_says_how_far_it_was():
    with slow() as d, Client(d.socket) as c:
        c.generate(1, LONG, 5, PROGRESS_OUT)
        read = 0
        while not read:
            read = c.progress(1)[0]
        d.process.send_signal(signal.SIGTERM)
        stop, code, n_prompt, n_generated, text = c.done(1)
        assert (stop, code, n_generated, text) == ("error", SHUTDOWN, 0, "the daemon is stopping")
        assert read <= n_prompt < len(LONG)
        assert d.process.wait(60) == 0


def test_a_cut_answer_is_a_failure_of_the_command():
    with slow() as d:
        p = subprocess.Popen([BUILD / "sluice", "generate", "--socket", d.socket, "--prompt", "It was", "--ignore-eog",
                              "--max-tokens", "15000", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True)
        end = time.monotonic() + 60
        while d.status()["tokens_generated"] == 0 and time.monotonic() < end:
            time.sleep(0.02)
        d.process.terminate()
        out, err = p.communicate(timeout=60)
        assert p.returncode == 1 and "the daemon is stopping" in err
        j = json.loads(out)
        assert j["stop_reason"] == "error" and 0 < len(j["tokens"]) < 15000 and "stopping" in j["error"]
        assert d.process.wait(60) == 0
        sluice("status", "--socket", d.socket, check=3)


# ---- signals ----

def test_sighup_stops_nothing():
    with slow() as d, Client(d.socket) as c:
        c.generate(1, LONG[:20], 200)
        c.until(TOKEN, 1)
        d.process.send_signal(signal.SIGHUP)
        assert c.done(1)[0] == "length"
        assert d.status()["state"] == "ready"
        assert 'msg="configuration read again" file="none"' in d.text()


# ---- the log ----

def fields(line):
    """A line as a strict reader of logfmt takes it: {key: value}."""
    out, at = {}, 0
    for m in re.finditer(r'([^\s="]+)=(?:"((?:[^"\\\x00-\x1f\x7f]|\\["\\ntr]|\\u[0-9a-f]{4})*)"|([^\s="\\]*))(?: |$)', line):
        assert m.start() == at, f"not logfmt at {at}: {line!r}"
        at = m.end()
        assert m[1] not in out, f"{m[1]} stands twice: {line!r}"
        out[m[1]] = json.loads(f'"{m[2]}"') if m[2] is not None else m[3]
    assert at == len(line), f"not logfmt at {at}: {line!r}"
    return out


def test_no_path_can_forge_a_log_line(tmp_path):
    path = tmp_path / 'new\nlevel=error msg="x" \x1b[31m\\ \u2028 gr\u00fc\u00df.gguf'
    shutil.copyfile(DEMO, path)
    with Daemon(path) as d:
        lines = d.text().split("\n")
    assert lines.pop() == ""
    rows = [fields(line) for line in lines]
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", row["time"])
        assert row["level"] in ("notice", "info", "warn")
    assert [row["file"] for row in rows if row["msg"] == "model"] == [str(path)]
    broken = tmp_path / "no\nlevel=notice msg=\"ready\".gguf"
    broken.write_bytes(b"no model at all, whatever its name says")
    p = subprocess.run([BUILD / "sluiced", "--model", broken, "--socket", tmp_path / "s"], capture_output=True, text=True,
                       timeout=30)
    assert p.returncode == 1
    last = fields(p.stderr.splitlines()[-1])
    assert last["level"] == "error" and str(broken) in last["msg"]
