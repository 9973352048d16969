# SPDX-License-Identifier: MIT
"""Split models whose parts do not fit, other files under a model's name, and what is no file: for make_bad_gguf.py.

PARTS: name -> (words that the refusal must contain, function of an empty folder that returns the path to open).
"""
import copy
import os
import socket
import struct

import gguf_file as gf
import gguf_repack
from daemon import DEMO, fixture
from gguf_file import I32, STRING, U16

PARTS = {}


def case(name, words):
    def add(f):
        PARTS[name] = (words, f)
        return f
    return add


def parts(folder):
    """A model in three parts; returns (prefix, Gguf of each part)."""
    return folder / "model", gguf_repack.split(gf.read(fixture("dense/dense-q4_k_m.gguf")), 3)


def part_name(prefix, i, n=3):
    return f"{prefix}-{i:05}-of-{n:05}.gguf"


def save(prefix, all_parts):
    for i, g in enumerate(all_parts):
        if g:
            gf.write(g, part_name(prefix, i + 1))
    return part_name(prefix, 1)


@case("part-missing", "part 2 of 3: ")
def _(folder):
    prefix, p = parts(folder)
    p[1] = None
    return save(prefix, p)


@case("parts-swapped", "say part 3 of 3, but this name belongs to part 2 of 3")
def _(folder):
    prefix, p = parts(folder)
    p[1], p[2] = p[2], p[1]
    return save(prefix, p)


@case("part-of-other-count", "say part 2 of 4, but this name belongs to part 2 of 3")
def _(folder):
    prefix, p = parts(folder)
    p[1].keys["split.count"] = (U16, 4)
    return save(prefix, p)


@case("part-of-other-model", "a part of another model")
def _(folder):
    prefix, p = parts(folder)
    p[2].keys["split.tensors.count"] = (I32, 77)
    return save(prefix, p)


@case("part-foreign-arch", "a part of another model")
def _(folder):
    prefix, p = parts(folder)
    p[1].keys["general.architecture"] = (STRING, "llama")
    return save(prefix, p)


@case("part-whole-model", "not a part of a split model")
def _(folder):
    prefix, p = parts(folder)
    p[2] = gf.read(fixture("dense/dense-q4_k_m.gguf"))
    return save(prefix, p)


@case("part-repeated", "the name occurs twice")
def _(folder):
    prefix, p = parts(folder)
    twin = copy.deepcopy(p[1])
    twin.keys["split.no"] = (U16, 2)
    twin.tensors += p[2].tensors[:len(p[2].tensors)]
    twin.tensors = twin.tensors[:len(p[2].tensors)]
    p[2] = twin
    return save(prefix, p)


@case("part-garbage", "model-00002-of-00003.gguf: offset 0: not a GGUF file")
def _(folder):
    prefix, p = parts(folder)
    first = save(prefix, p)
    open(part_name(prefix, 2), "wb").write(b"garbage, no header at all")
    return first


@case("part-truncated", "model-00003-of-00003.gguf: offset")
def _(folder):
    prefix, p = parts(folder)
    first = save(prefix, p)
    os.truncate(part_name(prefix, 3), os.path.getsize(part_name(prefix, 3)) - 64)
    return first


@case("part-is-fifo", "model-00002-of-00003.gguf: not a regular file but a FIFO")
def _(folder):
    prefix, p = parts(folder)
    p[1] = None
    os.mkfifo(part_name(prefix, 2))
    return save(prefix, p)


@case("parts-of-one", "key split.tensors.count promises 55 tensors and split.count no other part, but the file holds")
def _(folder):
    prefix, p = parts(folder)
    p[0].keys["split.count"] = (U16, 1)
    return save(prefix, p)


@case("second-part-opened", "part 2 of 3 of a split model (key split.no); open the first part, model-00001-of-00003.gguf")
def _(folder):
    prefix, p = parts(folder)
    save(prefix, p)
    return part_name(prefix, 2)


@case("first-part-renamed", "its name does not end in -00001-of-00003.gguf")
def _(folder):
    prefix, p = parts(folder)
    os.rename(save(prefix, p), folder / "model.gguf")
    return folder / "model.gguf"


@case("tensor-count-wrong", "promises 54 tensors, the 3 parts hold 55")
def _(folder):
    prefix, p = parts(folder)
    for g in p:
        g.keys["split.tensors.count"] = (I32, 54)
    return save(prefix, p)


