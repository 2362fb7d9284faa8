"""The report in a real headless Chromium: no error, no request, a divider that works, one page."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from chromium import MISSING, Page
from lohi_edge import report
from lohi_edge.report_images import Images
from lohi_edge.volume import Volume

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    rng = np.random.default_rng(0)
    scan = Volume(rng.random((60, 70, 50), dtype=np.float32), np.eye(4))
    spot = {"name": "residual_blob", "level": "warn", "text": "near there", "at_mm": [20, 30, 40]}
    metric = {"value": 0.3, "unit": "ratio", "better": "low", "status": "warn"}
    metrics = {f"metric_{i}": metric | {"limits": {"warn": [None, 0.2]}} for i in range(34)}
    record = {
        "verdict": "warn",
        "model_limits": "many words " * 180,
        "reasons": [{"name": "noise", "level": "warn", "text": "the scan is noisy"}, spot],
        "result": {"path": "scan_desc-synthetic.nii.gz"},
        "source": {"path": "scan.nii.gz", "sha256": "0" * 64},
        "metrics": {"scan": metrics, "result": dict(list(metrics.items())[:12])},
    }
    path = folder / "report.html"
    path.write_text(report.render(record, Images(scan, scan, scan, scan)))
    browser = Page(folder)
    browser.open(path.as_uri())
    yield browser
    browser.close()


def test_no_error_and_no_request_leaves_the_page(page):
    assert page.faults() == []
    assert [u for u in page.requested() if not u.startswith(("file:", "data:"))] == []


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


def test_paper_says_which_half_was_acquired_and_which_side_is_which(page):
    page.call("Emulation.setEmulatedMedia", media="print")
    told = page.run("document.querySelector('.spots + .figures figure').innerText")
    page.call("Emulation.setEmulatedMedia", media="")
    assert told.split("\n")[0] == "axial, patient's right on the left: before | after"


def test_a_phone_shows_one_picture_a_line(page):
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    width = page.run("document.querySelector('.pair').getBoundingClientRect().width")
    page.call("Emulation.clearDeviceMetricsOverride")
    assert width > 300


def test_the_spot_that_the_check_warns_of_comes_first_and_has_dividers_of_its_own(page):
    first = page.run("document.querySelector('.pair').closest('figure').innerText")
    assert first.startswith("axial through the spot")
    assert page.run("document.querySelectorAll('.spots input[type=range]').length") == 3


def test_it_prints_to_one_a4_page(page):
    printed = page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    pdf = base64.b64decode(printed["data"])
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") == 1
