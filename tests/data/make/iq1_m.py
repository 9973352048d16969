#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/quants/IQ1_M.blocks and .f32: 64 rows of 256 random weights, dequantised by gguf-py.

usage: iq1_m.py      needs: pip install gguf numpy
The wide matrix of fixtures has every format but this one.
"""
import pathlib

import numpy
from gguf import GGMLQuantizationType, quants

QUANTS = pathlib.Path(__file__).resolve().parents[1] / "quants"


def main():
    random = numpy.random.default_rng(29)
    blocks = random.integers(0, 256, (64, 56), dtype=numpy.uint8)
    d = (random.standard_normal(64) * 0.02).astype(numpy.float16).view(numpy.uint16)
    for i in range(4):  # a nibble of d on top of each of the four words of scales
        nibble = (d >> (4 * i) & 15).astype(numpy.uint8)
        blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | nibble << 4
    values = quants.dequantize(blocks, GGMLQuantizationType.IQ1_M)
    (QUANTS / "IQ1_M.blocks").write_bytes(blocks.tobytes())
    (QUANTS / "IQ1_M.f32").write_bytes(values.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
