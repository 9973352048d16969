# SPDX-License-Identifier: MIT
"""Description: speculation changes no token and no logit, whatever drafts and however much.

Every source, length of drafts and family of tests/data, greedy and drawn, alone and in company, with every budget; a trained
prediction head guesses as often right as its training says, from the model's file and from one of its own.
"""
import concurrent.futures
import json
import random

import pytest

import gguf_file
from daemon import DEMO, Daemon, fixture, need_shared, reference, sluice
from http_client import HttpDaemon
from native import Client

FIXTURES = ["moe/moe-q4_k_m", "dense/dense-q4_k_m", "qwen3moe/qwen3moe-q2_k", "glm4moe/glm4moe-q4_k_m",
            "minimax-m2/minimax-m2-q4_k_m", "gpt-oss/gpt-oss-mxfp4", "gemma4/gemma4-q4_k_m", "deepseek2/deepseek2-q4_k_m"]
DRAWN = ["--temperature", "1", "--top-k", "40", "--seed", "5"]
PENALTIES = ["--temperature", "0.8", "--min-p", "0.02", "--repeat-penalty", "1.2", "--frequency-penalty", "0.1",
             "--dry-multiplier", "0.8", "--seed", "6"]
HELD = ["--temperature", "1", "--seed", "4", "--regex", "[a-z ]{4,30}(foo|bar)[0-9]{3}( foo [0-9]+)*"]


def prompts(name):
    """Two that repeat themselves, so that something is found in them, and one that does not."""
    ids = reference(name, whole=False)[0]["tokens"]
    return [ids[:12] * 3, ids[20:40], ids[5:12] * 4]


@pytest.mark.parametrize("name", FIXTURES)
def test_same_tokens(name):
    drafted = 0
    with Daemon(fixture(f"{name}.gguf"), "--threads", "2", "--parallel", "8", "--host-budget", "60%") as d:
        scored = reference(name, whole=False)[0]["tokens"][:48]
        logits = d.eval_ids(scored)[1]
        for how in ([], DRAWN, PENALTIES, HELD):
            end = [] if how == HELD else ["--ignore-eog"]
            ask = [(p, ["--max-tokens", "32", *end, *how]) for p in prompts(name)]
            plain = [d.generate_ids(p, *args, "--spec", "off") for p, args in ask]
            assert not any(a["speculation"]["drafted"] for a in plain)
            plain = [a["tokens"] for a in plain]
            for length in (0, 1, 3, 7):
                got = [d.generate_ids(p, *args, "--spec", "ngram", "--draft-length", str(length)) for p, args in ask]
                assert [a["tokens"] for a in got] == plain, f"{name} {how} length {length}"
                drafted += sum(a["speculation"]["by"]["ngram"]["drafted"] for a in got)
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                jobs = [pool.submit(d.generate_ids, *ask[i % 3][:1], *ask[i % 3][1], "--draft-length", str(i))
                        for i in range(7)]
                score = pool.submit(lambda: d.eval_ids(scored)[1])
                assert [j.result()["tokens"] for j in jobs] == [plain[i % 3] for i in range(7)]
                assert (score.result() == logits).all()
    assert drafted > 0, "no test: no answer repeated anything"


@pytest.mark.parametrize("name", FIXTURES)
def test_company(name):
    """Drafts with the request, right, wrong and mixed, of every length, eight beside each other, some cancelled in the middle,
    all to the context's end: the answers and their ends are those without."""
    ids = reference(name, whole=False)[0]["tokens"]
    asks = [ids[i:i + 10 + 3 * i] for i in range(8)]

    def some(d, i, plain):
        pick = random.Random(f"{name} {i}")
        with Client(d.socket) as c:
            for number in range(1, 7):
                want, end = plain[i]
                share, length = pick.choice([0, 0.5, 0.9, 1]), pick.randrange(8)
                draft = [t if pick.random() < share else pick.randrange(2000) for t in want]
                c.generate(number, asks[i], 200, draft=[*draft, 7, 7, 7], draft_length=length)
                cut = number % 3 == 0 and pick.randrange(1, len(want))
                tokens, got = c.answer(number, cancel_after=cut)
                assert tokens == want[:len(tokens)] and (cut or (tokens, got) == (want, end)), f"{share} {length} {cut}"

    with Daemon(fixture(f"{name}.gguf"), "--threads", "2", "--parallel", "8", "--ctx", "64", "--host-budget", "50%") as d:
        with Client(d.socket) as c:
            plain = []
            for p in asks:
                c.generate(1, p, 200)
                plain.append(c.answer(1))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: some(d, i, plain), range(8)))
        given = d.status()["speculation"]["by"]["given"]
        assert given["drafted"] > given["accepted"] > 0


