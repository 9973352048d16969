# SPDX-License-Identifier: MIT
"""Description: a warm restart: memory that a service manager keeps is taken over whole and with the same logits, after kill -9
too; anything else that is handed over is refused with a sentence, and the start is a cold one."""
import fcntl
import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from daemon import BUILD, DEMO, Daemon, fixture, sluice

NAMES = ("sluice-table", "sluice-experts", "sluice-dense")
IDS = list(range(5, 45))


class Store:
    """NOTIFY_SOCKET with a store of descriptors, as systemd(1) has it: FDSTORE, FDSTOREREMOVE, BARRIER."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="sluice-")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"{self.dir}/n")
        self.kept, self.said = [], []  # (name, descriptor)
        self.lock = threading.Lock()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            data, fds, _, _ = socket.recv_fds(self.socket, 4096, 16)
            said = dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)
            with self.lock:
                if said.get("FDSTORE") == "1":
                    self.kept += [(said["FDNAME"], fcntl.fcntl(fd, fcntl.F_DUPFD, 100)) for fd in fds]
                if said.get("FDSTOREREMOVE") == "1":
                    for item in [k for k in self.kept if k[0] == said["FDNAME"]]:
                        self.kept.remove(item)
                        os.close(item[1])
                self.said.append(said)
            for fd in fds:  # BARRIER=1: this is the answer
                os.close(fd)

    def names(self):
        with self.lock:
            return sorted(name for name, _ in self.kept)

    def replace(self, name, fd):
        with self.lock:
            for item in [k for k in self.kept if k[0] == name]:
                self.kept.remove(item)
                os.close(item[1])
            if fd is not None:
                self.kept.append((name, fcntl.fcntl(fd, fcntl.F_DUPFD, 100)))

    def get(self, name):
        with self.lock:
            return next(fd for n, fd in self.kept if n == name)

    def drop(self):
        for name in self.names():
            self.replace(name, None)


class Kept(Daemon):
    """A daemon that gets what the store keeps, and may have it keep more."""

    started = []

    def __init__(self, store, model, *args, offered=4):
        env = {"NOTIFY_SOCKET": f"{store.dir}/n", "FDSTORE": str(offered)}
        with store.lock:
            kept = list(store.kept)
        for _, fd in kept:
            os.set_inheritable(fd, True)
        moves = "".join(f" {3 + i}<&{fd}" for i, (_, fd) in enumerate(kept))
        close = "".join(f" {fd}<&-" for _, fd in kept)
        names = ":".join(name for name, _ in kept)
        script = f'export LISTEN_PID=$$ LISTEN_FDS={len(kept)} LISTEN_FDNAMES={names}; exec "$@"{moves}{close}'
        super().__init__(model, *args, env=env, prefix=("bash", "-c", script, "sh"))

    def start(self):
        self.process = subprocess.Popen(self.args, stderr=open(self.log, "w"), stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=self.env,
                                        close_fds=False)
        self.started.append(self)

    def logits(self):
        return hashlib.sha256(self.eval_ids(IDS)[1].tobytes()).hexdigest()

    def cold(self):
        """The sentence of a cold start, None where it was none."""
        found = re.search(r'msg="cold start" cause="([^"]*)"', self.text())
        return found and found.group(1)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(autouse=True)
def none_is_left():
    """Daemons that a test ends by itself: where it failed before, they end here."""
    yield
    for d in Kept.started:
        if d.process.poll() is None:
            d.kill()
    Kept.started.clear()


ARGS = ("--host-budget", "100%", "--threads", "2", "--ctx", "512", "--parallel", "1")


@pytest.fixture(scope="module")
def usual():
    """The demo model's logits, from a daemon that keeps nothing."""
    with Daemon(DEMO, *ARGS) as d:
        assert not d.status()["warm"]["kept"]
        return hashlib.sha256(d.eval_ids(IDS)[1].tobytes()).hexdigest()


def filled_store(*args, model=DEMO):
    """A store with the memory of a daemon that filled all its slots and was then stopped."""
    store = Store()
    with Kept(store, model, *(args or ARGS)) as d:
        s = d.filled()
        assert s["warm"]["kept"] and not s["warm"]["warm"] and not d.cold(), d.text()
        assert store.names() == sorted(NAMES) and 'msg="warm restart" budget=' in d.text()
    return store, s


