# SPDX-License-Identifier: MIT
"""Description: sluiced started with llama-server's options says in one line what stands for each, as docs/from-llama-server.md has it."""
import re
import subprocess

import pytest

from daemon import BUILD, ROOT


def sluiced(*args):
    return subprocess.run([BUILD / "sluiced", *args], capture_output=True, text=True, timeout=60)


def rows():
    """(an option of theirs, the second cell) for each option of the table."""
    for line in (ROOT / "docs" / "from-llama-server.md").read_text().splitlines():
        cells = [c.strip() for c in re.split(r"(?<!\\\\)\|", line)]
        if line.startswith("| `-"):
            for option in re.findall(r"`(-[\w-]+)", cells[1]):
                yield option, cells[2]


def test_each_option_of_the_table():
    ours = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", re.sub(r"(?m)^ {10,}.*", "", sluiced("--help").stdout)))
    assert {"-m", "--model", "-c", "-t", "--http"} <= ours
    asked = 0
    for option, here in rows():
        if option in ours:
            continue
        p = sluiced("-m", "m.gguf", option, "9")
        first = p.stderr.splitlines()[0]
        assert p.returncode == 2 and first.startswith(f"sluiced: unknown option {option}; here "), (option, p.stderr)
        assert len(p.stderr.splitlines()) == 2, p.stderr  # and where the others are
        named = re.findall(r"--[\w-]+", here)
        assert not named or any(re.search(rf"{n}\b", first) for n in named), (option, first, named)
        asked += 1
    assert asked > 80


@pytest.mark.parametrize("args, here", [
    (("--port", "8080"), "--http HOST:PORT"), (("--host=0.0.0.0",), "--http HOST:PORT"), (("-ngl", "99"), "--host-budget SIZE"),
    (("--jinja",), "always run"), (("--ctx-size", "4096"), "--ctx N"), (("-md", "d.gguf"), "--draft-model FILE"), (("-ctk", "q8_0"), "--kv-type"),
])
def test_the_usual_ones(args, here):
    p = sluiced("-m", "m.gguf", "-c", "4096", "-t", "2", *args)
    assert p.returncode == 2 and f"unknown option {args[0].split('=')[0]}; here " in p.stderr and here in p.stderr.splitlines()[0]


def test_its_short_names_are_ours():
    p = sluiced("-m", "m.gguf", "-c", "4096", "-t", "2", "--dump-config")
    assert p.returncode == 0 and all(re.search(rf"^{line}$", p.stdout, re.M) for line in ("model = m.gguf", "ctx = 4096", "threads = 2")), p.stdout