@case("tensor-count-missing", "key split.tensors.count is missing")
def _(folder):
    prefix, p = parts(folder)
    del p[0].keys["split.tensors.count"]
    return save(prefix, p)


@case("split-count-65535", "65535 parts, more than 4096")
def _(folder):
    prefix, p = parts(folder)
    p[0].keys["split.count"] = (U16, 65535)
    return save(prefix, p)


@case("split-no-text", "key split.no has type string")
def _(folder):
    prefix, p = parts(folder)
    p[0].keys["split.no"] = (STRING, "0")
    return save(prefix, p)


@case("parts-joined", "another GGUF file begins here, where the data of the first end: parts of a split model are not "
       "joined with cat; put them beside each other as NAME-00001-of-00003.gguf and so on")
def _(folder):
    prefix, p = parts(folder)
    save(prefix, p)
    with open(folder / "model.gguf", "wb") as f:
        for i in (1, 2, 3):
            f.write(open(part_name(prefix, i), "rb").read())
    return folder / "model.gguf"


@case("parts-joined-metadata-first", "another GGUF file begins here")
def _(folder):
    whole = gf.read(DEMO)
    first, second = gf.Gguf(whole.keys), gf.Gguf({}, whole.tensors)
    with open(folder / "model.gguf", "wb") as f:
        for i, g in enumerate((first, second)):
            g.keys["split.no"], g.keys["split.count"] = (U16, i), (U16, 2)
            g.keys["split.tensors.count"] = (I32, len(whole.tensors))
            gf.write(g, folder / f"part{i}")
            f.write((folder / f"part{i}").read_bytes())
    return folder / "model.gguf"


# ---- other things that people give a model's name to

def stranger(name, words, content):
    PARTS[name] = ("offset 0: not a GGUF file but " + words, lambda folder: write_stranger(folder, content))


def write_stranger(folder, content):
    (folder / "model.gguf").write_bytes(content)
    return folder / "model.gguf"


stranger("html", "an HTML page", b"<!DOCTYPE html>\n<html class=\"\">\n<head>\n<title>Sign in</title>" + b" " * 4000)
stranger("html-lower", "an HTML page", b"\xef\xbb\xbf\r\n <html><body>404</body></html>")
stranger("lfs-pointer", "a git-LFS pointer, which stands for a file of 17808544 bytes: fetch the file itself",
         b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 17808544\n")
stranger("zip", "a zip archive", b"PK\3\4\x14\0\0\0\10\0" + b"model/data.pkl" * 100)
stranger("safetensors", "a safetensors file: convert it to GGUF",
         struct.pack("<Q", 66) + b'{"model.embed_tokens.weight":{"dtype":"BF16","shape":[4,4],"data_o' + bytes(64))
stranger("pickle", "a PyTorch checkpoint (pickle)", b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(64))
stranger("gzip", "a gzip archive", b"\x1f\x8b\10\0" + bytes(64))
stranger("error-json", 'text that begins "{"error":"Repository not found"}"', b'{"error":"Repository not found"}')
stranger("error-text", 'text that begins "Invalid username or password."', b"Invalid username or password.\n")
stranger("numpy", "a NumPy array", b"\x93NUMPY\1\0" + bytes(120))
PARTS["never-downloaded"] = ("as a file does for which room was made but whose download never began",
                             lambda folder: write_stranger(folder, bytes(1 << 20)))


# ---- what is no file

@case("fifo", "not a regular file but a FIFO")
def _(folder):
    os.mkfifo(folder / "model.gguf")
    return folder / "model.gguf"


@case("directory", "not a regular file but a directory")
def _(folder):
    (folder / "model.gguf").mkdir()
    return folder / "model.gguf"


@case("device", "not a regular file but a device")
def _(folder):
    os.symlink("/dev/zero", folder / "model.gguf")
    return folder / "model.gguf"


@case("socket", "model.gguf")
def _(folder):
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(folder / "model.gguf"))
    s.close()
    return folder / "model.gguf"


@case("dangling-link", "cannot be opened: No such file")
def _(folder):
    os.symlink("nowhere.gguf", folder / "model.gguf")
    return folder / "model.gguf"


@case("no-file", "cannot be opened: No such file")
def _(folder):
    return folder / "model.gguf"
