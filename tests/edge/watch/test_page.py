"""The web page: what it says, what it refuses, and how it behaves in a real Chromium."""

from __future__ import annotations

import http.client
import json
import time

import pytest
from PIL import Image

from chromium import MISSING
from chromium import Page as Browser
from lohi_edge.watch import repeats
from lohi_edge.watch.listing import Found
from lohi_edge.watch.page import Page
from watch_parts import deliver

HOSTILE = "<img src=x onerror=alert(1)>&\u202egnp.nii"
SAID = {"phase": "ready", "paused": None, "jobs": [], "waiting_count": 0}


def finish(parts, name, digit):
    """A delivered scan with its report and picture."""
    folder = deliver(parts, name, digit * 64)
    (folder / "image_report.html").write_text("<h1>the report</h1>")
    Image.new("L", (30, 20), 90).save(folder / "image_report.png")
    return folder


def trouble(parts, name, state, reason):
    (number,) = parts.ledger.receive([Found(name, "m", 3)])
    parts.ledger.begin(number)
    parts.ledger.finish(number, state, reason=reason, original="kept")
    return number


@pytest.fixture
def page(parts, tmp_path):
    finish(parts, "ward/a_T1w.nii.gz", "1")
    finish(parts, HOSTILE, "2")
    trouble(parts, "held.nii", "held", "the scan is noise")
    trouble(parts, "bad.nii", "failed", "expected NIfTI, got <b>text</b>")
    trouble(parts, "poison.nii", "quarantined", "the worker killed by SIGKILL")
    parts.ledger.receive([Found("next.nii", "m", 3)])
    made = Page(tmp_path / "state", parts.outbox, "0")
    made.tell(SAID)
    yield made
    made.stop()


