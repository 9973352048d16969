#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Sluice against llama.cpp and ik_llama.cpp on the same file, threads and machine, side by side in one run.

    tests/bench/compare.py --build build --peer build/peer/bin [--peer build/ik/bin] --model FILE [--only memory,half]

Each --peer is a folder with a llama-bench; options for it may stand behind it: --peer "build/ik/bin -rtr 1".
--level avx2 holds ours to that CPU level; the peer is then one that was built for it (PEER_LEVEL, peer/build.sh).
The cores' multiply-adds stay those of the machine's best level.

memory  the whole model in memory: prompt (pp512) and generation (tg64), A-B-B-A in every round
depths  the same behind each of --depths tokens, where one is asked for: a run of each side, --depth-rounds times,
        and either side's speed over its own without them in the same run. Reading those tokens takes
        most of the time: with 0,8192,32768 about five minutes a run of eight layers of the 35B shape.
        ik_llama.cpp's llama-bench reads no prompt behind others: of it there is generation alone
half    half of the file's bytes allowed: both in a memory cgroup of that size. The peer maps the file
        (without repacking, which would need a second copy); ours gets --host-budget so that expert slots,
        dense weights, KV cache and everything else of the process stay within the limit. fio reads the same
        file between the runs, with the same request size, depth and kind of buffer.

Of ours it also says which share of the cores' multiply-adds of bytes the products of prompts were, how many
multiply-adds of floats attention made beside them, and which share of the memory's read rate decode had, keys, values
and state included; `sluice doctor` measures both peaks just before.

Prints Markdown; --json writes every sample. Ratios are of medians. Each figure stands beside the share of
processors that other programs used meanwhile: above --disturbed a run is repeated, up to --tries times, and a part with one
that stayed disturbed has no ratios but with --anyway (exit status 3).
Never a timed test: it judges nothing, it reports.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402
import peers  # noqa: E402


class Daemon:
    """sluiced on a socket of its own, until the block ends."""

    def __init__(self, build, model, *args, limit=None):
        self.build, self.dir = pathlib.Path(build), tempfile.mkdtemp(prefix="sluice-bench-")
        self.socket = os.path.join(self.dir, "s")
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.process = subprocess.Popen(
            [self.build / "sluiced", "--model", model, "--socket", self.socket, *map(str, args)], stderr=self.log,
            stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, preexec_fn=limit.join if limit else None)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def fail(self, why):
        self.log.seek(0)
        raise RuntimeError(f"{why}\n{self.log.read()}")

    def ask(self, verb, *args, timeout=1800):
        p = subprocess.run([self.build / "sluice", verb, "--socket", self.socket, "--json", *map(str, args)],
                           capture_output=True, text=True, timeout=timeout)
        if p.returncode:
            self.fail(f"sluice {verb}: exit {p.returncode}: {p.stderr.strip()}")
        return json.loads(p.stdout)

    def filled(self, seconds=600):
        """Waits until the budget is full; returns the status."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self.fail(f"sluiced ended with {self.process.returncode}")
            if os.path.exists(self.socket):
                try:
                    status = self.ask("status")
                    if status["state"] == "ready" and not status["filling"]:
                        return status
                except RuntimeError:
                    pass  # not listening yet
            time.sleep(0.1)
        self.fail(f"not ready after {seconds} s")


class Runs:
    """Runs both sides, each until it was left alone, and keeps every sample."""

    def __init__(self, args):
        self.args, self.log = args, []

    def measured(self, name, fn, pid=None):
        """fn() gives rows; the least disturbed of up to --tries attempts counts."""
        best = None
        for attempt in range(self.args.tries):
            machine.wait_quiet(self.args.quiet)
            with machine.Foreign(pid) as f:
                rows = fn()
            run = {"side": name, "foreign": round(f.share, 3), "theft": round(f.theft, 3), "rows": rows}
            print(f"  {name}: {', '.join(text_of(r) for r in rows)} (others used {f.share:.2f} processors, "
                  f"the host {f.theft:.2f} of it)", file=sys.stderr)
            if best is None or run["foreign"] < best["foreign"]:
                best = run
            if f.share <= self.args.disturbed:
                break
        self.log.append(best)
        return best

    def peer(self, peer, tests, reps, limit=None, extra=()):
        return self.measured(peer.name, lambda: peer.rows(self.args.model, reps, tests, limit, extra))

    def ours(self, daemon, tests, reps):
        return self.measured("sluice", lambda: rows_of(daemon.ask("bench", *tests, "-r", reps)),
                             daemon.process.pid)


def rows_of(answer):
    return answer if isinstance(answer, list) else answer["rows"]


def label(row):
    depth = f" @ d{row['n_depth']}" if row.get("n_depth") else ""
    return (f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}") + depth


def text_of(row):
    return f"{label(row)} {row['avg_ts']:.1f} t/s"


def samples(runs, side, test):
    return [ts for run in runs if run["side"] == side for row in run["rows"] if label(row) == test
            for ts in row["samples_ts"]]


def compare(runs, tests):
    """[{test, peer, sluice, of the peer, ratio, pairs}] for each peer: medians, and the ratio of each run of ours to the
    peer's run of the same place in the order. A test that a peer cannot run has no row of it."""
    out = []
    of_side = {side: [run for run in runs if run["side"] == side] for side in dict.fromkeys(run["side"] for run in runs)}
    for test, peer in ((test, peer) for test in tests for peer in of_side if peer != "sluice"):
        ours, theirs = samples(runs, "sluice", test), samples(runs, peer, test)
        if not ours or not theirs:
            continue
        pairs = []
        for a, b in zip(of_side["sluice"], of_side[peer]):
            x, y = samples([a], "sluice", test), samples([b], peer, test)
            if x and y:
                pairs.append(round(statistics.median(x) / statistics.median(y), 3))
        o, p = statistics.median(ours), statistics.median(theirs)
        out.append({"test": test, "peer": peer, "sluice": o, "theirs": p, "ratio": o / p, "pair_ratios": pairs})
    return out


