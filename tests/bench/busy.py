#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Decode on a busy machine: beside another program on one core, and while slots are filled from disk.

    tests/bench/busy.py --build build --model FILE [--peer build/peer/bin ..] [--tokens 64] [--rounds 2] [--json OUT]

In every round, and for each kind of company: alone, with it, with it, alone (A-B-B-A), ours and each --peer's (llama.cpp,
ik_llama.cpp: a folder with llama-bench). The ratio is of medians. Kinds of company: one endless loop of equal weight that may run anywhere, and one
bound to the first or to the last core that may be used. Then the fill: a daemon that has just begun to fill its slots is
asked for the same tokens again and again (the first time brings their experts), in turn with one that is full; the
one's speed over the other's. The memory's rate is measured before and behind each: what had another than most is left out, for on a virtual
machine it may change within seconds and speed with it. Says how much of the processors neither side nor the loop used; above --disturbed no ratio is printed but
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
    out, rate = [], machine.read_rate(args.build)
    for kind, cpus in kinds:
        runs = []
        for _ in range(args.rounds):
            for company in (None, cpus, cpus, None):
                samples, share, f = measured(fn, pid, company)
                before, rate = rate, machine.read_rate(args.build)
                runs.append({"with": company is not None, "samples": samples, "loop": share, "others": f.share,
                             "rates": [before, rate]})
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
    runs = []
    with cold(args) as full:
        full.filled()
        full.ask(*request)
        with cold(args) as d:
            while not os.path.exists(d.socket) or d.ask("status")["state"] != "ready":
                time.sleep(0.05)
            d.ask(*request)
            with machine.Foreign(d.process.pid, full.process.pid) as f:
                d.process.send_signal(signal.SIGSTOP)
                rate = machine.read_rate(args.build)
                for side in ["filling", "full", "full", "filling"] * 2 * args.repetitions:
                    if side == "filling":
                        d.process.send_signal(signal.SIGCONT)
                    row = (d if side == "filling" else full).ask(*request)[0]
                    d.process.send_signal(signal.SIGSTOP)
                    before, rate = rate, machine.read_rate(args.build)
                    runs.append({"side": side, "ts": row["avg_ts"], "hit_ratio": row["hit_ratio"], "rates": [before, rate]})
            d.process.send_signal(signal.SIGCONT)
            still = d.ask("status")["filling"]
    kept = steady_runs(runs)
    return {**{side: [r["ts"] for r in kept if r["side"] == side] for side in ("filling", "full")}, "others": f.share,
            "still_filling": still, "left_out": len(runs) - len(kept),
            "hit_ratio": min(r["hit_ratio"] for r in runs if r["side"] == "filling")}


def steady_runs(runs):
    """Those with the memory's rate that most of them had."""
    usual = statistics.median_low(rate for r in runs for rate in r["rates"])
    return [r for r in runs if machine.steady([usual, *r["rates"]])]


def ratio(kept):
    """Speed beside it over speed alone (None where all runs of one were left out), and alone."""
    alone, beside = ([s for r in kept if r["with"] == with_it for s in r["samples"]] for with_it in (False, True))
    if not alone or not beside:
        return None, None
    return statistics.median(beside) / statistics.median(alone), statistics.median(alone)


def report(args, parts, fill):
    if parts:
        print("| company | side | alone, t/s | beside it | the loop got |\n|---|---|---|---|---|")
    for p in parts:
        kept = steady_runs(p["runs"])
        r, alone = ratio(kept)
        others = max(run["others"] for run in p["runs"])
        got = statistics.median(run["loop"] for run in p["runs"] if run["with"])
        if r is None:
            print(f"| {p['company']} | {p['side']} | | (memory changed) | {got:.2f} of a core (others {others:.2f}) |")
            continue
        told = f"{r:.2f}" if args.anyway or others <= args.disturbed else "(disturbed)"
        left = len(p["runs"]) - len(kept)
        changed = f", memory changed in {left} of {len(p['runs'])} runs" if left else ""
        print(f"| {p['company']} | {p['side']} | {alone:.1f} | {told} | {got:.2f} of a core (others {others:.2f}{changed}) |")
    for f in fill:
        if not f["filling"] or not f["full"]:
            print("\nduring the fill: (memory changed)")
            continue
        r = statistics.median(f["filling"]) / statistics.median(f["full"])
        told = f"{r:.2f}" if args.anyway or f["others"] <= args.disturbed else "(disturbed)"
        print(f"\nduring the fill: {told} of {statistics.median(f['full']):.1f} t/s when it is full; hit rate "
              f"{100 * f['hit_ratio']:.1f} %, {'filling to the end' if f['still_filling'] else 'the fill ended meanwhile'}, "
              f"others {f['others']:.2f}{', memory changed in %d runs' % f['left_out'] if f['left_out'] else ''}")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    peers.add_options(p)
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