def get(page, path, host=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_it_tells_what_is_done_what_waits_and_who_is_needed(page):
    told = json.loads(get(page, "/scans.json")[2])
    assert [(r["state"], bool(r["todo"])) for r in told["trouble"]] == [
        ("quarantined", True), ("failed", True), ("held", True),
    ]  # fmt: skip
    assert [r["name"] for r in told["queue"]] == ["next.nii"]
    assert [(r["verdict"], r["report"], r["picture"]) for r in told["done"]] == [
        ("pass", True, True)
    ] * 2
    said = "The software is ready. 1 in the queue, 0 still arriving, 2 done."
    assert (told["state"], told["well"]) == (said, True)
    page.tell({**SAID, "skipped": {"w/series-9-00000000": "a localizer"}, "skipped_count": 1})
    told = json.loads(get(page, "/scans.json")[2])
    assert told["state"] == f"{said} 1 DICOM series skipped: a localizer."
    page.tell({**SAID, "dicom": {"unsent": 2, "unsent_why": ["PACS@h:1: its disk is full"]}})
    told = json.loads(get(page, "/scans.json")[2])
    assert told["state"] == f"{said} 2 not sent yet: PACS@h:1: its disk is full."


def test_it_names_what_still_arrives_and_why(page):
    why = "gzip stream not at its end after 500,000 bytes"
    page.tell({**SAID, "waiting": {"cut.nii.gz": why}, "waiting_count": 1})
    last = json.loads(get(page, "/scans.json")[2])["queue"][-1]
    assert (last["name"], last["scan"], last["reason"]) == ("cut.nii.gz", None, why)


def test_it_tells_of_files_that_are_no_scans(page):
    page.tell({**SAID, "others": ["a.mgz", "b.rar"], "others_count": 2})
    told = json.loads(get(page, "/scans.json")[2])["state"]
    assert "Other files in the inbox: 2. They are ignored: scans are .nii" in told


def test_it_says_where_in_the_outbox_a_result_lies(page, parts):
    """Of two scans of one name the older has the plain folder."""
    folder = finish(parts, "ward/a_T1w.nii.gz", "5")
    rows = json.loads(get(page, "/scans.json")[2])["done"]
    found = {row["folder"] for row in rows if row["name"] == "ward/a_T1w.nii.gz"}
    assert found == {"ward/a_T1w", folder.relative_to(parts.outbox.root).as_posix()}
    assert len(found) == 2


def test_a_scan_that_was_taken_out_before_its_turn_is_asked_for(page, parts):
    """It would wait for ever, and nobody would know why."""
    parts.ledger.receive([Found("ward/series-3-00000000", "m", 3), Found("there.nii", "m", 3)])
    (parts.root / "there.nii").write_bytes(b"x")
    page.tell({**SAID, "folders": {"inbox": str(parts.root)}})
    told = {r["name"]: r for r in json.loads(get(page, "/scans.json")[2])["queue"]}
    for name in ("next.nii", "ward/series-3-00000000"):
        assert "taken out" in told[name]["reason"]
        assert "inbox again" in told[name]["todo"]
    assert told["there.nii"]["reason"] is told["there.nii"]["todo"] is None
    (parts.root / "ward").mkdir()
    told = {r["name"]: r for r in json.loads(get(page, "/scans.json")[2])["queue"]}
    assert told["ward/series-3-00000000"]["reason"] is None


def test_a_warning_says_of_what(page, parts):
    folder = finish(parts, "spot_T1w.nii.gz", "4")
    receipt = folder / "image.json"
    whole = json.loads(receipt.read_text())
    whole["LohiEdge"]["reasons"] = [
        {"level": "warn", "text": "a spot \u202e"}, {"level": "warn", "text": "another"}, 7,
    ]  # fmt: skip
    receipt.write_text(json.dumps(whole))
    parts.ledger._db.execute(
        "UPDATE scans SET verdict = 'warn' WHERE path = ?", (b"spot_T1w.nii.gz",)
    )
    row = json.loads(get(page, "/scans.json")[2])["done"][0]
    assert (row["word"], row["reason"]) == ("Warning", "a spot \\u202e; another")
    assert "before you use it" in row["todo"]


def test_a_scan_that_came_twice_says_which_it_repeats(page, parts):
    first = parts.ledger.latest("ward/a_T1w.nii.gz")
    (number,) = parts.ledger.receive([Found("again.nii", "m", 3)])
    parts.ledger.begin(number)
    known = repeats.earlier(parts, first.identity)
    assert known
    repeats.deliver(parts, parts.ledger.get(number), *known)
    row = json.loads(get(page, "/scans.json")[2])["done"][0]
    assert (row["name"], row["first"], row["same"]) == ("again.nii", first.id, first.path)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"paused": "not enough free disk space"}, "waits: not enough free disk space. Tell"),
        ({"inbox_trouble": "cannot be listed: gone"}, "Inbox: cannot be listed: gone. Tell"),
        (
            {"dicom": {"trouble": "port 104 is taken", "unsent": 0}},
            "DICOM: port 104 is taken. Tell",
        ),
    ],
)
def test_what_stands_still_asks_for_somebody(page, said, words):
    page.tell({**SAID, **said})
    told = json.loads(get(page, "/scans.json")[2])
    assert words in told["state"]
    assert told["well"] is False


def test_trouble_that_was_mended_is_no_trouble(page, parts):
    (number,) = parts.ledger.receive([Found("bad.nii", "m2", 3)])
    parts.ledger.begin(number)
    told = json.loads(get(page, "/scans.json")[2])
    assert [r["name"] for r in told["trouble"]] == ["poison.nii", "held.nii"]
    assert [r["name"] for r in told["queue"]] == ["bad.nii", "next.nii"]


def test_reports_and_pictures_come_by_number_alone(page):
    status, headers, body = get(page, "/report/1")
    assert (status, body) == (200, b"<h1>the report</h1>")
    assert headers["Content-Security-Policy"].startswith("sandbox")
    assert get(page, "/picture/1.png")[2].startswith(b"\x89PNG")
    for path in (
        "/report/3", "/report/99", "/report/1/../../state/ledger.sqlite", "/report/-1",
        "/../page.py", "/page.html", "//etc/passwd", "/report/%2e%2e", "/picture/" + "9" * 5000,
    ):  # fmt: skip
        assert get(page, path)[0] == 404, path


@pytest.mark.parametrize("path", ["/", "/scans.json", "/report/1", "/page.js"])
def test_pages_of_other_names_get_nothing(page, path):
    for host in ("evil.example", f"evil.example:{page.port}", "127.0.0.1.evil.example", ""):
        status, _, body = get(page, path, host or " ")
        assert (status, body) == (403, b"ask for localhost\n"), host
    status, headers, _ = get(page, path, f"localhost:{page.port}")
    assert status == 200
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in headers


