# SPDX-License-Identifier: MIT
"""Description: the daemon sizes itself by what its process may use, not by the machine; what cannot fit is refused.

Real control groups of memory and CPU where this user may make them (version 1 or 2, whichever is mounted); affinity and
a missing /proc for every user. Version 2 is always tried by `make test-cgroup`, in a guest."""
import concurrent.futures
import os
import random
import re
import shutil
import subprocess

import pytest

from cgroup import Group
from daemon import BUILD, DEMO, NOBODY, ROOT, Daemon, need, sluice

MIB = 1 << 20
LIMIT = 400 * MIB
QUESTION = ("--chat", "--prompt", "What is the capital of France?", "--max-tokens", "16")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model of 700 MB of experts: noise in the shape of a published one."""
    subprocess.run(["make", "-s", f"O={BUILD}", f"{BUILD}/bench/make_model"], cwd=ROOT, check=True)
    folder = tmp_path_factory.mktemp("limits")
    path = folder / "large.gguf"
    subprocess.run([BUILD / "bench" / "make_model", "--shape", "qwen3-30b-a3b", "--layers", "2", "--vocab", "4096", "--out",
                    path], check=True, stdout=subprocess.DEVNULL)
    yield path
    shutil.rmtree(folder)


def refusal(model, *args, prefix=()):
    """The sentence with which sluiced does not start."""
    p = subprocess.run([*prefix, str(BUILD / "sluiced"), "--model", str(model), "--socket", "/nonexistent/s", *map(str, args)],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 1, p.stderr
    return p.stderr.strip().splitlines()[-1]


def cores():
    return len({open(f"/sys/devices/system/cpu/cpu{c}/topology/thread_siblings_list").read()
                for c in os.sched_getaffinity(0)})


# ---- CPUs ----

def test_affinity():
    with Daemon(DEMO, prefix=["taskset", "-c", str(min(os.sched_getaffinity(0)))]) as d:
        s = d.status()
        assert s["threads"] == 1 and s["limits"]["cpus"] == 1 and s["limits"]["cpus_from"] == "affinity"


@pytest.mark.parametrize("quota", [1, 1.9, 0.5, 1000])
def test_cpu_quota(quota):
    with Group("cpu", quota) as g, Daemon(DEMO, prefix=g.prefix()) as d:
        s = d.status()
        assert s["threads"] == min(max(1, int(quota)), cores())
        if quota < 1 or quota < len(os.sched_getaffinity(0)):
            assert s["limits"]["cpus"] == 1 and s["limits"]["cpus_from"] == f"quota of cgroup {g.path}"
            assert f'cpus=1 cpus_from="quota of cgroup {g.path}"' in d.text()
        assert "Paris" in d.generate(*QUESTION)["text"]


def test_cpu_quota_of_a_level_above():
    with Group("cpu", 1) as above, Group("cpu", None, above) as own, Daemon(DEMO, prefix=own.prefix()) as d:
        assert d.status()["threads"] == 1
    with Group("cpu", 1) as g, Daemon(DEMO, "--threads", "2", prefix=g.prefix()) as d:  # what was asked for is taken
        assert d.status()["threads"] == 2


# ---- memory ----

def full(daemon, n, at_once):
    """Asks @n different questions that fill the context; every one must be answered to its end."""
    ctx = daemon.status()["ctx"]

    def ask(seed):
        chance = random.Random(seed)
        words = [chance.randrange(4000) for _ in range(4)]  # few, so that few experts are read for each request
        ids = [chance.choice(words) for _ in range(ctx - 8)]
        return daemon.generate_ids(ids, "--max-tokens", "8", "--ignore-eog")["usage"]["completion_tokens"]

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        assert list(pool.map(ask, range(n))) == [8] * n


def test_memory_group(large):
    """Default budget, 50 requests that fill the context, four at a time: nothing is killed."""
    with Group("memory", LIMIT) as g:
        with Daemon(large, "--ctx", "256", prefix=g.prefix()) as d:
            s = d.status()
            assert s["limits"]["memory_bytes"] == LIMIT and 0 < s["limits"]["memory_free_bytes"] < LIMIT
            assert s["limits"]["memory_from"] == f"cgroup {g.path}"
            assert f'memory_from="cgroup {g.path}"' in d.text()
            assert 50 * MIB < s["budget_bytes"] < LIMIT and s["parallel"] == 4
            d.filled()
            full(d, 50, 4)
            assert g.kills() == 0
        assert g.kills() == 0


def test_memory_group_lowers_the_default_context(large):
    """256 MiB of cache by default in a group of 400: fewer sequences, said once, in log and status."""
    with Group("memory", LIMIT) as g, Daemon(large, prefix=g.prefix()) as d:
        s = d.status()
        assert s["parallel"] == 1 and s["ctx"] == 16384
        said = [f for f in s["fallbacks"] if "KV cache" in f]
        assert len(said) == 1 and "4 sequences with a context of 16384" in said[0] and "--ctx" in said[0]
        assert d.text().count("4 sequences with a context of 16384") == 1
        assert d.generate("--prompt", "hello world", "--max-tokens", "4", "--ignore-eog")["usage"]["completion_tokens"] == 4
        assert g.kills() == 0


def test_memory_group_refuses_what_cannot_fit(large):
    with Group("memory", LIMIT) as g:
        for budget in ("100%", "600M"):
            text = refusal(large, "--host-budget", budget, "--ctx", "512", "--parallel", "1", prefix=g.prefix())
            assert "--host-budget" in text and str(g.path) in text, text
            assert ("697.88 MiB" if budget == "100%" else "600.00 MiB") in text, text
        most = re.search(r"at most --host-budget (\d+M) fits", text)[1]
        with Daemon(large, "--host-budget", most, "--ctx", "512", "--parallel", "1", prefix=g.prefix()) as d:  # and it does
            d.filled()
            full(d, 2, 1)
            assert g.kills() == 0
        text = refusal(large, "--ctx", "16384", "--parallel", "4", prefix=g.prefix())
        assert "KV cache of 4 sequences with a context of 16384" in text, text
        assert 256 <= float(re.search(r"needs ([\d.]+) MiB", text)[1]) < 260  # with tokens, drafts and prefixes
        assert "--ctx" in text and "--parallel" in text
    with Group("memory", LIMIT) as above, Group("memory", None, above) as own:  # a limit two levels up
        text = refusal(large, "--host-budget", "100%", "--ctx", "512", prefix=own.prefix())
        # version 1 tells a group of the limits above it: either level may be named
        assert str(above.path) in text, text
    with Group("memory", 64 * MIB) as g:
        text = refusal(large, prefix=g.prefix())
        assert "dense weights" in text and str(g.path) in text, text


def test_memory_group_as_another_user(large):
    """The files of the groups are readable to everybody: nothing of this needs root, but making a group does."""
    with Group("memory", LIMIT) as g:
        d = Daemon(large, "--ctx", "256", "--parallel", "1")
        os.chmod(d.dir, 0o777)
        program = os.path.join(d.dir, "sluiced")
        shutil.copy(BUILD / "sluiced", program)
        model = os.path.join(d.dir, "model.gguf")
        os.link(large, model) if os.stat(large).st_dev == os.stat(d.dir).st_dev else shutil.copy(large, model)
        os.chmod(model, 0o644)
        d.args = [*g.prefix(), *NOBODY, program, *d.args[1:]]
        d.args[d.args.index("--model") + 1] = model
        with d:
            assert d.status()["limits"]["memory_bytes"] == LIMIT
            assert d.generate_ids(range(100), "--max-tokens", "4", "--ignore-eog")["usage"]["completion_tokens"] == 4
            assert g.kills() == 0


def test_cache_that_no_machine_holds():
    text = refusal(DEMO, "--ctx", "16777216", "--parallel", "256")
    assert "KV cache of 256 sequences with a context of 16777216 tokens" in text and "--ctx" in text
    assert "budget" not in text
    text = refusal(DEMO, "--prefix-cache", "900G")
    assert "900.00 GiB of it for --prefix-cache" in text and "lower --prefix-cache" in text


def test_no_proc():
    """Nothing is known of the machine: the daemon starts with what it says it assumes."""
    hide = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    need(subprocess.run([*hide, "true"], capture_output=True).returncode == 0, "no mount namespace can be made")
    with Daemon(DEMO, "--ctx", "512") as d:
        direct = [f for f in d.status()["fallbacks"] if "direct reads" in f]
    with Daemon(DEMO, "--ctx", "512", prefix=hide) as d:
        s = d.status()
        assert [f for f in s["fallbacks"] if "direct reads" in f] == direct  # they do not need /proc
        assert s["limits"]["memory_bytes"] is None and s["limits"]["memory_free_bytes"] is None
        assert s["limits"]["memory_from"] == "unknown" and s["limits"]["cpus"] >= 1
        assert s["budget_bytes"] > 0
        assert any("/proc/meminfo cannot be read" in f and "assuming" in f for f in s["fallbacks"])
        assert "assuming" in d.text()
        assert "Paris" in d.generate(*QUESTION)["text"]


def test_status_text_names_the_limits():
    with Daemon(DEMO) as d:
        line = next(x for x in sluice("status", "--socket", d.socket).stdout.splitlines() if x.startswith("limits"))
        limits = d.status()["limits"]
        assert f"({limits['memory_from']})" in line and f"{limits['cpus']} CPUs ({limits['cpus_from']})" in line
        meminfo = int(re.search(r"MemTotal:\s+(\d+) kB", open("/proc/meminfo").read())[1]) * 1024
        assert 0 < limits["memory_free_bytes"] <= limits["memory_bytes"] <= meminfo