def prepared(args):
    """`sluice doctor`'s peaks, for bench."""
    peaks = machine.peaks(args.build)
    pathlib.Path(args.peaks).write_text(json.dumps(peaks))
    return peaks


def our_run(args, runs, tests, reps, ctx):
    """A daemon for each run: nothing of ours is in memory while the peer runs."""
    machine.wait_quiet(args.quiet)
    peaks = prepared(args)
    with Daemon(args.build, args.model, "--threads", args.threads, "--cpu", args.level, "--host-budget", "100%", "--spec", "off",
                *ctx) as d:
        status = d.filled()
        runs.ours(d, [*tests, "--peaks", args.peaks], reps)["peaks"] = peaks
    return status


def labels(args, depths):
    return [label({"n_prompt": p, "n_gen": n, "n_depth": d}) for d in depths
            for p, n in ((args.prompt, 0), (0, args.generate)) if p or n]


def in_memory(args):
    runs, tests, status = Runs(args), ["-p", str(args.prompt), "-n", str(args.generate)], None
    print(f"in memory: {args.rounds} rounds of sluice, {', '.join(p.name for p in args.peers)}, and back", file=sys.stderr)
    for _ in range(args.rounds):
        status = our_run(args, runs, tests, args.reps, [])
        for peer in [*args.peers, *reversed(args.peers)]:
            runs.peer(peer, peer.tests(args.prompt, args.generate, [0]), args.reps)
        our_run(args, runs, tests, args.reps, [])
    return {"what": "model in memory", "status": status, "runs": runs.log,
            "result": compare(runs.log, labels(args, [0]))}


def at_depths(args):
    depths = sorted({0, *map(int, args.depths.split(","))})
    if depths == [0]:
        return None
    runs, tests = Runs(args), ["-p", str(args.prompt), "-n", str(args.generate), "-d", ",".join(map(str, depths))]
    # room for a second sequence: where one fills it, nothing is kept and each repetition reads all again
    ctx = ["--ctx", max(depths) + args.prompt + args.generate + 64, "--parallel", 2]
    print(f"at depths {depths}: {args.depth_rounds} rounds of sluice, {', '.join(p.name for p in args.peers)}", file=sys.stderr)
    for _ in range(args.depth_rounds):
        status = our_run(args, runs, tests, args.depth_reps, ctx)
        for peer in args.peers:
            runs.peer(peer, peer.tests(args.prompt, args.generate, depths), args.depth_reps)
    return {"what": "behind other tokens", "status": status, "runs": runs.log,
            "result": compare(runs.log, labels(args, depths))}


def attention_gmadds(row, status, info):
    """10^9 multiply-adds a second of attention, where every layer that has it looks at all positions."""
    position = status["kv_bytes"] / (status["ctx"] * status["parallel"])
    values = position / (2 if row["type_k"] == "f16" else 34 / 32)
    seen = row.get("n_depth", 0) + (row["n_prompt"] or row["n_gen"]) / 2
    return row["avg_ts"] * values * seen * info["heads"] / info["heads_kv"] / 1e9


