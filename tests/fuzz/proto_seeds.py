# SPDX-License-Identifier: MIT
"""Writes one seed per message type (and memfd form) for fuzz_proto: proto_seeds.py OUT_DIR"""
import pathlib
import struct
import sys


def message(kind, ident, fixed, payload=b"", fd=False):
    body = struct.pack("<I", 4 + len(fixed)) + fixed + (b"" if fd else payload)
    return struct.pack("<IHHQ", 16 + len(body), kind, 1 if fd else 0, ident) + body


def generate(flags, payload, tokens=8, fd=False, system=0):
    fixed = struct.pack("<IQIIfIffQII", flags, len(payload), tokens, 0, 0.5, 3, 0.9, 0.1, 7, system, 0)
    return message(2, 1, fixed, payload, fd)


def packet(data, how=0):
    return struct.pack("<HB", len(data), how) + data


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    ids = struct.pack("<4I", 72, 101, 256, 108)
    score = message(4, 2, struct.pack("<IQ", 0x61, len(ids)), ids)
    seeds = {
        "generate": packet(generate(0, b"Hello")),
        "generate_chat": packet(generate(2, b"be briefHello", system=8)),
        "generate_tokens": packet(generate(0x11, ids)),
        "generate_memfd": packet(generate(1, ids, fd=True), 3) + ids,
        "generate_memfd_unsealed": packet(generate(1, ids, fd=True), 1) + ids,
        "generate_cancel": packet(generate(8, b"Hello", 5000)) + packet(message(3, 1, bytes(4))),
        "score": packet(score),
        "model_info": packet(message(5, 3, bytes(4))),
        "status": packet(message(6, 4, bytes(4))) * 3,
        "tokenize": packet(message(7, 5, struct.pack("<IQ", 4, 3), b"a$b")),
        "detokenize": packet(message(8, 6, struct.pack("<IQ", 0x10, len(ids)), ids)),
        "hello_twice": packet(message(1, 0, struct.pack("<III32s", 0x43554C53, 1, 1, b"x"))),
        "newer": packet(message(6, 4, bytes(4) + b"\1" * 8)),
    }
    for name, data in seeds.items():
        (out / name).write_bytes(data)


main(pathlib.Path(sys.argv[1]))
