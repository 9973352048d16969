# SPDX-License-Identifier: MIT
"""Description: who may not install packages is told all that a target needs at once, in one command."""
import os
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')


@pytest.fixture
def bare(tmp_path):
    """The environment of a user who is not root, on a machine without any of the packages."""
    for name, does in (("dpkg-query", "exit 1"), ("apt-get", "exit 1"), ("id", "echo 1000")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    return dict({k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"},
                PATH=f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.parametrize("target,packages", [("run", ["gcc"]), ("install", ["gcc", "scdoc"]), ("deb", ["gcc", "scdoc", "debhelper"]),
                                             ("test", ["gcc", "scdoc", "libcmocka-dev", "qemu-system-x86"])])
def test_one_command_for_all(bare, target, packages):
    p = subprocess.run(["make", "-C", ROOT, "--no-print-directory", target], env=bare, capture_output=True, text=True)
    assert p.returncode == 2
    command = [line for line in p.stderr.splitlines() if "sudo apt-get install" in line]
    assert len(command) == 1 and set(packages) <= set(command[0].split()), p.stderr
