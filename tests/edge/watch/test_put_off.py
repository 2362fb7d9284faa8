"""A scan whose result cannot be placed, on a disk that is well, holds up no other."""

from __future__ import annotations

import json

import pytest

from lohi_edge.errors import DiskError
from lohi_edge.settings import load
from lohi_edge.watch import disk, endings, repeats, status
from lohi_edge.watch.dispatch import Dispatcher
from lohi_edge.watch.jobs import Job
from watch_parts import deliver

FACTS = {"sha256": "5ha", "contrast": "T1w", "bundle": "1", "expected_bytes": 0}


@pytest.fixture
def queue(parts, tmp_path, monkeypatch):
    """ward/a.nii, whose folder in the outbox cannot be made, ahead of b.nii."""
    parts.settings = load(environ={}, overrides={"disk": {"reserve_gb": 0}})
    (parts.outbox.root / "ward").write_text("a note of somebody")
    (parts.root / "ward").mkdir()
    for name in ("ward/a.nii", "b.nii"):
        (parts.root / name).write_bytes(name.encode())
    made = Dispatcher(parts, tmp_path, lambda *_: None)
    parts.ledger.receive([parts.inbox.find(name) for name in ("ward/a.nii", "b.nii")])
    made._present = {name: parts.inbox.mark(name) for name in ("ward/a.nii", "b.nii")}
    now = parts.ledger.clock.now()
    monkeypatch.setattr(parts.ledger.clock, "now", lambda: now)
    return made


def work(dispatcher):
    """The next scan is enhanced, and its result placed as far as it can be; its row."""
    parts = dispatcher.parts
    scan = dispatcher._next()
    assert scan
    parts.ledger.begin(scan.id)
    assert parts.ledger.get(scan.id).reason is None
    parts.ledger.identify(scan.id, str(scan.id) * 64, "5ha", "T1w")
    scan = parts.ledger.get(scan.id)
    folder = parts.outbox.choose(scan.path, scan.identity)
    (parts.outbox.stage(scan.id) / "image.nii.gz").write_bytes(b"r")
    dispatcher._ends.guarded(scan, lambda: None)  # an earlier step of the same scan
    dispatcher._ends.guarded(scan, lambda: parts.deliver(scan, folder, {"verdict": "pass"}))
    dispatcher.gate._until = 0.0  # the pause is over
    return parts.ledger.get(scan.id)


def later(dispatcher, monkeypatch, seconds):
    now = dispatcher.parts.ledger.clock.now()
    monkeypatch.setattr(dispatcher.parts.ledger.clock, "now", lambda: now + seconds)


def test_the_others_go_on_and_it_is_tried_ever_less_often(queue, parts, tmp_path, monkeypatch):
    first = work(queue)
    assert (first.path, first.state, first.not_before) == ("ward/a.nii", "received", 0)
    assert "ward" not in str(queue.gate.why)
    assert queue.gate.opens(idle=True)
    now = parts.ledger.clock.now()
    again = work(queue)
    assert (again.id, again.state, again.strikes) == (first.id, "received", 0)
    assert again.not_before == now + endings.PUT_OFF_S[0]
    (told,) = status.read(tmp_path / "state")["put_off"]
    assert (told["scan"], told["path"]) == (first.id, "ward/a.nii")
    assert "cannot be written" in told["reason"]
    assert queue.gate.why is None
    assert (work(queue).path, queue._next()) == ("b.nii", None)
    delays = []
    for _ in range(20):
        later(queue, monkeypatch, endings.PUT_OFF_S[1])
        delays.append(round(work(queue).not_before - parts.ledger.clock.now(), 3))
    assert delays == sorted(delays)
    assert (delays[:2], delays[-1]) == ([20, 40], endings.PUT_OFF_S[1])


def test_nothing_is_lost_once_it_can_be_placed(queue, parts, tmp_path, monkeypatch):
    for _ in range(3):
        work(queue)
    (parts.outbox.root / "ward").unlink()
    later(queue, monkeypatch, endings.PUT_OFF_S[0])
    done = work(queue)
    assert (done.path, done.state, done.reason) == ("ward/a.nii", "done", None)
    assert (parts.outbox.root / "ward" / "a" / "image.nii.gz").is_file()
    assert status.read(tmp_path / "state")["put_off"] == []


@pytest.mark.parametrize("trouble", ["full", "read-only", "gone"])
def test_trouble_of_the_whole_disk_puts_nothing_off(queue, parts, monkeypatch, trouble):
    def refuse(path):
        raise DiskError("cannot be written: read-only file system")

    scan = next(parts.ledger.due())
    with monkeypatch.context() as patch:
        if trouble == "full":
            patch.setattr(disk, "free_bytes", lambda _: 0)
            parts.settings = load(environ={}, overrides={"disk": {"reserve_gb": 1}})
        elif trouble == "read-only":
            patch.setattr(endings, "require_place", refuse)
        else:
            parts.outbox.close()
        for _ in range(5):
            queue._ends.put_back(scan, "cannot be written")
            assert (queue._next().id, queue.gate.why) == (scan.id, "cannot be written")


def test_a_result_folder_that_cannot_be_listed_concerns_one_scan(queue, parts, monkeypatch):
    identity = repeats.identify(FACTS, parts.settings.enhance.digest())
    deliver(parts, "first.nii", identity)

    def refuse(folder, identity):
        raise DiskError(f"{folder}: cannot be listed")

    monkeypatch.setattr(parts.outbox, "find", refuse)
    monkeypatch.setattr(queue.crew, "send", lambda *_, **__: None)
    for _ in range(2):
        scan = queue._next()
        parts.ledger.begin(scan.id)
        job = queue.hands.jobs[scan.id] = Job(parts.ledger.get(scan.id), "read", facts=FACTS)
        queue._choice.make(job)
        assert queue.hands.jobs == {}
    assert queue._next().path == "b.nii"


@pytest.mark.slow
def test_a_file_in_the_place_of_a_folder_stops_nobody_else(box):
    (box.outbox / "ward").write_text("a note of somebody")
    box.scan("ward/a_T1w.nii.gz", seed=1)
    box.start()
    box.wait(lambda: "scan.put_off" in box.read_log())
    box.scan("b_T1w.nii.gz", seed=2)
    box.wait_states(received=1, done=1)
    said = json.loads(box.cli("status", "--json").stdout)
    assert [row["path"] for row in said["put_off"]] == ["ward/a_T1w.nii.gz"]
    assert "ward" in box.cli("status").stdout
    (box.outbox / "ward").unlink()
    box.wait_states(done=2)
    assert box.stop() == 0
    box.assert_exactly_once(2)
