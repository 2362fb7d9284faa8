"""An inbox that is unmounted while scans are closed: what is missing then has not left."""

from __future__ import annotations

import shutil

import pytest

from dicom_series import ball, save
from lohi_edge.settings import load
from watch_parts import Leaves

SCAN = "T1.nii"
pytestmark = pytest.mark.usefixtures("unhurried")


class TestAway(Leaves):
    """Originals leave when the inbox is back, and not before."""

    def unmount(self, closing, bare):
        away = closing.root.rename(closing.root.with_name("unmounted"))
        if bare:
            closing.root.mkdir()
        return away

    def mount(self, closing, away):
        shutil.rmtree(closing.root, ignore_errors=True)
        away.rename(closing.root)

    def arrive(self, closing):
        (closing.root / SCAN).write_bytes(b"a scan")
        (scan,) = closing.ledger.receive([closing.inbox.find(SCAN)])
        return scan

    @pytest.mark.parametrize("bare", [True, False])
    @pytest.mark.parametrize("restart", [True, False])
    @pytest.mark.parametrize(
        ("policy", "state", "outcome"),
        [("move", "done", "moved"), ("move", "failed", "moved"), ("delete", "done", "deleted")],
    )
    def test_a_scan_stays_pending_until_it_is_back(
        self, closing, bare, restart, policy, state, outcome
    ):
        closing.settings = load(environ={}, overrides={"watch": {"originals": policy}})
        scan = self.arrive(closing)
        away = self.unmount(closing, bare)
        if restart:
            self.again(closing)
        self.close(closing, scan, state)
        closing.settle_pending()
        assert closing.ledger.get(scan).original == "pending"
        self.mount(closing, away)
        closing.settle_pending()
        assert closing.ledger.get(scan).original == outcome
        assert list(closing.root.iterdir()) == []

    def test_so_it_does_though_others_come_into_the_bare_folder(self, closing):
        first = self.arrive(closing)
        away = self.unmount(closing, bare=True)
        self.close(closing, first)
        (closing.root / "other.nii").write_bytes(b"another scan")
        (other,) = closing.ledger.receive([closing.inbox.find("other.nii")])
        self.close(closing, other)
        self.again(closing)
        closing.settle_pending()
        assert [closing.ledger.get(n).original for n in (first, other)] == ["pending", "moved"]
        self.mount(closing, away)
        closing.settle_pending()
        assert closing.ledger.get(first).original == "moved"

    def test_one_that_a_person_took_away_is_settled(self, closing):
        scan = self.arrive(closing)
        (closing.root / SCAN).unlink()
        self.close(closing, scan)
        assert closing.ledger.get(scan).original == "moved"

    def test_one_that_cannot_be_looked_at_is_not_gone(self, closing, monkeypatch):
        scan = self.arrive(closing)
        (closing.root / SCAN).unlink()
        (closing.root / SCAN).symlink_to(closing.root / SCAN)
        with monkeypatch.context() as patch:
            patch.setattr(closing.inbox, "mark", lambda _: None)
            self.close(closing, scan)
        assert closing.ledger.get(scan).original == "pending"

    def test_another_inbox_is_taken_where_nothing_is_to_leave_the_old_one(self, closing):
        self.close(closing, self.arrive(closing))
        shutil.rmtree(self.unmount(closing, bare=True))
        self.again(closing)
        scan = self.arrive(closing)
        (closing.root / SCAN).unlink()
        self.close(closing, scan)
        assert closing.ledger.get(scan).original == "moved"

    @pytest.mark.parametrize("bare", [True, False])
    @pytest.mark.parametrize("place", ["ward", "."])
    def test_a_series_stays_pending_until_it_is_back(self, closing, place, bare):
        save(closing.root / place, ball(1))
        scan = self.receive(closing)["1"]
        away = self.unmount(closing, bare)
        self.close(closing, scan)
        assert closing.ledger.get(scan).original == "pending"
        self.mount(closing, away)
        closing.settle_pending()
        assert closing.ledger.get(scan).original == "moved"
        assert list(closing.root.rglob("*.dcm")) == []
