"""Scans whose results are held back, through a whole daemon that tests may kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from dicom_series import ball, save
from lohi_edge.cli import app
from lohi_edge.errors import DiskError
from lohi_edge.files import sha256
from lohi_edge.quality import drift
from lohi_edge.settings import load
from lohi_edge.watch import disk, recovery, withheld
from lohi_edge.watch.ledger import FILE, Ledger
from lohi_edge.watch.listing import Found
from lohi_edge.watch.page import Page
from watch_parts import receipt_of

HOLDS = {"base": "none", "scan": {"T1w": {"slices": {"hold": [1000, None]}}}}
STEM = "a_T1w.nii.gz.1_desc-withheld"
PLACED = [
    "a_T1w.nii.gz.1.reason.txt",
    *(f"{STEM}{end}" for end in (".json", "_report.html", "_report.png")),
]


@pytest.fixture
def strict(box, tmp_path):
    """A daemon that holds every scan, until its limits are rewritten."""
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps(HOLDS))
    box.settings["enhance"] = {"limits": limits, "contrast": "T1w"}
    return box


def placed(box):
    return sorted(
        p.relative_to(box.outbox / "held").as_posix()
        for p in box.outbox.rglob("held/**/*")
        if p.is_file()
    )


def one_receipt(box):
    """The only receipt in the outbox."""
    ((path, record),) = box.receipts().items()
    assert (record["result"], record["verdict"]) == (None, "hold")
    return box.outbox / path, record


def test_the_receipt_and_a_page_stand_beside_the_reason_and_commands_take_them(strict):
    box, scan = strict, strict.scan("ward/a_T1w.nii.gz")
    box.start()
    box.wait_states(held=1)
    assert box.stop() == 0
    assert placed(box) == [f"ward/{name}" for name in PLACED]
    assert (box.images(), box.leftovers()) == ([], [])
    beside, record = one_receipt(box)
    assert record["watch"]["scan"] == 1
    assert record["source"]["sha256"] == sha256(scan.read_bytes())
    assert (beside.parent / record["source"]["path"]).resolve() == scan.resolve()
    page = beside.with_name(f"{STEM}_report.html")
    text = page.read_text()
    assert "No enhanced image was delivered" in text
    assert text.count("slice of the 64 mT scan") == 3
    assert len(drift.receipts([box.outbox], print)) == 1
    shown = json.loads(box.cli("queue", "show", "1", "--json").stdout)
    assert (shown["verdict"], shown["state"]) == ("hold", "held")
    assert shown["reasons"] == record["reasons"]
    assert "hold" in [reason["level"] for reason in shown["reasons"]]
    for words in (["report", beside.parent], ["explain", beside, "--bundle", box.bundle]):
        run = CliRunner().invoke(app, [*map(str, words)])
        assert run.exit_code == 0, run.output
    assert page.read_text() == text  # of the same scan, found where the receipt says
    audit = json.loads(box.cli("audit", "verify", "--json").stdout)
    assert (audit["faults"], audit["anchors"]) == ([], 2)


def test_a_lost_ledger_knows_it_again_and_a_retry_leaves_nothing_of_it(strict):
    box = strict
    box.scan("a_T1w.nii.gz")
    box.start()
    box.wait_states(held=1)
    assert box.stop() == 0
    _, record = one_receipt(box)
    shutil.rmtree(box.state)
    box.start()
    box.wait_ready()
    assert box.counts() == {"held": 1}
    (row,) = box.rows()
    assert (row["id"], row["verdict"], row["attempts"]) == (1, "hold", 0)
    assert record["reasons"][0]["text"] in row["reason"]
    assert placed(box) == PLACED
    box.settings["enhance"]["limits"].write_text(json.dumps({"base": "none"}))
    assert box.stop() == 0
    box.start()
    box.wait_ready()
    assert box.cli("queue", "retry", "1").exit_code == 0
    box.wait_states(done=1)
    assert box.stop() == 0
    assert placed(box) == []
    box.assert_exactly_once(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "worker_compute:1",
        "worker_write:1",
        "after_write:1",
        "after_withheld",
        "after_reason",
        "after_audit",
        "after_ledger",
    ],
)
def test_a_kill_at_any_step_leaves_one_receipt_and_one_reason(strict, point):
    box = strict
    box.scan("a_T1w.nii.gz")
    box.start(fault=point.removesuffix(":1"))
    if point.endswith(":1"):  # the worker dies, the daemon starts others
        box.wait(lambda: "worker.lost" in box.read_log())
        box.kill()
    else:
        box.wait_killed()
    box.start()
    box.wait_states(held=1)
    assert box.stop() == 0
    assert placed(box) == PLACED
    one_receipt(box)
    assert (box.counts(), box.leftovers(), box.images()) == ({"held": 1}, [], [])


@pytest.mark.slow
def test_what_was_placed_before_a_kill_goes_where_the_scan_passes_after_it(strict):
    box = strict
    box.scan("a_T1w.nii.gz")
    box.start(fault="after_withheld")
    box.wait_killed()
    assert sorted(placed(box)) == PLACED[1:]
    box.settings["enhance"]["limits"].write_text(json.dumps({"base": "none"}))
    box.start()
    box.wait_states(done=1)
    assert box.stop() == 0
    assert placed(box) == []
    box.assert_exactly_once(1)


@pytest.mark.slow
def test_a_series_that_is_held_and_moved_is_where_its_receipt_says(strict):
    box = strict
    box.settings["watch"].update(series_quiet_s=0.5, originals="move")
    save(box.inbox / "ward", ball(1))
    box.start()
    box.wait_states(held=1)
    box.wait(lambda: not list(box.inbox.iterdir()), "the original gone")
    assert box.stop() == 0
    beside, record = one_receipt(box)
    original = beside.parent / record["source"]["path"]
    assert original.is_dir()
    assert beside.parent == box.outbox / "held/ward"
    assert beside.with_name(f"{beside.stem}_report.html").exists()
    run = CliRunner().invoke(app, ["explain", str(beside), "--bundle", str(box.bundle), "--json"])
    assert json.loads(run.stdout)["checks"]["source"] == "ok"


def hold(parts, path="a.nii", identity="1" * 64):
    """A held scan without the work."""
    (number,) = parts.ledger.receive([Found(path, "m:" + path, 3)])
    parts.ledger.begin(number)
    parts.ledger.identify(number, identity, "5ha", "T1w")
    scan = parts.ledger.get(number)
    beside = withheld.receipt_path(parts.outbox, path, number)
    staged = parts.outbox.stage(number)
    why = [{"name": "noise", "level": "hold", "text": "noisy"}]
    record = receipt_of(parts, scan, result=None, verdict="hold", reasons=why)
    (staged / beside.name).write_text(json.dumps({"LohiEdge": record}))
    (staged / f"{beside.stem}_report.html").write_text("the page")
    pages = withheld.place(parts.outbox, path, number)
    parts.close_without_result(scan, "held", "noisy", verdict="hold", bytes=pages)
    return beside


def test_the_web_page_shows_why_a_scan_was_held(parts, tmp_path):
    hold(parts)
    page = Page(tmp_path / "state", parts.outbox, "0")
    try:
        (row,) = json.loads(page.answer("/scans.json").body)["trouble"]
        told = page.answer("/report/1")
    finally:
        page.stop()
    assert (row["word"], row["folder"], row["report"]) == ("Held back", "held", True)
    assert (told.status, told.body) == (200, b"the page")


def test_retention_takes_the_page_and_leaves_the_receipt(parts):
    beside = hold(parts)
    parts.settings = load(environ={}, overrides={"disk": {"keep_gb": 1e-9}})
    assert disk.retain(parts) == 1
    assert disk.retain(parts) == 0
    assert sorted(p.suffix for p in beside.parent.iterdir()) == [".json", ".txt"]


def test_a_number_that_is_another_scan_s_by_now_is_not_taken(parts, tmp_path):
    """Received on the bare mount point, say, before the receipts were there to be read."""
    hold(parts)
    parts.ledger.close()
    for path in (tmp_path / "state").glob(FILE + "*"):
        path.unlink()
    parts = replace(parts, ledger=Ledger(tmp_path / "state"))
    parts.ledger.receive([Found("other.nii", "m", 3)])
    assert recovery.rebuild(parts) == 0
    assert [(one.path, one.state) for one in parts.ledger.select("1")] == [
        ("other.nii", "received")
    ]
    parts.ledger.close()


def test_a_receipt_of_another_s_hold_is_not_shown_as_a_scan_s(parts):
    hold(parts)
    assert withheld.find(parts.outbox, "a.nii", 1, "1" * 64)
    assert withheld.find(parts.outbox, "a.nii", 1, "2" * 64) is None
    assert withheld.find(parts.outbox, "a.nii", 2, "1" * 64) is None


def test_nothing_goes_onto_a_bare_mount_point(parts):
    parts.outbox.stage(1)
    away = parts.outbox.root.rename(parts.outbox.root.with_name("unmounted"))
    parts.outbox.root.mkdir()
    with pytest.raises(DiskError, match="the outbox is not there"):
        withheld.place(parts.outbox, "a.nii", 1)
    assert list(parts.outbox.root.iterdir()) == []
    assert away.exists()
