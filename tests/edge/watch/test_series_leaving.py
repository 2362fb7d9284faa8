"""Originals of several series in one place, on their way out of the inbox."""

from __future__ import annotations

import itertools
import shutil
from types import SimpleNamespace

import pydicom
import pytest

from dicom_series import ball, localizer, number, save, study
from lohi_edge.errors import DiskError
from lohi_edge.settings import load
from lohi_edge.watch import control
from lohi_edge.watch.leaving import Leaving
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.listing import Found
from lohi_edge.watch.outbox import PLANS

pytestmark = pytest.mark.usefixtures("unhurried")


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