def test_bench_oracle():
    """The oracle's own drafts: right ones are all taken, wrong ones none, and the rows say so."""
    with Daemon(DEMO, "--threads", "2", "--host-budget", "100%") as d:
        p = sluice("bench", "--socket", d.socket, "-p", "0", "-n", "40", "-r", "2", "--spec-oracle", "0,1", "--draft-length",
                   "3", "--json")
        off, wrong, right = json.loads(p.stdout)
        assert off["spec_oracle"] is None and off["drafted"] == 0
        assert wrong["spec_oracle"] == 0 and wrong["accepted"] == 0 and wrong["drafted"] > 0
        assert right["accepted"] == right["drafted"] > 0 and right["tokens_per_step"] > 3
        assert d.status()["speculation"]["by"]["given"]["drafted"] > wrong["drafted"] + right["drafted"]
        assert off["speedup"] is None and off["column_cost"] == []
        for row in (wrong, right):
            assert 0 < row["routed_share"] < 1
            assert row["column_cost"][0] == row["column_experts"][0] == 1
            assert min(row["column_experts"]) == 1 and row["column_experts"][7] > 1.5
            cost = [(1 - row["routed_share"]) * c + row["routed_share"] * u
                    for c, u in zip(row["column_cost"], row["column_experts"])]
            share = row["spec_oracle"]
            most = [sum(share ** i for i in range(k + 1)) / cost[k] for k in range(8)]
            assert row["speedup_possible"] == pytest.approx(max(most + [1]))
            assert row["best_length"] == (most.index(max(most)) if max(most) > 1 else 0)
            assert row["speedup_share"] == pytest.approx(row["speedup"] / row["speedup_possible"])
        columns = d.status()["speculation"]["columns"]
        assert [c["columns"] for c in columns] == list(range(1, 9)) and all(0 < c["expert_ms"] < c["step_ms"] for c in columns)
        text = sluice("bench", "--socket", d.socket, "-p", "0", "-n", "20", "-r", "1", "--spec-oracle", "0.9").stdout
        assert "s (routed share" in text and "share reached" in text
        few = sluice("bench", "--socket", d.socket, "-p", "0", "-n", "3", "-r", "1", "--spec-oracle", "1").stdout
        line = next(l for l in few.splitlines() if l.startswith("s (routed share"))
        assert " - -," in line and line.endswith(" -") and " 0.00" not in line  # columns that no step had
        for bad in ("2", "0.5,x", "", "-1"):
            assert "--spec-oracle" in sluice("bench", "--socket", d.socket, "--spec-oracle", bad, check=2).stderr


def test_trace_agrees(tmp_path):
    """A trace with drafts holds the positions of one without; the simulator counts the uses that the daemon counts."""
    ids = reference("moe/moe-q4_k_m", whole=False)[0]["tokens"]
    rows = []
    for args in (["--spec", "off"], ["--draft-length", "4"]):
        out = tmp_path / "-".join(a.strip("-") for a in args)
        with Daemon(DEMO, "--threads", "1", "--trace", out, "--no-fill", "--host-budget", "60%") as d:
            for p in (ids[:10] * 3, ids[3:9] * 5):
                d.generate_ids(p, "--max-tokens", "30", "--ignore-eog", *args)
            status = d.status()
        sim = json.loads(sluice("trace", "sim", out, "--slots", 128, "--policy", "lru", "--json").stdout)[0]
        assert sim["all"]["hits"] + sim["all"]["misses"] == status["hits"] + status["misses"]
        body = out.read_text().split("data\n")[1].splitlines()
        rows.append(sorted(r for r in body if r[:2] in ("p ", "d ")))
    assert rows[0] == rows[1]
    assert status["speculation"]["drafted"] > status["speculation"]["accepted"]
    assert status["speculation"]["dropped_uses"] > 0


def test_copying_pays():
    """Lines to be repeated. (The fixture is too small to copy a text that it would not have written.)"""
    with Daemon(DEMO, "--threads", "2", "--host-budget", "100%") as d:
        a = d.generate("--prompt", "import os\nimport re\nimport sys\n" * 6, "--max-tokens", "120", "--ignore-eog",
                       "--draft-length", "7")
        assert a["speculation"]["tokens_per_step"] >= 2


