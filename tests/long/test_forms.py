# SPDX-License-Identifier: MIT
"""Answers of random weights held to the fixtures' schemas: each one parses and is valid, but where finish_reason is length.

    make test-forms-long   FORMS_COUNT=10000 of them over HTTP with eight at once, streams, thoughts, forced calls and drafts among them
"""
import json
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import random_model  # noqa: E402
from daemon import DEMO, SHARED, need_shared  # noqa: E402
from form_answers import SLOTS, TEMPLATE, Run  # noqa: E402
from http_client import HttpDaemon  # noqa: E402


def test_forms(tmp_path):
    count = int(os.environ.get("FORMS_COUNT", "10000"))
    rows = json.load(open(need_shared("fixtures/schemas/cases.json")))
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    vocabulary = SHARED / "fixtures/tokenizer/qwen-vocab.gguf" if os.environ.get("FORMS_VOCABULARY") == "qwen" else DEMO
    model = random_model.write(tmp_path / "random.gguf", vocabulary)
    with HttpDaemon("--ctx", "2048", "--parallel", str(SLOTS), "--chat-template", tmp_path / "t.jinja", model=model) as d:
        began = time.monotonic()
        run = Run(d, rows, count).go()
        print(f"\n{run.report()}\n{time.monotonic() - began:.0f} s")
        for failure in run.failures:
            print(json.dumps(failure, ensure_ascii=False), file=sys.stderr)
        assert not run.failures and sum(run.total(w) for w in ("valid", "cut")) == count
        assert run.total("valid") > count * 0.4
