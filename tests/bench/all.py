#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every ratio of speed in one run: kernels, drafts, reads ahead, a busy machine, llama.cpp and ik_llama.cpp beside ours.

    tests/bench/all.py --build build --model FILE [--peer build/peer/bin ..] [--only kernels,spec,..] [--quiet 600] [--short]

Each part is a program of its own beside this one; what it printed is printed here once it was left alone. Before each part
it waits until others use less than a tenth of a processor, at most --quiet seconds. A part during which others used more
than --disturbed processors is run again, up to --tries times, and then left out with a sentence: no ratio of a disturbed
machine is printed but with --anyway. A part that takes longer than --limit seconds is ended. --short takes few repetitions
and formats: it shows that everything works, and its figures are noise. Exit status 3 where a part was left out, 1 where one failed.
"""
import argparse
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import machine  # noqa: E402
import peers  # noqa: E402


# fewer of everything
SHORT = {
    "kernels": ["--format", "Q4_K,Q8_0", "--cols", "1,4,64", "--reps", "3"],
    "spec": ["--repetitions", "1", "--tokens", "32", "--shares", "0,0.9"],
    "ahead": ["--rounds", "1", "--repetitions", "1", "--tokens", "8"],
    "busy": ["--rounds", "1", "--repetitions", "1", "--tokens", "16"],
    "compare": ["--rounds", "1", "--reps", "1", "--depth-reps", "1", "--prompt", "128", "--generate", "8", "--depths", "0,512",
                "--half-generate", "4", "--half-reps", "1"],
}


def parts(args):
    model, build = ["--build", args.build, "--model", args.model], pathlib.Path(args.build)
    peer = [word for text in args.peer or [] for word in ("--peer", text)]
    out = {
        "kernels": [build / "bench" / "kernels", "--threads", args.threads, "--level", "all", "--markdown",
                    *(["--anyway"] if args.anyway else []),
                    *([] if args.short else ["--format", "all", "--cols", "1,2,4,8,16,512"])],
        "spec": [sys.executable, HERE / "spec.py", *model, "--anyway"],
        "ahead": [sys.executable, HERE / "ahead.py", *model, "--anyway"],
        "busy": [sys.executable, HERE / "busy.py", *model, *peer, "--anyway"],
    }
    if peer:
        out["compare"] = [sys.executable, HERE / "compare.py", *model, *peer, "--anyway"] + \
                         ([] if args.short else ["--depths", args.depths])
    return {name: [*map(str, command), *(SHORT[name] if args.short else [])] for name, command in out.items()}


def run(command, seconds):
    """Exit status and output; what runs longer is ended with all that it started."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as p:
        try:
            text, _ = p.communicate(timeout=seconds)
        except BaseException:
            os.killpg(p.pid, signal.SIGINT)  # so that it ends its own daemons, which have groups of their own
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.communicate(timeout=60)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            raise
    return p.returncode, text


def run_part(args, name, command):
    """What it printed; None: it was disturbed each time. The guard of all parts is this one."""
    for attempt in range(args.tries):
        if not machine.wait_quiet(args.quiet) and not args.anyway:
            print(f"{name}: others have used the processors for {args.quiet} s", file=sys.stderr)
            continue
        start = time.monotonic()
        with machine.Foreign() as load:
            status, text = run(command, args.limit)
        print(f"{name}: others used {load.share:.2f} processors", file=sys.stderr)
        if status not in (0, 3):
            raise RuntimeError(f"{name}: exit {status}\n{text}")
        if load.share <= args.disturbed or args.anyway:
            return f"others used {load.share:.2f} processors; {time.monotonic() - start:.0f} s\n\n{text}"
    return None


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    peers.add_options(p)
    p.add_argument("--only", help="parts, by default all")
    p.add_argument("--quiet", type=int, default=600)
    p.add_argument("--disturbed", type=float, default=0.1)
    p.add_argument("--tries", type=int, default=2)
    p.add_argument("--limit", type=int, default=2400, help="seconds that a part may take")
    p.add_argument("--depths", default="0,8192,32768", help="of compare.py")
    p.add_argument("--short", action="store_true")
    p.add_argument("--anyway", action="store_true", help="print what a disturbed machine gave, too")
    args = p.parse_args()
    known, status = parts(args), 0
    chosen = args.only.split(",") if args.only else list(known)
    for name in chosen:
        if name not in known:
            p.error(f"--only: \"{name}\" is none of {', '.join(known)}")
    print(f"{machine.describe()}\n")
    for name in chosen:
        print(f"## {name}\n", flush=True)
        try:
            text = run_part(args, name, known[name])
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
            text, status = f"failed: {e}\n", 1
        if text is None:
            text, status = "left out: the machine was disturbed each time, and its ratios would say nothing\n", status or 3
        print(text, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
