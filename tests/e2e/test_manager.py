# SPDX-License-Identifier: MIT
"""Description: what a service manager sees: sockets handed over, READY, the watchdog, reloads; the units themselves."""
import contextlib
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from daemon import BUILD, DEMO, PATIENCE, ROOT, Daemon, need, short_dir, sluice

UNITS = ROOT / "packaging" / "systemd"


class Manager:
    """NOTIFY_SOCKET and handed descriptors, as systemd(1) gives them."""

    def __init__(self, sockets=(), watchdog_us=0, named=False):
        self.dir = short_dir()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(f"\0{self.dir}" if named else f"{self.dir}/n")
        self.said, self.sockets = [], sockets
        self.env = {"NOTIFY_SOCKET": f"@{self.dir}" if named else f"{self.dir}/n"}
        if watchdog_us:
            self.env["WATCHDOG_USEC"] = str(watchdog_us)

    def start(self, *args):
        """sluiced with the sockets as descriptors 3 and up and the environment that names its own process."""
        names = ":".join(name for name, _ in self.sockets)
        moves = "".join(f" {3 + i}<&{s.fileno()}" for i, (_, s) in enumerate(self.sockets))
        script = f'export LISTEN_PID=$$ LISTEN_FDS={len(self.sockets)} LISTEN_FDNAMES={names}; exec "$@"{moves}'
        for _, s in self.sockets:
            os.set_inheritable(s.fileno(), True)
        self.log = open(f"{self.dir}/log", "w+")
        self.process = subprocess.Popen(["bash", "-c", script, "sh", str(BUILD / "sluiced"), "--model", str(DEMO), *map(str, args)],
                                        stderr=self.log, env={**os.environ, **self.env}, close_fds=False)
        return self.process

    def until(self, word, timeout=60):
        """Waits for a notice that holds @word; returns all so far."""
        end = time.monotonic() + timeout
        while not any(word in s for s in self.said):
            self.notify.settimeout(max(0.01, end - time.monotonic()))
            try:
                self.said.append(self.notify.recv(4096).decode())
            except TimeoutError:
                raise AssertionError(f"no {word} in {self.said}\n{self.text()}") from None
        return self.said

    def ended(self, timeout=60):
        """Waits for the daemon's end; its status. Notices are read meanwhile: the kernel keeps ten of them."""
        end = time.monotonic() + timeout
        self.notify.settimeout(0.1)
        while self.process.poll() is None:
            assert time.monotonic() < end, self.text()
            with contextlib.suppress(TimeoutError):
                self.said.append(self.notify.recv(4096).decode())
        return self.process.returncode

    def text(self):
        return open(f"{self.dir}/log").read()


def high(s):
    """The same socket with a high descriptor, so that moving it to 3 and up overwrites none of the others."""
    with s:
        return socket.socket(fileno=fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 60))


def listening(kind, address, family=socket.AF_UNIX):
    s = socket.socket(family, kind)
    s.bind(address)
    s.listen(16)
    return high(s)


def test_sockets_handed_over():
    """Both kinds are served without an option; the native socket's file is the manager's and stays; a restart keeps clients."""
    d = short_dir()
    native = listening(socket.SOCK_SEQPACKET, f"{d}/s")
    http = listening(socket.SOCK_STREAM, ("127.0.0.1", 0), socket.AF_INET)
    port = http.getsockname()[1]
    m = Manager([("native", native), ("http", http)])
    for options in (["--socket", f"{d}/s"], ["--http", "127.0.0.1:0"]):
        # a client that comes before the daemon waits in the queue
        early = subprocess.Popen([str(BUILD / "sluice"), "generate", "--socket", f"{d}/s", "--quiet", "-n", "3", "--prompt", "A"],
                                 stdout=subprocess.PIPE, text=True)
        m.start(*options) # without --socket too: another user's default is another place
        assert early.wait(60) == 0 and early.stdout.read()
        m.until("READY=1")
        assert json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=20))["status"] == "ok"
        m.process.terminate()
        assert m.ended() == 0, m.text()
        assert os.path.exists(f"{d}/s") and any("STOPPING=1" in s for s in m.until("STOPPING"))
        m.said.clear()


