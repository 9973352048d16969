#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What reading experts ahead of layers gains, beside what overlap allows, on this machine and file.

    tests/bench/ahead.py --build build --model FILE [--budget 50%] [--tokens 32] [--repetitions 3] [--rounds 2] [--json OUT]

A first daemon records a trace of the requests. Then, in every round, each way of guessing in turn and back again (A-B-B-A):
off, an oracle that knows 0.8 and all of what will be used, the router, and auto; the same requests each time, so the same
experts. Of a token without guesses: C, its time without waits for reads; R, the time in which at least one read was under
way. With perfect overlap a token takes the longer of the two; the share reached is that, over what it took. Direct reads
come behind no page cache. Other programs' share of the processors stands beside each run; above --disturbed a way's ratios,
and all where it was the runs without guesses, are left out but with --anyway. It judges nothing, it reports.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402
from compare import Daemon  # noqa: E402

WAYS = ("off", "oracle:0.8", "oracle:1", "router", "auto")


def settled(d):
    """The daemon's status once it is ready and its slots are full."""
    while True:
        time.sleep(0.5)
        if not pathlib.Path(d.socket).exists():
            continue
        s = json.loads(d.ask_text("status"))
        if s["state"] == "ready" and not s["filling"]:
            return s


def one(args, way, trace=None):
    options = ["--threads", args.threads, "--parallel", 1, "--ctx", 1024, "--host-budget", args.budget, "--spec", "off"]
    guess = f"{way}:{trace}" if way.startswith("oracle") else way
    options += ["--trace", trace] if way == "record" else ["--predict", guess]
    if way == "record":
        options += ["--overwrite", "--predict", "off"]
    with Bench(args.build, args.model, *options) as d:
        before = settled(d)
        with machine.Foreign(d.process.pid) as load:
            row = json.loads(d.ask_text("bench", "-p", 0, "-n", args.tokens, "-r", args.repetitions, "--no-warmup"))[0]
        after = json.loads(d.ask_text("status"))
    tokens = args.tokens * args.repetitions
    ns = statistics.median(row["samples_ns"]) / args.tokens
    return {"way": way, "ms": ns / 1e6, "stall_ms": row["stall_seconds"] * 1e3 / tokens,
            "read_ms": (after["read_busy_seconds"] - before["read_busy_seconds"]) * 1e3 / tokens,
            "read_bytes": (after["bytes_read"] - before["bytes_read"]) / tokens,
            "hit_ratio": row["hit_ratio"], "io": row["io"], "others": load.share, "prediction": after["prediction"]}


class Bench(Daemon):
    def ask_text(self, verb, *args):
        p = subprocess.run([self.build / "sluice", verb, "--socket", self.socket, "--json", *map(str, args)],
                           capture_output=True, text=True, timeout=3600)
        if p.returncode:
            self.fail(f"sluice {verb}: exit {p.returncode}: {p.stderr.strip()}")
        return p.stdout


def report(args, runs):
    """Prints the table; whether nothing was left out of it."""
    off = [r for r in runs if r["way"] == "off"]
    compute = statistics.median(r["ms"] - r["stall_ms"] for r in off)
    read = statistics.median(r["read_ms"] for r in off)
    plain = statistics.median(r["ms"] for r in off)
    rate = statistics.median(r["read_bytes"] / r["read_ms"] for r in off if r["read_ms"]) / 1e6
    others = {way: statistics.median(r["others"] for r in runs if r["way"] == way) for way in WAYS}
    quiet = {way: args.anyway or max(others[way], others["off"]) <= args.disturbed for way in WAYS}
    possible = f"{plain / max(compute, read):.2f} times as fast" if quiet["off"] else "(disturbed)"
    print(f"one token without guesses: {plain:.2f} ms; C {compute:.2f} ms, R {read:.2f} ms at {rate:.2f} GB/s ({off[0]['io']}); "
          f"perfect overlap {max(compute, read):.2f} ms, {possible}\n")
    print("| guesses | ms a token | gain | share of what overlap allows | stalled ms | disk busy ms | recall | read ahead | "
          "in time | late | not needed | others' load |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for way in WAYS:
        mine = [r for r in runs if r["way"] == way]
        ms = statistics.median(r["ms"] for r in mine)
        p = mine[-1]["prediction"]
        recall = "" if p["recall"] is None else f"{100 * p['recall']:.1f} %"
        ratios = f"{plain / ms:.2f} | {max(compute, read) / ms:.2f}" if quiet[way] else "(disturbed) | "
        print(f"| {way} | {ms:.2f} | {ratios} | "
              f"{statistics.median(r['stall_ms'] for r in mine):.2f} | {statistics.median(r['read_ms'] for r in mine):.2f} | "
              f"{recall} | {p['reads']} | {p['useful']} | {p['late']} | "
              f"{p['wasted']} | {100 * others[way]:.0f} % |")
    return all(quiet.values())


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default="build")
    p.add_argument("--model", required=True)
    p.add_argument("--budget", default="50%")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--tokens", type=int, default=32)
    p.add_argument("--repetitions", type=int, default=3)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--disturbed", type=float, default=0.1, help="processors used by others that spoil a way's runs")
    p.add_argument("--anyway", action="store_true")
    p.add_argument("--json")
    args = p.parse_args()
    runs = []
    with tempfile.TemporaryDirectory(prefix="sluice-ahead-") as where:
        trace = pathlib.Path(where) / "trace"
        one(args, "record", trace)
        for _ in range(args.rounds):
            for way in (*WAYS, *reversed(WAYS)):
                runs.append(one(args, way, trace))
                print(f"{way}: {runs[-1]['ms']:.2f} ms a token", file=sys.stderr)
    good = report(args, runs)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(runs, indent=1))
    return 0 if good else 3


if __name__ == "__main__":
    sys.exit(main())
