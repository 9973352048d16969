# SPDX-License-Identifier: MIT
"""Counts for the last line of `make test`: with TEST_RESULTS=file the sums of a run and the names of what was skipped
and what failed are appended there, in the form that tests/all.sh reads."""
import os


def pytest_terminal_summary(terminalreporter):
    path = os.environ.get("TEST_RESULTS")
    if not path or "PYTEST_XDIST_WORKER" in os.environ:  # who hands out the tests counts all of them
        return
    stats = lambda *kinds: [r for kind in kinds for r in terminalreporter.stats.get(kind, [])]
    passed, failed, skipped = stats("passed"), stats("failed", "error"), stats("skipped")
    with open(path, "a") as f:
        print("count", len(passed), len(failed), len(skipped), sep="\t", file=f)
        for r in failed:
            print("fail", r.nodeid, sep="\t", file=f)
        for r in skipped:
            reason = r.longrepr[2] if isinstance(r.longrepr, tuple) else str(r.longrepr)
            print("skip", r.nodeid, reason.removeprefix("Skipped: ").replace("\n", " "), sep="\t", file=f)
