#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What holding an answer to a form costs of decoding: the same requests without a form, with a JSON schema and with a grammar.

    tests/bench/forms.py --build build --model FILE [--tokens 128] [--rounds 6] [--threads 2] [--temperature 0] [--json OUT]

One daemon; in every round each way and back again (A-B-B-A), each answer of exactly so many tokens, cut: a schema and a grammar that go on
for ever, and free text that may not end. Speculation is off. Of each way the median of its decode rates (timings.predicted_per_second, which
leaves the prompt and the first token out), the median of the rounds' ratios to free text and their quartiles. Judges
nothing, reports.
"""
import argparse
import http.client
import json
import pathlib
import re
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import machine  # noqa: E402
from compare import Daemon  # noqa: E402

# answers without an end: a list of records, as tools and extractions ask for them
RECORD = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 40}, "kind": {"enum": ["person", "place", "organisation", "event"]},
                                           "quantity": {"type": "integer", "minimum": 0, "maximum": 1000}, "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
                                           "text": {"type": "string"}},
          "required": ["name", "kind", "quantity", "tags", "text"], "additionalProperties": False}
SCHEMA = {"type": "array", "items": RECORD, "minItems": 100000}
GRAMMAR = r'''root ::= line{100000}
line ::= "- " word (" " word)* ": " value "\n"
word ::= [A-Za-z] [a-z]*
value ::= [0-9]+ ("." [0-9]{1,2})? | "\"" [^"\n]* "\""
'''
WAYS = {"free": {"ignore_eos": True}, "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA, "strict": True}}},
        "grammar": {"grammar": GRAMMAR}}


def port_of(d):
    d.log.seek(0)
    return int(re.search(r'msg="?http"? address="[^"]*:(\d+)"', d.log.read()).group(1))


def ask(port, args, way, seed):
    body = {"prompt": "A list of what there is in the harbour:\n", "max_tokens": args.tokens, "temperature": args.temperature, "seed": seed, "spec": "off",
            "timings_per_token": False, **WAYS[way]}
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    c.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    answer = json.loads(r.read())
    c.close()
    if r.status != 200:
        sys.exit(f"{way}: {answer}")
    if answer["usage"]["completion_tokens"] != args.tokens:
        sys.exit(f"{way}: {answer['usage']['completion_tokens']} tokens")
    return answer["timings"]["predicted_per_second"]


def quartiles(values):
    return statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--build", default="build")
    p.add_argument("--model", required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--rounds", type=int, default=6)
    p.add_argument("--temperature", type=float, default=0)
    p.add_argument("--json")
    args = p.parse_args()
    rates = {way: [] for way in WAYS}
    groups = {way: [] for way in WAYS if way != "free"}
    options = ["--threads", args.threads, "--parallel", 1, "--ctx", 2 * args.tokens + 512, "--spec", "off", "--http", "127.0.0.1:0"]
    with Daemon(args.build, args.model, *options) as d, machine.Foreign(d.process.pid) as load:
        d.filled()
        port = port_of(d)
        for way in WAYS:
            ask(port, args, way, 0)
        for n in range(args.rounds):
            for way in groups:
                order = ("free", way, way, "free") if n % 2 == 0 else (way, "free", "free", way)
                run = [(w, ask(port, args, w, n)) for w in order]
                for w, rate in run:
                    rates[w].append(rate)
                mean = {w: statistics.mean(r for x, r in run if x == w) for w in ("free", way)}
                groups[way].append(mean[way] / mean["free"])
    print(f"{args.model}, {args.tokens} tokens, temperature {args.temperature}, {args.threads} threads, others' load {100 * load.share:.0f} %")
    for way in WAYS:
        print(f"{way}: {statistics.median(rates[way]):.1f} tok/s", end="")
        if way in groups:
            low, middle, high = quartiles(groups[way])
            print(f"; over free text, median of {len(groups[way])} groups {middle:.3f} ({low:.3f} to {high:.3f})", end="")
        print()
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"rates": rates, "groups": groups}, indent=1))


if __name__ == "__main__":
    main()
