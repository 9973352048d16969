# SPDX-License-Identifier: MIT
"""Description: the sluice command as a program among others: its descriptors, its output, its options."""
import csv
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from daemon import BUILD, DEMO, Daemon, fixture, sluice

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris.\n"


@pytest.fixture(scope="module")
def d():
    with Daemon(DEMO, "--ctx", "2048", "--parallel", "2", "--threads", "2") as daemon:
        yield daemon


def shell(command, **kw):
    """A line for sh, with $SLUICE and $S (the socket) in its environment."""
    env = {**os.environ, "SLUICE": str(BUILD / "sluice"), "SLUICED": str(BUILD / "sluiced"), **kw.pop("env", {})}
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, env=env, **kw)


def ask(d, verb, *args, check=0, **kw):
    return sluice(verb, "--socket", d.socket, *args, check=check, **kw)


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """A small routing trace: two layers of four experts, one used."""
    path = tmp_path_factory.mktemp("trace") / "t.trace"
    rows = "".join(f"step {n}\nd 0 0 {n} {n % 4}\nd 1 0 {n} {n % 3}\n" for n in range(9))
    path.write_text("route_trace v1\ngeometry 2 4 1\norder none\ndata\n" + rows)
    return path


# ---- descriptors ----

@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_descriptor_is_not_the_socket(d, closed):
    before = d.text()
    p = shell(f'"$SLUICE" generate --socket "$S" --prompt Once --max-tokens 6 {closed}', env={"S": d.socket})
    assert p.returncode == 0, p.stderr
    if closed in ("<&-", "2>&-"):
        assert p.stdout
    assert "malformed" not in d.text()[len(before):]


def test_a_daemon_without_descriptors_serves(tmp_path):
    # started as some supervisors do it: 0, 1 and 2 closed; the model must not become one of them
    path = tmp_path / "s"
    env = {**os.environ, "S": str(path), "M": str(DEMO), "SLUICED": str(BUILD / "sluiced")}
    daemon = subprocess.Popen(["sh", "-c", 'exec "$SLUICED" --model "$M" --socket "$S" --ctx 512 <&- >&- 2>&-'], env=env)
    try:
        p = shell('"$SLUICE" generate --socket "$S" --wait 60 --json --prompt Once --max-tokens 6', env={"S": str(path)})
        assert p.returncode == 0 and json.loads(p.stdout)["tokens"], p.stderr
        for fd in (0, 1, 2):
            assert os.readlink(f"/proc/{daemon.pid}/fd/{fd}") == "/dev/null"
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0


# ---- what cannot be written ----

FULL = [
    "help", "version", "help status", "generate --help", "doctor --no-memory", "inspect $M", "inspect $M --json", "plan $M", "plan $M --json",
    "tokenize -m $M Hello", "tokenize -m $M --json Hello", "tokenize -m $M --ids [5]", "tokenize -m $M --ids [5] --json",
    "template -m $M --caps", "parse --format hermes --json --input $P", "grammar --schema $P --text $P", "telemetry --interval 0.02", "telemetry --interval 0.02 --json", "telemetry --interval 0.02 --watch",
    "trace stats $T", "trace stats $T --json", "trace sim $T", "trace sim $T --json", "trace convert $T -", "trace list $T -",
    "generate -s $S Once -n6", "generate -s $S Once -n6 --json", "status -s $S", "status -s $S --json", "top -s $S -n 2 -i 0.1",
    "batch --help", "chat -s $S <$Q", "heat -s $S", "heat -s $S --json", "slots -s $S", "slots -s $S --json", "eval -s $S --prompt 'Once upon'", "eval -s $S --prompt 'Once upon' --json", "tokenize -s $S Hello",
    "tokenize -s $S --ids [5] --json", "bench -s $S -p8 -n0 -r1", "bench -s $S -p8 -n0 -r1 -o csv",
    "bench -s $S -p8 -n0 -r1 --json", "metrics -s $S --interval 0.05", "metrics -s $S --interval 0.05 --json",
]


@pytest.mark.parametrize("command", FULL)
def test_what_cannot_be_written_is_said(d, trace, command):
    text = trace.with_name("text.json")
    text.write_text('{"text": "Hello"}')
    question = trace.with_name("question")
    question.write_text("Hello\n")
    p = shell(f'"$SLUICE" {command} >/dev/full', env={"S": d.socket, "M": str(DEMO), "T": str(trace), "P": str(text), "Q": str(question)})
    assert p.returncode == 1, p.stderr
    verb = command.split()[0]
    assert p.stderr.count("cannot write to") == 1
    assert f"sluice {verb}: cannot write to standard output: No space left on device\n" in p.stderr


