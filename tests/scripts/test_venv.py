# SPDX-License-Identifier: MIT
"""Description: scripts/venv.sh makes an environment once, however many tests ask for it at the same time."""
import fcntl
import os
import subprocess
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')


def test_one_at_a_time(tmp_path):
    """Who comes while another makes it waits, takes what that one made and does not begin anew."""
    made, wanted = tmp_path / "venv", tmp_path / "requirements.txt"
    wanted.write_text("")
    made.mkdir()
    with open(tmp_path / "venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        p = subprocess.Popen([os.path.join(ROOT, "scripts/venv.sh"), made, wanted])
        time.sleep(1)  # it would be at work by now
        (made / "made").write_text("")
    assert p.wait(120) == 0 and [f.name for f in made.iterdir()] == ["made"]
