"""Sidecars that come before, after or for two scans leave the inbox with nobody else's scan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lohi_edge.watch.sidecars import alone


def set_originals(parts, policy):
    parts.settings = replace(parts.settings, watch=replace(parts.settings.watch, originals=policy))


@pytest.fixture(params=["move", "delete"])
def leaving(parts, request):
    """The daemon's parts where originals leave the inbox."""
    set_originals(parts, request.param)
    return parts


def arrive(parts, name, content, sidecar=None):
    """A scan in the inbox and the ledger; its row."""
    (parts.root / name).write_bytes(content)
    if sidecar is not None:
        (parts.root / f"{name.partition('.')[0]}.json").write_bytes(sidecar)
    (number,) = parts.ledger.receive([parts.inbox.find(name)])
    return parts.ledger.get(number)


def finish(parts, scan):
    parts.ledger.finish(scan.id, "done", original="pending")
    parts.settle_original(parts.ledger.get(scan.id))


def look(parts, *times):
    for now in times:
        parts.settle_seen(parts.inbox.look(now))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def test_one_that_comes_after_its_scan_has_left_is_set_aside_with_the_reason(leaving):
    scan = arrive(leaving, "T1.nii.gz", b"first")
    finish(leaving, scan)
    (leaving.root / "T1.json").write_bytes(b'{"late": 1}')
    look(leaving, 0.0, 5.0)
    assert files(leaving.root) == {"T1.json": b'{"late": 1}'}  # its scan may be on its way
    look(leaving, 10.0)
    assert files(leaving.root) == {}
    left = files(leaving.outbox.root / "sidecars")
    assert left.pop("T1.json") == b'{"late": 1}'
    assert f"after scan {scan.id}, T1.nii.gz" in left.pop(f"T1.json.{scan.id}.reason.txt").decode()
    assert not left


def test_one_whose_scan_had_its_own_waits_longer_for_the_next_scan(leaving):
    finish(leaving, arrive(leaving, "T1.nii", b"first", b"{}"))
    (leaving.root / "T1.json").write_bytes(b'{"next": 1}')
    look(leaving, 0.0, 500.0)
    assert files(leaving.root) == {"T1.json": b'{"next": 1}'}
    look(leaving, 600.0)
    assert files(leaving.root) == {}


def test_one_ahead_of_the_first_scan_of_its_name_stays_however_long_it_takes(leaving):
    (leaving.root / "T1.json").write_bytes(b"{}")
    look(leaving, 0.0, 1e6)
    assert files(leaving.root) == {"T1.json": b"{}"}


def test_where_originals_are_kept_nothing_is_moved(parts):
    finish(parts, arrive(parts, "T1.nii", b"first"))
    (parts.root / "T1.nii").unlink()
    (parts.root / "T1.json").write_bytes(b"{}")
    look(parts, 0.0, 1e6)
    assert files(parts.root) == {"T1.json": b"{}"}


def test_a_scan_that_had_none_does_not_take_the_next_ones_along(leaving):
    scan = arrive(leaving, "T1.nii", b"first")
    leaving.ledger.finish(scan.id, "done", original="pending")
    (leaving.root / "T1.nii").unlink()  # a power cut came here
    (leaving.root / "T1.json").write_bytes(b"{}")
    leaving.settle_pending()
    assert files(leaving.root) == {"T1.json": b"{}"}


def test_one_of_two_scans_stays_until_both_have_left(leaving):
    scans = [
        arrive(leaving, "T1.nii", b"T1.nii", b"{}"),
        arrive(leaving, "T1.nii.gz", b"T1.nii.gz"),
    ]
    finish(leaving, scans[0])
    assert files(leaving.root) == {"T1.nii.gz": b"T1.nii.gz", "T1.json": b"{}"}
    assert leaving.inbox.mark("T1.nii.gz") == scans[1].mark
    finish(leaving, scans[1])
    assert files(leaving.root) == {}
    if leaving.settings.watch.originals == "move":
        assert files(leaving.outbox.root / "originals") == {
            "T1.nii": b"T1.nii", "T1.json": b"{}", "T1.nii.gz": b"T1.nii.gz",
        }  # fmt: skip


@pytest.mark.parametrize("first", [0, 1])
def test_receipts_of_two_scans_that_share_one_name_the_originals(parts, first):
    """Both are computed before either leaves."""
    set_originals(parts, "move")
    scans = [arrive(parts, "T1.nii", b"T1.nii", b"{}"), arrive(parts, "T1.nii.gz", b"T1.nii.gz")]
    sources = {scan.path: parts.source(scan, "result") for scan in scans}
    for scan in (scans[first], scans[1 - first]):
        finish(parts, scan)
    for name, source in sources.items():
        assert (parts.outbox.root / "result" / source).resolve().read_bytes() == name.encode()


def test_two_scans_without_a_result_come_back_with_their_sidecar_each(parts):
    set_originals(parts, "move")
    scans = [arrive(parts, "T1.nii", b"T1.nii", b"{}"), arrive(parts, "T1.nii.gz", b"T1.nii.gz")]
    for scan in scans:
        parts.close_without_result(scan, "failed", "why")
    left = files(parts.outbox.root / "failed")
    assert (left["T1.json"], left["T1-2.json"]) == (b"{}", b"{}")


def test_one_does_not_go_beside_a_scan_of_the_other_suffix(parts):
    set_originals(parts, "move")
    finish(parts, arrive(parts, "T1.nii", b"without"))
    finish(parts, arrive(parts, "T1.nii.gz", b"with", b"{}"))
    gone = files(parts.outbox.root / "originals")
    assert gone == {"T1.nii": b"without", "T1-2.nii.gz": b"with", "T1-2.json": b"{}"}


@pytest.mark.parametrize(
    "beside", ["T1.nii", "T1.nii.gz", "T1.NII.GZ", "T1.nii.gz.part", ".T1.nii.gz.Xa12f"]
)
def test_one_whose_scan_is_there_or_being_copied_is_not_alone(beside):
    assert alone({"T1.json", beside}) == set()
    assert alone({"T1.json", beside.replace("T1", "T2")}) == {"T1.json"}