def test_a_loop_that_stands_still_is_said(page, monkeypatch):
    monkeypatch.setattr("lohi_edge.watch.page.STUCK_S", -1)
    assert "does not react" in json.loads(get(page, "/scans.json")[2])["state"]


def test_it_only_reads(page):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert get(page, "/scans.json", method=method)[0] == 501
    assert get(page, "/", method="HEAD")[2] == b""


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
class TestBrowser:
    @pytest.fixture
    def browser(self, page, tmp_path):
        (tmp_path / "browser").mkdir()
        made = Browser(tmp_path / "browser")
        made.open(f"http://127.0.0.1:{page.port}/")
        yield made
        made.close()

    def until(self, browser, code):
        end = time.monotonic() + 60
        while browser.run(code) is not True:
            assert time.monotonic() < end, (code, browser.run("document.body.innerText"))
            time.sleep(0.1)

    def press(self, browser, key, code):
        for kind in ("rawKeyDown", "char", "keyUp"):
            text = {"text": "\r"} if key == "Enter" else {}
            browser.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=code, **text,
            )  # fmt: skip

    def test_live_safe_and_usable_without_mouse_or_eyes(self, browser, page, parts):
        self.until(browser, "document.querySelectorAll('#done li').length === 2")
        # Names are text, whatever they hold.
        names = json.loads(
            browser.run("JSON.stringify([...document.querySelectorAll('h3')].map(e=>e.innerText))")
        )
        assert "<img src=x onerror=alert(1)>&\\u202egnp.nii" in names
        assert browser.run("document.querySelectorAll('li b, img[src=x]').length") == 0
        assert " · in ward/a_T1w" in browser.run("document.getElementById('done').innerText")
        # What to do stands beside each that needs somebody.
        assert browser.run(
            "[...document.querySelectorAll('#trouble li')].every(e => e.querySelector('.todo'))"
        )
        # Times are those of the reader's clock, whatever the device's is set to.
        at = "document.querySelector('#done time')"
        assert browser.run(f"new Date({at}.innerText) - new Date({at}.dateTime)") == 0
        assert "T" not in browser.run(f"{at}.innerText")
        # The warning stays in sight.
        browser.run("window.scrollTo(0, document.body.scrollHeight)")
        assert browser.run("document.querySelector('header').getBoundingClientRect().top") == 0
        assert "Research use only" in browser.run("document.querySelector('header').innerText")
        # Live: a scan that is done now appears without a reload.
        browser.run("window.kept = 1")
        finish(parts, "late_T1w.nii.gz", "3")
        self.until(browser, "document.querySelectorAll('#done li').length === 3")
        assert browser.run("window.kept") == 1
        # Read aloud: landmarks, headings, and a name for every picture and link.
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        told = {(n["role"]["value"], n.get("name", {}).get("value")) for n in nodes if "role" in n}
        assert {("heading", "Somebody is needed"), ("link", "Report of late_T1w.nii.gz")} <= told
        assert all(name for role, name in told if role in ("image", "link"))
        assert {"status", "main", "banner"} <= {role for role, _ in told}
        # By keyboard: the first stop is the skip link, the next the newest report.
        browser.run("window.scrollTo(0, 0); document.activeElement.blur()")
        self.press(browser, "Tab", 9)
        assert browser.run("document.activeElement.className") == "skip"
        self.press(browser, "Tab", 9)
        assert browser.run("document.activeElement.ariaLabel") == "Report of late_T1w.nii.gz"
        self.press(browser, "Enter", 13)
        self.until(browser, "document.body.innerText === 'the report'")
        assert browser.faults() == []
        home = f"http://127.0.0.1:{page.port}/"
        assert [u for u in browser.requested() if not u.startswith((home, "data:"))] == []

    def test_a_daemon_that_is_gone_is_said(self, browser, page):
        self.until(browser, "document.querySelectorAll('#done li').length === 2")
        off = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        browser.call("Network.emulateNetworkConditions", **off)
        self.until(browser, "!document.getElementById('lost').hidden")
        assert "old" in browser.run("document.querySelector('[role=alert]').innerText")
