# SPDX-License-Identifier: MIT
"""Programs that ours is measured beside: llama.cpp and ik_llama.cpp, by the llama-bench that each has.

Used by compare.py and busy.py. Which one a folder holds, its llama-bench says by its options: ik_llama.cpp's has no
--n-depth. Behind other tokens it generates (-gp), but reads no prompt there, and mapping without repacking is asked for
otherwise.
"""
import json
import pathlib
import shlex
import subprocess


class Peer:
    """@text: a folder with llama-bench, and options for it behind that: "build/ik/bin -rtr 1"."""

    def __init__(self, text, threads):
        folder, *self.options = shlex.split(text)
        self.program, self.threads = pathlib.Path(folder) / "llama-bench", threads
        # its status differs between versions
        usage = subprocess.run([self.program, "--help"], capture_output=True, text=True, timeout=60)
        self.is_ik = "--n-depth" not in usage.stdout + usage.stderr
        self.name = " ".join(["ik_llama.cpp" if self.is_ik else "llama.cpp", *self.options])
        self.mapped = ["-mmp", "1", "-rtr", "0"] if self.is_ik else ["-lm", "mmap", "--repack", "0"]

    def tests(self, prompt, generate, depths):
        """Options for each prompt and generation behind each depth, as far as this llama-bench has them."""
        if not self.is_ik or depths == [0]:
            return ["-p", str(prompt), "-n", str(generate)] + (["-d", ",".join(map(str, depths))] if depths != [0] else [])
        behind = [word for d in depths if d and generate for word in ("-gp", f"{d},{generate}")]
        return (["-p", str(prompt), "-n", str(generate)] if 0 in depths else ["-p", "0", "-n", "0"]) + behind

    def rows(self, model, reps, tests, limit=None, extra=()):
        """What it measured: n_prompt or n_gen, n_depth, avg_ts, samples_ts."""
        command = [self.program, "-m", model, "-t", str(self.threads), "-r", str(reps), "-o", "json", *tests, *extra,
                   *self.options]
        p = subprocess.run(command, capture_output=True, text=True, timeout=3600,
                           preexec_fn=limit.join if limit else None)
        if p.returncode:
            raise RuntimeError(f"llama-bench of {self.name}: exit {p.returncode}\n{p.stderr[-2000:]}")
        return [self._plain(row) for row in json.loads(p.stdout)]

    def _plain(self, row):
        """-gp tells the tokens before as a prompt, which it leaves out of its time."""
        if self.is_ik and row["n_prompt"] and row["n_gen"]:
            row.update(n_depth=row["n_prompt"], n_prompt=0)
        return row


def of(args):
    """Those of the command line that are there."""
    peers = [Peer(text, args.threads) for text in args.peer or [] if (pathlib.Path(shlex.split(text)[0]) / "llama-bench").exists()]
    names = [p.name for p in peers]
    for p in peers:
        if names.count(p.name) > 1:  # two builds of the same program
            p.name = f"{p.name} ({p.program.parent})"
    return peers


def add_options(parser):
    """What is measured, and beside what."""
    parser.add_argument("--build", default="build")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", action="append", metavar="FOLDER", help="folder with llama-bench (peer/build.sh makes it), "
                        "and behind it options that it gets; may be given again")
