# SPDX-License-Identifier: MIT
"""A client of the native protocol in a few lines, for what the sluice command does not do: several requests of one
connection at once, cancels at chosen moments. Layouts: uapi/sluice_proto.h."""
import socket
import struct

VERSION = 2
HELLO, GENERATE, CANCEL, SCORE = 1, 2, 3, 4
WELCOME, ACCEPTED, TOKEN, DONE, LOGPROBS, PROGRESS, ERROR = 0x101, 0x102, 0x103, 0x104, 0x106, 0x10b, 0x1ff
TOKENS_IN, IGNORE_EOG, LOGPROBS_OUT, PROGRESS_OUT = 0x01, 0x08, 0x40, 0x80
STOPS = ["stop", "length", "cancelled", "error"]
SHUTDOWN = 26
NO_TOKEN = 0xffffffff  # the id of a TOKEN that only brings the rest of the text


def end_of(fixed, text):
    """(stop, code, prompt tokens read, tokens generated, sentence) of a DONE."""
    _, stop, code, n_prompt, n_generated = struct.unpack_from("<5I", fixed)
    return STOPS[stop], code, n_prompt, n_generated, text.decode()


class Client:
    def __init__(self, path, timeout=120):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.s.settimeout(timeout)
        self.s.connect(path)
        self.send(HELLO, 0, struct.pack("<4I32s", 48, 0x43554c53, 1, VERSION, b"native.py"))
        kind, _, fixed, _ = self.receive()
        assert kind == WELCOME
        self.version = struct.unpack_from("<I", fixed, 8)[0]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.s.close()

    def send(self, kind, number, fixed, payload=b""):
        self.s.send(struct.pack("<IHHQ", 16 + len(fixed) + len(payload), kind, 0, number) + fixed + payload)

    def receive(self):
        """(type, id, fixed part, payload) of the next message, None at the end. Payloads in memfds are left out."""
        p = self.s.recv(1 << 17)
        if not p:
            return None
        size, kind, _, number = struct.unpack_from("<IHHQ", p)
        assert size == len(p)
        fixed = struct.unpack_from("<I", p, 16)[0]
        return kind, number, p[16:16 + fixed], p[16 + fixed:]

    def generate(self, number, ids, max_tokens, flags=IGNORE_EOG, draft=(), draft_length=0):
        """@draft: of the whole answer; with it @draft_length of its tokens in every step, 0: as it pays."""
        body = struct.pack(f"<{len(ids) + len(draft)}I", *ids, *draft)
        self.send(GENERATE, number, struct.pack("<IIQ2IfIffQII4I", 72, flags | TOKENS_IN, len(body), max_tokens, 0, 0, 0,
                                                0, 0, 0, 0, 0, 0, draft_length, len(draft), 0), body)

    def answer(self, number, cancel_after=0):
        """(tokens, what done() gives) of a request; it is cancelled after so many, 0: never."""
        tokens = []
        while True:
            kind, of, fixed, payload = self.receive()
            assert kind != ERROR, payload
            if of == number and kind == TOKEN:
                tokens.append(struct.unpack_from("<2I", fixed)[1])
                if len(tokens) == cancel_after:
                    self.cancel(number)
            if of == number and kind == DONE:
                return [t for t in tokens if t != NO_TOKEN], end_of(fixed, payload)

    def score(self, number, ids, flags=0):
        body = struct.pack(f"<{len(ids)}I", *ids)
        self.send(SCORE, number, struct.pack("<IIQ", 16, flags | TOKENS_IN, len(body)), body)

    def cancel(self, number):
        self.send(CANCEL, number, struct.pack("<II", 8, 0))

    def until(self, kind, number):
        """Receives until a message of this type and id; returns its (fixed part, payload)."""
        while True:
            m = self.receive()
            assert m, "the daemon has closed the connection"
            assert m[0] != ERROR or kind == ERROR, m[3]
            if m[0] == kind and m[1] == number:
                return m[2], m[3]

    def done(self, number):
        """(stop, code, prompt tokens read, tokens generated, sentence) of a request's end."""
        return end_of(*self.until(DONE, number))

    def progress(self, number):
        """(read, of, parts per million) of the next PROGRESS."""
        return struct.unpack_from("<4I", self.until(PROGRESS, number)[0])[1:]
