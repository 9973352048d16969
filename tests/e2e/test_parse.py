# SPDX-License-Identifier: MIT
"""Description: sluice parse: reasoning, content and calls put together from the deltas of pieces of any size."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLUICE = pathlib.Path(os.environ.get("BUILD", ROOT / "build")) / "sluice"
ROWS = json.load(open(ROOT / "tests/data/toolcalls/rows.json"))
TOOLS = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {
    "word": {"type": "string"}, "n": {"type": "integer"}, "deep": {"type": ["boolean", "null"]}}}}}]


def parse(*args, **given):
    return subprocess.run([SLUICE, "parse", *args, "--input", "-"], input=json.dumps(given), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['format']}-{len(r['text'])}")
def test_rows(row):
    for chunk in ("0", "1", "5"):
        run = parse("--format", row["format"], "--chunk", chunk, "--json", text=row["text"], tools=TOOLS, thinking_start=row["thinking_start"])
        assert run.returncode == 0, run.stderr
        got, want = json.loads(run.stdout), row["expected"]
        assert (got["reasoning_content"], got["content"]) == (want["reasoning_content"], want["content"])
        assert [(c["name"], c["arguments"]) for c in got["tool_calls"]] == [(c["name"], json.loads(c["arguments"])) for c in want["tool_calls"]]
        ids = [c["id"] for c in got["tool_calls"]]
        assert all(ids) and len(set(ids)) == len(ids)


def test_auto_and_lines(tmp_path):
    (tmp_path / "t.jinja").write_text("{# <tool_call><function=x> #}")
    run = parse("--template", tmp_path / "t.jinja", text="a<tool_call><function=lookup></function></tool_call>", tools=TOOLS)
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["content", "call", "arguments", "end"]
    run = parse("--model", ROOT / "tests/data/moe/moe-q4_k_m.gguf", "--json", text='<tool_call>{"name": "f"}', tools=TOOLS)
    assert json.loads(run.stdout)["tool_calls"][0]["name"] == "f"


def test_refusals(tmp_path):
    assert parse("--json", text="x").returncode == 2
    assert parse("--format", "xml", text="x").returncode == 2
    for given in ({}, {"text": 1}, {"text": "x", "tools": [1]}):
        run = parse("--format", "hermes", **given)
        assert run.returncode == 1 and run.stderr.startswith("sluice parse: ") and run.stderr.count("\n") == 1
