"""Several series in one place of the inbox, through a whole daemon that tests may kill."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pydicom
import pytest

from dicom_series import ball, enhanced, localizer, number, save, write
from helpers import small_head
from watch_parts import without_root


def test_each_series_of_a_folder_is_enhanced_and_late_slices_concern_one(box):
    """One is whole, one has a gap; its late slice touches only itself."""
    box.settings["watch"].update(series_quiet_s=0.5, originals="keep")
    one, two = ball(1), ball(2)
    folder = save(box.inbox / "ward", one, prefix="a")
    save(folder, two[:5] + two[6:], prefix="b")
    save(folder, localizer(), prefix="c")
    box.start()
    box.wait_states(done=1, failed=1)
    (reason,) = (box.outbox / "failed/ward").iterdir()
    assert "1 slice(s) missing" in reason.read_text()
    assert list(box.status()["skipped"].values()) == ["a localizer"]
    save(folder, [two[5]], prefix="late")
    box.wait_states(done=2, failed=1)
    assert box.stop() == 0
    assert box.read_log().count("series.skipped") == 1
    rows = [(number(os.fsdecode(row["path"])), row["state"]) for row in box.rows()]
    assert sorted(rows) == [("1", "done"), ("2", "done"), ("2", "failed")]
    assert box.leftovers() == []
    receipts = box.receipts()
    assert {path.split("/")[0] for path in receipts} == {"ward"}
    assert {r["source"]["path"] for r in receipts.values()} == {"../../../in/ward"}


@pytest.mark.slow
def test_a_late_slice_finds_its_series_though_originals_are_moved(box):
    box.settings["watch"].update(series_quiet_s=0.3, originals="move")
    made = ball(1)
    save(box.inbox / "ward", made[:5] + made[6:])
    box.start()
    box.wait_states(failed=1)
    save(box.inbox / "ward", [made[5]], prefix="late")
    box.wait_states(failed=1, done=1)
    box.wait(lambda: not list(box.inbox.iterdir()), "the originals gone")
    assert box.stop() == 0
    assert [row["original"] for row in box.rows()] == ["kept", "moved"]
    (series_,) = (box.outbox / "originals/ward").iterdir()
    assert len(list(series_.iterdir())) == 24


def test_slices_in_the_inbox_itself_and_the_mark_in_every_image(box):
    """An enhanced instance and a classic series of another patient, side by side; burnt-in mark."""
    box.settings["watch"].update(series_quiet_s=0.5, originals="delete")
    box.settings["enhance"] = {"mark": "true", "contrast": "T1w"}
    save(box.inbox, [enhanced(small_head(3), (2.0, 2.0), 2.0, series=3)], prefix="multi")
    save(box.inbox, ball(1, patient_id="OTHER"), prefix="classic")
    box.start()
    box.wait_states(done=2)
    box.wait(lambda: not list(box.inbox.iterdir()), "the originals gone")
    assert box.stop() == 0
    receipts = box.receipts()
    assert sorted(number(path.split("/")[0]) for path in receipts) == ["1", "3"]
    for path, receipt in receipts.items():
        assert receipt["result"]["marked"] is True
        images = [pydicom.dcmread(p) for p in
                  ((box.outbox / path).parent / receipt["result"]["path"]).iterdir()]  # fmt: skip
        assert {ds.BurnedInAnnotation for ds in images} == {"YES"}
        corners = [ds.pixel_array[:10, :12] for ds in images]
        peak = max(int(ds.pixel_array.max()) for ds in images)
        marks = np.array([corner == peak for corner in corners])
        assert marks[0].any()
        assert (marks == marks[0]).all()  # the same letters, brighter than anything else


@pytest.mark.slow
def test_a_slice_in_the_inbox_itself_that_can_be_read_later(box):
    box.settings["watch"].update(series_quiet_s=0.5)
    save(box.inbox, ball(1))
    (shut,) = save(
        box.inbox / "made", [enhanced(small_head(3), (2.0, 2.0), 2.0, series=3)]
    ).iterdir()
    shut.chmod(0)
    shut = shut.rename(box.inbox / "shut")
    box.start(prefix=without_root())
    box.wait_states(done=1)
    assert box.status()["waiting"] == {"shut": "permission denied"}
    shut.chmod(0o644)
    box.wait_states(done=2)
    assert box.stop() == 0
    assert box.read_log().count("files.unreadable") == 1


@pytest.mark.slow
def test_two_patients_are_refused_until_they_are_separated(box):
    box.settings["watch"]["series_quiet_s"] = 0.5
    save(box.inbox / "ward", ball(1), prefix="a")
    other = save(box.inbox.parent / "other", ball(2, patient_id="OTHER"), prefix="b")
    for file in other.iterdir():
        shutil.copy(file, box.inbox / "ward" / file.name)
    box.start()
    box.wait_states(failed=2)
    assert "2 patients" in next((box.outbox / "failed/ward").iterdir()).read_text()
    (box.inbox / "elsewhere").mkdir()
    for file in (box.inbox / "ward").glob("b*"):
        file.rename(box.inbox / "elsewhere" / file.name)
    box.wait_states(failed=2, done=2)
    assert box.stop() == 0


@pytest.mark.slow
def test_killed_at_every_step_of_a_folder_that_leaves(box):
    """Each daemon dies at the next point; the folder is enhanced once, and nothing left behind."""
    box.settings["watch"].update(series_quiet_s=0.3, originals="move")
    points = ("after_ledger:2", "after_slice_left:7", "after_slice_left:30", "after_original")
    for count, point in enumerate(points):
        for one in (2 * count + 1, 2 * count + 2):
            save(box.inbox / f"ward{count}", ball(one), prefix=f"s{one}-")
        box.start(fault=point)
        box.wait_killed()
    box.start()
    box.wait_states(done=2 * len(points))
    box.wait(lambda: {row["original"] for row in box.rows()} == {"moved"}, "gone")
    assert box.stop() == 0
    assert box.leftovers() == []
    assert len(box.receipts()) == 2 * len(points)
    assert not list(box.inbox.iterdir())
    kept = [p.name for p in (box.outbox / "originals").rglob("*") if p.is_file()]
    assert len(kept) == len(set(kept)) == 48 * len(points)


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["move", "delete"])
def test_what_is_sent_again_leaves_again_and_a_part_of_it_is_no_scan(box, originals):
    """The second receipt points to the first, though the daemon died before the ledger knew."""
    box.settings["watch"].update(series_quiet_s=0.3, originals=originals, incomplete_s=1)

    def send(count=24):
        (box.inbox / "ward").mkdir(exist_ok=True)
        for k, ds in enumerate(ball(1)[:count]):
            write(box.inbox / "ward" / f"{k:03}", ds)

    def gone():
        box.wait(lambda: not list(box.inbox.iterdir()), "the originals gone")

    send()
    save(box.inbox / "scout", localizer())
    box.scan("a_T1w.nii.gz")
    box.start()
    box.wait_states(done=2)
    gone()
    assert box.stop() == 0
    send()
    box.scan("a_T1w.nii.gz")
    box.start(fault="after_placed@ward")
    box.wait_killed()
    box.start()
    box.wait_states(done=4)
    gone()
    send(count=10)
    box.wait_states(done=4, failed=1)
    gone()
    assert box.stop() == 0
    assert box.leftovers() == []
    (reason,) = (box.outbox / "failed/ward").glob("*.reason.txt")
    assert "10 file(s) of a series of which 24 were enhanced" in reason.read_text()
    receipts = box.receipts()
    firsts = {r["watch"]["scan"]: p for p, r in receipts.items() if "repeats" not in r["watch"]}
    again = {p: r for p, r in receipts.items() if "repeats" in r["watch"]}
    assert (len(firsts), len(again)) == (2, 2)
    for path, receipt in again.items():
        result = (box.outbox / path).parent / receipt["result"]["path"]
        assert result.exists()
        first = box.outbox / firsts[receipt["watch"]["repeats"]]
        assert result.resolve().parent == first.parent
    assert [row["first"] for row in box.rows() if row["state"] == "done"].count(None) == 2
    assert len(list((box.outbox / "originals/scout").iterdir())) == 3  # not deleted
