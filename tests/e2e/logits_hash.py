# SPDX-License-Identifier: MIT
"""Hashes of the logits of every fixture at every CPU level of this machine, to show that a change keeps the bits.

    BUILD=build SHARED=../shared python3 tests/e2e/logits_hash.py > before     # on the commit to compare with
    BUILD=build SHARED=../shared python3 tests/e2e/logits_hash.py before       # later: names what differs, exit 1

Files that the daemon refuses print "refused"; those that the saved table has as refused may change. Words
after the table limit the run to fixtures whose name holds one of them.
"""
import hashlib
import json
import sys

from daemon import FIXTURES, Daemon, cpu_levels


def fixtures(words):
    for ref in sorted(FIXTURES.glob("*/*.json")):
        name = str(ref.relative_to(FIXTURES).with_suffix(""))
        if ref.with_suffix(".gguf").exists() and (not words or any(w in name for w in words)):
            yield name, json.load(open(ref))


def digest(name, tokens, level):
    try:
        with Daemon(FIXTURES / f"{name}.gguf", "--cpu", level, "--threads", "2", "--host-budget", "100%") as d:
            return hashlib.sha256(d.eval_ids(tokens)[1].tobytes()).hexdigest()[:16]
    except AssertionError as e:
        if "ended with" not in str(e):
            raise
        return "refused"


def main():
    table, words = None, sys.argv[2:]
    if len(sys.argv) > 1:
        table = dict(line.rsplit(None, 1) for line in open(sys.argv[1]))
    bad = 0
    for name, ref in fixtures(words):
        for level in cpu_levels():
            key, got = f"{name} {level}", digest(name, ref["tokens"], level)
            before = table.get(key, "refused") if table else got
            differs = before not in ("refused", got)
            bad += differs
            print(key, got, *(["differs from", before] if differs else []), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
