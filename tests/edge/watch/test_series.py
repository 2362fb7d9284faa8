"""Several series in one place of the inbox: each a scan of its own, the place a whole."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest

from dicom_series import enhanced, save, slices, write
from helpers import small_head
from lohi_edge.errors import DiskError
from lohi_edge.settings import load
from lohi_edge.watch import control, series
from lohi_edge.watch.group import UNREADABLE, is_slice_name
from lohi_edge.watch.inbox import SETTLE_S, Inbox
from lohi_edge.watch.leaving import Leaving
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.listing import Found
from lohi_edge.watch.outbox import PLANS
from watch_parts import without_root

DISC = Path(pydicom.__file__).parent / "data/test_files/dicomdirtests"


def ball(series=1, **more):
    """A small series that the identity bundle takes."""
    return slices(small_head(series), (2.0, 2.0), 2.0, series=series, **more)


def localizer(series=9):
    return slices(small_head(0)[:, :, :3], series=series, SeriesDescription="3-plane loc")


def study(folder):
    """Two series to enhance and one to skip, their files side by side."""
    for made in (ball(1), ball(2), localizer()):
        save(folder, made, prefix=f"s{made[0].SeriesNumber}-")
    return folder


def number(path):
    """SeriesNumber in the name of a series."""
    return path.rpartition("/")[2].split("-")[1]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("IM0001", True), ("1.2.840.7", True), ("a.DCM", True), ("a.ima", True), ("a.", True),
     ("a.nii", False), ("a.nii.gz", False), (".dcm", False), (".1.dcm", False), ("a.txt", False)],
)  # fmt: skip
def test_which_names_may_be_slices(name, wanted):
    assert is_slice_name(name) is wanted


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """A busy machine does not make a look here end early."""
    monkeypatch.setattr(series, "BUDGET_S", 60.0)


class TestInbox:
    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / "in").mkdir()
        return tmp_path / "in"

    def ready(self, inbox, at=0.0):
        inbox.look(at)
        return inbox.look(at + 10)

    def test_a_folder_is_sorted_into_series_and_says_what_it_skips(self, root):
        study(root / "ward")
        (root / "ward/notes").write_text("no DICOM")
        look = self.ready(Inbox(root, lambda path: None))
        assert [(number(f.path), len(f.parts)) for f in look.ready] == [("1", 24), ("2", 24)]
        assert all(f.path.startswith("ward/series-") and not f.refused for f in look.ready)
        assert list(look.skipped.values()) == ["a localizer"]

    def test_a_late_slice_changes_its_own_series_only(self, root):
        *made, late = ball(1)
        folder = save(root / "ward", made)
        save(folder, ball(2), prefix="two")
        inbox = Inbox(root, lambda path: None)
        before = {number(p): mark for p, mark in inbox.look(0).present.items()}
        save(folder, [late], prefix="late")
        after = {number(p): mark for p, mark in inbox.look(1).present.items()}
        assert before["2"] == after["2"]
        assert before["1"] != after["1"]

    def test_two_patients_in_a_folder_are_refused_and_in_the_inbox_itself_are_not(self, root):
        for folder in (root, root / "ward"):
            save(folder, ball(1), prefix="a")
            save(folder, ball(2, patient_id="OTHER"), prefix="b")
        look = self.ready(Inbox(root, lambda path: None))
        assert [(f.path.count("/"), bool(f.refused)) for f in look.ready] == [
            (0, False), (0, False), (1, True), (1, True),
        ]  # fmt: skip
        assert "2 patients" in look.ready[-1].refused

    def test_a_damaged_file_could_be_of_any_series_of_its_folder(self, root):
        save(root / "ward", ball(1))
        whole = (root / "ward/z00000").read_bytes()
        (root / "ward/cut").write_bytes(whole[:300])
        (root / "cut").write_bytes(whole[:300])
        save(root, ball(2))
        inbox = Inbox(root, lambda path: None)
        look = self.ready(inbox)
        refused = {f.path: bool(f.refused) for f in look.ready}
        assert len(refused) == 4
        assert refused[UNREADABLE] is True
        assert [r for p, r in refused.items() if p.startswith("ward/")] == [True, True]
        before = look.present
        (root / "ward/cut").unlink()
        after = inbox.look(20).present
        (mended,) = (p for p in after if p.startswith("ward/"))
        assert after[mended] != before[mended]  # so that it is tried again

    def test_a_file_that_cannot_be_read_holds_up_its_folder_and_in_the_inbox_itself_only_itself(
        self, root, monkeypatch
    ):
        for place in (root, root / "ward"):
            save(place, ball(1))
            save(place, ball(2)[:1], prefix="shut")
        start_of = series.start_of

        def guarded(part, *rest):
            if part.path.name.startswith("shut"):
                raise PermissionError(13, "Permission denied")
            return start_of(part, *rest)

        inbox = Inbox(root, lambda path: None)
        with monkeypatch.context() as patch:
            patch.setattr(series, "start_of", guarded)
            look = self.ready(inbox)
        assert [f.path.count("/") for f in look.ready] == [0]
        denied = dict.fromkeys(("shut00000", "ward/shut00000"), "permission denied")
        assert look.unreadable == denied
        assert look.waiting == denied | {"ward": "permission denied"}
        look = inbox.look(30)  # though no mark changed
        assert [number(p) for p in look.present] == ["1", "2", "1", "2"]
        assert look.unreadable == {}

    @pytest.mark.parametrize("odd", [0, 12, 23])
    @pytest.mark.parametrize("said", [None, "7"])
    def test_the_name_of_a_series_does_not_hang_on_one_of_its_files(self, root, odd, said):
        made = ball(1)
        made[odd].SeriesNumber = said
        save(root / "ward", made, prefix="b")
        inbox = Inbox(root, lambda path: None)
        (before,) = inbox.look(0).present
        assert number(before) == "1"
        for file in (root / "ward").iterdir():
            file.rename(file.with_name(file.name[::-1]))  # another one is the first now
        assert list(inbox.look(1).present) == [before]

    def test_links_out_of_the_inbox_are_refused_and_never_followed(self, root, tmp_path):
        save(root / "ward", ball(1))
        outside = save(tmp_path / "away", ball(2)) / "z00000"
        (root / "ward/link").symlink_to(outside)
        look = self.ready(Inbox(root, lambda path: None))
        assert [number(f.path) for f in look.ready if not f.path.endswith(UNREADABLE)] == ["1"]
        assert all("symbolic link" in f.refused for f in look.ready)

    def test_archives_hold_series_too(self, root, tmp_path):
        shutil.make_archive(str(root / "packed"), "zip", study(tmp_path / "away"))
        look = self.ready(Inbox(root, lambda path: None))
        assert [number(f.path) for f in look.ready] == ["1", "2"]
        assert all(f.path.startswith("packed.zip/") for f in look.ready)

    def test_archives_that_are_cut_off_or_hold_no_scan_are_files(self, root, tmp_path):
        """Which wait for their end, or fail with a reason when they are read."""
        packed = shutil.make_archive(str(tmp_path / "packed"), "zip", study(tmp_path / "away"))
        whole = Path(packed).read_bytes()
        (root / "cut.zip").write_bytes(whole[:-300])
        (root / "text.zip").write_text("no archive")
        inbox = Inbox(root, lambda path: None)
        look = self.ready(inbox)
        assert set(look.present) == set(look.waiting) == {"cut.zip", "text.zip"}
        (root / "cut.zip").write_bytes(whole)
        assert [number(p) for p in inbox.look(11).present if p.startswith("cut.zip/")] == ["1", "2"]

    def test_an_unlimited_folder_takes_several_looks(self, root, monkeypatch):
        study(root / "ward")
        inbox = Inbox(root, lambda path: None)
        monkeypatch.setattr(series, "BUDGET_S", -1.0)
        look = inbox.look(0)
        assert (look.present, look.settling) == ({}, True)
        assert look.waiting == {"ward": "not looked into yet"}
        monkeypatch.setattr(series, "BUDGET_S", 60.0)
        assert len(inbox.look(SETTLE_S).present) == 2

    def test_a_header_longer_than_the_first_look_is_read_on(self, root):
        made = ball(1)
        for ds in made:
            ds.add_new(0x00090010, "LO", "MAKER")
            ds.add_new(0x00091001, "OB", bytes(200_000))
        save(root / "ward", made)
        (found,) = self.ready(Inbox(root, lambda path: None)).ready
        assert (len(found.parts), found.refused) == (24, None)

    def test_a_disc_is_the_folders_on_it(self, root):
        """The DICOMDIR beside them is no scan."""
        shutil.copytree(DISC / "98892003/MR700", root / "disc/MR700")
        shutil.copy(DISC / "DICOMDIR", root / "disc/DICOMDIR")
        look = self.ready(Inbox(root, lambda path: None))
        assert {f.path.rpartition("/")[0] for f in look.ready} == {"disc/MR700"}
        assert {f.refused for f in look.ready} == {None}


class TestLeaving:
    """Originals go when all beside them is closed, each where its outcome says."""

    @pytest.fixture
    def closing(self, parts):
        parts.settings = load(environ={}, overrides={"watch": {"originals": "move"}})
        parts.inbox.incomplete_s = 0.0
        return parts

    def receive(self, parts):
        parts.inbox.look(0)
        ready = parts.inbox.look(10).ready
        return {number(f.path): parts.ledger.receive([f])[0] for f in ready}

    def close(self, parts, scan, state="done"):
        parts.ledger.begin(scan)
        parts.ledger.finish(scan, state, original="pending")
        parts.settle_original(parts.ledger.get(scan))

    def test_together_and_by_outcome(self, closing):
        folder = study(closing.root / "ward")
        (folder / "notes").write_text("mine")
        scans = self.receive(closing)
        self.close(closing, scans["1"])
        assert len(list(folder.iterdir())) == 52
        self.close(closing, scans["2"], "failed")
        assert [p.name for p in folder.iterdir()] == ["notes"]
        paths = {n: closing.ledger.get(scan).path for n, scan in scans.items()}
        out = closing.outbox.root
        assert len(list((out / "originals" / paths["1"]).iterdir())) == 24
        assert len(list((out / "failed" / paths["2"]).iterdir())) == 24
        assert sum(p.is_file() for p in (out / "originals/ward").iterdir()) == 3  # the localizer
        assert {closing.ledger.get(n).original for n in scans.values()} == {"moved"}

    def test_nothing_without_a_result_is_deleted(self, closing):
        closing.settings = load(environ={}, overrides={"watch": {"originals": "delete"}})
        folder = study(closing.root / "ward")
        scans = self.receive(closing)
        self.close(closing, scans["1"])
        self.close(closing, scans["2"], "held")
        assert not folder.exists()
        kept = [pydicom.dcmread(p).SeriesNumber for p in closing.outbox.root.rglob("s*-*")
                if p.is_file()]  # fmt: skip
        assert sorted(set(kept)) == [2, 9]
        assert len(kept) == 27
        assert [closing.ledger.get(scans[n]).original for n in "12"] == ["deleted", "moved"]

    def test_what_lies_in_the_inbox_itself_goes_by_itself(self, closing):
        study(closing.root)
        scans = self.receive(closing)
        self.close(closing, scans["1"])
        left = {pydicom.dcmread(p).SeriesNumber for p in closing.root.iterdir()}
        assert left == {2, 9}

    def test_what_failed_waits_for_what_it_lacks(self, closing, monkeypatch):
        closing.inbox.incomplete_s = 600.0
        folder = save(closing.root / "ward", ball(1))
        scans = self.receive(closing)
        begin = closing.ledger.clock.now()
        self.close(closing, scans["1"], "failed")
        for passed, there in ((0, True), (590, True), (610, False)):
            monkeypatch.setattr(closing.ledger.clock, "now", lambda p=passed: begin + p)
            self.again(closing)
            closing.settle_pending()
            closing.settle_seen(closing.inbox.look(20))
            assert folder.exists() is there
        assert closing.ledger.get(scans["1"]).original == "moved"

    def test_nothing_goes_while_more_may_come_of_what_is_skipped(self, closing):
        folder = study(closing.root / "ward")
        late = localizer()[0]
        scans = self.receive(closing)
        save(folder, [late], prefix="late")
        closing.settle_seen(closing.inbox.look(15))
        for n in "12":
            self.close(closing, scans[n])
        closing.settle_seen(closing.inbox.look(24))
        assert len(list(folder.iterdir())) == 52
        closing.settle_seen(closing.inbox.look(25))
        assert not folder.exists()
        assert {closing.ledger.get(scans[n]).original for n in "12"} == {"moved"}

    @pytest.mark.parametrize("policy", ["keep", "move", "delete"])
    def test_what_is_skipped_leaves_alone_too_but_is_never_deleted(self, closing, tmp_path, policy):
        closing.settings = load(environ={}, overrides={"watch": {"originals": policy}})
        for folder in (closing.root, closing.root / "ward", tmp_path / "away"):
            save(folder, localizer(), prefix="s")
        save(closing.root / "ward/below", localizer(8), prefix="s")
        shutil.make_archive(str(closing.root / "packed"), "zip", tmp_path / "away")
        before = set(closing.root.rglob("*"))
        for at, settled in ((0, False), (9, False), (10, policy != "keep")):
            closing.settle_seen(closing.inbox.look(at))
            assert (set(closing.root.rglob("*")) != before) is settled
        if settled:
            assert all(p.is_file() and p.name.startswith("s") for p in closing.root.iterdir())
            home = closing.outbox.root / "originals"
            left = [p.relative_to(home).parent.as_posix() for p in home.rglob("*") if p.is_file()]
            assert sorted(left) == [".", *["ward"] * 3, *["ward/below"] * 3]

    def test_scans_in_a_folder_below_stay(self, closing):
        save(closing.root / "ward", ball(1))
        save(closing.root / "ward/below", ball(2))
        scans = self.receive(closing)
        self.close(closing, scans["1"])
        assert [p.name for p in (closing.root / "ward").iterdir()] == ["below"]

    @pytest.mark.parametrize(("states", "kept"), [(("done", "done"), False), (("done", "held"), 1)])
    def test_an_archive_goes_as_a_whole(self, closing, tmp_path, states, kept):
        closing.settings = load(environ={}, overrides={"watch": {"originals": "delete"}})
        for n in (1, 2):
            save(tmp_path / "away", ball(n), prefix=f"s{n}")
        shutil.make_archive(str(closing.root / "packed"), "zip", tmp_path / "away")
        scans = self.receive(closing)
        self.close(closing, scans["1"], states[0])
        assert (closing.root / "packed.zip").is_file()
        self.close(closing, scans["2"], states[1])
        assert not list(closing.root.iterdir())
        assert (closing.outbox.root / "originals/packed.zip").is_file() is bool(kept)
        outcome = "moved" if kept else "deleted"
        assert [closing.ledger.get(scans[n]).original for n in "12"] == [outcome, outcome]
        if kept:
            closing.ledger.set_original(scans["2"], "moved")
            assert "again" in control._do(closing, "retry", scans["2"])
            assert (closing.root / "packed.zip").is_file()
            assert closing.ledger.get(scans["2"]).state == "received"
            assert closing.ledger.get(scans["1"]).original == "pending"  # not sent again

    def half_gone(self, closing, monkeypatch):
        """A series of which 10 of 24 files have left when the disk fails; its scan."""
        save(closing.root / "ward", ball(1))
        scans = self.receive(closing)
        whole, count = closing.outbox.take, iter(range(100))

        def failing(original, target):
            if next(count) >= 10:
                raise DiskError("the disk is full")
            return whole(original, target)

        with monkeypatch.context() as patch:
            patch.setattr(closing.outbox, "take", failing)
            self.close(closing, scans["1"])
        assert len(list((closing.root / "ward").iterdir())) == 14
        return scans["1"]

    def again(self, closing):
        """The process dies; another one goes on."""
        closing.leaving = Leaving(closing.root, closing.inbox, closing.outbox, closing.ledger)

    def test_what_cannot_go_is_not_taken_for_a_series(self, closing, monkeypatch):
        """The rest of it is not seen, and goes later."""
        scan = self.half_gone(closing, monkeypatch)
        assert closing.inbox.look(20).present == {}
        self.again(closing)
        assert closing.inbox.look(21).present == {}
        closing.settle_pending()
        assert not (closing.root / "ward").exists()
        assert closing.ledger.get(scan).original == "moved"
        assert list(closing.outbox.root.glob(".lohi-edge-*")) == []

    def test_what_is_left_is_known_without_the_ledger(self, closing, monkeypatch, tmp_path):
        self.half_gone(closing, monkeypatch)
        (tmp_path / "new").mkdir()
        old, closing.ledger = closing.ledger, Ledger(tmp_path / "new")
        self.again(closing)
        assert closing.inbox.look(20).present == {}
        closing.settle_pending()
        assert not (closing.root / "ward").exists()
        closing.ledger.close()
        closing.ledger = old

    def test_an_inbox_that_is_not_mounted_has_lost_nothing(self, closing, monkeypatch):
        scan = self.half_gone(closing, monkeypatch)
        away = closing.root.rename(closing.root.with_name("unmounted"))
        for bare in (False, True):
            if bare:
                closing.root.mkdir()
            self.again(closing)
            closing.settle_pending()
            assert closing.ledger.get(scan).original == "pending"
        closing.root.rmdir()
        away.rename(closing.root)
        assert closing.inbox.look(20).present == {}
        closing.settle_pending()
        assert not (closing.root / "ward").exists()

    def test_nothing_goes_onto_the_bare_mount_point_of_an_outbox(self, closing, monkeypatch):
        scan = self.half_gone(closing, monkeypatch)
        save(closing.root / "scout", localizer())
        closing.outbox.root.rename(closing.outbox.root.with_name("unmounted"))
        closing.outbox.root.mkdir()
        closing.settle_pending()
        for at in (20, 30):
            closing.settle_seen(closing.inbox.look(at))
        assert list(closing.outbox.root.iterdir()) == []
        assert closing.ledger.get(scan).original == "pending"
        assert sum(p.is_file() for p in closing.root.rglob("*")) == 17

    def test_what_went_and_only_the_ledger_missed_is_told_at_once(self, closing):
        """A ledger that was rebuilt holds thousands of them."""
        for n, place in enumerate(("ward", "ward/below", "ward0", "packed.zip")):
            path = f"{place}/series-{n}-{n:08}"
            (scan,) = closing.ledger.receive([Found(path, "series:3:x", 0, parts=())])
            closing.ledger.finish(scan, "done", original="pending")
        (closing.root / "ward/below").mkdir(parents=True)
        assert [s.path[:6] for s in closing.ledger.below("ward")] == ["ward/s", "ward/b"]
        closing.settle_pending()
        assert {s.original for s in closing.ledger.select("1")} == {"moved"}

    def test_a_damaged_plan_is_set_aside(self, closing, monkeypatch):
        self.half_gone(closing, monkeypatch)
        (closing.outbox.root / PLANS).write_text('{"ward/": {"folder"')
        self.again(closing)
        assert closing.leaving.plans.damaged
        assert (closing.outbox.root / f"{PLANS}.damaged").is_file()

    def test_those_that_close_in_one_step_share_its_time(self, closing, monkeypatch):
        """And what waits for its neighbours holds up nobody."""
        for n, place in enumerate(("a", "b", "c", "c"), 1):
            save(closing.root / place, ball(n), prefix=f"s{n}-")
        scans = self.receive(closing)
        ticks = itertools.count()
        with monkeypatch.context() as patch:
            patch.setattr("lohi_edge.watch.leaving.time", SimpleNamespace(monotonic=ticks.__next__))
            closing.leaving.begin()
            for n in "312":
                self.close(closing, scans[n])
        left = [len(list((closing.root / place).iterdir())) for place in "abc"]
        assert (left, closing.leaving.more) == ([21, 24, 48], True)
        closing.leaving.begin()
        closing.settle_pending()
        assert [p.name for p in closing.root.iterdir()] == ["c"]
        assert closing.leaving.more is False

    def test_a_new_file_under_a_name_that_left_stays(self, closing, monkeypatch):
        save(closing.root / "ward", ball(1))
        scans = self.receive(closing)
        with monkeypatch.context() as patch:
            # Time to decide, and none to let any of it go.
            ticks = itertools.count()
            patch.setattr("lohi_edge.watch.leaving.time", SimpleNamespace(monotonic=ticks.__next__))
            patch.setattr("lohi_edge.watch.leaving.GO_S", 1)
            closing.leaving.begin()
            self.close(closing, scans["1"])
        assert closing.leaving.more
        closing.leaving.begin()
        save(closing.root / "ward", ball(2)[:1])  # over the first file
        closing.settle_pending()
        (left,) = (closing.root / "ward").iterdir()
        assert pydicom.dcmread(left).SeriesNumber == 2


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
def test_what_a_dead_daemon_left_on_its_way_out_can_be_tried_again(box):
    box.settings["watch"].update(series_quiet_s=0.3, originals="move", incomplete_s=0.1)
    folder = save(box.inbox / "ward", ball(1)[:5] + ball(1)[6:])
    box.start(fault="after_slice_left:7")
    box.wait_killed()
    assert len(list(folder.iterdir())) == 16
    assert "again" in box.cli("queue", "retry", "1").stdout
    assert len(list(folder.iterdir())) == 23
    assert box.counts() == {"received": 1}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ward", "."])
def test_without_the_ledger_no_scan_is_made_of_what_is_left_of_a_series(box, place):
    """Its slices leave from one end on, so that the rest of them has no gap."""
    box.settings["watch"].update(series_quiet_s=0.3, originals="move")
    (box.inbox / place).mkdir(exist_ok=True)
    for k, ds in enumerate(ball(1)):
        write(box.inbox / place / f"{k:03}", ds)
    box.start(fault="after_slice_left:7")
    box.wait_killed()
    assert len(list((box.inbox / place).iterdir())) == 17
    shutil.rmtree(box.state)
    box.start()
    box.wait(lambda: not list(box.inbox.iterdir()), "the originals gone")
    assert box.stop() == 0
    assert [(r["state"], r["original"]) for r in box.rows()] == [("done", "moved")]
    assert len(box.receipts()) == 1
    assert sum(p.is_file() for p in (box.outbox / "originals").rglob("*")) == 24
    assert box.leftovers() == []


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


def tried_again(box, place, fault=None):
    """A series is quarantined and moved away, and brought back while no daemon runs."""
    box.settings["watch"].update(series_quiet_s=0.3, originals="move")
    box.settings["worker"]["attempts"] = 1
    (box.inbox / place).mkdir(exist_ok=True)
    for k, ds in enumerate(ball(1)):
        write(box.inbox / place / f"{k:03}", ds)
    box.start(fault="worker_compute")
    box.wait_states(quarantined=1)
    box.wait(lambda: not list(box.inbox.iterdir()), "the originals gone")
    box.kill()
    retry = [sys.executable, "-m", "lohi_edge", "queue", "retry", "1", "--state", str(box.state)]
    extra = {"LOHI_EDGE_FAULT": fault} if fault else {}
    code = subprocess.run(retry, env=box.environment(**extra), check=False).returncode
    box.start()
    box.wait_states(done=1)
    assert box.stop() == 0
    assert not list((box.outbox / "quarantined").rglob("0*"))
    (receipt,) = box.receipts().values()
    assert receipt["source"]["shape"][2] == 24
    assert sum(p.is_file() for p in (box.outbox / "originals").rglob("*")) == 24
    return code


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ward", "."])
def test_a_failed_series_that_was_moved_can_be_tried_again(box, place):
    assert tried_again(box, place) == 0
    assert [row["attempts"] for row in box.rows()] == [2]


@pytest.mark.slow
def test_killed_while_it_brings_a_series_back(box):
    """Half of a series in the inbox would be taken for a whole one."""
    assert tried_again(box, ".", fault="after_brought_back") == -signal.SIGKILL
