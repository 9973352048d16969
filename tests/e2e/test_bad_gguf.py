# SPDX-License-Identifier: MIT
"""Description: malformed model files are refused with a sentence, quickly; unusual but good ones open.

Every case of make_bad_gguf.py through `sluice inspect`, with the normal build and with one under ASan and UBSan
(built here if need be): exit status 1, the file's name and the expected words in one line, nothing on stdout.
"""
import json
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import time

import pytest

import gguf_file as gf
import gguf_repack
import make_bad_gguf
from daemon import BUILD, DEMO, ROOT, fixture

SAN = ROOT / "build-address-undefined"


@pytest.fixture(scope="module", params=["normal", "sanitized"])
def program(request):
    if request.param == "normal":
        return BUILD / "sluice"
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}  # not the caller's O=
    subprocess.run(["make", "-s", "-j2", "-C", str(ROOT), "SAN=address,undefined", f"O={SAN.name}",
                    f"{SAN.name}/sluice"], check=True, stdout=subprocess.DEVNULL, env=env, timeout=1200)
    return SAN / "sluice"


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    return make_bad_gguf.make_all(tmp_path_factory.mktemp("bad"))


def inspect(program, path, *args):
    return subprocess.run([str(program), "inspect", "--model", str(path), *args], capture_output=True, text=True,
                          timeout=60)


def test_each_is_refused(program, bad_files):
    assert len(bad_files) >= 60
    wrong = []
    for name, path, words in bad_files:
        began = time.monotonic()
        p = inspect(program, path)
        took = time.monotonic() - began
        if p.returncode != 1 or words not in p.stderr or p.stdout or took > 10:
            wrong.append(f"{name}: exit {p.returncode} in {took:.2f} s, wanted {words!r}, said {p.stderr[:300]!r}")
        elif p.stderr.count("\n") != 1 or pathlib.Path(path).name.split("-0")[0] not in p.stderr:
            wrong.append(f"{name}: not one line that names the file: {p.stderr[:300]!r}")
    assert not wrong, "\n".join(wrong)


def test_metadata_nobody_uses(program, tmp_path):
    """Values that are malformed but that nobody asks for refuse no model."""
    plain = opened(program, DEMO)
    for name, path in make_bad_gguf.make_odd(tmp_path):
        j = opened(program, path)
        skip = {"files", "file_bytes", "name", "expert_classes", "budget_least_bytes", "budget_all_bytes",
                "dense_memory_bytes", "slots"}
        assert {k: v for k, v in j.items() if k not in skip} == {k: v for k, v in plain.items() if k not in skip}, name
        assert j["name"] == ("Jos?'s?? model" if name == "name-not-utf8" else plain["name"])


def write_keys(path, n, array):
    """A file of about 24 n bytes: n keys, or one array of n texts. Refused for what it lacks, once it is read."""
    if array:
        pairs = gf.pack_string("x") + struct.pack("<IIQ", gf.ARRAY, gf.STRING, n) + \
            b"".join(struct.pack("<Q", 16) + b"%016d" % i for i in range(n))
    else:
        pairs = b"".join(struct.pack("<Q", 11) + b"%011d" % i + struct.pack("<IB", gf.U8, 1) for i in range(n))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1 if array else n) + pairs)
    return path


def processor_time():
    """Of all children that have ended, in seconds"""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("array", [False, True])
def test_time_is_linear(program, tmp_path, array):
    """Sixteen times the bytes may take sixteen times as long (and some noise), not 256 times: of processor time, since
    what else the machine does is not ours."""
    took = {}
    for n in (20_000, 320_000):
        path = write_keys(tmp_path / f"{n}.gguf", n, array)
        best = 1e9
        for _ in range(3):
            began = processor_time()
            p = inspect(program, path)
            best = min(best, processor_time() - began)
            assert p.returncode == 1 and "no tensors" in p.stderr
        took[n] = best
    assert took[320_000] < 48 * took[20_000] + 0.5, took


