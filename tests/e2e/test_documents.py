# SPDX-License-Identifier: MIT
"""Description: every command in README, docs and manual pages is run as it is written there, or skipped by name.

Blocks of commands are run line by line in a folder of their own, with the files that documented.py names replaced by the
bundled model and what was recorded from it. Commands that need the network, another machine or too long are skipped by name
with the reason; their program, target and options must exist all the same. What a document mentions in running text
(verbs, options, make targets, links) must exist. That every option is in its manual page is test_install.py's.
"""
import functools
import os
import re
import shlex
import subprocess

import pytest

import documented
import documents
from daemon import BUILD, DEMO, ROOT, Daemon, sluice

LIMIT = 300  # seconds for one command
PATHS = [p for pattern in documented.DOCUMENTS for p in sorted(ROOT.glob(pattern))]
BLOCKS = [b for p in PATHS for b in documents.blocks(p, str(p.relative_to(ROOT)))]
CSV = "# route_trace v1\n# x n_layer=2 n_expert=4 n_expert_used=2\n0,0,0,0,0,1,0.5,0,0\n0,0,0,0,1,2,0.5,0,0\n"
PROGRAMS = r"(?:build/)?(sluice|sluiced)"


def matching(block):
    return [row for row in documented.NO_COMMANDS if row[0] == block.document and row[1] in block.lines[0]]


def is_c(block):
    return block.lines[0].startswith("#include")


COMMAND_BLOCKS = [b for b in BLOCKS if not matching(b) and not is_c(b)]


def exception(command):
    return next((why for pattern, why in documented.EXCEPTIONS if re.search(pattern, command)), None)


EXCEPTED = [(b, c) for b in COMMAND_BLOCKS for c in b.commands() if exception(c)]


@functools.cache
def help_of(program, verb=None):
    return subprocess.run([str(BUILD / program), *([verb] if verb else []), "--help"], capture_output=True, text=True).stdout


@functools.cache
def verbs():
    return re.findall(r"^  (\w+)", help_of("sluice"), re.M)


@functools.cache
def targets():
    """What make can make: explicit targets of its own data base, without recipes being run."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    p = subprocess.run(["make", "-C", str(ROOT), "-pRrn", "no-such-target"], capture_output=True, text=True, env=env)
    return set(re.findall(r"^([A-Za-z][\w./-]*):", p.stdout, re.M))


def options_in(text):
    return re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)


def check_words(command):
    """Asserts that what a command names exists: its program, verb, target and options."""
    words = shlex.split(command.replace("$(", "").replace(")", ""))
    found = re.fullmatch(PROGRAMS, words[0])
    if found:
        verb = words[1] if found[1] == "sluice" and len(words) > 1 and not words[1].startswith("-") else None
        assert verb is None or not re.fullmatch(r"[a-z]+", verb) or verb in verbs(), f"{command}: sluice has no verb {verb}"
        text = help_of(found[1], verb if verb in verbs() and verb not in ("help", "version") else None)
        for option in options_in(command):
            assert re.search(re.escape(option) + r"\b", text), f"{command}: {words[0]} has no {option}"
    elif words[0] == "make":
        for word in words[1:]:
            if "=" not in word and not word.startswith("-") and re.fullmatch(r"[a-z][\w-]*", word):
                assert word in targets(), f"{command}: there is no target {word}"
    elif "/" in words[0]:
        assert (ROOT / words[0]).exists() or words[0].startswith("build/"), f"{command}: there is no {words[0]}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files that commands read, made once from a run of the bundled model."""
    folder = tmp_path_factory.mktemp("made")
    with Daemon(DEMO, "--threads", "1", "--trace", folder / "trace") as d:
        d.generate("--prompt", "Once upon a time", "--max-tokens", "8")
    sluice("trace", "list", folder / "trace", folder / "list")
    (folder / "csv").write_text(CSV)
    (folder / "question").write_text("What is the capital of France?\n")
    (folder / "conversation").write_text('{"messages": [{"role": "user", "content": "Hello"}], "add_generation_prompt": true}')
    (folder / "batch").write_text('{"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "Once", "max_tokens": 4}}\n')
    (folder / "jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    (folder / "model").symlink_to(DEMO)
    return folder


def environment(folder, socket):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}
    return {**env, "PATH": f"{BUILD}:{env['PATH']}", "ROOT": str(ROOT), "BUILD": str(BUILD), "SLUICE_SOCKET": str(socket),
            "HOME": str(folder), "MAX_TOKENS": "32"}


@pytest.fixture(scope="module")
def served():
    with Daemon(DEMO, "--threads", "2", "--ctx", "4096") as d:
        yield d.socket


