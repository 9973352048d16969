# SPDX-License-Identifier: MIT
"""Slots over HTTP: what they do, a request's own slot, and sequences saved to files and restored: with the bits of a run
that read it all, refused for another model, key or a damaged file."""
import concurrent.futures
import json
import os

import pytest

from daemon import DEMO, Daemon, fixture, sluice
from http_client import HttpDaemon

CHAT = "/v1/chat/completions"
SEA = {"messages": [{"role": "user", "content": "Tell me about the sea. " * 60}], "temperature": 0, "max_tokens": 20}


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def more_of(answer):
    said = {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}
    return {**SEA, "messages": [*SEA["messages"], said, {"role": "user", "content": "And the sky?"}]}


def slot(d, number, action, name=None, check=200, **headers):
    return d.post(f"/slots/{number}?action={action}", {"filename": name} if name else {}, check=check, **headers)


def test_a_slot_of_ones_own(tmp_path):
    with HttpDaemon("--ctx", "2048") as d:
        assert all(s["id_task"] == -1 and not s["is_processing"] for s in d.get("/slots")[2])
        answer = d.post("/completion", {"prompt": "word " * 100, "n_predict": 3, "id_slot": 2})
        assert answer["id_slot"] == 2
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda i: d.post("/completion", {"prompt": f"{i}", "n_predict": 9, "id_slot": 3}), range(3)))
        assert [a["id_slot"] for a in answers] == [3, 3, 3]
        s = d.get("/slots")[2]
        assert s[2]["n_prompt_tokens"] == answer["tokens_evaluated"] and s[2]["next_token"][0]["n_decoded"] == 3
        assert s[0]["id_task"] == s[1]["id_task"] == -1 and "word" not in str(s)
        error = d.post("/completion", {"prompt": "x", "id_slot": 4}, check=400)["error"]
        assert "no slot 4" in error["message"] and error["param"] == "id_slot"
        assert slot(d, 2, "save", "x", check=501)["error"]["type"] == "not_supported_error"


def test_saved_and_restored(tmp_path):
    """In the same daemon and in another one: the second turn is read from there and its bits are those of a fresh run."""
    args = ("--ctx", "2048", "--slot-save-path", tmp_path)
    with HttpDaemon(*args) as d:
        first = d.post(CHAT, {**SEA, "id_slot": 1})
        kept = first["usage"]["total_tokens"] - 1
        done = slot(d, 1, "save", "sea.bin")
        assert done["id_slot"] == 1 and done["n_saved"] == kept and done["timings"]["save_ms"] > 0
        assert done["n_written"] == (tmp_path / "sea.bin").stat().st_size
        assert os.listdir(tmp_path) == ["sea.bin"] and (tmp_path / "sea.bin").stat().st_mode & 0o777 == 0o600
        fresh = d.post(CHAT, {**more_of(first), "cache_prompt": False})
        known = d.post(CHAT, more_of(first))
        status, _, answer = d.ask("POST", "/slots/1?action=erase")
        assert status == 200 and 0 < answer["n_erased"] <= kept
        assert slot(d, 1, "save", "other", check=404)["error"]["message"]
        d.post("/completion", {"prompt": "word " * 20, "n_predict": 3, "id_slot": 3})
        assert "tokens: fewer than 64 are not kept" in slot(d, 3, "save", "short", check=404)["error"]["message"]
    with HttpDaemon(*args) as d:
        done = slot(d, 3, "restore", "sea.bin")
        assert done["n_restored"] == kept and done["n_read"] == (tmp_path / "sea.bin").stat().st_size
        second = d.post(CHAT, more_of(first))
        assert cached(second) == cached(known) > 400
        assert second["choices"] == fresh["choices"] == known["choices"]
        slot(d, 3, "save", "again.bin")
        assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "sea.bin").read_bytes()


def test_refusals(tmp_path):
    (tmp_path / "keys").write_text("one\ntwo\n")
    one, two = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
    saved = tmp_path / "saved"
    saved.mkdir()
    args = ("--ctx", "2048", "--slot-save-path", saved)
    with HttpDaemon(*args, "--api-key-file", tmp_path / "keys") as d:
        d.post(CHAT, {**SEA, "id_slot": 0}, **one)
        assert slot(d, 0, "save", "a", check=404, **two)  # another's sequence
        slot(d, 0, "save", "a", **one)
        assert "another key" in slot(d, 0, "restore", "a", check=400, **two)["error"]["message"]
        d.post(CHAT, {**SEA, "id_slot": 1}, **two)
        assert "another key" in slot(d, 1, "save", "a", check=400, **two)["error"]["message"]
        (saved / "notes").write_text("not a sequence")
        assert "no saved sequence" in slot(d, 0, "save", "notes", check=400, **one)["error"]["message"]
        assert slot(d, 0, "restore", "a", **one)["n_restored"]
        for name in ("../a", ".a", "a/b", "", "x" * 129, "a\u0000b"):
            assert slot(d, 0, "restore", name or " ", check=400, **one)["error"]["param"] == "filename"
        for action in ("nothing", ""):
            assert slot(d, 0, action, "a", check=400, **one)["error"]["param"] == "action"
        for error in (slot(d, 99, "save", "a", check=400, **one), d.post(CHAT, {**SEA, "id_slot": 99}, check=400, **one),
                      slot(d, 4, "erase", "a", check=400, **one)):
            assert "there is no slot" in error["error"]["message"] and error["error"]["param"] == "id_slot"
        assert slot(d, 0, "restore", "none", check=404, **one)
        os.symlink("/etc/passwd", saved / "link")
        assert slot(d, 0, "restore", "link", check=400, **one)
        os.mkfifo(saved / "pipe")
        assert slot(d, 0, "restore", "pipe", check=400, **one)
        assert d.ask("POST", "/slots/0?action=erase")[0] == 401
        assert d.get("/slots/0", **one)[0] == 405 and d.get("/slots/x", **one)[0] == 404
        data = bytearray((saved / "a").read_bytes())
        data[-9] ^= 1
        (saved / "a").write_bytes(data)
        assert "damaged" in slot(d, 0, "restore", "a", check=400, **one)["error"]["message"]
    with HttpDaemon(*args) as d:
        d.post(CHAT, {**SEA, "id_slot": 0})
        slot(d, 0, "save", "b")
    with HttpDaemon("--ctx", "512", "--slot-save-path", saved, model=fixture("dense/dense-q4_k_m.gguf")) as d:
        assert "another model" in slot(d, 0, "restore", "b", check=400)["error"]["message"]
    with HttpDaemon(*args, "--cpu", "scalar") as d:
        assert "CPU level" in slot(d, 0, "restore", "b", check=400)["error"]["message"]
    with HttpDaemon(*args, "--kv-type", "q8_0") as d:
        assert "--kv-type" in slot(d, 0, "restore", "b", check=400)["error"]["message"]


