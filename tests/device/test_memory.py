# SPDX-License-Identifier: MIT
"""Description: memory of a device that sequences and slots share (build/emu/sluiced, make test-device).

Sequences take blocks of the slots' when they need them and give them back; the budget changes while requests run, by SIGHUP or
because another process takes memory; what does not fit waits or ends by name. Whatever moved: the same bits.
"""
import concurrent.futures
import signal
import time

import pytest

from test_device import DEMO, alone, ask, budget_bytes, counts_of, cpu_run, device, eval_alone, moe_tokens, of_device, one_run, plan, settled  # noqa: F401
from daemon import PATIENCE  # noqa: E402, on the path since then


def until(d, holds, seconds=40):
    """The device's part of the status once @holds is true of it."""
    end = time.monotonic() + seconds * PATIENCE
    while not holds(of_device(d)):
        assert time.monotonic() < end, of_device(d)
        time.sleep(0.05)
    return of_device(d)


def test_as_planned():
    """What is taken at start, and which slots there are, is what the plan says, to the byte."""
    budget = budget_bytes(50, "20")
    p = plan(*alone("20"), "--device-budget", budget)
    with device(DEMO, "--device-budget", budget, *alone("20")) as d:
        now = of_device(d)
        assert now["vram_bytes"] == p["bytes"] and now["slots"] == sum(c["slots"] for c in p["slots"]), (now, p)


def test_to_and_fro(one_run):  # noqa: F811
    """Four sequences need more than is kept for one: slots give blocks up, and have them again afterwards."""
    ids = moe_tokens(20)
    with device(DEMO, "--host-budget", "100%", "--device-policy", "hit", "--device-budget", budget_bytes(50, "16"), "--batch", "16",
                env={"SLUICE_EMU_SEED": "4"}) as d:
        before, seen = settled(d), []
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(eval_alone, d, ids[:n]) for n in (20, 19, 18, 20)]
            while not all(j.done() for j in jobs):
                seen.append(of_device(d)["slots"])
                time.sleep(0.02)
            for job, n in zip(jobs, (20, 19, 18, 20)):
                assert (job.result() == one_run[:n]).all(), f"{n} tokens"
        print(before["slots"], min(seen))
        assert min(seen) < before["slots"], (before, seen)
        after = until(d, lambda now: now["slots"] == before["slots"])
        assert after["vram_bytes"] == before["vram_bytes"] and after["state"] == "ok"
        assert (d.eval_ids(ids[:6])[1] == one_run[:6]).all()


