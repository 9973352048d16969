# SPDX-License-Identifier: MIT
"""Streamed completions over HTTP with the time of every token, for clients.py. Works with any server that speaks OpenAI's
/v1/completions with stream and stream_options.include_usage. One thread, asyncio, no packages.

A request's figures are those of `vllm bench serve` (vllm/benchmarks/serve.py, calculate_metrics):

    ttft    from sending the request to the first chunk that has text
    itl     from each such chunk to the next one, of all requests together
    e2el    from sending to the last chunk that has text
    tpot    (e2el - ttft) / (output tokens - 1), of requests with more than one; output tokens as the server's usage says
    goodput requests per second that keep every bound given
"""
import asyncio
import dataclasses
import json
import random
import time


@dataclasses.dataclass
class Ask:
    prompt: object          # text or token ids
    max_tokens: int
    cancel_after: int = 0   # > 0: the connection is closed after so many chunks
    extra: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Got:
    start: float
    first: float = 0.0
    last: float = 0.0
    itl: list = dataclasses.field(default_factory=list)
    times: list = dataclasses.field(default_factory=list)
    tokens: int = 0
    n_prompt: int = 0
    n_cached: int = 0
    text: str = ""
    error: str = ""
    cancelled: bool = False

    @property
    def ttft(self):
        return self.first - self.start

    @property
    def e2el(self):
        return self.last - self.start

    @property
    def tpot(self):
        return (self.e2el - self.ttft) / (self.tokens - 1) if self.tokens > 1 else 0.0


def _take(got, data):
    """One event of the stream."""
    now = time.perf_counter()
    if "error" in data:
        got.error = json.dumps(data["error"])
    choices = data.get("choices") or []
    text = choices[0].get("text") if choices else None
    if text:
        if got.first:
            got.itl.append(now - got.last)
        else:
            got.first = now
        got.last = now
        got.times.append(now)
        got.text += text
    usage = data.get("usage")
    if usage:
        got.tokens, got.n_prompt = usage["completion_tokens"], usage["prompt_tokens"]
        got.n_cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


async def one(host, port, ask):
    """Sends the request and reads its stream to the end, or until it is to be given up."""
    body = json.dumps({"model": "any", "prompt": ask.prompt, "max_tokens": ask.max_tokens, "stream": True, "temperature": 0,
                       "ignore_eos": True, "stream_options": {"include_usage": True}, **ask.extra}).encode()
    head = (f"POST /v1/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    got = Got(time.perf_counter())
    writer = None
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 22)
        writer.write(head + body)
        await writer.drain()
        status = (await reader.readline()).split()
        async for line in reader:
            if line == b"\r\n":
                break
        if status[1:2] != [b"200"]:
            got.error = f"status {status[1:2]}: {(await reader.read(500)).decode(errors='replace')}"
        async for line in reader:  # sizes of chunks and empty lines between the events are passed over
            if not line.startswith(b"data: {"):
                continue
            _take(got, json.loads(line[6:]))
            if ask.cancel_after and len(got.times) >= ask.cancel_after:
                got.cancelled = True
                break
        if not got.first and not got.error:
            got.error = "no token came"
    except OSError as e:
        got.error = str(e)
    finally:
        if writer:
            writer.close()
    got.tokens = got.tokens or len(got.times)
    return got


async def closed_loop(host, port, asks, clients):
    """@clients at a time, each with its next request as soon as the last one is through."""
    left, done = list(reversed(asks)), []

    async def client():
        while left:
            done.append(await one(host, port, left.pop()))

    await asyncio.gather(*(client() for _ in range(clients)))
    return done


async def poisson(host, port, asks, rate, seed=1):
    """Requests come at random, @rate a second on average (exponential gaps), whatever became of the others."""
    rng, tasks, at = random.Random(seed), [], time.perf_counter()
    for ask in asks:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        tasks.append(asyncio.create_task(one(host, port, ask)))
        at += rng.expovariate(rate)
    return list(await asyncio.gather(*tasks))


def percentile(values, p):
    """Linear between neighbours, as numpy does it."""
    values = sorted(values)
    if not values:
        return 0.0
    at = (len(values) - 1) * p / 100
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def summary(got, seconds, bounds=None):
    """Figures of a run in ms and tokens per second. @bounds: {"ttft": s, "tpot": s, "e2el": s} for goodput."""
    whole = [g for g in got if not g.error and not g.cancelled]
    out = {"requests": len(got), "completed": len(whole), "cancelled": sum(g.cancelled for g in got),
           "failed": sum(bool(g.error) for g in got), "seconds": round(seconds, 3),
           "errors": sorted({g.error[:200] for g in got if g.error})[:3],
           "request_throughput": round(len(whole) / seconds, 4),
           "output_throughput": round(sum(g.tokens for g in got if not g.error) / seconds, 2),
           "prompt_tokens": sum(g.n_prompt for g in whole), "cached_tokens": sum(g.n_cached for g in whole)}
    series = {"ttft": [g.ttft for g in whole], "tpot": [g.tpot for g in whole if g.tokens > 1],
              "itl": [x for g in whole for x in g.itl], "e2el": [g.e2el for g in whole]}
    for name, values in series.items():
        out[f"{name}_ms"] = {"mean": round(1000 * sum(values) / max(1, len(values)), 2),
                             "p50": round(1000 * percentile(values, 50), 2), "p99": round(1000 * percentile(values, 99), 2)}
    if bounds:
        good = sum(all(getattr(g, k) <= v for k, v in bounds.items()) for g in whole)
        out["goodput"] = round(good / seconds, 4)
    return out
