# SPDX-License-Identifier: MIT
"""Control groups of a test's own, version 1 or 2, whichever this machine has a controller in. Standard library only."""
import os
import pathlib
import re
import time

from daemon import need

FILES = {("memory", 1): ["memory.limit_in_bytes"], ("memory", 2): ["memory.max"],
         ("cpu", 1): ["cpu.cfs_period_us", "cpu.cfs_quota_us"], ("cpu", 2): ["cpu.max"]}


def hierarchy(controller):
    """(version, mount point) of a controller, or (0, None)."""
    for line in open("/proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        point = pathlib.Path(left.split()[4])
        kind, _, options = right.split()[:3]
        if kind == "cgroup" and controller in options.split(","):
            return 1, point
        available = point / "cgroup.controllers"
        if kind == "cgroup2" and available.exists() and controller in available.read_text().split():
            return 2, point
    return 0, None


class Group:
    """with Group("memory", 400 << 20) as g: ...; the test is skipped, by name, where no group can be made.

    memory: a limit in bytes; cpu: CPUs, 1.5 for one and a half. @parent: a Group that this one lies in."""

    def __init__(self, controller, limit, parent=None):
        self.controller, self.limit, self.parent = controller, limit, parent

    def __enter__(self):
        need(os.geteuid() == 0, f"no {self.controller} control group can be made: not root")
        self.version, point = hierarchy(self.controller)
        need(self.version, f"no {self.controller} control group can be made: the controller is not mounted")
        above = self.parent.path if self.parent else point
        self.path = above / f"sluice-test-{os.getpid()}-{time.monotonic_ns()}"
        try:
            if self.version == 2:
                (above / "cgroup.subtree_control").write_text(f"+{self.controller}")
            self.path.mkdir()
            for name, value in zip(FILES[self.controller, self.version], self.values()):
                (self.path / name).write_text(value)
        except OSError as e:
            if self.path.exists():
                self.path.rmdir()
            need(False, f"no {self.controller} control group can be made: {e}")
        return self

    def values(self):
        if self.limit is None:
            return []
        if self.controller == "memory":
            return [str(self.limit)]
        quota = str(int(self.limit * 100000))
        return ["100000", quota] if self.version == 1 else [quota + " 100000"]

    def __exit__(self, *exc):
        end = time.monotonic() + 60
        while True:
            try:
                self.path.rmdir()
                return
            except OSError:  # its last process is still on the way out
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def prefix(self):
        """What makes a command run in the group: put before it."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.path / "cgroup.procs")]

    def kills(self):
        """How often a process of the group was killed for memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        return int(re.search(r"oom_kill (\d+)", (self.path / name).read_text())[1])
