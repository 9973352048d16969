# SPDX-License-Identifier: MIT
"""Published programs against the daemon (make test-clients): NAME_client.py in an environment of NAME.txt's packages, each for
itself because they want different releases of the same. docs/frontends.md has the dated result."""
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from daemon import BUILD, ROOT, need  # noqa: E402
from http_client import HttpDaemon  # noqa: E402


@pytest.fixture(scope="module")
def d():
    with HttpDaemon("--ctx", "16384", "--parallel", "2") as daemon:
        yield daemon


@pytest.mark.parametrize("name", sorted(p.stem for p in HERE.glob("*.txt")))
def test_frontend(d, name):
    venv = BUILD / "clients" / name
    made = subprocess.run([ROOT / "scripts" / "venv.sh", venv, HERE / f"{name}.txt", "uv"], capture_output=True, text=True)
    need(made.returncode == 0, made.stdout.strip() or made.stderr.strip())
    asked = d.get("/metrics")[2].decode().split("\nsluice_http_requests_total ")[1].split()[0]
    p = subprocess.run([venv / "bin" / "python", HERE / f"{name}_client.py", f"http://127.0.0.1:{d.port}"], capture_output=True,
                       text=True, timeout=600)
    print(p.stdout)
    assert p.returncode == 0, p.stdout + p.stderr
    assert p.stdout.strip().endswith("all as expected")
    assert int(d.get("/metrics")[2].decode().split("\nsluice_http_requests_total ")[1].split()[0]) > int(asked) + 1