def test_every_verb_was_tried():
    assert {c.split()[0] for c in FULL} == set(re.findall(r"^  (\w+)", sluice("help").stdout, re.M))


def test_the_daemon_says_it_too():
    p = shell('"$SLUICED" --help >/dev/full')
    assert p.returncode == 1 and "cannot write to standard output" in p.stderr


def test_a_device_is_not_removed(trace, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    os.symlink("/dev/full", tmp_path / "full")
    sluice("trace", "convert", trace, tmp_path / "full", check=1)
    assert (tmp_path / "full").is_symlink()
    sluice("trace", "convert", trace, tmp_path / "pipe")
    assert os.read(reader, 14) == b"route_trace v1"
    os.close(reader)


# ---- arguments ----

def test_a_prompt_needs_no_option(d):
    for args in ((QUESTION,), ("--prompt", QUESTION), ("--prompt", "-"), ("-",), ("-f", "-"), ("-n10", QUESTION)):
        p = ask(d, "generate", "--chat", "-q", *args, input=QUESTION)
        assert p.stdout == ANSWER and p.stderr == "", args
    ids = json.loads(ask(d, "tokenize", "--json", "It was").stdout)["tokens"]
    by_ids = [ask(d, "generate", "-q", "-n4", *a, input=json.dumps(ids)).stdout
              for a in (("--prompt-tokens", json.dumps(ids)), ("--prompt-tokens", "-"), ("It was",))]
    assert by_ids[0] and len(set(by_ids)) == 1
    p = ask(d, "generate", "What", "is", check=2)
    assert "unexpected argument is" in p.stderr and "quoted" in p.stderr
    for args in ((), (QUESTION, "--prompt", QUESTION), (QUESTION, "-f", "-"), ("--prompt", "a", "-f", "-")):
        ask(d, "generate", *args, check=2)


def test_texts_come_in_every_way(d, tmp_path):
    file = tmp_path / "text"
    file.write_text(QUESTION)
    ways = (("--prompt", QUESTION), ("--prompt", "-"), ("--text", file), ("--text", "-"))
    seen = {ask(d, "eval", "--json", *w, input=QUESTION).stdout for w in ways}
    assert len(seen) == 1 and json.loads(seen.pop())["nll"] > 0
    both = [ask(d, "tokenize", *w, input=QUESTION).stdout for w in (*ways, (QUESTION,), ("-",))]
    both += [sluice("tokenize", "--model", DEMO, *w, input=QUESTION).stdout for w in (*ways, (QUESTION,), ("-",))]
    assert len(set(both)) == 1 and re.fullmatch(r"(\d+ )+\d+\n", both[0])
    ids = json.dumps([int(i) for i in both[0].split()])
    for where in (("--socket", d.socket), ("--model", DEMO)):
        for given in (ids, "-"):
            assert sluice("tokenize", *where, "--ids", given, input=ids).stdout == QUESTION
            assert json.loads(sluice("tokenize", *where, "--json", "--ids", given, input=ids).stdout) == {"text": QUESTION}
        end = json.dumps([2036])
        assert (sluice("tokenize", *where, "--ids", end).stdout == "") and sluice("tokenize", *where, "--ids", end,
                                                                                  "--special").stdout


def test_thinking_is_chosen(d):
    frame = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    empty = "<think>\n\n</think>\n\n"
    for more, begin in (((), empty), (("--no-think",), empty), (("--think",), "")):
        ids = {sluice("tokenize", *where, "--chat", *more, "Hi").stdout
               for where in (("--socket", d.socket), ("--model", DEMO))}
        ids.add(sluice("tokenize", "--model", DEMO, "--special", frame + begin).stdout)
        assert len(ids) == 1, (more, ids)
        n = d.generate("--chat", *more, "Hi", "-n1")["usage"]["prompt_tokens"]
        assert n == len(ids.pop().split())
    told = sluice("tokenize", "--model", DEMO, "--special", "<|im_start|>system\nBe kind.<|im_end|>\n" + frame + empty).stdout
    for where in (("--socket", d.socket), ("--model", DEMO)):
        assert sluice("tokenize", *where, "--chat", "--system", "Be kind.", "Hi").stdout == told


def test_inspect_takes_its_file(d):
    expected = sluice("inspect", "--model", DEMO).stdout
    assert sluice("inspect", DEMO).stdout == sluice("inspect", "-m", DEMO).stdout == expected
    for args in ((), (DEMO, DEMO), (DEMO, "--model", DEMO)):
        sluice("inspect", *args, check=2)


@pytest.mark.parametrize("verb", ["telemetry", "metrics"])
def test_a_machine_that_is_not_there_is_named(verb, tmp_path):
    assert f"nothing can be read of {tmp_path}/none" in sluice(verb, "--root", tmp_path / "none", check=1).stderr


def test_a_machine_file_is_checked(tmp_path):
    machine = tmp_path / "machine.json"
    for text, why in [("[]", "no JSON object"), ("{", "line 1"), ('{"memory_bytes": -1}', "memory_bytes must be a whole number"),
                      ('{"read_align_bytes": 3}', "read_align_bytes must be a power of two")]:
        machine.write_text(text)
        p = sluice("plan", DEMO, "--machine", machine, check=1)
        assert str(machine) in p.stderr and why in p.stderr and "line -1" not in p.stderr


def test_help_of_a_verb():
    for verb in re.findall(r"^  (\w+)", sluice("help").stdout, re.M):
        p = sluice("help", verb)
        assert p.stdout and not p.stderr
        assert p.stdout == sluice(verb, "--help").stdout
        if verb not in ("help", "version"):
            assert p.stdout.startswith(f"usage: sluice {verb}")
    assert "no verb nonsense" in sluice("help", "nonsense", check=2).stderr
    for args in (("help", "status", "status"), ("version", "now")):
        assert "unexpected" in sluice(*args, check=2).stderr


# Nothing that was asked for is silently left out.
@pytest.mark.parametrize("args, why", [
    (("generate", "--system", "a", "b"), "--system has no effect without --chat"),
    (("generate", "--prompt-tokens", "[1]", "--special"), "exclude"),
    (("generate", "--think", "b"), "--think has no effect without --chat"),
    (("generate", "--chat", "--think", "--no-think", "b"), "exclude"),
    (("tokenize", "-m", DEMO, "--no-think", "b"), "--no-think has no effect without --chat"),
    (("tokenize", "-m", DEMO, "--chat", "--ids", "[1]"), "exclude"),
    (("eval", "--tokens", "x", "--special"), "exclude"),
    (("eval", "--tokens", "x", "--text", "y"), "exclude"),
    (("eval", "--prompt", "x", "--text", "y"), "exclude"),
    (("bench", "-o", "csv", "--json"), "exclude"),
    (("bench", "-p0", "-n0"), "nothing to measure"),
    (("bench", "-px"), "--n-prompt: x is not a list"),
    (("bench", "-d", "1,"), "--n-depth: 1, is not a list"),
    (("tokenize", "--pre", "qwen2", "a"), "--pre has no effect without --model"),
    (("tokenize", "-m", DEMO, "--pre", "qwen2", "--ids", "[1]"), "exclude"),
    (("tokenize", "-m", DEMO, "--wait", "3", "a"), "exclude"),
    (("tokenize", "-m", DEMO, "--socket", "s", "a"), "exclude"),
    (("telemetry", "--count", "2"), "--count has no effect without --watch"),
    (("telemetry", "--script", "x", "--root", "/"), "exclude"),
    (("telemetry", "--script", "x", "--no-perf"), "exclude"),
    (("trace", "sim", "TRACE", "--share", "10", "--slots", "3"), "exclude"),
    (("trace", "convert", "TRACE", "-", "--json"), "no effect on convert"),
    (("trace", "stats", "TRACE", "--slots", "3"), "no effect on stats"),
    (("trace", "convert", "TRACE"), "convert IN OUT"),
    (("trace", "stats", "TRACE", "x"), "stats FILE"),
    (("trace", "list", "TRACE", "-", "--fill"), "no effect on list"),
    (("trace", "stats", "TRACE", "--policy", "lru"), "no effect on stats"),
    (("trace", "--nope"), "unknown option --nope"),
])
def test_options_without_effect_are_refused(args, why, trace):
    p = sluice(*[trace if a == "TRACE" else a for a in args], check=2)
    assert why in p.stderr and p.stdout == ""
    if args[0] == "trace":
        assert p.stderr.endswith("\nsluice help trace lists the options\n")


def test_options_of_experts_say_that_a_model_has_none():
    with Daemon(fixture("dense/dense-q4_k_m.gguf"), "--ctx", "256", "--host-budget", "1G", "--no-fill") as dense:
        lines = [x for x in dense.text().splitlines() if "has no experts" in x]
        assert [re.search(r"option=(\S+)", x)[1] for x in lines] == ["--host-budget", "--no-fill"]


def test_traces_go_through_pipes(trace):
    text = trace.read_text()
    out = sluice("trace", "convert", trace, "-").stdout
    assert out == sluice("trace", "convert", "-", "-", input=text).stdout
    assert out.startswith("route_trace v1\n") and out.count("step ") == 9
    assert sluice("trace", "list", trace, "-").stdout.splitlines()[1:] == ["0 0", "1 0", "1 1", "1 2", "0 1", "0 2", "0 3"]
    one = json.loads(sluice("trace", "stats", "-", "--json", input=text).stdout)
    assert one == json.loads(sluice("trace", "stats", trace, "--json").stdout)
    p = sluice("trace", "sim", "-", check=2, input=text)
    assert "second time" in p.stderr
    a = sluice("trace", "sim", "-", "--policy", "lru,lfu", "--json", input=text).stdout
    assert json.loads(a) == json.loads(sluice("trace", "sim", trace, "--policy", "lru,lfu", "--json").stdout)


# ---- choices ----

def test_top_p_0_keeps_one_token(d):
    def answers(p):
        return {tuple(d.generate("The old man said that", "-n8", "-t1", "--top-p", p, "--seed", s)["tokens"])
                for s in range(6)}
    assert answers("0") == answers("1e-7") and len(answers("0")) == 1
    assert len(answers("1")) > 1


def test_a_seed_is_fresh_and_printed(d):
    args = ("It was", "-n16", "-t1.5", "--ignore-eog")  # any seed: the answer may end as it likes
    seeds = []
    for _ in range(3):
        p = ask(d, "generate", *args)
        seed = re.search(r"; seed (\d+); cut at --max-tokens 16\n$", p.stderr)[1]
        again = ask(d, "generate", *args, "--seed", seed)
        assert again.stdout == p.stdout and f"; seed {seed};" in again.stderr
        j = d.generate(*args, "--seed", seed)
        text = j["text"].replace("\r\n", "\n").replace("\r", "\n")  # as subprocess reads standard output
        assert j["seed"] == int(seed) and text.removesuffix("\n") + "\n" == p.stdout  # a line ends once
        seeds.append(seed)
    assert len(set(seeds)) == 3
    j = d.generate(*args)
    assert d.generate(*args, "--seed", j["seed"])["tokens"] == j["tokens"]
    assert d.generate(*args, "--seed", 2**64 - 1)["seed"] == str(2**64 - 1)
    assert "seed" not in ask(d, "generate", "It was", "-n4").stderr  # nothing was drawn


def test_greedy_choice_says_what_it_does_not_use(d):
    p = ask(d, "generate", "It was", "-n4", "--top-k", "5", "--top-p", "0.5", "--min-p", "0.1", "--seed", "3")
    for option in ("--top-k", "--top-p", "--min-p", "--seed"):
        assert f"{option} changes nothing" in p.stderr
    assert "changes nothing" not in ask(d, "generate", "It was", "-n4", "-t1", "--top-k", "5").stderr


# ---- endings ----

def wait_for(d, what):
    end = time.monotonic() + 60
    while not what(d.status()):
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_active(d):
    wait_for(d, lambda s: s["active"])


def start(d, *args, **kw):
    return subprocess.Popen([BUILD / "sluice", args[0], "--socket", d.socket, *map(str, args[1:])], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)


def test_a_length_is_visible(d):
    assert "; cut at --max-tokens 3\n" in ask(d, "generate", "It was", "-n3").stderr
    p = ask(d, "generate", "It was", "-n100000", "--ignore-eog")
    assert "; cut because the context of 2048 tokens is full\n" in p.stderr
    assert "cut" not in ask(d, "generate", "--chat", QUESTION).stderr
    assert "cut" not in ask(d, "generate", "It was", "-n0").stderr


def test_an_interrupted_answer_is_visible(d):
    p = start(d, "generate", "It was", "--ignore-eog", "-n", 2000)
    p.stdout.read(20)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and err.rstrip().endswith("; cancelled")


@pytest.mark.parametrize("verb, args", [("bench", ("-p", "1500", "-n", "0", "-r", "50")),
                                        ("eval", ("--prompt", "word " * 900, "--json"))])
def test_other_requests_are_interrupted_too(d, verb, args):
    p = start(d, verb, *args)
    wait_active(d)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and out == "" and err
    end = time.monotonic() + 60
    while d.status()["active"] and time.monotonic() < end:
        time.sleep(0.02)
    assert d.status()["active"] == 0


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_cut_answer_fails_with_a_sentence(stop):
    with Daemon(DEMO, "--threads", "2") as d:
        text, js = (start(d, "generate", "It was", "--ignore-eog", "-n", 16000, *more) for more in ((), ("--json",)))
        text.stdout.read(20)
        wait_for(d, lambda s: s["active"] == 2)
        begun = d.status()["tokens_generated"]
        wait_for(d, lambda s: s["tokens_generated"] > begun + 100)  # each step has a token of both
        d.process.send_signal(stop)
        d.process.wait(60)
        out, err = text.communicate(timeout=60)
        assert text.returncode == 1 and "the answer is cut there, after " in err
        assert ("the daemon is stopping" if stop == signal.SIGTERM else "the daemon has closed") in err
        out, err = js.communicate(timeout=60)
        assert js.returncode == 1 and err
        j = json.loads(out)
        assert j["stop_reason"] == "error" and j["error"] and j["tokens"] and j["text"]


# ---- bench ----

def test_a_table_has_one_width(d, tmp_path):
    peaks = tmp_path / "peaks.json"
    peaks.write_text('{"mem_read_gbs": 10, "disk_read_gbs": 1}')
    for more in ((), ("--peaks", peaks)):
        rows = list(csv.reader(io.StringIO(ask(d, "bench", "-p8", "-n4", "-r1", "-o", "csv", *more).stdout)))
        assert len(rows) == 3 and len({len(r) for r in rows}) == 1
        by_name = [dict(zip(rows[0], r)) for r in rows[1:]]
        assert (by_name[0]["read_share_of_peak"] != "") == bool(more) and by_name[0]["memory_share_of_peak"] == ""
        assert (by_name[1]["memory_share_of_peak"] != "") == bool(more)
        names = [set(r) for r in json.loads(ask(d, "bench", "-p8", "-n4", "-r1", "--json", *more).stdout)]
        assert names[0] == names[1] > set(rows[0]) - {"samples_ns", "samples_ts"}


# ---- progress ----

def on_terminal(args, until, limit=60):
    """Runs sluice with a terminal as stderr, interrupts it as soon as @until(text) holds; its status and text."""
    ours, theirs = pty.openpty()
    p = subprocess.Popen([BUILD / "sluice", *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=theirs)
    os.close(theirs)
    text, end, done = b"", time.monotonic() + limit, False
    while time.monotonic() < end:
        try:
            if select.select([ours], [], [], 1)[0]:
                text += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not done and until(text.decode()):
            done = True
            p.send_signal(signal.SIGINT)
    os.close(ours)
    return p.wait(60), text.decode()


@pytest.fixture(scope="module")
def slow():
    with Daemon(DEMO, "--ctx", "16384", "--parallel", "1", "--threads", "1", "--cpu", "scalar", "--batch", "64") as daemon:
        yield daemon


@pytest.mark.parametrize("verb, option, end", [("generate", "--prompt-tokens", "; cancelled while the prompt was read"),
                                               ("eval", "--tokens", "cancelled")])
def test_a_long_prompt_shows_its_progress(slow, verb, option, end, tmp_path):
    n = 16000
    ids = json.dumps([17 + i % 200 for i in range(n)])
    (tmp_path / "ids").write_text(ids)

    def seen(text):
        return [int(x) for x in re.findall(rf"reading \[[#.]{{30}}\] +\d+ %  (\d+) of {n} tokens", text)]

    status, text = on_terminal((verb, "-s", slow.socket, option, ids if verb == "generate" else tmp_path / "ids"),
                               lambda text: len(seen(text)) >= 3)
    assert status == 130 and len(seen(text)) >= 3 and seen(text) == sorted(seen(text)), text
    assert seen(text)[-1] < n
    assert end in text[text.rindex("\033[K"):]  # the bar is cleared before anything else is said
