"""The audit log: a chain that nobody changes unseen."""

from __future__ import annotations

import os

import pytest

from lohi_edge.errors import DiskError
from lohi_edge.watch import audit, queue
from lohi_edge.watch.audit import Audit, Head
from watch_parts import deliver


class TestAudit:
    def log(self, tmp_path, lines=5):
        log = Audit(tmp_path)
        heads = [log.append("event", number=n) for n in range(lines)]
        log.close()
        return tmp_path / audit.FILE, heads

    def test_an_untouched_log_is_sound_and_goes_on(self, tmp_path):
        path, heads = self.log(tmp_path)
        again = Audit(tmp_path)
        assert again.head == heads[-1]
        again.append("more")
        again.close()
        found = audit.verify(path, [("ledger", heads[-1]), ("receipt", Head(0, audit.GENESIS))])
        assert (found.lines, found.anchors, found.faults) == (6, 2, ())

    @pytest.mark.parametrize("line", range(5))
    def test_any_changed_byte_is_found(self, tmp_path, line):
        path, heads = self.log(tmp_path)
        lines = path.read_bytes().splitlines(keepends=True)
        lines[line] = lines[line].replace(b'"number": ', b'"number": 1')
        path.write_bytes(b"".join(lines))
        assert audit.verify(path, [("ledger", heads[-1])]).faults

    def test_a_whole_rewrite_is_found_by_its_anchor_only(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        _, heads = self.log(tmp_path / "a")
        path, _ = self.log(tmp_path / "b")
        assert audit.verify(path, []).faults == ()  # the chain alone shows nothing
        assert audit.verify(path, [("a receipt", heads[2])]).faults == (
            "line 3: a receipt knows another line here",
        )

    def test_a_cut_tail_is_found_up_to_the_last_anchor(self, tmp_path):
        path, heads = self.log(tmp_path)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:4]))
        assert audit.verify(path, [("ledger", heads[3])]).faults == ()
        assert audit.verify(path, [("ledger", heads[4])]).faults == (
            "line 5: missing, though ledger knows it",
        )

    def test_half_a_line_of_a_power_cut_is_cut_and_noted(self, tmp_path):
        path, heads = self.log(tmp_path)
        with path.open("ab") as file:
            file.write(b'{"seq": 6, "ev')
        Audit(tmp_path).close()
        assert b"log.mended" in path.read_bytes().splitlines()[5]
        assert audit.verify(path, [("ledger", heads[-1])]).faults == ()

    def test_a_failed_write_leaves_no_half_line(self, tmp_path, monkeypatch):
        log = Audit(tmp_path)
        log.append("one")

        def full(fd):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(DiskError):
                log.append("two")
        log.append("three")
        log.close()
        found = audit.verify(tmp_path / audit.FILE, [("ledger", log.head)])
        assert (found.lines, found.faults) == (2, ())


def test_the_log_of_installed_bundles_is_verified_as_well(parts, tmp_path, monkeypatch):
    deliver(parts, "a_T1w.nii", "a" * 64)
    path, _ = TestAudit().log(tmp_path, lines=3)
    monkeypatch.setenv("LOHI_EDGE_BUNDLES", str(tmp_path))
    found = queue.verify_audit(tmp_path / "state")
    assert (found["bundle_lines"], found["faults"]) == (3, [])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    (numbered, linked) = queue.verify_audit(tmp_path / "state")["faults"]
    assert numbered.startswith(f"{path}: line 2")
    assert "does not follow" in linked