def test_restart(usual):
    """After SIGTERM and after SIGKILL: all experts are there, none is read, nothing dense is read, the same logits."""
    store, before = filled_store()
    for how in ("kill", "terminate", "kill"):
        d = Kept(store, DEMO, *ARGS)
        d.__enter__()
        s = d.status()
        warm = s["warm"]
        assert warm["warm"] and warm["experts"] == before["experts_resident"] == s["experts_resident"], d.text()
        assert warm["dense_bytes"] == s["dense_bytes"] and warm["expert_bytes"] == s["resident_bytes"]
        assert d.logits() == usual
        s = d.status()
        assert s["bytes_read"] == 0 and s["misses"] == 0 and s["warm"]["starts"] > 1
        assert f'msg="warm start" experts={warm["experts"]}' in d.text() and not d.cold()
        text = sluice("metrics", "--socket", d.socket).stdout
        assert "sluice_warm_start 1\n" in text and f'sluice_warm_experts {warm["experts"]}\n' in text
        if how == "kill":
            d.kill()
        else:
            d.__exit__(None)
        assert store.names() == sorted(NAMES)
    store.drop()


def test_other_options(usual):
    """Other places for the bytes: a cold start, said once, and what was kept is let go of before there is anything new."""
    store, _ = filled_store()
    for change, says in ((("--host-budget", "50%"), "the budget of experts was"), (("--numa", "split:2"), "experts were cut for 1 NUMA nodes, now for 2"),
                         (("--warm-restart", "off"), "it is not wanted")):
        with Kept(store, DEMO, *ARGS, *change) as d:
            assert says in d.cold() and d.text().count('msg="cold start"') == 1 and not d.filled()["warm"]["warm"]
            assert store.names() == ([] if "off" in change else sorted(NAMES)) and d.logits() == usual
        if "split:2" in change:
            with Kept(store, DEMO, *ARGS, *change) as d:
                assert d.status()["warm"]["warm"] and d.logits() == usual


def test_other_model(usual, tmp_path):
    """The same file written to, and a file of another model: cold."""
    copy = tmp_path / "m.gguf"
    copy.write_bytes(DEMO.read_bytes())
    store, _ = filled_store(model=copy)
    os.utime(copy, ns=(1, 1))
    with Kept(store, copy, *ARGS) as d:
        assert "the model's files were written or replaced since" in d.cold() and d.logits() == usual
    with Kept(store, fixture("dense/dense-q4_k_m.gguf"), "--ctx", "512", "--parallel", "1") as d:
        assert "it is of another model" in d.cold()
    store.drop()


def test_automatic_budget():
    """Without --host-budget free memory decides anew at each start; what was kept decides instead, as long as it fits."""
    args = ("--threads", "2", "--ctx", "512", "--parallel", "1")
    store, before = filled_store(*args)
    with Kept(store, DEMO, *args) as d:
        s = d.status()
        assert s["warm"]["warm"] and s["budget_bytes"] == before["budget_bytes"], d.text()
    store.drop()


