# SPDX-License-Identifier: MIT
"""The page in headless Chromium, by its debugging protocol, on a screen and on a phone. usage: page_client.py URL [FOLDER for
screenshots]"""
import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import websocket

URL = sys.argv[1] + "/"


class Browser:
    def __init__(self, width, height):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-port=0", f"--user-data-dir={self.folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = pathlib.Path(self.folder.name) / "DevToolsActivePort"
        self.until(lambda: told.exists() and told.read_text().count("\n"))
        port = told.read_text().split()[0]
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        page = next(p for p in pages if p["type"] == "page")
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], suppress_origin=True, timeout=60)
        self.number, self.events = 0, []
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.command(f"{domain}.enable")
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "nothing happened"
            time.sleep(0.05)

    def command(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            got = json.loads(self.socket.recv())
            if got.get("id") == self.number:
                assert "error" not in got, got
                return got["result"]
            self.events.append(got)

    def js(self, expression):
        result = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


def chat(b):
    b.command("Page.navigate", url=URL)
    b.until(lambda: b.js("document.readyState === 'complete' && document.getElementById('model')?.textContent.startsWith('demo')"))
    b.js("document.getElementById('temperature').value = '0'")
    for i, text in enumerate(["What is the capital of France?", "<img src=x onerror=alert(1)> & <b>bold</b>"]):
        b.js(f"document.getElementById('text').value = {json.dumps(text)}; document.getElementById('form').requestSubmit()")
        b.until(lambda: b.js(f"document.querySelectorAll('.assistant .quiet').length > {i}"))
    text = b.js("document.getElementById('chat').innerText")
    assert "The capital of France is Paris." in text and "<b>bold</b>" in text, text
    assert b.js("document.querySelectorAll('#chat b, #chat img').length") == 0
    b.js("{ const v = answerView(); v.reasoning('A thought.'); v.content('An answer.'); }")
    assert b.js("document.querySelector('details').open") is False
    b.until(lambda: b.js("document.getElementById('resident-text').textContent.includes('experts in memory,')"))
    b.js("document.getElementById('heat').open = true")
    b.until(lambda: b.js("document.getElementById('map').width") > 1)
    b.js("document.getElementById('text').value = 'Again?'; document.getElementById('form').requestSubmit()")
    b.until(lambda: b.js("Math.max(...heat.flat())") > 0)
    b.until(lambda: b.js("{ const m = document.getElementById('map'), d = m.getContext('2d').getImageData(0, 0, m.width, m.height).data;"
                         " Math.max(...d.filter((v, i) => i % 4 === 0)) }") == 255)
    assert b.js("heat.length") == 4 and b.js("heat[0].length") == 32
    b.js("document.getElementById('settings-button').click(); const k = document.getElementById('key'); k.value = 'secret'; "
         "k.dispatchEvent(new Event('change'))")
    assert b.js("sessionStorage.getItem('key')") == "secret" and b.js("localStorage.length + document.cookie.length") == 0
    assert b.js("document.documentElement.scrollWidth <= window.innerWidth")


for width, height in ((1200, 800), (390, 780)):
    browser = Browser(width, height)
    try:
        chat(browser)
        if len(sys.argv) > 2:
            picture = browser.command("Page.captureScreenshot", format="png")["data"]
            (pathlib.Path(sys.argv[2]) / f"page-{width}.png").write_bytes(base64.b64decode(picture))
        asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
        assert asked and all(u.startswith(URL) for u in asked if u != "about:blank"), asked
        wrong = [e for e in browser.events if e.get("method") == "Runtime.exceptionThrown" or
                 e.get("method") == "Log.entryAdded" and e["params"]["entry"]["level"] == "error"]
        assert not wrong, wrong
    finally:
        browser.close()
head = urllib.request.urlopen(URL).headers
assert "frame-ancestors 'none'" in head["Content-Security-Policy"] and "default-src 'self'" in head["Content-Security-Policy"]
print("all as expected")
