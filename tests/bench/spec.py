#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What drafts gain by verification alone, beside what is possible and what is wanted, on every CPU level of this machine.

    tests/bench/spec.py --build build --model FILE [--levels avx512,avx2] [--shares 0,0.5,0.7,0.9] [--repetitions 8]

The whole model in memory; `sluice bench --spec-oracle` records its own answer and hands it in with a share of wrong tokens,
each run beside one without drafts. Says how much of the processors others used; above --disturbed no ratio is printed but
with --anyway. It judges nothing, it reports.
"""
import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402
from compare import Daemon  # noqa: E402

LEAST = {"avx2": {0.0: 0.95, 0.7: 1.05, 0.9: 1.2}, "avx512": {0.0: 0.95, 0.7: 1.08, 0.9: 1.3}}


def levels():
    flags = next(line for line in open("/proc/cpuinfo") if line.startswith("flags")).split()
    return [n for n, need in (("avx512", "avx512_vnni"), ("avx2", "avx2")) if need in flags]


def measure(args, level):
    with Daemon(args.build, args.model, "--cpu", level, "--threads", args.threads, "--parallel", 1, "--ctx", 1024,
                "--host-budget", "100%") as d:
        d.filled()
        machine.wait_quiet(args.quiet)
        with machine.Foreign(d.process.pid) as load:
            rows = d.ask("bench", "-p", 0, "-n", args.tokens, "-r", args.repetitions, "--spec-oracle", args.shares)
    return {"level": level, "foreign": round(load.share, 3), "rows": rows}


def report(args, run):
    level, foreign = run["level"], run["foreign"]
    drafted = [r for r in run["rows"] if r["spec_oracle"] is not None]
    print(f"\n{level}: s {drafted[0]['routed_share']:.3f}, c {' '.join(f'{c:.2f}' for c in drafted[0]['column_cost'])}, "
          f"u {' '.join(f'{u:.2f}' for u in drafted[0]['column_experts'])}; others used {foreign:.2f} processors")
    if foreign > args.disturbed and not args.anyway:
        print(f"disturbed (more than {args.disturbed:.2f}): no ratios")
        return False
    print("\n| right drafts | times as fast | at least | possible | share, 90 % wanted | columns/step | tokens/step |")
    print("|---|---|---|---|---|---|---|")
    for r in drafted:
        least = LEAST.get(level, {}).get(r["spec_oracle"])
        print(f"| {r['spec_oracle']:.2f} | {r['speedup']:.3f} | {'' if least is None else least} | "
              f"{r['speedup_possible']:.3f} | {100 * r['speedup_share']:.1f} % | "
              f"{r['columns_per_step']:.2f} | {r['tokens_per_step']:.2f} |")
    return True


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default="build")
    p.add_argument("--model", required=True)
    p.add_argument("--levels", help="by default all that this machine has")
    p.add_argument("--shares", default="0,0.5,0.7,0.9")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--repetitions", type=int, default=8)
    p.add_argument("--quiet", type=int, default=0, help="seconds to wait for others to leave the processors")
    p.add_argument("--disturbed", type=float, default=0.1, help="processors used by others that spoil a run")
    p.add_argument("--anyway", action="store_true")
    p.add_argument("--json")
    args = p.parse_args()
    runs = [measure(args, level) for level in (args.levels.split(",") if args.levels else levels())]
    good = [report(args, r) for r in runs]
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(runs, indent=1))
    return 0 if all(good) else 3


if __name__ == "__main__":
    sys.exit(main())
