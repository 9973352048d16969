# SPDX-License-Identifier: MIT
"""Description: the sluice command as a program among others: its descriptors, its output, its options."""
import json
import os
import subprocess

import pytest

from daemon import BUILD, DEMO, Daemon


@pytest.fixture(scope="module")
def d():
    with Daemon(DEMO, "--ctx", "2048", "--parallel", "2", "--threads", "2") as daemon:
        yield daemon


def shell(command, **kw):
    """A line for sh, with $SLUICE and $S (the socket) in its environment."""
    env = {**os.environ, "SLUICE": str(BUILD / "sluice"), "SLUICED": str(BUILD / "sluiced"), **kw.pop("env", {})}
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, env=env, **kw)


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
        assert daemon.wait(30) == 0
