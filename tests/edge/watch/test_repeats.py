"""Scans whose bytes were enhanced before: a second receipt, or the work anew where no image is."""

from __future__ import annotations

import json
import shutil

import pytest

from lohi_edge.settings import load
from lohi_edge.watch import disk, recovery, repeats
from lohi_edge.watch.dispatch import Dispatcher
from lohi_edge.watch.jobs import Job
from lohi_edge.watch.ledger import Ledger
from watch_parts import deliver

FACTS = {"sha256": "5ha", "contrast": "T1w", "bundle": "1", "expected_bytes": 0}
MOVE = {"watch": {"originals": "move"}, "disk": {"reserve_gb": 0}}


@pytest.fixture
def identity(parts):
    parts.settings = load(environ={}, overrides=MOVE)
    return repeats.identify(FACTS, parts.settings.enhance.digest())


@pytest.fixture
def sent(parts, tmp_path, monkeypatch):
    """Send a scan and have its bytes known: its row, and what the worker was told to do."""
    dispatcher = Dispatcher(parts, tmp_path, lambda *_: None)
    told = []
    monkeypatch.setattr(dispatcher.crew, "send", lambda do, **_: told.append(do))

    def send(name):
        (parts.root / name).write_bytes(b"a scan")
        (number,) = parts.ledger.receive([parts.inbox.find(name)])
        parts.ledger.begin(number)
        job = dispatcher.hands.jobs[number] = Job(parts.ledger.get(number), "read", facts=FACTS)
        told.clear()
        dispatcher._choice.make(job)
        return parts.ledger.get(number), told[-1]

    return send


def expire(parts, folder):
    """As retention does it."""
    kept = parts.settings
    parts.settings = load(environ={}, overrides={"disk": {"keep_gb": 1e-9}})
    assert disk.retain(parts) == 1
    parts.settings = kept


def remove(parts, folder):
    shutil.rmtree(folder)


def move(parts, folder):
    folder.rename(folder.with_name("of a person"))


@pytest.mark.parametrize("name", ["a.nii", "b.nii"])
@pytest.mark.parametrize("lose", [expire, remove, move])
def test_sent_again_it_is_enhanced_again_where_no_image_is(parts, identity, sent, lose, name):
    lose(parts, deliver(parts, "a.nii", identity))
    scan, told = sent(name)
    assert (told, scan.state) == ("enhance", "running")


def test_an_image_that_is_there_is_pointed_to(parts, identity, sent):
    folder = deliver(parts, "a.nii", identity)
    scan, told = sent("b.nii")
    assert (told, scan.state, scan.original) == ("forget", "done", "moved")
    (receipt,) = (parts.outbox.root / scan.result).glob("*.json")
    record = json.loads(receipt.read_text())["LohiEdge"]
    image = (receipt.parent / record["result"]["path"]).resolve()
    assert image == (folder / "image.nii.gz").resolve()
    assert record["watch"]["repeats"] == scan.first


def again(parts, tmp_path):
    """The ledger is lost, and rebuilt from the outbox."""
    (tmp_path / "new").mkdir()
    parts.ledger.close()
    parts.ledger = Ledger(tmp_path / "new")
    recovery.rebuild(parts)
    parts.settle_pending()


@pytest.mark.parametrize("lost", [False, True])
def test_the_image_made_anew_is_the_one_that_later_ones_share(
    parts, identity, sent, tmp_path, lost
):
    expire(parts, deliver(parts, "a.nii", identity))
    second = deliver(parts, "a.nii", identity)
    if lost:
        again(parts, tmp_path)
    scan, _ = sent("b.nii")
    assert scan.state == "done"
    first = parts.ledger.get(scan.first)
    assert (parts.outbox.root / first.result, first.bytes > 0) == (second, True)


def test_no_number_comes_again_after_a_rebuild_and_no_result_back(parts, identity, sent, tmp_path):
    """The result of scan 1 is gone: scan 2 stays the second, and the next is scan 3."""
    deliver(parts, "other.nii", "1" * 64)
    folder = deliver(parts, "a.nii", identity)
    shutil.rmtree(parts.outbox.root / "other")
    (folder / "image.nii.gz").unlink()
    again(parts, tmp_path)
    scan, told = sent("a.nii")
    assert (scan.id, told) == (3, "enhance")
    assert parts.ledger.get(2).path == "a.nii"


@pytest.mark.slow
def test_a_scan_comes_back_after_retention(box):
    box.settings |= {"disk": {"keep_gb": 1e-9}}
    box.settings["watch"]["originals"] = "move"
    box.scan("a_T1w.nii.gz")
    box.start()
    box.wait_states(done=1)
    assert box.stop() == 0
    box.start()  # which looks after the disk
    box.wait(lambda: box.images() == [], "retention")
    box.scan("a_T1w.nii.gz")
    box.wait_states(done=2)
    assert box.stop() == 0
    (image,) = box.images()
    second = box.receipts()[str(image.relative_to(box.outbox)).replace(".nii.gz", ".json")]
    assert "repeats" not in second["watch"]