def test_budget_reloaded(one_run, tmp_path):  # noqa: F811
    """SIGHUP: less while a request runs, so little that no slot is left, and all of it again."""
    conf = tmp_path / "sluiced.conf"
    p = plan(*alone("1"), "--device-budget", budget_bytes(100, "1"))
    most, least = p["bytes"], p["bytes"] - p["slots_bytes"]

    def budget(d, n):
        conf.write_text(f"device-budget = {n}\n")
        d.process.send_signal(signal.SIGHUP)

    conf.write_text(f"device-budget = {most}\n")
    with device(DEMO, "--config", conf, "--host-budget", "100%", "--device-policy", "hit", *alone("1")) as d:
        whole = settled(d)
        assert whole["slots"] == whole["resident"] == 128
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            job = pool.submit(eval_alone, d, moe_tokens(20))
            for n in ((most + least) // 2, most, least):
                budget(d, n)
                until(d, lambda now: abs(now["vram_bytes"] - n) < 1 << 20 and now["vram_bytes"] <= n)
            assert (job.result() == one_run).all()
        none = of_device(d)
        assert none["slots"] == none["resident"] == 0 and none["state"] == "ok", none
        assert (d.eval_ids(moe_tokens(5))[1] == one_run[:5]).all()
        hits = of_device(d)["hits"]
        assert hits == none["hits"]  # the CPU computed all experts
        budget(d, most)
        until(d, lambda now: now["slots"] == now["resident"] == 128)
        assert (d.eval_ids(moe_tokens(5))[1] == one_run[:5]).all()
        assert of_device(d)["hits"] > hits


def test_taken_by_others(one_run, tmp_path):  # noqa: F811
    """Another process takes memory, as much as others are left and more, and gives it back: slots follow, requests go on."""
    others, vram = tmp_path / "others", int(budget_bytes(100, "1")) + (8 << 20)
    others.write_text("0")
    with device(DEMO, "--host-budget", "100%", "--device-policy", "hit", "--device-budget", budget_bytes(100, "1"), *alone("1"),
                env={"SLUICE_EMU_VRAM": str(vram), "SLUICE_EMU_TAKEN": str(others)}) as d:
        assert settled(d)["slots"] == 128
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            job = pool.submit(eval_alone, d, moe_tokens(20))
            others.write_text(str(14 << 20))
            until(d, lambda now: now["slots"] < 100 and now["vram_bytes"] + (14 << 20) < vram)
            assert (job.result() == one_run).all()
        others.write_text("0")
        until(d, lambda now: now["slots"] == now["resident"] == 128)
        assert (d.eval_ids(moe_tokens(5))[1] == one_run[:5]).all()


def test_too_little(one_run, tmp_path):  # noqa: F811
    """A budget below what one sequence needs ends requests by name; with more again the next one is served."""
    conf = tmp_path / "sluiced.conf"
    most = int(budget_bytes(20, "1"))
    conf.write_text(f"device-budget = {most}\n")
    with device(DEMO, "--config", conf, "--host-budget", "100%", *alone("1")) as d:
        conf.write_text("device-budget = 1M\n")
        d.process.send_signal(signal.SIGHUP)
        until(d, lambda now: now["slots"] == 0)
        got, said = ask(d, moe_tokens(4))
        assert got is None and "the device's memory does not hold" in said and "--device-budget" in said, said
        conf.write_text(f"device-budget = {most}\n")
        d.process.send_signal(signal.SIGHUP)
        until(d, lambda now: now["slots"] > 0)
        assert (d.eval_ids(moe_tokens(4))[1] == one_run[:4]).all()


def test_stuck_fills(one_run, tmp_path):  # noqa: F811
    """Slots are to be given up while fills of them never end: who waits for those does so once, not before each step."""
    conf = tmp_path / "sluiced.conf"
    conf.write_text("")
    args = ["--config", conf, "--host-budget", "100%", "--device-policy", "hit", "--device-budget", budget_bytes(100, "1"), *alone("1")]
    with device(DEMO, *args) as d:
        began = time.monotonic()
        d.eval_ids(moe_tokens(8))
        plain = time.monotonic() - began
    with device(DEMO, *args, env={"SLUICE_EMU_FAIL": "cudaEventQuery:1+"}) as d:
        took = []
        for _ in range(2):
            began = time.monotonic()
            assert (d.eval_ids(moe_tokens(8))[1] == one_run[:8]).all()
            took.append(time.monotonic() - began)
            conf.write_text(f"device-budget = {budget_bytes(50, '1')}\n")
            d.process.send_signal(signal.SIGHUP)
        print(plain, took, of_device(d))
        assert max(took) < PATIENCE * (4 + 2 * plain), (plain, took)  # not a second for each of 8 steps
        assert of_device(d)["slots"] == 128 and not of_device(d)["resident"]


def least_budget(*args):
    """The smallest budget that a plan takes, to a KiB: of a sequence with the whole context, and no slots."""
    low, high = 0, 1 << 20
    while high - low > 1:
        mid = (low + high) // 2
        low, high = (low, mid) if plan(*args, "--device-budget", f"{mid}K") else (mid, high)
    return high << 10


@pytest.mark.parametrize("sizes", [(9, 11, 5), (5, 11, 9)], ids=str)
def test_waits(one_run, sizes):  # noqa: F811
    """Room for one sequence, and three come while one runs: nobody is let in beside another, where it would be paused and
    read twice, and everybody is answered, with the same bits."""
    ids, args = moe_tokens(20), ("--batch", "16", "--parallel", "4")
    budget, seen = least_budget(*args), []
    with device(DEMO, "--host-budget", "100%", "--device-budget", str(budget), *args) as d:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            first = pool.submit(d.generate_ids, ids[:3], "--max-tokens", "16")
            while not d.status()["tokens_generated"]:
                assert not first.done()
                time.sleep(0.01)
            jobs = [(n, pool.submit(eval_alone, d, ids[:n])) for n in sizes]
            while not all(job.done() for job in [first, *(job for _, job in jobs)]):
                now = d.status()
                seen.append((now["active"], now["waiting"]))
                time.sleep(0.01)
            assert len(first.result()["tokens"]) == 16
            for n, job in jobs:
                assert (job.result() == one_run[:n]).all(), f"{n} tokens"
        now = d.status()
        print(budget, sorted(set(seen)), now["pauses"], now["device"])
        assert (1, 3) in seen, sorted(set(seen))
        assert all(active <= 1 for active, _ in seen), sorted(set(seen))
        assert not now["pauses"], now
        assert now["device"]["state"] == "ok" and now["device"]["vram_bytes"] <= budget


@pytest.mark.parametrize("fail,most,state", [("cuMemCreate:40", 0, "ok"), ("cuMemCreate:40+", 0, "ok"), ("cuMemUnmap:1", 1, "ok"),
                                             ("cuMemUnmap:1+", 6, None), ("cuMemMap:70", 1, "ok"), ("cuMemSetAccess:70+", 5, "lost")])
def test_calls_fail(one_run, cpu_run, tmp_path, fail, most, state):  # noqa: F811
    """What the driver refuses while sequences come and go costs slots, or a request by name and no more requests than it refused
    calls; all others are answered, by the CPU alone where sequences get nothing any more."""
    ids, ended = moe_tokens(9), []
    with device(DEMO, "--host-budget", "100%", "--device-policy", "hit", "--device-budget", budget_bytes(50, "16"), "--batch", "16",
                env={"SLUICE_EMU_FAIL": fail, "SLUICE_EMU_COUNT": str(tmp_path / "counts")}) as d:
        before = of_device(d)
        for _ in range(3):
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                for n, (logits, said) in zip((9, 8, 7), pool.map(lambda n: ask(d, ids[:n]), (9, 8, 7))):
                    if logits is None:
                        assert "the device's memory: " in said and "of the driver" in said, said
                        ended.append(said)
                    else:
                        assert (logits == one_run[:n]).all() or (logits == cpu_run[:n]).all(), n
        now = of_device(d)
        print(len(ended), before["slots"], now["slots"], now["state"])
        assert len(ended) <= most, ended
        assert state is None or now["state"] == state, now
        for _ in range(1 if state else 3):  # where all that is given back stays away two fail in a row at the most: it is lost then
            got, said = ask(d, ids[:6])
            if got is not None:
                break
        assert got is not None, said
        assert (got == (cpu_run if of_device(d)["state"] == "lost" else one_run)[:6]).all()
        if fail == "cuMemCreate:40":  # others had the rest for a moment
            until(d, lambda now: now["slots"] >= 58)
    failed = counts_of(tmp_path / "counts").get(f"failed {fail.split(':')[0]}", 0)
    assert failed >= 1 if fail.endswith("+") else failed == 1, failed
