"""Scans that come under one name, one after the other, and leave the inbox."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lohi_edge.errors import UsageError
from lohi_edge.watch import control


@pytest.fixture
def moving(parts):
    """The daemon's parts where originals are moved into the outbox."""
    watch = replace(parts.settings.watch, originals="move")
    parts.settings = replace(parts.settings, watch=watch)
    return parts


def arrive(parts, name, content, sidecar=None):
    """A scan in the inbox and the ledger; its row."""
    (parts.root / name).write_bytes(content)
    if sidecar is not None:
        (parts.root / name).with_suffix(".json").write_bytes(sidecar)
    found = parts.inbox.find(name)
    (number,) = parts.ledger.receive([found])
    return parts.ledger.get(number)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_sidecar_leaves_beside_its_own_scan(moving):
    first = arrive(moving, "T1.nii", b"first")
    moving.close_without_result(first, "failed", "cut off")
    second = arrive(moving, "T1.nii", b"second", b"{}")
    moving.close_without_result(second, "failed", "cut off")
    gone = contents(moving.outbox.root / "failed")
    first_reason = gone.pop(f"T1.nii.{first.id}.reason.txt").decode()
    reason = gone.pop(f"T1.nii.{second.id}.reason.txt").decode()
    assert gone == {"T1.nii": b"first", "T1-2.nii": b"second", "T1-2.json": b"{}"}
    assert str(moving.outbox.root / "failed" / "T1.nii") in first_reason
    assert str(moving.outbox.root / "failed" / "T1-2.nii") in reason


def test_a_scan_that_lost_its_sidecar_is_not_given_that_of_another(moving):
    first = arrive(moving, "T1.nii", b"first", b"{}")
    moving.close_without_result(first, "failed", "cut off")
    moving.close_without_result(arrive(moving, "T1.nii", b"second"), "failed", "cut off")
    gone = contents(moving.outbox.root / "failed")
    assert gone["T1.nii"] == b"first"
    assert gone["T1.json"] == b"{}"
    assert gone["T1-2.nii"] == b"second"
    assert "T1-2.json" not in gone


@pytest.mark.parametrize("again", [0, 1])
def test_a_retried_scan_is_not_another_one_of_its_name(moving, again):
    sent = [(b"of one patient", b'{"a": 1}'), (b"of the other one", b"{}")]
    scans = []
    for content, sidecar in sent:
        scans.append(arrive(moving, "T1.nii", content, sidecar))
        moving.close_without_result(scans[-1], "failed", "cut off")
    control._do(moving, "retry", scans[again].id)
    content, sidecar = sent[again]
    assert contents(moving.root) == {"T1.nii": content, "T1.json": sidecar}
    other, its_sidecar = sent[1 - again]
    left = contents(moving.outbox.root / "failed")
    kept = left.pop(f"T1.nii.{scans[1 - again].id}.reason.txt")
    assert f"queue retry {scans[1 - again].id}\n".encode() in kept
    assert sorted(left.values()) == sorted([other, its_sidecar])


def test_a_sidecar_that_a_power_cut_left_behind_follows_its_scan(moving):
    moving.close_without_result(arrive(moving, "T1.nii", b"first"), "failed", "cut off")
    second = arrive(moving, "T1.nii", b"second", b"{}")
    moving.ledger.finish(second.id, "failed", reason="cut off", original="pending")
    moving.outbox.take(moving.root / "T1.nii", moving.outbox.root / "failed" / "T1-2.nii")
    moving.settle_pending()
    left = contents(moving.outbox.root / "failed")
    assert left["T1-2.json"] == b"{}"
    assert list(moving.root.iterdir()) == []
    assert moving.ledger.get(second.id).original == "moved"


def test_a_receipt_names_the_original_of_its_own_scan(moving):
    for content in (b"first", b"second"):
        scan = arrive(moving, "T1.nii", content)
        shown = moving.source(scan, "T1")
        moving.ledger.finish(scan.id, "done", original="pending")
        moving.settle_original(moving.ledger.get(scan.id))
        original = moving.outbox.root / "T1" / shown
        there = Path(os.path.normpath(original))  # ".." of a folder that is not there
        assert there.read_bytes() == content


def test_names_that_look_the_same_stay_apart(moving):
    """While one is computed the other is chosen a place for: neither receipt may name the other."""
    names = ("T1\n.nii", "T1\\n.nii", os.fsdecode(b"T1\x85.nii"), "T1\x85.nii")
    scans = {name: arrive(moving, name, os.fsencode(name)) for name in names}
    shown = {name: moving.source(scan, "T1") for name, scan in scans.items()}
    for scan in scans.values():
        moving.ledger.finish(scan.id, "done", original="pending")
        moving.settle_original(moving.ledger.get(scan.id))
    for name in names:
        there = Path(os.path.normpath(moving.outbox.root / "T1" / shown[name]))
        assert there.read_bytes() == os.fsencode(name)


def test_a_scan_whose_original_is_gone_is_not_retried_with_another(moving):
    scans = []
    for content in (b"first", b"second"):
        scans.append(arrive(moving, "T1.nii", content))
        moving.close_without_result(scans[-1], "failed", "cut off")
    (moving.outbox.root / "failed" / "T1-2.nii").unlink()
    with pytest.raises(UsageError, match="gone"):
        control._do(moving, "retry", scans[1].id)
    assert list(moving.root.iterdir()) == []