def test_http():
    """A request says what drafts for it; the text is the same, and the timings tell."""
    ask = {"prompt": "import os\nimport re\nimport sys\n" * 6, "temperature": 0, "max_tokens": 60, "ignore_eos": True}
    with HttpDaemon("--host-budget", "100%") as d:
        off = d.post("/v1/completions", {**ask, "spec": "off"})
        assert "draft_n" not in off["timings"] or off["timings"]["draft_n"] == 0
        for kind in ("auto", "ngram", "mtp", None):
            got = d.post("/v1/completions", {**ask, "spec": kind} if kind else ask)
            assert got["choices"][0]["text"] == off["choices"][0]["text"]
            told = got["timings"]
            assert told["draft_n"] == told["speculation"]["drafted"] >= told["draft_n_accepted"]
            assert told["speculation"]["by"]["ngram"]["drafted"] == told["draft_n"]
            assert kind != "mtp" or told["draft_n"] == 0  # this model has no head
            assert told["speculation"]["columns_per_step"] >= 1
        for bad in ("on", "", 3, "AUTO"):
            error = d.post("/v1/completions", {**ask, "spec": bad}, check=400)["error"]
            assert error["param"] == "spec"


def mtp():
    return need_shared("fixtures/moe/moe-mtp-q4_k_m.gguf")


def cut_head(tmp_path, drop=()):
    """A file with the prediction block alone, as published ones are; and without the tensors in @drop."""
    g = gguf_file.read(mtp())
    g.tensors = [t for t in g.tensors if t.name.startswith("blk.4.") and t.name not in drop]
    path = tmp_path / "mtp.gguf"
    gguf_file.write(g, path)
    return path


def head_asks():
    ids = json.load(open(mtp().with_suffix(".json")))["tokens"]
    return [ids[at:at + 60] for at in (0, 120, 240)]


def test_head():
    """The head in the model's file: no token changes, and about six of ten first guesses are right."""
    drafted = accepted = 0
    with Daemon(mtp(), "--threads", "2", "--parallel", "4", "--host-budget", "50%") as d:
        for how in ([], DRAWN):
            for p in head_asks():
                args = ["--max-tokens", "60", "--ignore-eog", *how]
                plain = d.generate_ids(p, *args, "--spec", "off")["tokens"]
                for length in (0, 1, 1 if how else 7):
                    a = d.generate_ids(p, *args, "--spec", "mtp", "--draft-length", str(length))
                    assert a["tokens"] == plain
                    if length == 1 and not how:
                        drafted += a["speculation"]["by"]["mtp"]["drafted"]
                        accepted += a["speculation"]["by"]["mtp"]["accepted"]
        assert 0.5 <= accepted / drafted <= 0.7, f"{accepted} of {drafted}"
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            args = ["--max-tokens", "60", "--ignore-eog", "--draft-length", "2"]
            alone = [d.generate_ids(p, *args)["tokens"] for p in head_asks()]
            assert list(pool.map(lambda p: d.generate_ids(p, *args)["tokens"], head_asks())) == alone


def test_head_beside_paused_sequences():
    """Whoever gives way for others, and whoever comes into its place, has no guesses for the head to go on from."""
    asks = [p[:20] for p in head_asks()]
    args = ["--ctx", "512", "--parallel", "3", "--threads", "2", "--prefix-cache", "off"]
    more = ["--max-tokens", "200", "--ignore-eog", "--spec", "mtp", "--draft-length", "2"]
    with Daemon(mtp(), *args) as d:
        alone = [d.generate_ids(p, *more, "--spec", "off")["tokens"] for p in asks]
        pages = d.status()["kv_bytes"] // 3 + 1
    with Daemon(mtp(), *args, "--kv-budget", pages) as d, concurrent.futures.ThreadPoolExecutor(3) as pool:
        for _ in range(2):
            assert [a["tokens"] for a in pool.map(lambda p: d.generate_ids(p, *more), asks)] == alone
        assert d.status()["pauses"]


