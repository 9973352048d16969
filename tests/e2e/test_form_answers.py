# SPDX-License-Identifier: MIT
"""Description: a few hundred answers of random weights over HTTP, each held to a schema of the fixtures: all parse and are valid, but where
finish_reason is length (make test-forms-long: ten thousand)."""
import json

import random_model
from daemon import DEMO, need_shared
from form_answers import SLOTS, TEMPLATE, Run
from http_client import HttpDaemon


def test_answers_are_valid(tmp_path):
    rows = json.load(open(need_shared("fixtures/schemas/cases.json")))
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    model = random_model.write(tmp_path / "random.gguf", DEMO)
    with HttpDaemon("--ctx", "2048", "--parallel", str(SLOTS), "--chat-template", tmp_path / "t.jinja", model=model) as d:
        run = Run(d, rows, 240, seed=3, max_tokens=200).go()
        print(run.report())
        assert not run.failures, "\n".join(json.dumps(f, ensure_ascii=False) for f in run.failures[:3])
        assert run.total("valid") + run.total("cut") == 240 and run.total("valid") > 72
