"""Receipts in the outbox that somebody edited: the daemon neither trips over them nor obeys."""

from __future__ import annotations

import json

import pytest

from lohi_edge.errors import DiskError
from lohi_edge.watch import recovery, repeats
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.page import Page
from lohi_edge.watch.stamp import stamp_receipt
from watch_parts import deliver, receipt_of

IDENTITY = "1" * 64


@pytest.fixture
def folder(parts):
    """The folder of a finished scan."""
    return deliver(parts, "w/a.nii", IDENTITY)


def edit(folder, where, text):
    """Put the JSON text at a dotted place of the receipt in a folder."""
    (beside,) = folder.glob("*.json")
    whole = json.loads(beside.read_text())
    inner = whole["LohiEdge"]
    *parents, last = where.split(".")
    for key in parents:
        inner = inner[key]
    inner[last] = "VALUE"
    beside.write_text(json.dumps(whole).replace('"VALUE"', text))


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("schema", "99"),
        ("timings", "null"),
        ("timings.total", "1e999"),
        ("verdict", '"fine"'),
        ("contrast", "null"),
        ("contrast.name", '"\\udc80"'),
        ("reasons", '[{"text": "\\ud800"}]'),
        ("result.path", '"/etc/hostname"'),
        ("result.path", '"../../secret.dcm"'),
        ("result.path", "null"),
        ("result.sheet", '{"path": "../secret.dcm"}'),
        ("result.sheet", "[]"),
        ("source.sha256", "null"),
        ("watch.identity", '"../../../x"'),
        ("watch.mark", '"series:x:y"'),
        ("watch.path", '"../kept.nii"'),
        ("watch.path", '"%2e%2e/kept.nii"'),
        ("watch.path", '"/etc/hostname"'),
        ("watch.path", '""'),
        ("watch.repeats", "1e3"),
        ("watch.repeats", "true"),
        ("watch.repeats", "9223372036854775808"),
    ],
)
def test_what_no_daemon_writes_is_no_receipt(parts, tmp_path, folder, where, text):
    edit(folder, where, text)
    assert parts.outbox.find("w/a", IDENTITY) is None
    assert repeats.earlier(parts, IDENTITY) is None
    (tmp_path / "new").mkdir()
    old, parts.ledger = parts.ledger, Ledger(tmp_path / "new")
    try:
        assert recovery.rebuild(parts) == 0
    finally:
        parts.ledger.close()
        parts.ledger = old
    page = Page(tmp_path / "state", parts.outbox, "0")
    try:
        (row,) = json.loads(page.answer("/scans.json").body)["done"]
    finally:
        page.stop()
    assert row["folder"] is None


@pytest.fixture
def second(parts, folder):
    """The folder of a scan that came again under another name."""
    first = parts.ledger.latest("w/a.nii")
    (number,) = parts.ledger.receive([arrive(parts, "b.nii")])
    parts.ledger.begin(number)
    parts.ledger.identify(number, IDENTITY, "5ha", "T1w")
    known = repeats.earlier(parts, IDENTITY)
    assert known
    repeats.deliver(parts, parts.ledger.get(number), *known)
    assert parts.ledger.get(number).first == first.id
    return parts.outbox.root / "b"


def arrive(parts, name):
    (parts.root / name).write_bytes(b"a scan")
    return parts.inbox.find(name)


def test_a_repeated_result_lies_elsewhere_in_the_outbox(parts, folder, second):
    placed = parts.outbox.find("b", IDENTITY)
    assert placed.image.resolve() == (folder / "image.nii.gz").resolve()
    edit(second, "result.path", '"../../in/b.nii"')
    assert parts.outbox.find("b", IDENTITY) is None


def test_a_result_that_repeats_what_nobody_knows_is_its_own(parts, second):
    """The page would look for that scan, and show nothing at all."""
    edit(second, "watch.repeats", "77")
    scan = parts.ledger.latest("b.nii")
    parts.ledger._db.execute("UPDATE scans SET state = 'running', first = NULL WHERE id = 2")
    parts.adopt(parts.ledger.get(scan.id), parts.outbox.find("b", IDENTITY))
    scan = parts.ledger.get(scan.id)
    assert (scan.state, scan.first) == ("done", None)


def test_only_a_receipt_is_stamped(parts, folder, tmp_path):
    scan = parts.ledger.latest("w/a.nii")
    whole = {"LohiEdge": receipt_of(parts, scan, result=None, verdict="hold"), "Sources": []}
    whole["LohiEdge"]["timings"]["total"] = 1.0
    beside = tmp_path / "a.json"
    beside.write_text(json.dumps(whole))
    read = {"total": 0.5, "read": 0.25, "validate": 0.25}
    stamp_receipt(beside, "../a.nii", {"scan": 1}, read)
    told = json.loads(beside.read_text())
    assert (told["Sources"], told["LohiEdge"]["watch"]) == (["../a.nii"], {"scan": 1})
    assert told["LohiEdge"]["timings"]["total"] == 1.5
    beside.write_text('{"LohiEdge": {}}')
    with pytest.raises(DiskError, match="expected the receipt that was written just now"):
        stamp_receipt(beside, "../a.nii", {"scan": 1}, read)
    assert beside.read_text() == '{"LohiEdge": {}}'
