# SPDX-License-Identifier: MIT
"""Description: what tests/bench/clients says several clients could have had: the arithmetic, on runs that were made up."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench" / "clients"))
import bounds  # noqa: E402

METRICS = """# HELP sluice_steps_total Steps of the engine
# TYPE sluice_steps_total counter
sluice_steps_total 7
sluice_disk_read_bytes_total 3e9
sluice_disk_read_seconds_bucket{le="0.001"} 5
sluice_disk_read_seconds_count 6000
sluice_stall_seconds_total 1.5
sluice_disk_busy_seconds_total 2
sluice_tokens_generated_total 64
sluice_tokens_prefilled_total 200
sluice_expert_hits_total 75
sluice_expert_misses_total 25
sluice_requests_total{reason="stop"} 3
"""
# one: 20 tok/s of which it waits 0.4; eight: 32 tok/s, 40 MB and 15 ms without waits for each token
ONE = {"tokens": 200, "seconds": 10, "bytes": 6e9, "reads": 6000, "stall_s": 4, "busy_s": 6, "prompt": 0, "steps": 200, "hits": 8, "misses": 2}
EIGHT = {"tokens": 320, "seconds": 10, "bytes": 320 * 40e6, "reads": 25600, "stall_s": 5.2, "busy_s": 8, "prompt": 0, "steps": 40, "hits": 7, "misses": 3}


def test_counters_and_what_was_spent():
    before = bounds.counters(METRICS)
    assert before == {"bytes": 3e9, "reads": 6000, "stall_s": 1.5, "busy_s": 2, "tokens": 64, "prompt": 200, "steps": 7, "hits": 75, "misses": 25}
    after = bounds.counters(METRICS.replace("total 64", "total 128").replace("3e9", "5e9"))
    run = bounds.spent(before, after, 4)
    assert run["tokens"] == 64 and run["bytes"] == 2e9 and run["seconds"] == 4 and run["steps"] == 0


def test_a_metric_that_is_missing_is_no_zero():
    with pytest.raises(KeyError):
        bounds.counters(METRICS.replace("sluice_stall_seconds_total", "sluice_other"))


def test_the_longer_of_two_times_bounds():
    c = bounds.compare(ONE, EIGHT, 2e9)
    assert c["measured"] == pytest.approx(1.6)
    assert c["disk"] == pytest.approx(2.5)   # 2 GB/s are 50 tokens of 40 MB, 20 is what one had
    assert c["cores"] == pytest.approx(320 / 4.8 / 20)
    assert c["possible"] == pytest.approx(2.5)
    assert bounds.compare(ONE, EIGHT, 4e9)["possible"] == pytest.approx(c["cores"])  # the disk is fast enough
    assert bounds.compare(ONE, EIGHT, 2e9)["measured"] < c["possible"]


def test_what_is_not_known_is_no_bound():
    c = bounds.compare(ONE, EIGHT, None)
    assert c["disk"] is None and c["possible"] == pytest.approx(c["cores"])
    whole = {**EIGHT, "bytes": 0, "reads": 0, "stall_s": 0}
    assert bounds.compare(ONE, whole, 2e9)["disk"] is None
    assert bounds.compare(ONE, {**EIGHT, "stall_s": 10}, None)["possible"] is None


def test_runs_of_as_many_clients_count_together():
    slow = {**ONE, "seconds": 30}
    assert bounds.compare(bounds.together([ONE, slow]), EIGHT, 2e9)["measured"] == pytest.approx(3.2)


def test_reads_are_of_the_daemons_size():
    assert bounds.request_bytes({"bytes": 600000 * 10, "reads": 10}) == 146 * 4096
    assert bounds.request_bytes({"bytes": 1 << 32, "reads": 10}) == 1 << 20
    assert bounds.request_bytes({"bytes": 10, "reads": 10}) == 4096
    assert bounds.request_bytes({"bytes": 0, "reads": 0}) == 1 << 20


def test_the_line():
    line = bounds.sentence(8, ONE, EIGHT, 2e9)
    assert "8 clients over one: measured 1.60 of possible 2.50 (the disk allows 2.50 at 2.00 GB/s for reads of 488 KiB, the cores 3.33)" in line
    assert "8: 40.00 MB read and 15.00 ms without waits a token, 70 % hits; one: 30.00 MB read and 30.00 ms" in line
    assert "unknown" in bounds.sentence(8, ONE, EIGHT, None)