def test_claims_cost_nothing(program, tmp_path):
    """A file that is large (a hole) and claims much: refused before memory is reserved or the hole is read."""
    for name, head in (("tensors", struct.pack("<IQQ", 3, 1 << 33, 0)), ("keys", struct.pack("<IQQ", 3, 0, 1 << 33)),
                       ("array", struct.pack("<IQQ", 3, 0, 1) + gf.pack_string("x") +
                        struct.pack("<IIQ", gf.ARRAY, gf.U8, 1 << 38)),
                       ("text", struct.pack("<IQQ", 3, 0, 1) + gf.pack_string("x") +
                        struct.pack("<IQ", gf.STRING, 1 << 38))):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(b"GGUF" + head)
        os.truncate(path, 1 << 40)
        began = time.monotonic()
        p = inspect(program, path)
        assert p.returncode == 1 and f"{name}.gguf: offset" in p.stderr, p.stderr
        assert time.monotonic() - began < 5


def opened(program, path):
    p = inspect(program, path, "--json")
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout)


def same_model(a, b):
    """All but what depends on where in its file a weight lies."""
    places = ("files", "file_bytes", "gguf_version", "dense_memory_bytes")
    return {k: v for k, v in a.items() if k not in places} == {k: v for k, v in b.items() if k not in places}


def test_links_and_caches(program, tmp_path):
    """Model caches hold links to blobs; the parts of a split model are found beside the link's own name."""
    dense = fixture("dense/dense-q4_k_m.gguf")
    gguf_repack.write_split(gf.read(dense), 3, tmp_path / "split")
    for i in (1, 2, 3):
        blob = tmp_path / f"blob{i}"
        (tmp_path / f"split-{i:05}-of-00003.gguf").rename(blob)
        (tmp_path / f"m-{i:05}-of-00003.gguf").symlink_to(blob.name)
    j = opened(program, tmp_path / "m-00001-of-00003.gguf")
    assert len(j["files"]) == 3
    assert same_model(j, opened(program, dense))


def test_first_part_without_tensors(program, tmp_path):
    """Some splitters put the metadata alone into the first part."""
    whole = gf.read(DEMO)
    first, second = gf.Gguf(whole.keys), gf.Gguf({}, whole.tensors)
    for i, g in enumerate((first, second)):
        g.keys["split.no"] = (gf.U16, i)
        g.keys["split.count"] = (gf.U16, 2)
        g.keys["split.tensors.count"] = (gf.I32, len(whole.tensors))
        gf.write(g, tmp_path / f"m-{i + 1:05}-of-00002.gguf")
    beside = shutil.copy(DEMO, tmp_path)  # padding of slots is the file system's: /tmp may be another
    assert same_model(opened(program, tmp_path / "m-00001-of-00002.gguf"), opened(program, beside))


def test_other_writers(program, tmp_path):
    """Version 2, another alignment, and the same numbers in other widths say the same."""
    g = gf.read(DEMO)
    g.version = 2
    g.keys["general.alignment"] = (gf.U32, 4096)
    widths = {gf.U32: (gf.I32, gf.U64, gf.I64)}
    for i, (key, (t, v)) in enumerate(g.keys.items()):
        if t in widths and key != "general.alignment":
            g.keys[key] = (widths[t][i % 3], v)
        elif t == gf.F32:
            g.keys[key] = (gf.F64, v)
    gf.write(g, tmp_path / "m.gguf")
    a, b = opened(program, tmp_path / "m.gguf"), opened(program, DEMO)
    for classes in (a["expert_classes"], b["expert_classes"]):
        for c in classes:
            c.pop("slot_bytes")  # the lead-in depends on the alignment
    for j in (a, b):
        j.pop("budget_least_bytes"), j.pop("budget_all_bytes"), j.pop("dense_memory_bytes"), j.pop("slots")
    assert a["gguf_version"] == 2 and same_model(a, b)
