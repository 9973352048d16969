# SPDX-License-Identifier: MIT
"""Description: tests/data stays small, says where each file is from, and is what its script makes of the wide matrix."""
import re
import subprocess
import sys

import pytest

from daemon import DATA, need_shared

LIMIT = 25 << 20  # beside the bundled model, which is a link here


def files():
    return [p for p in sorted(DATA.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]


def test_size():
    total = sum(p.lstat().st_size for p in files())
    print(f"{total / (1 << 20):.1f} MiB in tests/data")
    assert total <= LIMIT


def test_origins():
    """README.md has a line for every file: by its name, or beside a model, or by its place."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (DATA / "README.md").read_text(), re.M)
    named = {name: text for cell, text in rows for name in re.findall(r"`([^`]+)`", cell)}
    assert all("MIT" in text for name, text in named.items() if name != "file"), "a row without a licence"
    for path in files():
        name = str(path.relative_to(DATA))
        if path.parent == DATA / "make" or name == "README.md":
            continue
        beside = path.suffix in (".json", ".npy") and str(path.with_suffix(".gguf").relative_to(DATA)) in named
        block = path.parent.name == "quants" and path.suffix in (".blocks", ".f32")
        assert name in named or beside or block, f"README.md does not say where {name} is from"


def test_is_what_its_script_makes():
    fixtures = need_shared("fixtures")
    p = subprocess.run([sys.executable, DATA / "make" / "cut.py", fixtures, "--check"], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr


def test_templates_are_what_their_script_makes():
    pytest.importorskip("jinja2", reason="needs jinja2 (python3-jinja2), which is not here")
    p = subprocess.run([sys.executable, DATA / "make" / "template_rows.py", "--check"], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
