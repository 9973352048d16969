#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Decode on a busy machine: beside another program on one core, and while slots are filled from disk.

    tests/bench/busy.py --build build --model FILE [--peer build/peer/bin ..] [--tokens 64] [--rounds 2] [--json OUT]

In every round, and for each kind of company: alone, with it, with it, alone (A-B-B-A), ours and each --peer's (llama.cpp,
ik_llama.cpp: a folder with llama-bench). The ratio is of medians. Kinds of company: one endless loop of equal weight that may run anywhere, and one
bound to the first or to the last core that may be used. Then the fill: a daemon that has just begun to fill its slots is
asked for the same tokens again and again (the first time brings their experts), in turn with one that is full; the
one's speed over the other's. Says how much of the processors neither side nor the loop used; above --disturbed no ratio is printed but
with --anyway. It judges nothing, it reports.
"""
import argparse
import json
import os
import pathlib
import signal
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402
import peers  # noqa: E402
from compare import Daemon  # noqa: E402


class Loop:
    """An endless loop on @cpus, until the block ends; share: processors that it got."""

    def __init__(self, cpus):
        self.cpus = cpus

    def __enter__(self):
        self.pid = os.fork()
        if not self.pid:
            os.sched_setaffinity(0, self.cpus)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            while True:
                pass
        time.sleep(0.2)
        self.start = time.monotonic(), machine._process_seconds(self.pid)
        return self

    def __exit__(self, *exc):
        wall = time.monotonic() - self.start[0]
        self.share = (machine._process_seconds(self.pid) - self.start[1]) / wall
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def ours(args, daemon):
    rows = daemon.ask("bench", "-p", 0, "-n", args.tokens, "-r", args.repetitions)
    return rows[0]["samples_ts"]


def measured(fn, pid, cpus):
    """Samples of fn() beside a loop on @cpus (None: alone), the loop's share, and the others'."""
    with machine.Foreign(pid) as f:
        if cpus is None:
            return fn(), 0.0, f
        with Loop(cpus) as loop:
            samples = fn()
        # a child that was waited for is ours to machine.Foreign
        return samples, loop.share, f


def series(args, name, fn, pid, kinds):
    out = []
    for kind, cpus in kinds:
        runs = []
        for _ in range(args.rounds):
            for company in (None, cpus, cpus, None):
                samples, share, f = measured(fn, pid, company)
                runs.append({"with": company is not None, "samples": samples, "loop": share, "others": f.share})
                print(f"  {name}, {kind if company else 'alone'}: {statistics.median(samples):.1f} t/s "
                      f"(loop {share:.2f}, others {f.share:.2f} processors)", file=sys.stderr)
        out.append({"side": name, "company": kind, "runs": runs})
    return out


def cold(args):
    return Daemon(args.build, args.model, "--threads", args.threads, "--host-budget", "100%", "--spec", "off")


def while_filling(args):
    """Two daemons in turns, since memory has fast and slow minutes: one that is full, and a cold one that has just begun to fill. That one is
    stopped while the other is asked, or it would fill at full speed beside it."""
    request = ("bench", "-p", 0, "-n", args.tokens, "-r", 1, "--no-warmup")
    machine.drop_file(args.model)
    rows = {"filling": [], "full": []}
    with cold(args) as full:
        full.filled()
        full.ask(*request)
        with cold(args) as d:
            while not os.path.exists(d.socket) or d.ask("status")["state"] != "ready":
                time.sleep(0.05)
            d.ask(*request)
            with machine.Foreign(d.process.pid, full.process.pid) as f:
                for side in (["filling", "full", "full", "filling"] * args.repetitions)[:2 * args.repetitions]:
                    d.process.send_signal(signal.SIGSTOP if side == "full" else signal.SIGCONT)
                    rows[side].append((d if side == "filling" else full).ask(*request)[0])
            d.process.send_signal(signal.SIGCONT)
            still = d.ask("status")["filling"]
    return {**{side: [r["avg_ts"] for r in runs] for side, runs in rows.items()}, "others": f.share, "still_filling": still,
            "hit_ratio": min(r["hit_ratio"] for r in rows["filling"])}


def ratio(run):
    def median(with_it):
        return statistics.median(s for r in run["runs"] if r["with"] == with_it for s in r["samples"])

    return median(True) / median(False), median(False)


def report(args, parts, fill):
    print("| company | side | alone, t/s | beside it | the loop got |\n|---|---|---|---|---|")
    for p in parts:
        r, alone = ratio(p)
        others = max(run["others"] for run in p["runs"])
        got = statistics.median(run["loop"] for run in p["runs"] if run["with"])
        told = f"{r:.2f}" if args.anyway or others <= args.disturbed else "(disturbed)"
        print(f"| {p['company']} | {p['side']} | {alone:.1f} | {told} | {got:.2f} of a core (others {others:.2f}) |")
    for f in fill:
        r = statistics.median(f["filling"]) / statistics.median(f["full"])
        told = f"{r:.2f}" if args.anyway or f["others"] <= args.disturbed else "(disturbed)"
        print(f"\nduring the fill: {told} of {statistics.median(f['full']):.1f} t/s when it is full; hit rate "
              f"{100 * f['hit_ratio']:.1f} %, {'filling to the end' if f['still_filling'] else 'the fill ended meanwhile'}, "
              f"others {f['others']:.2f}")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default="build")
    peers.add_option(p)
    p.add_argument("--model", required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--tokens", type=int, default=64)
    p.add_argument("--repetitions", type=int, default=3)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--only", default="loop,fill")
    p.add_argument("--disturbed", type=float, default=0.1, help="processors used by others that spoil a run")
    p.add_argument("--anyway", action="store_true")
    p.add_argument("--json")
    args = p.parse_args()
    args.model = os.path.abspath(args.model)
    cpus = sorted(os.sched_getaffinity(0))[:args.threads]
    kinds = [("a loop anywhere", set(cpus)), (f"a loop on core {cpus[0]}", {cpus[0]}),
             (f"a loop on core {cpus[-1]}", {cpus[-1]})]
    parts, fill = [], []
    if "loop" in args.only:
        with Daemon(args.build, args.model, "--threads", args.threads, "--host-budget", "100%", "--parallel", 1, "--ctx",
                    1024, "--spec", "off") as d:
            d.filled()
            parts += series(args, "sluice", lambda: ours(args, d), d.process.pid, kinds)
        for peer in peers.of(args):
            tests = peer.tests(0, args.tokens, [0])
            parts += series(args, peer.name, lambda: peer.rows(args.model, args.repetitions, tests)[0]["samples_ts"], None, kinds)
    if "fill" in args.only:
        fill = [while_filling(args) for _ in range(args.rounds)]
    report(args, parts, fill)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"loops": parts, "fill": fill}, indent=1))


if __name__ == "__main__":
    main()
