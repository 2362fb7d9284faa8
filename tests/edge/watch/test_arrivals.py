"""Scans in, results out, each exactly once, however a scan arrives."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

from dicom_series import save, slices
from helpers import small_head
from lohi_edge import delivery, dicom
from watch_parts import without_root


def test_every_way_a_file_can_arrive(box):
    """Renamed in, copied, grown slowly, hard-linked, moved in with its folder; .nii and .nii.gz."""
    away = box.inbox.parent / "away"
    made = [box.scan(f"../away/{n}", seed=i) for i, n in enumerate(("a.nii.gz", "b.nii", "c.nii"))]
    folder = box.scan("../away/ward/d_T1w.nii.gz", seed=3).parent
    box.scan("early_T1w.nii.gz", seed=4)
    box.start()
    box.wait_ready()
    shutil.copy(made[0], box.inbox / "copied.nii.gz")
    os.link(made[1], box.inbox / "linked.nii")
    folder.rename(box.inbox / "ward")
    whole = made[2].read_bytes()
    with (box.inbox / "grown.nii").open("wb") as file:
        for start in range(0, len(whole), 4000):
            file.write(whole[start : start + 4000])
            file.flush()
            time.sleep(0.15)  # longer than the time between two looks after an event
            assert "grown" not in {p.parent.name for p in box.images()}
    for name in ("x.nii.gz.part", ".hidden.nii.gz", "y.nii.tmp", "notes.txt"):
        (box.inbox / name).write_bytes(whole)
    box.wait_states(done=5)
    assert box.stop() == 0
    box.assert_exactly_once(5)
    names = {str(p.parent.relative_to(box.outbox)) for p in box.images()}
    assert names == {"early_T1w", "copied", "linked", "grown", "ward/d_T1w"}
    receipt = box.receipts()["ward/d_T1w/d_T1w_desc-synthetic.json"]
    assert receipt["source"]["path"] == "../../../in/ward/d_T1w.nii.gz"
    assert receipt["timings"]["total"] > receipt["timings"]["read"] > 0
    assert (away / "a.nii.gz").is_file()


def test_names_from_hell(box):
    """Newline, leading dash, 255 bytes, invalid UTF-8, reserved words; a link out is refused."""
    hostile = [
        os.fsdecode(n)
        for n in (b"new\nline.nii.gz", b"-rf.nii.gz", b"x" * 248 + b".nii.gz", b"\xff\xfe.nii.gz",
                  b"held.nii.gz", b"%s$(id).nii.gz", "Zoë.nii.gz".encode())
    ]  # fmt: skip
    outside = box.scan("../secret_T1w.nii.gz", seed=99)
    for seed, name in enumerate(hostile):
        box.scan(name, seed=seed)
    (box.inbox / "link.nii.gz").symlink_to(outside)
    (box.inbox / "folder").symlink_to(outside.parent)
    (box.inbox / "inner.nii.gz").symlink_to(box.inbox / "-rf.nii.gz")
    box.start()
    box.wait_states(done=len(hostile), failed=1)
    assert box.stop() == 0
    receipts = box.receipts()
    assert len(receipts) == len(box.images()) == len(hostile)
    for path, receipt in receipts.items():
        path.encode()  # valid UTF-8, and so is everything in the receipt
        json.dumps(receipt, ensure_ascii=False).encode()
    (reason,) = (box.outbox / "failed").glob("link.nii.gz.*.reason.txt")
    assert "link" in reason.read_text()
    assert [r["path"] for r in box.rows() if r["state"] == "failed"] == [b"link.nii.gz"]
    assert outside.is_file()
    assert '"new\\\\nline.nii.gz"' in box.cli("queue", "list", "--all", "--json").stdout
    assert box.leftovers() == []


def test_second_name_and_touch_are_recognised(box):
    first = box.scan("a_T1w.nii.gz")
    box.start()
    box.wait_states(done=1)
    shutil.copy(first, box.inbox / "b_T1w.nii.gz")
    box.wait_states(done=2)
    os.utime(first)
    box.wait(lambda: "scan.known" in box.read_log())
    box.scan("a_T1w.nii.gz", seed=7)  # a new scan under the old name
    box.wait_states(done=3)
    assert box.stop() == 0
    assert len(box.images()) == 2
    receipts = box.receipts()
    second = receipts["b_T1w/b_T1w_desc-synthetic.json"]
    original = receipts["a_T1w/a_T1w_desc-synthetic.json"]
    assert second["result"]["path"] == "../a_T1w/a_T1w_desc-synthetic.nii.gz"
    assert second["result"]["sha256"] == original["result"]["sha256"]
    assert second["watch"]["repeats"] == original["watch"]["scan"]
    assert sum(p.startswith("a_T1w-") for p in receipts) == 1


def test_bad_scan_fails_with_a_reason_and_is_retried_when_mended(box):
    bad = box.inbox / "bad_T1w.nii.gz"
    bad.write_bytes(b"this is no scan")
    box.start()
    box.wait_states(failed=1)
    reason = box.outbox / "failed/bad_T1w.nii.gz.1.reason.txt"
    assert "NIfTI" in reason.read_text()
    assert bad.read_bytes() == b"this is no scan"
    box.scan("bad_T1w.nii.gz")
    box.wait_states(failed=1, done=1)
    assert box.stop() == 0


@pytest.mark.slow
def test_cut_off_file_waits_then_is_given_up(box):
    whole = box.scan("../whole.nii.gz").read_bytes()
    box.settings["watch"]["incomplete_s"] = 1.5
    (box.inbox / "cut.nii.gz").write_bytes(whole[:-100])
    (box.inbox / "late.nii.gz").write_bytes(whole[:-100])
    box.start()
    box.wait(lambda: len(box.status().get("waiting", {})) == 2, "both waiting")
    (box.inbox / "late.nii.gz").write_bytes(whole)
    box.wait_states(done=1, failed=1)
    assert box.stop() == 0
    (reason,) = (box.outbox / "failed").glob("cut.nii.gz.*.reason.txt")
    assert "truncated" in reason.read_text()


@pytest.mark.slow
def test_file_that_changes_while_it_is_read(box):
    """The worker has the old bytes in hand when the file is replaced: only the new count."""
    box.scan("a_T1w.nii.gz", seed=1)
    box.settings["worker"]["timeout_s"] = 2
    box.start(fault="worker_read:1=hang")
    box.wait_states(running=1)
    new = box.scan("a_T1w.nii.gz", seed=2).read_bytes()
    box.wait(lambda: box.counts() == {"done": 1} or "strikes" in box.read_log())
    box.kill()
    box.start()
    box.wait_states(done=1)
    assert box.stop() == 0
    from lohi_edge.files import sha256

    assert [r["source"]["sha256"] for r in box.receipts().values()] == [sha256(new)]


def test_permission_that_appears_later(box):
    scan = box.scan("a_T1w.nii.gz")
    scan.chmod(0)
    box.start(prefix=without_root())
    box.wait(lambda: box.status().get("waiting"), "waiting")
    assert box.status()["waiting"] == {"a_T1w.nii.gz": "permission denied"}
    scan.chmod(0o644)
    box.wait_states(done=1)
    assert box.stop() == 0
    box.assert_exactly_once(1)


@pytest.mark.parametrize("originals", [pytest.param("keep", marks=pytest.mark.slow), "delete"])
def test_dicom_series_in_a_folder_and_in_a_zip(box, originals):
    """Slices come one by one; the folder is one scan once it is quiet, and so is an archive."""
    ball = small_head(edge=24)
    box.settings["watch"].update(series_quiet_s=1.0, originals=originals)
    made = slices(ball, spacing=(2.0, 2.0), gap=2.0, series=1)
    other = save(box.inbox.parent / "away", slices(ball, (2.0, 2.0), 2.0, series=2))
    box.start()
    box.wait_ready()
    for number, instance in enumerate(made):
        save(box.inbox / "study/ser 1", [instance], prefix=f"{number:03d}-")
        time.sleep(0.05)
    shutil.make_archive(str(box.inbox / "packed"), "zip", other)
    box.wait_states(done=2)
    assert box.stop() == 0
    assert box.leftovers() == []
    receipts = box.receipts()
    series = dicom.find(other).series[0].name
    folders = {path.rpartition("/")[0] for path in receipts}
    assert f"packed.zip/{series}" in folders
    assert [f.startswith("study/ser 1/series-1-") for f in folders - {f"packed.zip/{series}"}] == [
        True
    ]
    for path, receipt in receipts.items():
        result = (box.outbox / path).parent / receipt["result"]["path"]
        assert len(list(result.iterdir())) == len(made)
        assert delivery.digest(result) == receipt["result"]["sha256"]
    left = {p.name for p in box.inbox.rglob("*") if p.is_file()}
    assert len(left) == (len(made) + 1 if originals == "keep" else 0)
    said = box.log.read_text() + (box.state / "audit.jsonl").read_text()
    assert "PLANTED" not in said
    assert "PLANTED" not in "".join(map(str, receipts.values()))