def peak_lines(part, info):
    """What our last run of each test had of the machine."""
    rows = {label(row): (run, row) for run in part["runs"] if "peaks" in run for row in run["rows"]}
    for test, (run, row) in rows.items():
        attention = f"attention {attention_gmadds(row, part['status'], info):.1f} 10^9 multiply-adds a second"
        if row["n_prompt"]:
            yield (f"{test}: products with weights {row['gmadds']:.1f} 10^9 multiply-adds a second, "
                   f"{100 * (row['gmadds_share_of_peak'] or 0):.0f} % of {run['peaks']['byte_gmadds']:.0f}; {attention}")
        else:
            yield (f"{test}: {row['memory_gbs']:.1f} GB/s of weights, keys, values and state, "
                   f"{100 * (row['memory_share_of_peak'] or 0):.0f} % of {run['peaks']['mem_read_gbs']:.1f}; {attention}")


def at_depth(result):
    """Of every test at a depth, each side's speed over its own at depth 0."""
    plain = {(r["test"], r["peer"]): r for r in result if "@" not in r["test"]}
    for r in result:
        at_0 = plain.get((r["test"].split(" @")[0], r["peer"]))
        if "@" in r["test"] and at_0:
            yield (f"{r['test']} over depth 0: sluice {r['sluice'] / at_0['sluice']:.2f}, "
                   f"{r['peer']} {r['theirs'] / at_0['theirs']:.2f}")


def inspect(args):
    p = subprocess.run([pathlib.Path(args.build) / "sluice", "inspect", "--model", args.model, "--json"],
                       capture_output=True, text=True, check=True)
    return json.loads(p.stdout)


