"""Originals of several series in one place, on their way out of the inbox."""

from __future__ import annotations

import shutil

import pydicom
import pytest

from dicom_series import ball, localizer, save, study
from lohi_edge.settings import load
from lohi_edge.watch import control
from watch_parts import Leaves

pytestmark = pytest.mark.usefixtures("unhurried")


class TestLeaving(Leaves):
    """Originals go when all beside them is closed, each where its outcome says."""

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
            assert "again" in control._do(closing, "retry", scans["2"])["did"]
            assert (closing.root / "packed.zip").is_file()
            assert closing.ledger.get(scans["2"]).state == "received"
            assert closing.ledger.get(scans["1"]).original == "pending"  # not sent again