def test_sockets_refused():
    d = short_dir()
    native = listening(socket.SOCK_SEQPACKET, f"{d}/s")
    m = Manager([("native", native)])
    m.start("--socket", f"{d}/other")
    assert m.ended() == 1 and f"the service manager hands over {d}/s" in m.text()
    m = Manager([("odd", high(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)))])
    m.start("--socket", f"{d}/t")
    assert m.ended() == 1 and "descriptor 3 (odd), which is no listening socket" in m.text()


def test_watchdog():
    """Fed while idle and while it works; not by a daemon that stands still, which the manager then kills."""
    d = short_dir()
    m = Manager(watchdog_us=600000)
    m.start("--socket", f"{d}/s")
    m.until("READY=1")
    m.said.clear()
    m.until("WATCHDOG=1")
    sluice("generate", "--socket", f"{d}/s", "-n", 40, "--prompt", "A")
    m.said.clear()
    m.until("WATCHDOG=1")
    m.process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    m.notify.settimeout(0.01)
    with pytest.raises(TimeoutError):
        while True:
            m.notify.recv(4096)
    m.notify.settimeout(1.5)
    with pytest.raises(TimeoutError):
        m.notify.recv(4096)
    m.process.send_signal(signal.SIGCONT)
    m.said.clear()
    m.until("WATCHDOG=1")
    m.process.terminate()
    assert m.ended() == 0, m.text()


def test_a_manager_that_does_not_read():
    """The daemon waits for nobody: it serves, reloads and ends; its states come in order when the manager reads again."""
    d = short_dir()
    m = Manager(watchdog_us=300000)
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    filler.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            filler.sendto(b"FILLER=1", f"{m.dir}/n")
    m.start("--socket", f"{d}/s")
    end = time.monotonic() + 60 * PATIENCE
    while 'msg="ready"' not in m.text():
        assert time.monotonic() < end and m.process.poll() is None, m.text()
        time.sleep(0.05)
    sluice("generate", "--socket", f"{d}/s", "-n", 3, "--prompt", "A")
    m.process.send_signal(signal.SIGHUP)
    time.sleep(1)  # several times the watchdog's pace: each of them would be a line
    sluice("generate", "--socket", f"{d}/s", "-n", 3, "--prompt", "A")
    assert m.text().count("the service manager does not read") == 1, m.text()
    said = list(m.until("RELOADING=1"))
    m.said.clear()
    said += m.until("READY=1")
    states = [s.split("\n")[0] for s in said if "FILLER" not in s and "WATCHDOG" not in s and "loading" not in s]
    assert states == ["READY=1", "RELOADING=1", "READY=1"], said
    with pytest.raises(BlockingIOError):
        while True:
            filler.sendto(b"FILLER=1", f"{m.dir}/n")
    m.process.terminate()
    assert m.process.wait(60 * PATIENCE) == 0, m.text()


@pytest.mark.parametrize("named", [False, True], ids=["path", "name"])
def test_reload_is_told(named):
    """At an address that is a path, and at a name, which containers' managers have."""
    d = short_dir()
    m = Manager(named=named)
    m.start("--socket", f"{d}/s")
    m.until("READY=1")
    m.said.clear()
    m.process.send_signal(signal.SIGHUP)
    m.until("READY=1")
    assert re.search(r"RELOADING=1\nMONOTONIC_USEC=\d+$", m.said[0]), m.said
    m.process.terminate()
    assert m.ended() == 0


@pytest.mark.parametrize("address", ["", "@", "relative", "vsock:2:1234", "/none/there", "/" + "x" * 107, "@" + "x" * 107], ids=lambda a: a[:9])
def test_no_manager_there(address):
    """An address of no use, or where nobody listens, is no reason not to serve."""
    with Daemon(DEMO, "--ctx", "512", env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}) as d:
        d.process.send_signal(signal.SIGHUP)
        assert d.status()["state"] == "ready" and "does not read" not in d.text()


