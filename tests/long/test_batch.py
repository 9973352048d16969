# SPDX-License-Identifier: MIT
"""make test-batch: 320 documents of 3,750 tokens to classify by `sluice batch`: one run, the same one at a time, and the same killed
three times give the same labels, greedy and seeded. DOCUMENTS=320 TOKENS=3750 say otherwise; MODEL another model, SLUICED_ARGS more options. Prints the times."""
import json
import os
import pathlib
import random
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from daemon import BUILD, DEMO, Daemon, sluice  # noqa: E402

DOCUMENTS, TOKENS = int(os.environ.get("DOCUMENTS", 320)), int(os.environ.get("TOKENS", 3750))
MODEL = os.environ.get("MODEL", DEMO)
LABELS = ["story", "recipe", "letter", "program"]
TASK = f"You sort documents. Answer with one word: {', '.join(LABELS)}."
WORDS = ("the a one of to in and with for from house river bread salt water letter friend morning table return value loop while function "
         "once upon time king night road garden sister ship flour oven minutes dear sincerely write read mountain").split()


def document(i, count, sizes):
    """A text of its own of some more than that many tokens."""
    r, text, n = random.Random(i), [f"Document {i}:"], 6
    while n < count:
        text.append(r.choice(WORDS))
        n += sizes[text[-1]]
    return " ".join(text)


def count_of(text):
    return len(json.loads(sluice("tokenize", "--model", MODEL, "--json", "--text", "-", input=text).stdout)["tokens"])


def requests():
    sizes = {w: -(-count_of(f" {w}" * 8) // 8) for w in set(WORDS)}
    for i in range(DOCUMENTS):
        sampling = {"temperature": 0} if i % 2 else {"temperature": 1.0, "seed": i}
        yield {"custom_id": f"document-{i}", "method": "POST", "url": "/v1/chat/completions",
               "body": {"messages": [{"role": "system", "content": TASK}, {"role": "user", "content": document(i, TOKENS, sizes)}],
                        "regex": "|".join(LABELS), "max_tokens": 8, "logprobs": True, "top_logprobs": 3, **sampling}}


def said(path):
    """custom_id -> what is the answer's own: label, tokens, log-probabilities; not ids, times and what was known."""
    found = {}
    for line in path.read_text().splitlines():
        r = json.loads(line)
        assert r["error"] is None and r["response"]["status_code"] == 200, line[:400]
        c = r["response"]["body"]["choices"][0]
        assert r["custom_id"] not in found
        found[r["custom_id"]] = (c["message"]["content"], c["finish_reason"], json.dumps(c["logprobs"]))
    return found


def run(d, name, asked, folder, *args):
    began = time.monotonic()
    p = sluice("batch", asked, "-o", folder / name, "--socket", d.socket, *args, timeout=7200)
    print(f"{name}: {time.monotonic() - began:.0f} s: {p.stderr.strip().splitlines()[-1]}", flush=True)
    return said(folder / name)


def test_batch(tmp_path):
    asked = tmp_path / "asked.jsonl"
    with open(asked, "w") as f:
        for r in requests():
            f.write(json.dumps(r) + "\n")
    print(f"{DOCUMENTS} documents of {TOKENS} tokens, {asked.stat().st_size} bytes; model {pathlib.Path(MODEL).name}", flush=True)
    with Daemon(MODEL, "--ctx", str(TOKENS * 5 // 4 + 512), "--parallel", "4", *os.environ.get("SLUICED_ARGS", "").split()) as d:
        killed, marks = tmp_path / "killed", [DOCUMENTS * k // 4 for k in (1, 2, 3)]
        began = time.monotonic()
        for mark in marks:
            p = subprocess.Popen([str(BUILD / "sluice"), "batch", str(asked), "-o", str(killed), "--socket", d.socket, "-q"])
            while not killed.exists() or killed.read_bytes().count(b"\n") < mark:
                assert p.poll() is None
                time.sleep(0.05)
            p.kill()
            p.wait()
            print(f"killed after {time.monotonic() - began:.0f} s with {killed.read_bytes().count(bytes([10]))} results", flush=True)
        third = run(d, "killed", asked, tmp_path)
        whole = run(d, "whole", asked, tmp_path)
        alone = run(d, "alone", asked, tmp_path, "--parallel", "1")
    assert len(whole) == DOCUMENTS
    assert all(label in LABELS for label, _, _ in whole.values())
    tokens = [json.loads(line)["response"]["body"]["usage"]["prompt_tokens"] for line in (tmp_path / "whole").read_text().splitlines()]
    print(f"prompts of {min(tokens)} to {max(tokens)} tokens, {sum(tokens)} in all")
    labels = [label for label, _, _ in whole.values()]
    print({label: labels.count(label) for label in LABELS})
    assert third == whole and alone == whole