class Reader:
    """Someone who types the commands of a block."""

    def __init__(self, folder, made, served, block):
        self.folder, self.made = folder, made
        own = any(re.match(PROGRAMS + r"\b", c) and "sluiced" in c.split()[0] for c in block.commands())
        self.socket = folder / "socket" if own else served
        (folder / "build").symlink_to(BUILD)
        self.shell = documents.Shell(folder, environment(folder, self.socket))

    def provide(self, command):
        for word in re.split(r"[\s,:=]+", command):
            kind = next((kind for pattern, kind in documented.FILES.items() if re.fullmatch(pattern, word)), None)
            if kind and not (self.folder / word).exists():
                (self.folder / word).symlink_to(self.made / kind)

    def type(self, command):
        for pattern, new, _ in documented.SUBSTITUTIONS:
            command = re.sub(pattern, new, command)
        self.provide(command)
        program = command.split()[0].rpartition("/")[2]
        if program == "sluiced":
            return self.serve(command)
        if any(re.search(p, command) for p in documented.ENDLESS):
            # --foreground: one SIGINT, like one Ctrl-C; without it the group gets a second, which ends the program
            command = f"timeout --foreground --preserve-status -s INT 3 {command}"
        return self.expect(command)

    def expect(self, command):
        status, out, err = self.shell.run(command, LIMIT)
        assert status == 0, f"{command}: exit {status}\n{out}{err}"
        return out

    def serve(self, command):
        """A daemon: ready when status says so. One that is not put behind with & is asked once and stopped."""
        behind = command.endswith("&")
        named = re.search(r"--socket (\S+)|-s (\S+)", command)
        socket = f" --socket {named[1] or named[2]}" if named else ""
        self.expect(command if behind else command + " &")
        self.expect(f"sluice status --wait 60{socket}")
        if not behind:
            self.expect(f"sluice generate --prompt Once --max-tokens 8{socket} && kill %% && wait %%")


@pytest.mark.parametrize("block", COMMAND_BLOCKS, ids=str)
def test_block(block, tmp_path, made, served):
    reader = Reader(tmp_path, made, served, block)
    try:
        for command in block.commands():
            if not exception(command):
                check_words(command)
                reader.type(command)
    finally:
        reader.shell.close()


@pytest.mark.parametrize("block,command", EXCEPTED, ids=[f"{b.document}: {c}" for b, c in EXCEPTED])
def test_not_run_here(block, command):
    check_words(command)
    pytest.skip(exception(command))


@pytest.mark.parametrize("block", [b for b in BLOCKS if is_c(b) and not matching(b)], ids=str)
def test_c_program(block, tmp_path, served):
    """A whole program in C, against the daemon."""
    (tmp_path / "sluice").symlink_to(ROOT / "uapi")
    (tmp_path / "program.c").write_text("\n".join(block.lines) + "\n")
    flags = ["-fsanitize=address,undefined"] if "address" in BUILD.name else []
    subprocess.run(["cc", "-std=c99", "-Wall", "-Werror", *flags, f"-I{tmp_path}", "-o", tmp_path / "program", tmp_path / "program.c",
                    BUILD / "libsluice.a"], check=True)
    p = subprocess.run([tmp_path / "program"], capture_output=True, text=True, timeout=LIMIT, env=environment(tmp_path, served))
    assert p.returncode == 0 and p.stdout and not p.stderr, p.stdout + p.stderr


def test_tables_are_used():
    """An entry that no document needs any more must go."""
    commands = [c for b in COMMAND_BLOCKS for c in b.commands()]
    for row in documented.NO_COMMANDS:
        assert any(row in matching(b) for b in BLOCKS), f"NO_COMMANDS: {row}"
    for table in (documented.EXCEPTIONS, documented.SUBSTITUTIONS):
        for row in table:
            assert any(re.search(row[0], c) for c in commands), f"no document has a command like {row[0]}"
    assert len(commands) >= 30


@pytest.mark.parametrize("path", PATHS, ids=lambda p: str(p.relative_to(ROOT)))
def test_mentions(path):
    """Verbs, options and targets in running text exist."""
    everything = help_of("sluiced") + "".join(help_of("sluice", v) for v in verbs() if v not in ("help", "version"))
    text = path.read_text()
    spans = documents.spans(path, str(path.relative_to(ROOT)) in documented.THEIRS)
    for span in spans:
        for part in re.split(r"\s*(?:;|&&)\s*", span):
            if re.match(rf"(?:{PROGRAMS}|make) [\w-]", part):
                check_words(part)
    for option in {options_in(span)[0] for span in spans if re.match("--[a-z]", span)}:
        other = documented.OTHER_OPTIONS.get(option)
        owner = (ROOT / other).read_text() if other else everything
        assert re.search(re.escape(option) + r"\b", owner), f"{other or 'no program'} has {option}"
    for name in re.findall(r"\]\(([^)#:]+)\)", text) if path.suffix == ".md" else []:
        assert (path.parent / name).exists(), f"a link to {name}, which is not there"


@pytest.mark.parametrize("page", [p for p in PATHS if p.suffix == ".scd"], ids=lambda p: p.name)
def test_manual_is_a_page(page):
    subprocess.run(["scdoc"], stdin=open(page), stdout=subprocess.DEVNULL, check=True, timeout=10)


def sections(text):
    """sluice(1): verb -> its paragraph."""
    found, verb = {}, None
    for line in text.partition("# VERBS")[2].partition("\n# ")[0].splitlines():
        at = re.match(r"\*(\w+)\*", line)
        verb = at[1] if at else verb
        found[verb] = found.get(verb, "") + line + "\n"
    return found


def test_manual_has_every_verb():
    assert set(verbs()) - {"version"} <= set(sections((ROOT / "man/sluice.1.scd").read_text()))


def test_manual_has_no_option_that_is_not_there():
    text = (ROOT / "man/sluiced.8.scd").read_text()
    assert set(re.findall(r"\*(--[a-z-]+)\*", text)) <= set(options_in(help_of("sluiced")))