def test_faults_for_the_journal(tmp_path):
    """A wrong configuration is a line with a priority where standard error is the journal's."""
    conf, said = tmp_path / "c.conf", tmp_path / "said"
    conf.write_text("nonsense = 1\n")
    with said.open("w") as err:
        st = os.fstat(err.fileno())
        p = subprocess.run([str(BUILD / "sluiced"), "--config", str(conf)], stderr=err, env={**os.environ, "JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})
    assert p.returncode == 2
    assert re.fullmatch(r'<3>level=error msg="[^\n]*c\.conf:1: [^\n]*nonsense[^\n]*"\n', said.read_text()), said.read_text()


# ---- the units ----

def built_units(folder):
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("@BINDIR@", "/bin").replace("@LIBEXECDIR@", str(UNITS))
        # what the units start must be there for systemd-analyze verify
        (folder / unit.name).write_text(re.sub(r"ExecStart=/bin/sluiced", f"ExecStart={BUILD}/sluiced", text))
    return folder


def test_units(tmp_path):
    """systemd-analyze finds nothing wrong, and the services are as locked in as is promised."""
    need(shutil.which("systemd-analyze"), "systemd-analyze is not here")
    units = built_units(tmp_path)
    (units / "sluiced@x.service").write_text((units / "sluiced@.service").read_text())
    names = [str(units / n) for n in ("sluiced.service", "sluiced@x.service", "sluiced.socket", "sluiced-http.socket", "sluice-hugepages.service")]
    p = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, timeout=120,
                       env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"})
    ours = [line for line in p.stderr.splitlines() if "sluice" in line]
    assert not ours, p.stderr
    for name in ("sluiced.service", "sluiced@x.service"):
        p = subprocess.run(["systemd-analyze", "security", "--offline=yes", str(units / name)], capture_output=True, text=True, timeout=120)
        level = float(re.search(r"exposure level for .*: ([\d.]+)", p.stdout).group(1))
        assert level <= 3.0, p.stdout


def test_instances_follow_the_service():
    """sluiced@.service differs from sluiced.service where instances must, and nowhere else."""
    one, many = ((UNITS / n).read_text().splitlines() for n in ("sluiced.service", "sluiced@.service"))
    differ = {line.split("=")[0] for line in set(one) ^ set(many) if not line.startswith("#")}
    assert differ == {"Description", "ExecStart", "RuntimeDirectory", "RuntimeDirectoryPreserve", "StateDirectory", "Wants", "Environment", "Also"}


def test_huge_pages_by_node(tmp_path):
    """Lines of the file reach the nodes' own counters; a wrong line is named and the others still count."""
    for node in (0, 1):
        (tmp_path / f"node{node}/hugepages/hugepages-2048kB").mkdir(parents=True)
        (tmp_path / f"node{node}/hugepages/hugepages-2048kB/nr_hugepages").write_text("0")
    wanted = tmp_path / "hugepages"
    script = UNITS / "reserve-hugepages"

    def reserve(text):
        wanted.write_text(text)
        return subprocess.run([str(script), str(wanted)], capture_output=True, text=True, env={**os.environ, "NODES": str(tmp_path)})

    p = reserve("# node pages\n0 12\n1 3 # second\n")
    assert p.returncode == 0 and p.stdout == "node 0: 12 of 12 huge pages\nnode 1: 3 of 3 huge pages\n", p.stderr
    assert pathlib.Path(tmp_path / "node1/hugepages/hugepages-2048kB/nr_hugepages").read_text() == "3\n"
    p = reserve("0 many\n2 5\n1 4")
    assert p.returncode == 1 and ":1: not" in p.stderr and "no node 2" in p.stderr and p.stdout == "node 1: 4 of 4 huge pages\n"