def read_bytes_of(info):
    """The size of most of an expert's reads: one matrix, widened to the alignment, at most 1 MiB."""
    one = info["expert_bytes_total"] // (info["layers"] * info["experts"]) // 3
    return min(1 << 20, (one + 8191) // 4096 * 4096)


def disk_rates(start, end):
    """Bytes read over the time in which something was being read, and over the time that compute waited.

    The second is too high by what was read behind the computing; the first wants read_busy_seconds.
    """
    def delta(key):
        return end[key] - start[key]

    uses = delta("hits") + delta("misses")
    rates = {"stalled_gbs": delta("bytes_read") / 1e9 / max(delta("stall_seconds"), 1e-9),
             "hit_ratio": delta("hits") / uses if uses else None, "stall_seconds": delta("stall_seconds")}
    if "read_busy_seconds" in end:
        rates["busy_gbs"] = delta("bytes_read") / 1e9 / max(delta("read_busy_seconds"), 1e-9)
    return rates


def half(args):
    info, runs, disk = inspect(args), Runs(args), []
    limit_bytes = int(info["file_bytes"] * args.half_share)
    budget = limit_bytes - info["dense_bytes"] - args.slack
    request, tests = read_bytes_of(info), ["-p", "0", "-n", str(args.half_generate)]
    print(f"half memory: {limit_bytes} bytes each; our budget {budget}", file=sys.stderr)

    def ours():
        machine.drop_file(args.model)
        with machine.MemoryLimit(limit_bytes) as limit, Daemon(
                args.build, args.model, "--threads", args.threads, "--cpu", args.level, "--host-budget", budget,
                "--ctx", 2048, "--parallel", 1, limit=limit) as d:
            status = d.filled()
            before = machine.fio_rate(args.model, request, args.depth)
            start = d.ask("status")
            run = runs.ours(d, tests, args.half_reps)
            end = d.ask("status")
            after = machine.fio_rate(args.model, request, args.depth)
            run["process_bytes"] = machine.process_memory(d.process.pid)
        rates = [r[0] for r in (before, after) if r[0]]
        disk.append({"fio_gbs": statistics.mean(rates) if rates else None, "buffers": before[1],
                     **disk_rates(start, end)})
        return status

    status = ours()
    for peer in [*args.peers, *reversed(args.peers)]:
        machine.drop_file(args.model)
        with machine.MemoryLimit(limit_bytes) as limit:
            runs.peer(peer, peer.tests(0, args.half_generate, [0]), args.half_peer_reps, limit, peer.mapped)
            runs.log[-1]["peak_bytes"] = limit.peak()
    ours()
    return {"what": "half of the bytes allowed", "limit_bytes": limit_bytes, "budget_bytes": budget,
            "request_bytes": request, "depth": args.depth, "status": status, "runs": runs.log, "disk": disk,
            "result": compare(runs.log, [f"tg{args.half_generate}"])}


def level_of(report):
    return report["parts"][0]["status"]["cpu"] if report["parts"] else "no CPU level"


def quiet(part, args):
    return args.anyway or all(run["foreign"] <= args.disturbed for run in part["runs"])


def markdown(report, args):
    lines = [machine.title(report["machine"], args, level_of(report)), "", "| | test | sluice t/s | beside it | t/s | ratio | of each pair |",
             "|---|---|---|---|---|---|---|"]
    for part in report["parts"]:
        for r in part["result"]:
            ratios = f"{r['ratio']:.2f} | {', '.join(f'{p:.2f}' for p in r['pair_ratios'])}" if quiet(part, args) else \
                "(disturbed) | "
            lines.append(f"| {part['what']} | {r['test']} | {r['sluice']:.1f} | {r['peer']} | {r['theirs']:.1f} | {ratios} |")
    for part in report["parts"]:
        depths = list(at_depth(part["result"])) if quiet(part, args) else []
        lines += ["", *depths] if depths else []
        peaks = list(peak_lines(part, report["info"])) if quiet(part, args) else []
        lines += ["", *peaks] if peaks else []
        lines += ["", f"{part['what']}: others used at most "
                      f"{max(run['foreign'] for run in part['runs']):.2f} processors during a run; {part['seconds']} s"]
        for d in part.get("disk", []):
            if not d["fio_gbs"]:
                continue
            for key, what in (("busy_gbs", "while reading"), ("stalled_gbs", "bytes over stalled time")):
                if key in d:
                    share = f"{d[key] / d['fio_gbs']:.2f}" if quiet(part, args) else "(disturbed)"
                    lines.append(f"disk, {what}: sluice {d[key]:.2f} GB/s, fio {d['fio_gbs']:.2f} GB/s ({d['buffers']}, "
                                 f"{part['request_bytes']} bytes, depth {part['depth']}): {share}; "
                                 f"hit rate {100 * (d['hit_ratio'] or 0):.1f} %")
        if "limit_bytes" in part:
            most = max(run.get("process_bytes", 0) for run in part["runs"])
            lines.append(f"limit {part['limit_bytes']} bytes; sluiced's resident bytes {most}, "
                         f"arena {part['status'].get('arena')}")
    return "\n".join(lines)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peers.add_options(p)
    p.add_argument("--level", default="auto", help="CPU level of ours: auto, avx512, avx2")
    p.add_argument("--only", default="memory,depths,half")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--generate", type=int, default=64)
    p.add_argument("--depths", default="0", help="tokens already in the context, 0,8192,32768")
    p.add_argument("--depth-rounds", type=int, default=1)
    p.add_argument("--depth-reps", type=int, default=2)
    p.add_argument("--half-share", type=float, default=0.5)
    p.add_argument("--half-generate", type=int, default=32)
    p.add_argument("--half-reps", type=int, default=3)
    p.add_argument("--half-peer-reps", type=int, default=1)
    p.add_argument("--slack", type=int, default=256 << 20, help="bytes of ours beside experts and dense weights")
    p.add_argument("--depth", type=int, default=32, help="reads in flight, ours and fio's")
    p.add_argument("--quiet", type=int, default=0, help="seconds to wait for others to leave the processors")
    p.add_argument("--disturbed", type=float, default=0.1, help="processors used by others that spoil a run")
    p.add_argument("--tries", type=int, default=1)
    p.add_argument("--anyway", action="store_true", help="print ratios of disturbed runs, too")
    p.add_argument("--json", help="where all samples go")
    return p.parse_args()


def main():
    args = arguments()
    args.peer = args.peer or ["build/peer/bin"]
    args.peers = peers.of(args)
    if not args.peers:
        sys.exit(f"compare.py: no llama-bench in {' or '.join(args.peer)}: tests/bench/peer/build.sh llama-bench makes one")
    args.model = os.path.abspath(args.model)
    failed = []  # what the other parts gave is printed all the same
    report = {"machine": machine.describe(), "model": args.model, "threads": args.threads, "info": inspect(args), "parts": []}
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as where:
        args.peaks = os.path.join(where, "peaks")
        for part in args.only.split(","):
            start = time.monotonic()
            try:
                done = {"memory": in_memory, "depths": at_depths, "half": half}[part](args)
            except (RuntimeError, OSError, subprocess.SubprocessError) as e:
                failed.append(f"{part}: failed: {e}")
                continue
            if done:
                report["parts"].append({**done, "seconds": round(time.monotonic() - start)})
    print("\n".join([markdown(report, args), *failed]))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(report, f, indent=1)
    return 1 if failed else 0 if all(quiet(part, args) for part in report["parts"]) else 3


if __name__ == "__main__":
    sys.exit(main())
