# SPDX-License-Identifier: MIT
"""Writes seeds for fuzz_template from tests/data/templates/rows.json: template_seeds.py OUT_DIR"""
import json
import pathlib
import sys

ROWS = pathlib.Path(__file__).resolve().parents[1] / "data" / "templates" / "rows.json"


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    rows = json.loads(ROWS.read_text())
    for i, row in enumerate(rows):
        (out / f"row{i:02}").write_bytes(row["template"].encode() + b"\0" + json.dumps(row["vars"]).encode())
    messages = json.dumps(rows[0]["vars"]["messages"]).encode()
    (out / "chat").write_bytes(rows[0]["template"].encode() + b"\0" + messages)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
