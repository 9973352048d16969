# SPDX-License-Identifier: MIT
"""Writes the seeds of fuzz_gguf into tests/fuzz/seeds/gguf: headers of the fixtures in their several forms.

The vocabulary is cut to a few tokens; the weights are left out (the target puts a hole behind its input).
"""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import gguf_file as gf  # noqa: E402
import gguf_repack  # noqa: E402
from daemon import DEMO, FIXTURES  # noqa: E402


def header(g):
    for key, (t, v) in g.keys.items():
        if t == gf.ARRAY and len(v[1]) > 8:
            g.keys[key] = (t, (v[0], v[1][:4]))
    g.keys.pop("tokenizer.chat_template", None)
    out, offset = [], 0
    for t in g.tensors:
        out.append(gf.pack_info(t.name, t.ne, t.type, offset))
        offset += (len(t.data) + 31) // 32 * 32
    head = b"GGUF" + gf.struct.pack("<IQQ", g.version, len(g.tensors), len(g.keys))
    return head + b"".join(gf.pack_key(k, *v) for k, v in g.keys.items()) + b"".join(out)


def head(g):
    """The file that holds the prediction block alone."""
    g.tensors = [t for t in g.tensors if t.name.startswith(f"blk.{g.value(g.value('general.architecture') + '.block_count') - 1}.")]
    return g


def every_type():
    g = gf.Gguf()
    for t in gf.SCALAR:
        g.keys[f"key{t}"] = (t, 1)
        g.keys[f"array{t}"] = (gf.ARRAY, (t, [1, 0]))
    g.keys["text"] = (gf.STRING, "a text")
    g.keys["texts"] = (gf.ARRAY, (gf.STRING, ["one", "", "three"]))
    g.keys["general.alignment"] = (gf.U32, 64)
    return g


if __name__ == "__main__":
    seeds = {"types": every_type(), "qwen3moe": gf.read(FIXTURES / "qwen3moe" / "qwen3moe-q4_k_m.gguf"),
             "qwen35": gf.read(FIXTURES / "dense" / "dense-q4_k_m.gguf"), "qwen35moe": gf.read(DEMO),
             "mtp": gf.read(FIXTURES / "moe" / "moe-mtp-q4_k_m.gguf"),
             "split": gf.read(FIXTURES / "dense" / "split" / "dense-q4_k_m-00002-of-00003.gguf")}
    seeds["fused"] = gguf_repack.fused(gf.read(FIXTURES / "moe" / "moe-mtp-q4_k_m.gguf"))
    for form in ("merged", "ollama", "qwen3next-legacy"):
        seeds[form] = gguf_repack.FORMS[form](gf.read(DEMO))
    for family, kind in (("glm4moe", "q4_k_m"), ("minimax-m2", "q4_k_m"), ("gpt-oss", "mxfp4"), ("gemma4", "q4_k_m"),
                         ("deepseek2", "q4_k_m")):
        seeds[family] = gf.read(FIXTURES / family / f"{family}-{kind}.gguf")
    seeds["head"] = head(gf.read(FIXTURES / "moe" / "moe-mtp-q4_k_m.gguf"))
    seeds["head-glm4moe"] = head(gf.read(FIXTURES / "glm4moe" / "glm4moe-q4_k_m.gguf"))
    for name, g in seeds.items():
        (HERE / "seeds" / "gguf" / name).write_bytes(header(g))
