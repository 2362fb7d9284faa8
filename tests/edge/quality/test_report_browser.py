"""The report in a real headless Chromium: no error, no request, a divider that works, one page."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request

import numpy as np
import pytest

from lohi_edge import report
from lohi_edge.volume import Volume

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


class Page:
    """A page of a headless Chromium over the DevTools protocol; `events` as they come."""

    def __init__(self, folder):
        self._process = subprocess.Popen(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-dev-shm-usage",
                "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port_file = folder / "DevToolsActivePort"
        for _ in range(600):
            if port_file.exists() and port_file.read_text().count("\n"):
                break
            time.sleep(0.1)
        port = port_file.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            (target,) = [t for t in json.load(answer) if t["type"] == "page"]
        self._socket = websocket.create_connection(
            target["webSocketDebuggerUrl"], suppress_origin=True, timeout=120
        )
        self._count, self.events = 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._count:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, path):
        self.call("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(json.loads(self._socket.recv()))

    def run(self, code):
        return self.call("Runtime.evaluate", expression=code)["result"].get("value")

    def close(self):
        self._socket.close()
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    rng = np.random.default_rng(0)
    scan = Volume(rng.random((60, 70, 50), dtype=np.float32), np.eye(4))
    metric = {"value": 0.3, "unit": "ratio", "better": "low", "status": "warn"}
    metrics = {f"metric_{i}": metric | {"limits": {"warn": [None, 0.2]}} for i in range(34)}
    record = {
        "verdict": "warn",
        "reasons": [{"name": "noise", "level": "warn", "text": "the scan is noisy"}],
        "result": {"path": "scan_desc-synthetic.nii.gz"},
        "source": {"path": "scan.nii.gz", "sha256": "0" * 64},
        "metrics": {"scan": metrics, "result": dict(list(metrics.items())[:12])},
    }
    path = folder / "report.html"
    path.write_text(report.render(record, report.Images(scan, scan, scan, scan)))
    browser = Page(folder)
    browser.open(path)
    yield browser
    browser.close()


def test_no_error_and_no_request_leaves_the_page(page):
    bad = [
        e for e in page.events
        if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
        or (e.get("method") == "Runtime.consoleAPICalled" and e["params"]["type"] == "error")
    ]  # fmt: skip
    assert bad == []
    urls = [
        e["params"]["request"]["url"]
        for e in page.events
        if e.get("method") == "Network.requestWillBeSent"
    ]
    assert [u for u in urls if not u.startswith(("file:", "data:"))] == []


def test_the_divider_moves_by_keyboard_and_pointer(page):
    cut = "document.querySelector('.pair').style.getPropertyValue('--cut')"
    page.run("document.querySelector('input[type=range]').focus()")
    key = {"key": "ArrowRight", "code": "ArrowRight", "windowsVirtualKeyCode": 39}
    page.call("Input.dispatchKeyEvent", type="keyDown", **key)
    page.call("Input.dispatchKeyEvent", type="keyUp", **key)
    assert page.run(cut) == "51%"
    box = json.loads(
        page.run(
            "(() => { const b = document.querySelector('.pair').getBoundingClientRect();"
            "return JSON.stringify([b.left + b.width / 4, b.top + b.height / 2]); })()"
        )
    )
    mouse = {"x": box[0], "y": box[1], "button": "left", "buttons": 1, "clickCount": 1}
    page.call("Input.dispatchMouseEvent", type="mousePressed", **mouse)
    page.call("Input.dispatchMouseEvent", type="mouseReleased", **mouse | {"buttons": 0})
    assert page.run(cut) == "25%"


def test_every_picture_slider_and_gauge_has_a_name(page):
    assert page.run("[...document.images].every((i) => i.alt && i.naturalWidth > 0)") is True
    assert page.run("[...document.querySelectorAll('input,svg')].every((e) => e.ariaLabel)") is True
    assert page.run("document.querySelector('main section').ariaLabel") == "Verdict"


def test_it_prints_to_one_a4_page(page):
    printed = page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    pdf = base64.b64decode(printed["data"])
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") == 1