def memory_file(size, data=b""):
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.truncate(fd, size)
    os.pwrite(fd, data, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def write_head(store, change):
    """The store's table with another head, in new memory."""
    old = store.get("sluice-table")
    data = bytearray(os.pread(old, os.fstat(old).st_size, 0))
    change(data)
    store.replace("sluice-table", memory_file(len(data), data=bytes(data)))


def flip(at, bits=0xff):
    def change(data):
        data[at] ^= bits
    return change


def another_users(store):
    os.fchown(store.get("sluice-table"), 12345, -1)


def doubled(store):
    store.kept.append(("sluice-dense", fcntl.fcntl(store.get("sluice-dense"), fcntl.F_DUPFD, 100)))


# more of them in tests/unit/store/test_warm.c
HOSTILE = [
    (lambda s: s.replace("sluice-table", os.pipe()[0]), "it is no memory file"),
    (lambda s: s.replace("sluice-dense", socket.socketpair()[0].detach()), "sluice-dense: it is no memory file"),
    (lambda s: s.replace("sluice-experts", memory_file(os.fstat(s.get("sluice-experts")).st_size)), "it is about other memory"),
    (lambda s: s.replace("sluice-experts", None), "a part of it is missing"),
    (lambda s: write_head(s, flip(8)), "it is of version 254 of the layout, this is 1"),
    (doubled, "more than one of a kind"),
    *([] if os.geteuid() else [(another_users, "it is of user 12345, not of 0")]),
]


def test_hostile(usual):
    """Whatever is handed over: no crash, a sentence, a cold start with the right logits, and a new store."""
    store, _ = filled_store()
    for i, (change, says) in enumerate(HOSTILE):
        change(store)
        with Kept(store, DEMO, *ARGS) as d:
            assert says in (d.cold() or ""), d.text()
            assert i % 3 or d.logits() == usual
            assert store.names() == sorted(NAMES)
    store.drop()


def test_still_in_use(usual):
    """Two daemons never share the memory: the second starts cold while the first lives."""
    store, _ = filled_store()
    first = Kept(store, DEMO, *ARGS)
    with first:
        with Kept(store, DEMO, *ARGS) as d:
            assert f"process {first.process.pid} uses it still" in d.cold() and d.logits() == usual
        assert first.logits() == usual
    store.drop()


def marks(store):
    """(words of the slots' marks as they are, where they begin)"""
    fd = store.get("sluice-table")
    head = os.pread(fd, 4096, 0)
    n_slots = int.from_bytes(head[16 + 48:16 + 52], "little")
    return [int.from_bytes(os.pread(fd, 8, 4096 + 8 * i), "little") for i in range(n_slots)]


def test_half_marks(usual):
    """A slot counts with its whole mark alone: slots whose mark is cut, foreign or of another slot are read again; wrong
    bytes in them are never used."""
    store, before = filled_store()
    words, table, experts = marks(store), store.get("sluice-table"), store.get("sluice-experts")
    assert len(words) == before["experts_total"] and all(words)
    rng = random.Random(3)
    spoilt = rng.sample(range(len(words)), 30)
    for k, i in enumerate(spoilt):
        word = (words[i] ^ 1 << 40, 0, words[(i + 1) % len(words)], rng.getrandbits(64))[k % 4]
        os.pwrite(table, word.to_bytes(8, "little"), 4096 + 8 * i)
    # their bytes are no good, wherever they lie: all that is not whole may be anything
    d = Kept(store, DEMO, *ARGS)
    with d:
        s = d.status()["warm"]
        assert s["warm"] and s["experts"] <= len(words) - len(spoilt), (s, d.text())
        assert d.logits() == usual
    assert os.fstat(experts).st_size
    store.drop()


def kill_at_random(kills, seed=1):
    """Daemons that fill their slots slowly and answer, killed at random moments of start and work; (how many of them had
    started warm, how many were ready, all logits of daemons that take over what the last one left)."""
    rng, store, warm, ready, seen = random.Random(seed), Store(), 0, 0, set()
    for i in range(kills):
        d = Kept(store, DEMO, *ARGS[2:], "--host-budget", rng.choice(("100%",) * 19 + ("60%",)), "--fill-rate", rng.choice(("2M", "20M", "2G")))
        d.start()
        asker, end = None, time.monotonic() + (20 if rng.random() < 0.7 else 0.2 * rng.random())
        while 'msg="ready"' not in d.text() and time.monotonic() < end:
            time.sleep(0.002)
        if rng.random() < 0.5 and os.path.exists(d.socket):
            asker = subprocess.Popen([str(BUILD / "sluice"), "generate", "--socket", d.socket, "--quiet", "-n", "60", "--prompt", "Once"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.choice((0, 0.02, 0.1, 0.5)) * rng.random())
        assert d.process.poll() is None, f"start {i} ended with {d.process.returncode}:\n{d.text()}"
        warm += 'msg="warm start"' in d.text()
        ready += 'msg="ready"' in d.text()
        d.kill()
        if asker:
            asker.kill()
            asker.wait()
        if i % 10 == 9 or i == kills - 1:
            with Kept(store, DEMO, *ARGS, "--no-fill") as d:
                seen.add(d.logits())
    store.drop()
    return warm, ready, seen


def test_kill(usual):
    """kill -9 in the middle of fills and answers: only what was whole is used, logits as before. All of it: make test-kill-warm."""
    kills = int(os.environ.get("KILLS", "6"))
    warm, ready, seen = kill_at_random(kills)
    print(f"{kills} kills, {warm} of daemons that had started warm, {ready} of daemons that were ready")
    assert seen == {usual} and warm >= kills // 3
