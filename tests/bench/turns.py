#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Decode of Sluice beside llama.cpp and ik_llama.cpp where the memory's rate changes within seconds.

    tests/bench/turns.py --build build --peer build/peer/bin [--peer build/ik/bin] --model FILE [--seconds 180]

A virtual machine whose host moves its processors between cores reads memory at one rate now and at another a few seconds
later, and a comparison of a minute falls into both. Here each side generates once (tg64, a second or two) between two
measurements of the read rate (`sluice doctor`), ours first and last in each round, and a run counts for a band of rates,
--bands 0,43,47,999 by default, only where both measurements lie in it. What lies between two bands, or changed, is left out,
and so is a run in which others used more of the processors than --disturbed.

For each band: each side's median, quartiles and number of runs, ours over theirs, and the share of the read rate that ours
had (bytes of weights, keys, values and state that it read, over the mean of both measurements). Our daemon stays, so there
must be room for the file twice. Judges nothing, it reports.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402
import peers  # noqa: E402
from compare import Daemon, rows_of  # noqa: E402


class Turns:
    """Every run: side, tokens per second, the rates before and behind it, GB/s of ours, what others used."""

    def __init__(self, args):
        self.args, self.runs, self.rate = args, [], machine.read_rate(args.build)

    def run(self, side, fn, pid=None):
        with machine.Foreign(pid) as f:
            row = fn()
        time.sleep(self.args.pause)
        after = machine.read_rate(self.args.build)
        self.runs.append({"side": side, "ts": row["samples_ts"][0], "before": self.rate, "after": after,
                          "gbs": row.get("memory_gbs"), "foreign": round(f.share, 3)})
        self.rate = after

    def of(self, side, low, high):
        return [r for r in self.runs if r["side"] == side and r["foreign"] <= self.args.disturbed
                and all(low <= r[when] < high for when in ("before", "after"))]


def take_turns(args, daemon):
    turns, generate = Turns(args), ["-p", "0", "-n", args.generate, "-r", 1]
    end = time.monotonic() + args.seconds

    def ours():
        turns.run("sluice", lambda: rows_of(daemon.ask("bench", *generate))[0], daemon.process.pid)

    while time.monotonic() < end:
        ours()
        for peer in args.peers:
            turns.run(peer.name, lambda: peer.rows(args.model, 1, peer.tests(0, args.generate, [0]))[0])
        ours()
    return turns


def spread(runs):
    speeds = sorted(r["ts"] for r in runs)
    if len(speeds) < 2:
        return f"{speeds[0]:.1f} (1 run)"
    low, middle, high = statistics.quantiles(speeds, n=4, method="inclusive")
    return f"{middle:.1f} ({low:.1f} to {high:.1f}, {len(speeds)} runs)"


def table(turns, args):
    lines = ["| memory, GB/s | sluice, tok/s | of the read rate | beside it | tok/s | ratio |", "|---|---|---|---|---|---|"]
    edges = list(map(float, args.bands.split(",")))
    for low, high in zip(edges, edges[1:]):
        ours = turns.of("sluice", low, high)
        if not ours:
            continue
        rates = [(r["before"] + r["after"]) / 2 for r in ours]
        share = statistics.median(r["gbs"] / rate for r, rate in zip(ours, rates)) if ours[0]["gbs"] else None
        for peer in args.peers:
            theirs = turns.of(peer.name, low, high)
            if theirs:
                ratio = statistics.median(r["ts"] for r in ours) / statistics.median(r["ts"] for r in theirs)
                lines.append(f"| {statistics.median(rates):.1f} | {spread(ours)} | {f'{100 * share:.0f} %' if share else ''} | "
                             f"{peer.name} | {spread(theirs)} | {ratio:.2f} |")
    return lines


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peers.add_options(p)
    p.add_argument("--level", default="auto", help="CPU level of ours: auto, avx512, avx2")
    p.add_argument("--generate", type=int, default=64)
    p.add_argument("--seconds", type=int, default=180)
    p.add_argument("--pause", type=float, default=1, help="seconds behind each run: a host takes freed memory back meanwhile")
    p.add_argument("--bands", default="0,43,47,999", help="borders of bands of the read rate, GB/s")
    p.add_argument("--disturbed", type=float, default=0.1, help="processors used by others that spoil a run")
    p.add_argument("--json", help="where all runs go")
    args = p.parse_args()
    args.peers = peers.of(args)
    if not args.peers:
        sys.exit("turns.py: no llama-bench: tests/bench/peer/build.sh llama-bench makes one")
    with Daemon(args.build, args.model, "--threads", args.threads, "--cpu", args.level, "--host-budget", "100%", "--spec",
                "off") as daemon:
        level = daemon.filled()["cpu"]
        turns = take_turns(args, daemon)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(turns.runs, indent=1))
    spoilt = sum(r["foreign"] > args.disturbed for r in turns.runs)
    print(f"{machine.title(machine.describe(), args, level)}; {len(turns.runs)} runs, {spoilt} disturbed\n")
    print("\n".join(table(turns, args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
