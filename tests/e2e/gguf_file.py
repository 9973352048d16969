# SPDX-License-Identifier: MIT
"""A small GGUF reader and writer for tests, with dequantisation of every format the fixtures use. numpy only.

Written from the format's description, apart from the daemon's own reader, so that the two check each other.
Keys: dict name -> (type, value), an array's value is (element type, list). Tensors: list of Tensor.
"""
import struct

import numpy as np

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALAR = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}

# name: (id, weights per block, bytes per block)
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22),
         "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
         "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "IQ4_NL": (20, 32, 18),
         "IQ4_XS": (23, 256, 136), "BF16": (30, 1, 2), "MXFP4": (39, 32, 17)}
BY_ID = {v[0]: (k, *v[1:]) for k, v in TYPES.items()}


class Tensor:
    def __init__(self, name, ne, type_id, data):
        self.name, self.ne, self.type, self.data = name, list(ne), type_id, data

    def row_bytes(self):
        _, block, size = BY_ID[self.type]
        return self.ne[0] // block * size

    def rows(self):
        """The packed rows: uint8 (all rows, bytes of a row)."""
        return np.frombuffer(self.data, np.uint8).reshape(-1, self.row_bytes())

    def floats(self):
        """float32 in numpy order (slowest dimension first)."""
        name, block, size = BY_ID[self.type]
        flat = dequantize(name, np.frombuffer(self.data, np.uint8).reshape(-1, size))
        return flat.reshape(self.ne[::-1])


def from_floats(name, a):
    a = np.ascontiguousarray(a, "<f4")
    return Tensor(name, a.shape[::-1], 0, a.tobytes())


def from_rows(name, like, ne, rows):
    return Tensor(name, ne, like.type, np.ascontiguousarray(rows).tobytes())


class Gguf:
    def __init__(self, keys=None, tensors=None, version=3):
        self.version, self.keys, self.tensors = version, dict(keys or {}), list(tensors or [])

    def __getitem__(self, name):
        return next(t for t in self.tensors if t.name == name)

    def value(self, key, default=None):
        return self.keys[key][1] if key in self.keys else default

    def replace(self, names, new):
        """The tensors called @names give way to @new, at the place of the first."""
        at = min(i for i, t in enumerate(self.tensors) if t.name in names)
        rest = [t for t in self.tensors if t.name not in names]
        self.tensors = rest[:at] + list(new) + rest[at:]


class Reader:
    def __init__(self, data):
        self.data, self.pos = data, 0

    def take(self, fmt):
        v = struct.unpack_from("<" + fmt, self.data, self.pos)[0]
        self.pos += struct.calcsize("<" + fmt)
        return v

    def string(self):
        n = self.take("Q")
        self.pos += n
        return self.data[self.pos - n:self.pos]

    def value(self, t):
        if t == STRING:
            return self.string().decode()
        if t != ARRAY:
            return self.take(SCALAR[t])
        elem, n = self.take("I"), self.take("Q")
        if elem == STRING:
            return elem, [self.string().decode() for _ in range(n)]
        v = struct.unpack_from(f"<{n}{SCALAR[elem]}", self.data, self.pos)
        self.pos += struct.calcsize(f"<{n}{SCALAR[elem]}")
        return elem, list(v)


def read(path):
    """One file; parts of a split model are read one by one."""
    r = Reader(open(path, "rb").read())
    assert r.data[:4] == b"GGUF"
    r.pos = 4
    g = Gguf(version=r.take("I"))
    n_tensors, n_keys = r.take("Q"), r.take("Q")
    for _ in range(n_keys):
        key, t = r.string().decode(), r.take("I")
        g.keys[key] = (t, r.value(t))
    infos = []
    for _ in range(n_tensors):
        name, n = r.string().decode(), r.take("I")
        infos.append((name, [r.take("Q") for _ in range(n)], r.take("I"), r.take("Q")))
    align = g.value("general.alignment", 32)
    start = (r.pos + align - 1) // align * align
    for name, ne, t, offset in infos:
        _, block, size = BY_ID[t]
        n = int(np.prod(ne, dtype=np.int64)) // block * size
        g.tensors.append(Tensor(name, ne, t, r.data[start + offset:start + offset + n]))
    return g


def pack_string(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(s)) + s


def pack_value(t, v):
    if t == STRING:
        return pack_string(v)
    if t != ARRAY:
        return struct.pack("<" + SCALAR[t], v)
    elem, items = v
    head = struct.pack("<IQ", elem, len(items))
    if elem == STRING:
        return head + b"".join(pack_string(s) for s in items)
    return head + struct.pack(f"<{len(items)}{SCALAR[elem]}", *items)


def pack_key(name, t, v):
    return pack_string(name) + struct.pack("<I", t) + pack_value(t, v)


def pack_info(name, ne, type_id, offset):
    return pack_string(name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, type_id, offset)


def write(g, path):
    align = g.value("general.alignment", 32)
    pad = lambda n: -n % align
    out = b"GGUF" + struct.pack("<IQQ", g.version, len(g.tensors), len(g.keys))
    out += b"".join(pack_key(k, *v) for k, v in g.keys.items())
    offset = 0
    for t in g.tensors:
        out += pack_info(t.name, t.ne, t.type, offset)
        offset += len(t.data) + pad(len(t.data))
    with open(path, "wb") as f:
        f.write(out + bytes(pad(len(out))))
        for t in g.tensors:
            f.write(t.data)
            f.write(bytes(pad(len(t.data))))


# Dequantisation: one function per format, blocks (n, bytes) of uint8 in, float32 (n, weights) out.

IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


def f16(b, at):
    return b[:, at:at + 2].copy().view("<f2").astype(np.float32)


def nibbles(b):
    """Low nibbles of all bytes, then the high ones: the placement of the 32-blocks."""
    return np.concatenate([b & 15, b >> 4], 1)


def high_bits(b, at):
    qh = b[:, at:at + 4].copy().view("<u4")
    return (qh >> np.arange(32, dtype=np.uint32) & 1).astype(np.uint8) << 4


def k_scales(s):
    """The 6-bit scales and minima of Q4_K and Q5_K: (n, 8) each."""
    low, high = s[:, 8:] & 15, s[:, 8:] >> 4
    scale = np.concatenate([s[:, :4] & 63, low | (s[:, :4] >> 6) << 4], 1)
    least = np.concatenate([s[:, 4:8] & 63, high | (s[:, 4:8] >> 6) << 4], 1)
    return scale.astype(np.float32), least.astype(np.float32)


def two_bits(qs):
    """Q2_K and Q3_K: (n, 2 halves, 4 shifts, 32) of two bits from 64 bytes."""
    q = qs.reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    return q & 3


def q2_k(b):
    q = two_bits(b[:, 16:80]).astype(np.float32).reshape(-1, 16, 16)
    scale, least = (b[:, :16] & 15).astype(np.float32), (b[:, :16] >> 4).astype(np.float32)
    return f16(b, 80)[..., None] * scale[..., None] * q - f16(b, 82)[..., None] * least[..., None]


def q3_k(b):
    bits = b[:, :32].reshape(-1, 1, 1, 32) >> np.arange(8, dtype=np.uint8).reshape(1, 2, 4, 1) & 1
    q = two_bits(b[:, 32:96]).astype(np.float32) - 4 * (1 - bits.astype(np.float32))
    s = b[:, 96:108]
    low = np.concatenate([s[:, :8] & 15, s[:, :8] >> 4], 1)
    high = np.concatenate([s[:, 8:] >> shift & 3 for shift in (0, 2, 4, 6)], 1)
    scale = (low | high << 4).astype(np.float32) - 32
    return f16(b, 108)[..., None] * scale[..., None] * q.reshape(-1, 16, 16)


def q45_k(b, fifth):
    qs = b[:, 48 if fifth else 16:].reshape(-1, 4, 1, 32)
    q = np.concatenate([qs & 15, qs >> 4], 2).reshape(-1, 8, 32)
    if fifth:
        q = q | (b[:, 16:48].reshape(-1, 1, 32) >> np.arange(8, dtype=np.uint8).reshape(1, 8, 1) & 1) << 4
    scale, least = k_scales(b[:, 4:16])
    return f16(b, 0)[..., None] * scale[..., None] * q.astype(np.float32) - f16(b, 2)[..., None] * least[..., None]


def q6_k(b):
    ql, qh = b[:, :128].reshape(-1, 2, 2, 32), b[:, 128:192].reshape(-1, 2, 1, 32)
    low = np.concatenate([ql & 15, ql >> 4], 2)
    q = low | (qh >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1) & 3) << 4
    scale = b[:, 192:208].view(np.int8).astype(np.float32)
    return f16(b, 208)[..., None] * scale[..., None] * (q.astype(np.float32) - 32).reshape(-1, 16, 16)


def iq4_xs(b):
    high = b[:, 2:4].copy().view("<u2")
    low = np.stack([b[:, 4:8] & 15, b[:, 4:8] >> 4], 2).reshape(-1, 8)
    scale = (low | (high >> np.arange(0, 16, 2, dtype=np.uint16) & 3).astype(np.uint8) << 4).astype(np.float32) - 32
    q = b[:, 8:].reshape(-1, 8, 16)
    return f16(b, 0)[..., None] * scale[..., None] * IQ4[np.concatenate([q & 15, q >> 4], 2)]


def mxfp4(b):
    return np.ldexp(np.float32(1), b[:, :1].astype(np.int32) - 128).astype(np.float32) * FP4[nibbles(b[:, 1:])]


UNPACK = {
    "F32": lambda b: b.copy().view("<f4"),
    "F16": lambda b: b.copy().view("<f2").astype(np.float32),
    "BF16": lambda b: (b.copy().view("<u2").astype(np.uint32) << 16).view(np.float32),
    "Q4_0": lambda b: f16(b, 0) * (nibbles(b[:, 2:]).astype(np.float32) - 8),
    "Q4_1": lambda b: f16(b, 0) * nibbles(b[:, 4:]).astype(np.float32) + f16(b, 2),
    "Q5_0": lambda b: f16(b, 0) * ((nibbles(b[:, 6:]) | high_bits(b, 2)).astype(np.float32) - 16),
    "Q5_1": lambda b: f16(b, 0) * (nibbles(b[:, 8:]) | high_bits(b, 4)).astype(np.float32) + f16(b, 2),
    "Q8_0": lambda b: f16(b, 0) * b[:, 2:].view(np.int8).astype(np.float32),
    "Q2_K": q2_k, "Q3_K": q3_k, "Q6_K": q6_k, "IQ4_XS": iq4_xs, "MXFP4": mxfp4,
    "Q4_K": lambda b: q45_k(b, False), "Q5_K": lambda b: q45_k(b, True),
    "IQ4_NL": lambda b: f16(b, 0) * IQ4[nibbles(b[:, 2:])],
}


def dequantize(name, blocks):
    return UNPACK[name](blocks).reshape(len(blocks), -1).astype(np.float32, copy=False)
