# SPDX-License-Identifier: MIT
"""What N clients could have had at most of one daemon on this machine, beside what they had, for clients.py.

Experts that are missing are read while others are computed, so with everything hidden behind everything else a token takes
the longer of two times:

    disk    bytes that were read for each token, over the rate that the disk gives reads of that size and depth
    cores   the time of the run in which computing did not wait for reads, for each token

Both are of the run itself, by the daemon's own counters (/metrics), its prompts included; the disk's rate is measured in the
same run, by another program. The bound is the rate of tokens that the longer one allows, over what one client was measured to have.
"""

COUNTERS = {"bytes": "sluice_disk_read_bytes_total", "reads": "sluice_disk_read_seconds_count",
            "stall_s": "sluice_stall_seconds_total", "busy_s": "sluice_disk_busy_seconds_total",
            "tokens": "sluice_tokens_generated_total", "prompt": "sluice_tokens_prefilled_total", "steps": "sluice_steps_total",
            "hits": "sluice_expert_hits_total", "misses": "sluice_expert_misses_total"}


def counters(text):
    """The daemon's counters out of its /metrics."""
    values = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name and not name.startswith("#") and "{" not in name:
            values[name] = float(value)
    return {key: values[name] for key, name in COUNTERS.items()}


def spent(before, after, seconds):
    """What the daemon did in a run of so many seconds."""
    return {**{key: after[key] - before[key] for key in before}, "seconds": seconds}


def together(runs):
    """Several runs of as many clients as one."""
    return {key: sum(run[key] for run in runs) for key in runs[0]}


def request_bytes(run, most=1 << 20):
    """The size of the daemon's reads, a multiple of 4096 that is not larger than the largest it asks for."""
    mean = run["bytes"] / run["reads"] if run["reads"] else most
    return max(4096, min(most, round(mean / 4096) * 4096))


def at_most(run, disk_rate):
    """Tokens per second by the disk and by the cores. @disk_rate: bytes per second, None: not measured. None: the disk is no
    bound, as nothing was read, or its rate is not known; or all of the run was waits."""
    disk = disk_rate * run["tokens"] / run["bytes"] if disk_rate and run["bytes"] else None
    computing = run["seconds"] - run["stall_s"]
    return disk, run["tokens"] / computing if computing > 0 else None


def compare(one, many, disk_rate):
    """What @many clients had over what @one had, and the most they could have had: by the disk, by the cores, by both."""
    alone = one["tokens"] / one["seconds"]
    disk, cores = at_most(many, disk_rate)
    known = [x for x in (disk, cores) if x is not None]
    return {"measured": many["tokens"] / many["seconds"] / alone,
            "disk": disk and disk / alone, "cores": cores and cores / alone,
            "possible": min(known) / alone if known else None}


def sentence(clients, one, many, disk_rate):
    c = compare(one, many, disk_rate)

    def times(value):
        return "unknown" if value is None else f"{value:.2f}"

    def each(run):
        return (f"{run['bytes'] / run['tokens'] / 1e6:.2f} MB read and {1e3 * (run['seconds'] - run['stall_s']) / run['tokens']:.2f} ms "
                f"without waits a token, {100 * run['hits'] / max(1, run['hits'] + run['misses']):.0f} % hits")

    rate = f"{disk_rate / 1e9:.2f} GB/s" if disk_rate else "a rate that was not measured"
    return (f"{clients} clients over one: measured {c['measured']:.2f} of possible {times(c['possible'])} "
            f"(the disk allows {times(c['disk'])} at {rate} for reads of {request_bytes(many) >> 10} KiB, the cores {times(c['cores'])}); "
            f"{clients}: {each(many)}; one: {each(one)}")
