# SPDX-License-Identifier: MIT
"""The list of formats in README is that of the table in kernels/quant.h, and each has numbers to be tested against."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def computed():
    """name: (weights per block, bytes per block), of the formats that are computed with."""
    rows = re.findall(r"X\((\w+), \d+, (\d+), (\d+), (ACT_\w+)\)", (ROOT / "kernels/quant.h").read_text())
    return {name: (int(block), int(size)) for name, block, size, act in rows if act != "ACT_NONE"}


def test_readme_lists_the_formats():
    said = re.search(r"with weights in (.*?)\. Anything", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert set(re.split(r",\s+|\s+and\s+", said)) == set(computed())


def test_every_block_format_has_reference_values():
    for name, (block, size) in computed().items():
        if block > 1:
            below = ROOT / "tests/data/quants"
            assert (below / f"{name}.blocks").stat().st_size == 64 * 256 // block * size
            assert (below / f"{name}.f32").stat().st_size == 64 * 256 * 4
