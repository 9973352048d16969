#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes tests/fuzz/seeds/calls: the texts of tests/data/toolcalls/rows.json as inputs of fuzz_calls.

usage: tests/fuzz/calls_seeds.py, in the root of the tree
"""
import json
import pathlib

FORMATS = ["hermes", "qwen3_xml", "glm", "minimax_m2", "deepseek_v3.1", "kimi_k2", "harmony"]

folder = pathlib.Path("tests/fuzz/seeds/calls")
folder.mkdir(parents=True, exist_ok=True)
for i, row in enumerate(json.load(open("tests/data/toolcalls/rows.json"))):
    # the fuzzer's one function is called f
    text = row["text"].replace("lookup", "f").replace("word", "a").encode()
    head = bytes([FORMATS.index(row["format"]) | 0x40 | (0x80 if row["thinking_start"] else 0), i])
    (folder / f"row{i}").write_bytes(head + text)
