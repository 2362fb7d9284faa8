"""The page of a held scan in a real headless Chromium: the verdict, and no image to look for."""

from __future__ import annotations

import json

import pytest

from chromium import MISSING, Page
from lohi_edge import report
from lohi_edge.errors import Held
from lohi_edge.pipeline import enhance
from watch_parts import save_scan

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

HOLDS = {"base": "none", "scan": {"T1w": {"slices": {"hold": [1000, None]}}}}


@pytest.fixture(scope="module")
def page(identity_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    scan = save_scan(folder / "scan.nii.gz")
    with pytest.raises(Held) as held:
        enhance(scan, out=folder / "out", bundle=identity_bundle, contrast="T1w", limits=HOLDS)
    path, _ = report.write(held.value.path)
    assert path.name == "scan_desc-withheld_report.html"
    browser = Page(folder)
    browser.open(path.as_uri())
    yield browser
    browser.close()


def test_the_verdict_comes_first_and_is_the_largest_text(page):
    assert page.run("document.querySelector('main').firstElementChild.ariaLabel") == "Verdict"
    verdict = "document.querySelector('main section strong')"
    assert page.run(f"{verdict}.innerText") == "HOLD"
    size = "parseFloat(getComputedStyle({}).fontSize)"
    sizes = page.run(
        "JSON.stringify([...document.querySelectorAll('body *')].filter((e) => e.innerText)"
        f".map((e) => {size.format('e')}))"
    )
    largest, ours = max(json.loads(sizes)), page.run(size.format(verdict))
    assert ours == largest >= 30
    page.run("window.scrollTo(0, 0)")
    box = f"{verdict}.getBoundingClientRect()"
    assert page.run(f"0 <= {box}.top && {box}.bottom <= window.innerHeight") is True


def test_it_says_that_no_enhanced_image_was_delivered(page):
    told = page.run("document.querySelector('[aria-label=Verdict]').innerText")
    assert "No enhanced image was delivered: the quality check held it back." in told
    assert "Use the scan itself" in told
    assert "NO ENHANCED IMAGE" in page.run("document.querySelector('header').innerText")


def test_there_is_no_divider_of_an_image_that_does_not_exist(page):
    assert page.run("document.querySelectorAll('input, .pair, .after').length") == 0
    assert page.run("document.querySelector('[aria-label=Pictures] h2').innerText") == "The scan"
    shown = page.run(
        "JSON.stringify([...document.images].map((i) => [i.alt, i.complete && i.naturalWidth > 0]))"
    )
    names, drawn = zip(*json.loads(shown), strict=True)
    assert len(names) == 3
    assert all(drawn)
    assert all(name and "synthetic" not in name and "after" not in name for name in names)


def test_no_error_and_no_request_leaves_the_page(page):
    assert page.faults() == []
    assert [u for u in page.requested() if not u.startswith(("file:", "data:"))] == []