def test_head_in_a_file_of_its_own(tmp_path):
    """Cut out, it guesses exactly as it did; a model without one takes it with --draft-model."""
    args = ["--max-tokens", "60", "--ignore-eog", "--spec", "mtp", "--draft-length", "2"]
    with Daemon(mtp(), "--threads", "2") as d:
        want = d.generate_ids(head_asks()[0], *args)
    g = gguf_file.read(mtp())
    g.tensors = [t for t in g.tensors if not t.name.startswith("blk.4.")]
    g.keys["qwen35moe.block_count"] = (gguf_file.U32, 4)
    g.keys["qwen35moe.nextn_predict_layers"] = (gguf_file.U32, 0)
    kind, (elem, items) = g.keys["qwen35moe.attention.recurrent_layers"]
    g.keys["qwen35moe.attention.recurrent_layers"] = (kind, (elem, items[:4]))
    gguf_file.write(g, tmp_path / "main.gguf")
    with Daemon(tmp_path / "main.gguf", "--threads", "2", "--draft-model", cut_head(tmp_path)) as d:
        got = d.generate_ids(head_asks()[0], *args)
        assert got["tokens"] == want["tokens"]
        assert got["speculation"]["by"] == want["speculation"]["by"]
        assert got["speculation"]["by"]["mtp"]["accepted"] > 0


def test_head_is_read_at_the_start(tmp_path):
    """Its experts too: what is read when the first token waits for it comes too late. So its file may go afterwards."""
    args = ["--max-tokens", "40", "--ignore-eog", "--spec", "mtp", "--draft-length", "1"]
    with Daemon(mtp(), "--threads", "2") as d:
        want = d.generate_ids(head_asks()[0], *args)["speculation"]["by"]["mtp"]
    head = cut_head(tmp_path)
    with Daemon(mtp(), "--threads", "2", "--no-fill", "--draft-model", head) as d:
        size = head.stat().st_size
        with open(head, "r+b") as f:
            f.write(bytes(size))
        assert d.generate_ids(head_asks()[0], *args)["speculation"]["by"]["mtp"] == want


def test_plan_of_a_head(tmp_path):
    """What a head takes is planned: in the model's file, in one of its own, and none where nothing would ask it."""
    head = cut_head(tmp_path)
    for options in ([], ["--spec", "ngram"], ["--spec", "off"], ["--draft-model", head]):
        with Daemon(mtp(), "--threads", "2", "--host-budget", "60%", *options) as d:
            told = d.status()
        planned = json.loads(sluice("plan", mtp(), "--threads", "2", "--host-budget", "60%", "--json", *options).stdout)
        assert planned["scratch_bytes"] == told["scratch_bytes"], options
    sizes = [json.loads(sluice("plan", mtp(), "--json", *o).stdout)["scratch_bytes"] for o in ([], ["--spec", "off"])]
    assert sizes[0] > sizes[1]
    assert "--draft-model" in sluice("plan", mtp(), "--draft-model", DEMO, check=1).stderr


def test_refused_beside_a_head(tmp_path):
    """What is at fault beside a good head is said in its own words."""
    args = ["--draft-model", cut_head(tmp_path), "--host-budget", "1K"]
    why = "the expert budget of 1024 bytes is too small"
    assert why in sluice("plan", mtp(), *args, check=1).stderr
    with pytest.raises(AssertionError, match=why):
        with Daemon(mtp(), *args):
            pass


def test_copying_with_a_head():
    """Text that goes on as before: n-grams, a trained head and both give more than two tokens a step."""
    with Daemon(mtp(), "--threads", "2", "--host-budget", "100%") as d:
        for text in ("import os\nimport re\nimport sys\n" * 8, "def add(a, b):\n    return a + b\n\n" * 8):
            ask = ["--prompt", text, "--max-tokens", "96", "--ignore-eog"]
            plain = d.generate(*ask, "--spec", "off")
            for how in (["--spec", "ngram"], ["--spec", "mtp"], []):
                a = d.generate(*ask, "--draft-length", "7", *how)
                assert a["tokens"] == plain["tokens"]
                print("tokens a step", how, a["speculation"]["tokens_per_step"], a["speculation"]["by"])
                assert a["speculation"]["tokens_per_step"] >= 2


def test_head_that_is_not_whole(tmp_path):
    """Left out, and said: by inspect, by the daemon's log; a file of its own is refused."""
    missing = "blk.4.nextn.enorm.weight"
    g = gguf_file.read(mtp())
    g.tensors = [t for t in g.tensors if t.name != missing]
    gguf_file.write(g, tmp_path / "half.gguf")
    whole = json.loads(sluice("inspect", mtp(), "--json").stdout)
    half = json.loads(sluice("inspect", tmp_path / "half.gguf", "--json").stdout)
    assert whole["prediction_head"] and whole["prediction_head_note"] is None
    assert not half["prediction_head"] and missing in half["prediction_head_note"]
    with Daemon(tmp_path / "half.gguf", "--threads", "1") as d:
        a = d.generate_ids(head_asks()[0], "--max-tokens", "8", "--spec", "mtp", "--draft-length", "3")
        assert a["speculation"]["drafted"] == 0
        assert missing in d.text()
    for head, why in ((cut_head(tmp_path, {missing}), missing), (DEMO, "nextn_predict_layers"), (tmp_path / "none", "none")):
        with pytest.raises(AssertionError, match="sluiced ended with 1") as e:
            with Daemon(mtp(), "--draft-model", head):
                pass
        assert "--draft-model" in str(e.value) and why in str(e.value)


