"""Series of which a part has left the inbox when something comes between."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pydicom
import pytest

from dicom_series import ball, localizer, save
from lohi_edge.errors import DiskError
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.listing import Found
from lohi_edge.watch.outbox import PLANS
from watch_parts import Leaves

pytestmark = pytest.mark.usefixtures("unhurried")


class TestHalfGone(Leaves):
    """What is left of a series is known, and goes later."""

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

    @pytest.mark.parametrize("text", ['{"ward/": {"folder"', "[" * 100_000])
    def test_a_damaged_plan_is_set_aside(self, closing, monkeypatch, text):
        self.half_gone(closing, monkeypatch)
        (closing.outbox.root / PLANS).write_text(text)
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
