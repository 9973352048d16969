# SPDX-License-Identifier: MIT
"""Published clients against the daemon, each a program in clients/ that runs in a virtual environment of its own
(scripts/venv.sh). Where the registry of packages cannot be reached they are skipped by name."""
import shutil
import subprocess

import pytest

from daemon import BUILD, ROOT, need
from http_client import HttpDaemon

CLIENTS = ROOT / "tests" / "e2e" / "clients"


@pytest.fixture(scope="module")
def python():
    made = subprocess.run([ROOT / "scripts" / "venv.sh", BUILD / "venv", CLIENTS / "requirements.txt"],
                          capture_output=True, text=True)
    need(made.returncode == 0, made.stdout.strip() or made.stderr.strip())
    return BUILD / "venv" / "bin" / "python"


@pytest.fixture(scope="module")
def d():
    with HttpDaemon("--ctx", "2048", "--alias", "demo") as daemon:
        yield daemon


@pytest.mark.parametrize("program", sorted(p.stem for p in CLIENTS.glob("*.py")))
def test_client(python, d, program):
    if program == "page_client":
        need(shutil.which("chromium"), "the page is looked at in chromium, which is not here")
    p = subprocess.run([python, CLIENTS / f"{program}.py", f"http://127.0.0.1:{d.port}"], capture_output=True, text=True,
                       timeout=120)
    assert p.returncode == 0, p.stdout + p.stderr
    assert p.stdout.strip().endswith("all as expected")
