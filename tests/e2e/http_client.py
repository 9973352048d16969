# SPDX-License-Identifier: MIT
"""A daemon with HTTP, and requests to it by the standard library and by raw sockets."""
import http.client
import json
import re
import socket

from daemon import DEMO, Daemon


class HttpDaemon(Daemon):
    """with HttpDaemon("--api-key-file", F) as d: d.post("/v1/completions", {...})"""

    def __init__(self, *args, model=DEMO, address="127.0.0.1:0", **kw):
        super().__init__(model, "--http", address, "--threads", "1", *args, **kw)

    @property
    def port(self):
        return int(re.search(r'msg="http" address="[^"]*:(\d+)"', self.text()).group(1))

    def connect(self, timeout=300):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None, timeout=300):
        """(status, headers, body) of one request; JSON is decoded."""
        c = self.connect(timeout)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        c.request(method, path, body, headers)
        r = c.getresponse()
        data = r.read()
        c.close()
        if "json" in (r.getheader("Content-Type") or "") and data:
            data = json.loads(data)
        return r.status, {k.lower(): v for k, v in r.getheaders()}, data

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def post(self, path, body, check=200, **headers):
        """The decoded answer of a POST, whose status must be @check."""
        status, _, data = self.ask("POST", path, body, headers)
        assert status == check, (status, data)
        return data

    def stream(self, path, body, **headers):
        """The events of a stream as (name or None, decoded data or "[DONE]")."""
        c = self.connect()
        c.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json", **headers})
        r = c.getresponse()
        assert r.status == 200, r.read()
        assert r.getheader("Content-Type").startswith("text/event-stream")
        events = parse_events(r.read().decode())
        c.close()
        return events

    def raw(self, data, timeout=60):
        """All that comes back for these bytes on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            s.sendall(data)
            return read_all(s)


def read_all(s):
    parts = []
    while True:
        try:
            part = s.recv(65536)
        except ConnectionResetError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def parse_events(text):
    events = []
    for block in text.split("\n\n"):
        name = data = None
        for line in block.splitlines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data = line[6:]
        if data is not None:
            events.append((name, data if data == "[DONE]" else json.loads(data)))
    return events


def post_bytes(path, body, *headers):
    """A POST as bytes, with these headers beside Host."""
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *headers])
    return head.encode() + b"\r\n\r\n" + body
