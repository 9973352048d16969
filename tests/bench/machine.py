# SPDX-License-Identifier: MIT
"""What measuring needs of the machine: a memory limit, cold files, who else used the processors, fio.

Used by compare.py. Needs root for the memory limit and for huge pages; says so where it has neither.
"""
import contextlib
import json
import os
import pathlib
import resource
import subprocess
import time

HUGE = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
TICK = os.sysconf("SC_CLK_TCK")


def drop_file(path):
    """Takes the file's pages out of the page cache (those that nobody maps)."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


class MemoryLimit:
    """with MemoryLimit(bytes) as m: Popen(..., preexec_fn=m.join). cgroup v1, else v2."""

    def __init__(self, limit_bytes, name="sluice-bench"):
        self.limit = limit_bytes
        v1, v2 = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")
        self.v1 = v1.is_dir()
        self.dir = (v1 if self.v1 else v2) / f"{name}-{os.getpid()}"

    def __enter__(self):
        self.dir.mkdir()
        limit = "memory.limit_in_bytes" if self.v1 else "memory.max"
        try:
            (self.dir / limit).write_text(str(self.limit))
        except OSError:
            self.dir.rmdir()
            raise
        self.tasks = os.open(self.dir / ("tasks" if self.v1 else "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)
        return self

    def join(self):
        os.write(self.tasks, b"0")

    def peak(self):
        name = "memory.max_usage_in_bytes" if self.v1 else "memory.peak"
        return int((self.dir / name).read_text())

    def __exit__(self, *exc):
        os.close(self.tasks)
        for _ in range(100):  # the last task may still be leaving
            try:
                self.dir.rmdir()
                return
            except OSError:
                time.sleep(0.05)


def _busy_seconds():
    """All processors' time that was not idle, the hypervisor's theft included, and that theft alone."""
    fields = open("/proc/stat").readline().split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICK, steal / TICK


def _process_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Foreign:
    """with Foreign(pid) as f: ...; f.share = processors that others used meanwhile (1.0 = one of them), f.theft the host's part.

    A host that took back memory which its guest left free steals time when that is touched again: some 0.1 of a program's first
    run, before its own clock starts. Ours are the children waited for inside, and @pids, daemons that do the work.
    """

    def __init__(self, *pids):
        self.pids = [pid for pid in pids if pid]

    def _ours(self):
        r = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = resource.getrusage(resource.RUSAGE_SELF)
        return (r.ru_utime + r.ru_stime + own.ru_utime + own.ru_stime +
                sum(map(_process_seconds, self.pids)))

    def __enter__(self):
        self.start = time.monotonic(), *_busy_seconds(), self._ours()
        return self

    def __exit__(self, *exc):
        start, busy, theft, ours = self.start
        wall = max(time.monotonic() - start, 1e-3)
        busy_now, theft_now = _busy_seconds()
        self.theft = (theft_now - theft) / wall
        self.share = max(0.0, (busy_now - busy - (self._ours() - ours)) / wall)


def peaks(build):
    """What `sluice doctor` measures now, in some 0.4 s."""
    p = subprocess.run([pathlib.Path(build) / "sluice", "doctor", "--json"], capture_output=True, text=True, check=True)
    return json.loads(p.stdout)


def read_rate(build):
    """GB/s that all threads read from memory now."""
    return peaks(build)["mem_read_gbs"]


def steady(rates, factor=1.2):
    """Whether memory kept its mode: none of @rates, GB/s, is more than @factor times another."""
    return max(rates) <= factor * min(rates)


def wait_quiet(seconds, below=0.1):
    """Waits until others use less than @below of a processor for a second; at most @seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with Foreign() as f:
            time.sleep(1)
        if f.share < below:
            return True
    return seconds == 0


@contextlib.contextmanager
def huge_pages(n):
    """At least @n free huge pages of 2 MiB for a while; yields whether they are there."""
    try:
        before = int(HUGE.read_text())
        HUGE.write_text(str(before + n))
        got = int(HUGE.read_text()) >= before + n
    except OSError:
        yield False
        return
    try:
        yield got
    finally:
        HUGE.write_text(str(before))


def fio_rate(path, request_bytes, depth, seconds=3):
    """GB/s (1e9) of random direct reads through io_uring, and the kind of buffer. None without fio."""
    with huge_pages(depth * request_bytes // (2 << 20) + 8) as huge:
        args = ["fio", "--name=read", f"--filename={path}", "--readonly", "--rw=randread", "--norandommap",
                f"--bs={request_bytes}", "--blockalign=4096", "--direct=1", "--ioengine=io_uring", "--fixedbufs",
                "--registerfiles", f"--iodepth={depth}", f"--runtime={seconds}", "--time_based",
                "--randrepeat=0", "--output-format=json"]
        pages = ["--iomem=mmaphuge", "--hugepage-size=2m"]
        try:
            p = subprocess.run(args + (pages if huge else []), capture_output=True, text=True, timeout=seconds + 60)
            if huge and p.returncode:  # somebody else took them meanwhile
                huge = False
                p = subprocess.run(args, capture_output=True, text=True, timeout=seconds + 60)
        except FileNotFoundError:
            return None, None
    if p.returncode:
        raise RuntimeError(f"fio: {p.stderr.strip() or p.stdout.strip()}")
    text = p.stdout[p.stdout.index("{"):]
    return json.loads(text)["jobs"][0]["read"]["bw_bytes"] / 1e9, "huge pages" if huge else "4 KiB pages"


def process_memory(pid):
    """Resident bytes of a process, huge pages included (they are in no memory cgroup's count)."""
    kib = 0
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(("VmRSS:", "HugetlbPages:")):
            kib += int(line.split()[1])
    return kib * 1024


def describe():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
               "unknown")
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    return {"cpu": cpu, "cpus": os.cpu_count(), "memory_gib": round(memory / 1048576, 1),
            "kernel": os.uname().release}


def title(described, args, level):
    """What was measured where, of describe()."""
    return (f"{pathlib.Path(args.model).name}, {args.threads} threads, {level}, {described['cpu']}, {described['memory_gib']} GiB, "
            f"Linux {described['kernel']}")
