# SPDX-License-Identifier: MIT
"""What a warm restart takes: a daemon fills its slots and is killed; the next one gets the memory back from a store of
descriptors, as from systemd. Prints, for the cold start and for each warm one, seconds from exec to ready and to the first
token, and the expert bytes read; fails above --most seconds to a warm start's first token.

    make bench-warm MODEL_SHAPE=qwen3.5-35b-a3b
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

IDS = [100, 101, 102, 103]


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_token(d, build, start):
    """Seconds from @start to the first token of the first answer, and of CPU that the daemon took until then."""
    p = subprocess.Popen([build / "sluice", "generate", "--socket", d.socket, "--prompt-tokens", json.dumps(IDS), "-n", "16",
                          "--ignore-eog"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.read(p.stdout.fileno(), 1)
    seconds, cpu = time.monotonic() - start, cpu_seconds(d.process.pid)
    p.stdout.read()
    assert p.wait() == 0
    return seconds, cpu


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--build", type=pathlib.Path, default="build")
    a.add_argument("--model", type=pathlib.Path, required=True)
    a.add_argument("--restarts", type=int, default=5)
    a.add_argument("--most", type=float, default=1.0)
    o = a.parse_args()
    os.environ["BUILD"] = str(o.build)
    from test_warm import Kept, Store
    store, times, answers = Store(), [], set()
    for i in range(o.restarts + 1):
        d = Kept(store, o.model, "--host-budget", "100%", "--ctx", "2048", "--parallel", "1")
        start = time.monotonic()
        d.start()
        while not os.path.exists(d.socket):
            assert d.process.poll() is None, d.text()
            time.sleep(0.001)
        seconds, cpu = first_token(d, o.build, start)
        if not i:
            d.filled(600)
        s = d.status()
        loaded = next(float(line.split("load_seconds=")[1].split()[0]) for line in d.text().splitlines() if 'msg="ready"' in line)
        answers.add(d.logits())
        print(f'{"warm" if s["warm"]["warm"] else "cold"} start: first token after {seconds:.3f} s, {cpu:.2f} s of CPU (loading {loaded} s), '
              f'{s["warm"]["experts"]} experts there, {s["bytes_read"]} bytes of experts read, arena {s["arena"]}', flush=True)
        if i:
            assert s["warm"]["warm"] and not s["bytes_read"], d.text()
            times.append(seconds)
        d.kill()
    store.drop()
    print(f"load {os.getloadavg()[0]:.0f}, {os.cpu_count()} CPUs")
    print(f"first token of a warm start: median {statistics.median(times):.3f} s, most {max(times):.3f} s; answers {'equal' if len(answers) == 1 else 'DIFFER'}")
    return 0 if statistics.median(times) <= o.most and len(answers) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
