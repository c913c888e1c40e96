#!/usr/bin/env python3
"""The web console in a real browser: headless Chromium, driven through its debugging pipe. Nothing but Python's library.

    console_test.py TENON MODELS_FOLDER [--screenshot FILE.png]

Exit code 77 (skipped), with a text, if there is no Chromium.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from serve_process import ServeProcess  # noqa: E402

TENON, MODELS, SCREENSHOT = "", "", ""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None)
# Nothing but the page: the browser's own services would look for networks and hosts that a test has no business with.
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
         "--disable-component-update", "--disable-default-apps", "--disable-extensions", "--disable-sync", "--metrics-recording-only",
         "--no-default-browser-check", "--no-first-run", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
         "--hide-scrollbars", "--window-size=1100,760", "--remote-debugging-pipe")


class Browser:
    """One page. Messages are JSON ended by a zero byte, on descriptors 3 (in) and 4 (out)."""

    def __init__(self, folder):
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()

        def hand_over():
            high = [os.dup(theirs_in), os.dup(theirs_out)]  # 3 and 4 may be in use
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)

        # A session of its own: Debian's command is a shell that starts the browser, which has children of its own.
        self.process = subprocess.Popen([CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"], preexec_fn=hand_over,
                                        close_fds=False, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer, self.number, self.session, self.errors = b"", 0, None, []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Log.enable")

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                piece = os.read(self.into, 1 << 16)
                if not piece:
                    raise RuntimeError("the browser has ended")
                self.buffer += piece
            text, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(answer["params"]["exceptionDetails"].get("exception", {}).get("description", "exception"))
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(answer["params"]["entry"]["text"])
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["result"]

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def until(self, expression, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.value(expression)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}; the page says: {self.value('document.body.innerText')}; {self.errors}")

    def close(self):
        """Asks it to end, so that it no longer writes to its folder; then ends what is left of it."""
        self.session = None
        try:
            self.call("Browser.close")
            self.process.wait(timeout=10)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.out)
        os.close(self.into)


def png(width, height, grey):
    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([grey]) * width for _ in range(height))
    return (b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b""))


class Console(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        config = Path(cls.folder.name, "models.config")
        config.write_text(f"""model_config_list {{
  config {{ name: "half_plus_two" base_path: "{MODELS}/half_plus_two" model_version_policy {{ all {{}} }}
           version_labels {{ key: "stable" value: 123 }} version_labels {{ key: "next" value: 125 }}
           traffic {{ split {{ label: "stable" weight: 95 }} split {{ version: 124 weight: 5 }} }} }}
  config {{ name: "picture" base_path: "{MODELS}/picture" }}
}}""")
        cls.server = ServeProcess(TENON, "--config", config)
        cls.url = f"http://{cls.server.address('v2_rest')}"
        cls.browser = Browser(cls.folder.name + "/profile")
        cls.browser.call("Page.navigate", url=cls.url + "/")
        cls.browser.until("typeof state === 'object' && state && document.querySelectorAll('.model').length === 2")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.server.stop()
        cls.folder.cleanup()

    def choose(self, model):
        self.browser.value(f"[...document.querySelectorAll('.model > button')].find(b => b.textContent === '{model}').click()")

    def test_models_versions_and_labels_are_shown(self):
        text = self.browser.value("document.getElementById('models').innerText")
        for word in ("half_plus_two", "123", "124", "available", "stable → 123", "next → 125 (waits)", "stable 95 %", "124 5 %", "picture"):
            self.assertIn(word, text)
        self.assertEqual(self.browser.value("document.getElementById('ready').innerText"), "ready")

    def test_json_is_tried(self):
        self.choose("half_plus_two")
        self.browser.value("document.getElementById('version').value = '123'")
        self.browser.value("document.getElementById('request').value = "
                           "JSON.stringify({inputs: [{name: 'x', datatype: 'FP32', shape: [3], data: [1, 2, 5]}]})")
        self.browser.value("document.getElementById('run').click()")
        answer = json.loads(self.browser.until("document.getElementById('answer').innerText"))
        self.assertEqual(answer["outputs"][0]["data"], [2.5, 3, 4.5])
        self.assertEqual(answer["model_version"], "123")
        self.browser.value("document.getElementById('request').value = '{}'; document.getElementById('answer').textContent = ''; "
                           "document.getElementById('run').click()")
        self.assertIn("no 'inputs'", self.browser.until("document.getElementById('answer').innerText"))
        self.assertTrue(self.browser.value("document.getElementById('took').innerText").startswith("400"))
        self.browser.errors.clear()  # the browser notes the 400

    def test_an_image_is_tried(self):
        self.choose("picture")
        self.browser.until("!document.getElementById('image-row').hidden")
        file = Path(self.folder.name, "grey.png")
        file.write_bytes(png(20, 10, 51))
        node = self.browser.call("Runtime.evaluate", expression="document.getElementById('image')")["result"]["objectId"]
        self.browser.call("DOM.setFileInputFiles", files=[str(file)], objectId=node)
        self.browser.until("JSON.parse(document.getElementById('request').value).inputs[0].data[0] === 0.2")
        self.browser.value("document.getElementById('answer').textContent = ''; document.getElementById('run').click()")
        answer = json.loads(self.browser.until("document.getElementById('answer').innerText"))
        mean, rest = answer["outputs"][0]["data"]  # the model answers the mean of the picture and one minus it
        self.assertAlmostEqual(mean, 51 / 255, places=3)
        self.assertAlmostEqual(rest, 1 - 51 / 255, places=3)
        classes = self.browser.until("document.getElementById('classes').innerText")
        self.assertIn("light", classes)
        self.assertLess(classes.index("dark"), classes.index("light"), "the larger share first")
        self.assertIn("80.0 %", classes)

    def test_plots_follow_the_load(self):
        self.choose("half_plus_two")
        stop = threading.Event()

        def load():
            body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}).encode()
            while not stop.is_set():
                urllib.request.urlopen(self.url + "/v2/models/half_plus_two/infer", body).read()
                time.sleep(0.02)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            rate = self.browser.until("points('half_plus_two').filter(p => p.rate > 5).length >= 4 && "
                                      "Math.max(...points('half_plus_two').map(p => p.rate))")
            self.assertLess(rate, 200)
            latency = self.browser.until("points('half_plus_two').filter(p => p.p99 > 0).pop()")
            self.assertLessEqual(latency["p50"], latency["p99"])
            drawn = self.browser.until("[...document.querySelectorAll('path.series')].map(p => p.getAttribute('d'))")
            self.assertEqual(len(drawn), 3)
            for path in drawn:
                self.assertIn("L", path)
                self.assertNotIn("NaN", path)
            if SCREENSHOT:
                self.choose("picture")
                self.browser.value("document.getElementById('run').click()")
                self.choose("half_plus_two")
                self.browser.value("document.getElementById('run').click()")
                time.sleep(8)
                picture = self.browser.call("Page.captureScreenshot", format="png")
                Path(SCREENSHOT).write_bytes(base64.b64decode(picture["data"]))
        finally:
            stop.set()
            thread.join()

    def test_nothing_went_wrong_and_nothing_came_from_elsewhere(self):
        self.assertEqual(self.browser.errors, [])
        others = self.browser.value(f"performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('{self.url}'))")
        self.assertEqual(others, [])


if __name__ == "__main__":
    if not CHROMIUM:
        print("skipped: there is no Chromium (Debian: apt-get install chromium-headless-shell)")
        sys.exit(77)
    TENON, MODELS = sys.argv[1], sys.argv[2]
    if "--screenshot" in sys.argv:
        SCREENSHOT = sys.argv[sys.argv.index("--screenshot") + 1]
    unittest.main(argv=sys.argv[:1], verbosity=2)
