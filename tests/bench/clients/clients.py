#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What several clients of one server get of it: sluiced, llama.cpp's server or both in turn, by the same client.

    tests/bench/clients/clients.py --model FILE --run closed,poisson [--server sluice|peer|both] [--json OUT]

closed     1, 2, 4, 8, 16 clients, each with its next request as soon as the last one is through
poisson    requests at random times, at 50, 80 and 100 % of what the closed loops managed at most
shared     8 clients whose prompts begin with the same 2000 tokens
agent      20 turns of one conversation behind 12k tokens of system text and tools
long       7 that decode, and one prompt of 32k tokens that comes beside them
cancelled  8 clients of which 30 % go away in the middle
answers    /health, /props, /slots and /metrics, asked in turn, each on a new connection, while a prompt of 32k tokens is read

Texts are this project's own documents. `both` runs A-B-B-A. Figures are those of `vllm bench serve` (load.py); each run says how
much of the processors others used meanwhile. It reports and judges nothing: docs/performance.md has what was seen.
With closed, 1 among --clients and a --budget below 100 % the most that several clients could have had stands beside what they
had: bounds.py says how that is counted. The disk's rate is fio's, once before and once after, and the greater counts.
The peer: tests/bench/peer/build.sh llama-server.
"""
import argparse
import asyncio
import json
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import bounds  # noqa: E402
import load  # noqa: E402
import servers  # noqa: E402
from servers import machine  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]


class Texts:
    """Pieces of real text of about so many tokens, none twice."""

    def __init__(self, server, seed=1):
        files = sorted(ROOT.glob("docs/*.md")) + [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
        self.words = " ".join(f.read_text() for f in files).split(" ")
        sample = " ".join(self.words[:4000])
        self.per_word = server.count(sample) / 4000
        self.rng, self.n = random.Random(seed), 0

    def of(self, tokens):
        n = max(1, int(tokens / self.per_word))
        self.n += 1
        start = self.rng.randrange(len(self.words))
        return f"{self.n}. " + " ".join(self.words[(start + i) % len(self.words)] for i in range(n))


class Bench:
    def __init__(self, args, server):
        self.args, self.server, self.rows = args, server, []
        self.texts = Texts(server, args.seed)
        self.extra = {"cache_prompt": not args.no_cache}

    def ask(self, tokens=None, n=None, prompt=None, **kw):
        a = self.args
        return load.Ask(prompt or self.texts.of(tokens or a.prompt), n or a.generate, extra=self.extra, **kw)

    def measured(self, what, coroutine, **more):
        before = self.server.counters()
        with machine.Foreign(self.server.process.pid) as f:
            start = time.perf_counter()
            got = asyncio.run(coroutine)
            seconds = time.perf_counter() - start
        if before:
            more["spent"] = bounds.spent(before, self.server.counters(), seconds)
        row = {"server": self.server.name, "what": what, **load.summary(got, seconds, self.args.bounds),
               "others": round(f.share, 2), "rss_gib": round(machine.process_memory(self.server.process.pid) / (1 << 30), 2),
               **more}
        self.rows.append(row)
        print(line(row), file=sys.stderr)
        return row, got

    def closed(self):
        bounded = self.server.counters() and self.args.budget != "100%" and 1 in self.args.clients
        rates = [self.disk_rate()] if bounded else []
        for clients in self.args.clients:
            n = max(self.args.least, self.args.each * clients)
            self.measured(f"closed {clients}", load.closed_loop(self.server.host, self.server.port,
                                                                [self.ask() for _ in range(n)], clients))
        if bounded:
            self.possible([*rates, self.disk_rate()])

    def disk_rate(self):
        """Bytes per second of reads like the daemon's since its start, while it reads nothing; None: no fio."""
        rate, _ = machine.fio_rate(self.args.model, bounds.request_bytes(self.server.counters()), self.server.io_depth())
        return rate and rate * 1e9

    def possible(self, rates):
        runs = {n: bounds.together([r["spent"] for r in self.rows if r["what"] == f"closed {n}"]) for n in self.args.clients}
        rate = max(rates) if None not in rates else None
        for n in sorted(set(self.args.clients) - {1}):
            self.rows.append({"server": self.server.name, "what": f"{n} over one", "disk_rates": rates,
                              **bounds.compare(runs[1], runs[n], rate)})
            print("  " + bounds.sentence(n, runs[1], runs[n], rate), file=sys.stderr)

    def capacity(self):
        rates = [r["request_throughput"] for r in self.rows if r["what"].startswith("closed")]
        if not rates:
            self.closed()
            return self.capacity()
        return max(rates)

    def poisson(self):
        capacity = self.capacity()
        for share in (50, 80, 100):
            rate = capacity * share / 100
            asks = [self.ask() for _ in range(self.args.poisson)]
            self.measured(f"poisson {share} %", load.poisson(self.server.host, self.server.port, asks, rate, self.args.seed),
                          rate=round(rate, 4))

    def shared(self):
        prefix = self.texts.of(2000)
        asks = [self.ask(prompt=prefix + "\n\n" + self.texts.of(60)) for _ in range(16)]
        self.measured("shared prefix", load.closed_loop(self.server.host, self.server.port, asks, 8))

    def agent(self):
        host, port, prompt, got = self.server.host, self.server.port, self.texts.of(self.args.system), []
        with machine.Foreign(self.server.process.pid) as f:
            for turn in range(20):
                prompt += f"\n\nUser: {self.texts.of(60)}\n\nAssistant:"
                g = asyncio.run(load.one(host, port, self.ask(prompt=prompt, n=32)))
                prompt += g.text
                got.append(g)
        for name, part in (("agent, turn 1", got[:1]), ("agent, turns 2-20", got[1:])):
            seconds = sum(g.e2el for g in part)  # one after the other
            row = {"server": self.server.name, "what": name, **load.summary(part, seconds, self.args.bounds),
                   "others": round(f.share, 2)}
            self.rows.append(row)
            print(line(row), file=sys.stderr)

    def long(self):
        """The gaps of those who decode: alone, and while the prompt is read."""
        async def run():
            host, port = self.server.host, self.server.port
            decoders = [asyncio.create_task(load.one(host, port, self.ask(tokens=64, n=self.args.ctx - self.args.long // 8 - 200)))
                        for _ in range(7)]
            await asyncio.sleep(self.args.alone)
            begin = time.perf_counter()
            reader = await load.one(host, port, self.ask(tokens=self.args.long, n=4))
            end = reader.first or time.perf_counter()
            for d in decoders:
                d.cancel()
            return begin, end, reader, decoders

        def gaps(times, a, b):
            return [y - x for x, y in zip(times, times[1:]) if x >= a and y <= b]

        taken = []
        original = load._take

        def take(got, data):
            original(got, data)
            if got not in taken:
                taken.append(got)

        load._take = take
        try:
            with machine.Foreign(self.server.process.pid) as f:
                begin, end, reader, _ = asyncio.run(run())
        finally:
            load._take = original
        others = [g for g in taken if g is not reader]
        alone = [x for g in others for x in gaps(g.times, begin - self.args.alone / 2, begin)]
        beside = [x for g in others for x in gaps(g.times, begin, end)]
        row = {"server": self.server.name, "what": f"{self.args.long} tokens beside 7", "decoders": len(others),
               "error": reader.error, "n_prompt": reader.n_prompt, "reader_ttft_s": round(reader.ttft, 2), "others": round(f.share, 2)}
        for name, values in (("alone", alone), ("beside", beside)):
            row[f"itl_{name}_ms"] = {"n": len(values), **{k: round(1000 * load.percentile(values, p), 1)
                                                         for k, p in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100))}}
        self.rows.append(row)
        print(json.dumps(row), file=sys.stderr)

    def answers(self):
        """How soon questions about the server are answered meanwhile: from before connect() to the last byte."""
        host, port, paths = self.server.host, self.server.port, ("/health", "/props", "/slots", "/metrics")
        took, reading = {path: [] for path in paths}, True

        def question():
            while reading:
                for path in paths:
                    start = time.perf_counter()
                    status, _ = self.server.ask("GET", path)
                    took[path].append((time.perf_counter() - start, status))

        async def prompts():
            return [await load.one(host, port, self.ask(tokens=self.args.long, n=1)) for _ in range(self.args.prompts)]

        with machine.Foreign(self.server.process.pid) as f:
            asker = threading.Thread(target=question)
            asker.start()
            try:
                got = asyncio.run(prompts())
            finally:
                reading = False
                asker.join()
        row = {"server": self.server.name, "what": f"answers beside {self.args.long} tokens", "others": round(f.share, 2),
               "errors": sorted({g.error for g in got if g.error}), "n_prompt": [g.n_prompt for g in got],
               "reader_ttft_s": [round(g.ttft, 2) for g in got], "bad_status": sum(s != 200 for v in took.values() for _, s in v)}
        for path, seen in [*took.items(), ("all", [x for v in took.values() for x in v])]:
            seconds = [x for x, _ in seen]
            row[path] = {"n": len(seconds), "within_50_ms": round(sum(x <= 0.05 for x in seconds) / max(1, len(seconds)), 5),
                         **{k + "_ms": round(1000 * load.percentile(seconds, p), 2)
                            for k, p in (("p50", 50), ("p99", 99), ("max", 100))}}
        self.rows.append(row)
        print(json.dumps(row), file=sys.stderr)

    def cancelled(self):
        rng = random.Random(self.args.seed)
        asks = [self.ask(cancel_after=rng.randrange(1, self.args.generate) if rng.random() < 0.3 else 0) for _ in range(24)]
        self.measured("30 % cancelled", load.closed_loop(self.server.host, self.server.port, asks, 8))
        self.measured("one, afterwards", load.closed_loop(self.server.host, self.server.port, [self.ask()], 1))


def line(row):
    return (f"  {row['server']:13}{row['what']:20} {row['output_throughput']:8.1f} tok/s  "
            f"ttft {row['ttft_ms']['p50']:8.0f} / {row['ttft_ms']['p99']:8.0f}  tpot {row['tpot_ms']['p50']:6.1f} / {row['tpot_ms']['p99']:6.1f}  "
            f"itl {row['itl_ms']['p50']:6.1f} / {row['itl_ms']['p99']:7.1f}  others {row['others']:.2f}"
            + (f"  FAILED {row['failed']} {row['errors']}" if row["failed"] else ""))


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--run", default="closed", help="names, with commas")
    p.add_argument("--server", choices=["sluice", "peer", "both"], default="sluice")
    p.add_argument("--build", default="build")
    p.add_argument("--peer", default="build/peer/bin")
    p.add_argument("--sluice-args", default="")
    p.add_argument("--peer-args", default="")
    p.add_argument("--budget", default="100%", help="--host-budget of ours")
    p.add_argument("--limit", type=int, default=0, help="bytes of a memory cgroup for either server (needs root)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--ctx", type=int, default=2048, help="of each sequence")
    p.add_argument("--parallel", type=int, default=16)
    p.add_argument("--clients", type=lambda s: [int(x) for x in s.split(",")], default=[1, 2, 4, 8, 16])
    p.add_argument("--each", type=int, default=3, help="requests of a client of a closed loop")
    p.add_argument("--least", type=int, default=6, help="requests of a closed loop at least")
    p.add_argument("--poisson", type=int, default=24, help="requests of a Poisson run")
    p.add_argument("--prompt", type=int, default=256, help="tokens")
    p.add_argument("--generate", type=int, default=64, help="tokens")
    p.add_argument("--system", type=int, default=12000, help="tokens before an agent's first turn")
    p.add_argument("--long", type=int, default=32000, help="tokens of the long prompt")
    p.add_argument("--prompts", type=int, default=3, help="how many of them, one after the other, in the run answers")
    p.add_argument("--alone", type=float, default=10, help="seconds before it comes")
    p.add_argument("--no-cache", action="store_true", help="cache_prompt false in every request")
    p.add_argument("--goodput", default="ttft:5000,tpot:250", help="bounds in ms")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--json")
    a = p.parse_args()
    a.bounds = {k: float(v) / 1000 for k, v in (x.split(":") for x in a.goodput.split(","))}
    return a


def run(args, kind):
    limit = machine.MemoryLimit(args.limit) if args.limit else None
    with (limit or contextless()):
        with kind(args, limit=limit) as server:
            bench = Bench(args, server)
            asyncio.run(load.closed_loop(server.host, server.port, [bench.ask(tokens=32, n=8) for _ in range(2)], 1))
            for name in args.run.split(","):
                getattr(bench, name)()
            return bench.rows


class contextless:
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None


def main():
    args = parse()
    order = {"sluice": [servers.Sluice], "peer": [servers.Peer],
             "both": [servers.Sluice, servers.Peer, servers.Peer, servers.Sluice]}[args.server]
    rows = []
    for kind in order:
        rows += run(args, kind)
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps({"machine": machine.describe(), "args": vars(args), "rows": rows},
                                                          indent=1))


if __name__ == "__main__":
    main()
