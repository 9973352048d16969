#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes tests/fuzz/seeds/grammar: schemas and grammars of tests/data/schemas, and expressions, as inputs of fuzz_grammar.

usage: tests/fuzz/grammar_seeds.py, in the root of the tree
"""
import json
import pathlib

REGEX = [("([0-9]{1,3}\\.){3}[0-9]{1,3}", "10.0.0.1"), ("(?:a|b*)+[^\\w\\s]?", "aab-"), ("^\\u00e9|x{2,900}$", "xxx"), ("(a?){5}b", "aab")]

folder = pathlib.Path("tests/fuzz/seeds/grammar")
folder.mkdir(parents=True, exist_ok=True)


def write(name, kind, grammar, text):
    (folder / name).write_bytes(bytes([kind]) + grammar.encode() + b"\0" + text.encode())


for i, row in enumerate(json.load(open("tests/data/schemas/grammar_rows.json"))):
    write(f"gbnf{i}", 0, row["grammar"], (row.get("accepted") or [""])[-1])
for i, (regex, text) in enumerate(REGEX):
    write(f"regex{i}", 1, regex, text)
for i, row in enumerate(json.load(open("tests/data/schemas/rows.json"))):
    write(f"schema{i}", 6 if i % 2 else 2, json.dumps(row["schema"]), json.dumps((row.get("valid") or [0])[-1]))