def spoilt_heads():
    """(name, what is done to a head's file, what the refusal says)"""
    arch, tokens = "qwen35moe.", "tokenizer.ggml.tokens"

    def key(name, value):
        return lambda g: g.keys.__setitem__(name, (g.keys[name][0], value))

    def texts(change):
        return lambda g: g.keys.__setitem__(tokens, (g.keys[tokens][0], (g.keys[tokens][1][0], change(g.keys[tokens][1][1]))))

    def embedding(rows):
        def change(g):
            t = next(t for t in gguf_file.read(mtp()).tensors if t.name == "token_embd.weight")
            g.tensors.append(gguf_file.Tensor("blk.4.nextn.embed_tokens.weight", [t.ne[0], rows], t.type,
                                              bytes(t.row_bytes() * rows)))
        return change

    return [("width", key(arch + "embedding_length", 512), f"key {arch}embedding_length: 512, the model's is 256"),
            ("layers", key(arch + "block_count", 6), f"key {arch}block_count: 6 with 1"),
            ("none", key(arch + "nextn_predict_layers", 0), f"key {arch}nextn_predict_layers"),
            ("family", key("general.architecture", "qwen3moe"), "key general.architecture"),
            ("experts", key(arch + "expert_count", 64), "tensor blk.4.ffn_gate_inp.weight"),
            ("vocabulary", embedding(100), "tensor blk.4.nextn.embed_tokens.weight"),
            ("fewer", texts(lambda t: t[:100]), f"key {tokens}: 100, the model has 2048"),
            ("more", texts(lambda t: [*t, "one more"]), f"key {tokens}: 2049, the model has 2048"),
            ("tokenizer", texts(lambda t: t[::-1]), f"key {tokens}: 2048 of 2048 are not the model's, number 0 the first"),
            ("tokens", texts(lambda t: [*t[:500], *t[540:], *t[500:540]]), f"key {tokens}: ")]


@pytest.mark.parametrize("change,why", [pytest.param(*how, id=name) for name, *how in spoilt_heads()])
def test_head_of_another_model(tmp_path, change, why):
    """A head's file that is not this model's is refused by its name and the key or tensor at fault."""
    path = cut_head(tmp_path)
    g = gguf_file.read(path)
    change(g)
    gguf_file.write(g, path)
    said = sluice("plan", mtp(), "--draft-model", path, check=1).stderr
    assert "--draft-model" in said and str(path) in said and why in said


def test_head_with_few_other_names(tmp_path):
    """Who converts a file names the tokens without use as he likes."""
    path = cut_head(tmp_path)
    g = gguf_file.read(path)
    kind, (elem, items) = g.keys["tokenizer.ggml.tokens"]
    g.keys["tokenizer.ggml.tokens"] = (kind, (elem, [*items[:-8], *(f"[PAD{i}]" for i in range(8))]))
    gguf_file.write(g, path)
    sluice("plan", mtp(), "--draft-model", path)


def test_fuzzed_requests():
    """Any mix of lengths, sources and sampling, cut anywhere: the answer is a prefix of the plain one."""
    pick = random.Random(3)
    ids = reference("moe/moe-q4_k_m", whole=False)[0]["tokens"]
    with Daemon(DEMO, "--threads", "2", "--parallel", "3", "--ctx", "128", "--kv-type", "q8_0") as d:
        for _ in range(6):
            at, n = pick.randrange(20), pick.randrange(3, 40)
            how = pick.choice([[], DRAWN]) + ["--max-tokens", str(pick.randrange(1, 100))]
            plain = d.generate_ids(ids[at:at + n], *how, "--spec", "off")
            got = d.generate_ids(ids[at:at + n], *how, "--draft-length", str(pick.randrange(8)))
            assert got["tokens"] == plain["tokens"] and got["stop_reason"] == plain["stop_reason"]