@pytest.mark.parametrize("path, text", [("nothing/here", "No such file"), ("keys", "Not a directory")])
def test_the_directory_must_be_there(tmp_path, path, text):
    (tmp_path / "keys").write_text("one\n")
    d = HttpDaemon("--ctx", "512", "--slot-save-path", tmp_path / path)
    with pytest.raises(AssertionError, match=text):
        d.__enter__()


def test_timings_and_progress_while_it_runs():
    with HttpDaemon("--ctx", "2048") as d:
        d.post(CHAT, SEA)
        body = {**SEA, "timings_per_token": True, "return_progress": True, "stream_options": {"include_usage": True}}
        events = [e for _, e in d.stream(CHAT, body) if e != "[DONE]"]
        total = next(e["usage"] for e in events if e.get("usage"))
        progress = [e["prompt_progress"] for e in events if "prompt_progress" in e]
        assert progress and progress[0]["cache"] == total["prompt_tokens_details"]["cached_tokens"] > 0
        assert progress[0]["processed"] >= progress[0]["cache"] and progress[-1]["total"] == total["prompt_tokens"]
        texts = [e for e in events if e.get("choices") and e["choices"][0]["delta"].get("content")]
        assert all(e["timings"]["prompt_ms"] > 0 and e["timings"]["cache_n"] == progress[0]["cache"] for e in texts)
        spent = [e["timings"]["predicted_ms"] for e in texts]
        assert spent == sorted(spent) and spent[-1] > 0
        assert [e["timings"]["predicted_n"] for e in texts] == sorted(e["timings"]["predicted_n"] for e in texts)
        native = [e for _, e in d.stream("/completion", {"prompt": "word " * 900, "n_predict": 2, "return_progress": True})]
        assert any("prompt_progress" in e and e["prompt_progress"]["time_ms"] >= 0 for e in native)
        assert native[-1]["id_slot"] >= 0


def test_the_command(tmp_path):
    """sluice slots over the native socket of a daemon without HTTP: what a native request left goes to a file and back, also in another daemon."""
    (tmp_path / "kept").mkdir()
    args = ("--ctx", "2048", "--threads", "1", "--parallel", "3", "--slot-save-path", tmp_path / "kept")
    prompt = "Tell me about the sea. " * 60

    def slots(d, *more, check=0):
        return sluice("slots", *more, "-s", d.socket, check=check)

    def known(d):
        return json.loads(sluice("status", "--json", "-s", d.socket).stdout)["tokens_reused"]
    with Daemon(DEMO, *args) as d:
        assert slots(d).stdout.count("unused") == 3
        first = sluice("generate", prompt, "-n", "8", "--temperature", "0", "-s", d.socket).stdout
        all_ = json.loads(slots(d, "--json").stdout)
        used = [s["id"] for s in all_ if s["id_task"] >= 0]
        assert len(used) == 1 and slots(d).stdout.count("unused") == 2
        said = slots(d, "save", "sea.bin", "--slot", used[0]).stdout
        assert f"slot {used[0]}: " in said and "saved to sea.bin" in said
        assert os.listdir(tmp_path / "kept") == ["sea.bin"]
        assert "tokens erased" in slots(d, "erase", "--slot", used[0]).stdout
        assert slots(d, "save", "x", "--slot", "9", check=1).stderr.startswith("sluice slots: ")
        assert "letters, digits" in slots(d, "save", "../x", "--slot", "1", check=1).stderr
        for wrong in (["save", "x"], ["save", "--slot", "1"], ["erase", "x", "--slot", "1"], ["--slot", "1"], ["move", "x"], ["save", "x", "--slot", "-1"]):
            slots(d, *wrong, check=2)
    with Daemon(DEMO, *args) as d:
        answer = json.loads(slots(d, "restore", "sea.bin", "--slot", "2", "--json").stdout)
        assert answer["n_restored"] > 400 and known(d) == 0
        assert sluice("generate", prompt, "-n", "8", "--temperature", "0", "-s", d.socket).stdout == first
        assert known(d) > 400
        assert "sea" not in slots(d, "restore", "none", "--slot", "1", check=1).stdout
