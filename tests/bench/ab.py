#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Two builds of Sluice, or two ways to start one, side by side: both daemons up, benched in turn A-B-B-A.

    tests/bench/ab.py --model FILE --a build --b OLD [--a-args '--cpu avx2'] [--b-args ...] [--rounds 5] [--bench '-p 0 -n 64']

OLD is any folder with the `sluice` and `sluiced` of another commit. Both have the whole model in memory, so there must be
room for it twice. For each test: the medians of both, and of A's speed over B's within a pair of runs, with its quartiles,
which say what it is worth. Says how much of the processors others used.
"""
import argparse
import pathlib
import shlex
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402
from compare import Daemon, label  # noqa: E402


def speeds(daemon, bench):
    """Tokens per second of each test, by its name."""
    rows = daemon.ask("bench", "-r", 1, *bench)
    return {label(row): row["samples_ts"][0] for row in rows}


def rounds(args, a, b):
    """One {test: [(a, b), (a, b)]}: two pairs a round, the second in the other order."""
    pairs = {}
    for _ in range(args.rounds):
        first = speeds(a, args.bench), speeds(b, args.bench)
        second = speeds(b, args.bench), speeds(a, args.bench)
        for test in first[0]:
            pairs.setdefault(test, []).extend([(first[0][test], first[1][test]), (second[1][test], second[0][test])])
    return pairs


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", required=True)
    p.add_argument("--a", default="build")
    p.add_argument("--b", default="build")
    p.add_argument("--a-args", type=shlex.split, default=[], help="of sluiced A")
    p.add_argument("--b-args", type=shlex.split, default=[], help="of sluiced B")
    p.add_argument("--bench", type=shlex.split, default=["-p", "0", "-n", "64"], help="of sluice bench")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    args = p.parse_args()
    common = "--threads", args.threads, "--host-budget", "100%"
    with Daemon(args.a, args.model, *common, *args.a_args) as a, Daemon(args.b, args.model, *common, *args.b_args) as b:
        a.filled(), b.filled()
        speeds(a, args.bench), speeds(b, args.bench)
        with machine.Foreign(a.process.pid, b.process.pid) as load:
            pairs = rounds(args, a, b)
    print("| test | A | B | A over B, by pairs | quartiles |\n|---|---|---|---|---|")
    for test, both in pairs.items():
        ratio = [x / y for x, y in both]
        low, _, high = statistics.quantiles(ratio, n=4)
        print(f"| {test} | {statistics.median(x for x, _ in both):.1f} | {statistics.median(y for _, y in both):.1f} | "
              f"{statistics.median(ratio):.3f} | {low:.3f} to {high:.3f} |")
    print(f"\nothers used {load.share:.2f} processors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
