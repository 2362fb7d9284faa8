"""Requests to a running daemon: each is answered, or taken back; nothing of it stays behind."""

from __future__ import annotations

import json
import os

import pytest

from lohi_edge.errors import UsageError
from lohi_edge.watch import control, localfs
from lohi_edge.watch.listing import Found


@pytest.fixture
def state(tmp_path):
    """A state folder that a daemon has."""
    folder = tmp_path / "state"
    folder.mkdir()
    held = localfs.lock(folder, "state folder", required=True)
    yield folder
    os.close(held)


def left(state):
    return [path.name for path in (state / control.FOLDER).iterdir()]


def test_a_request_that_nobody_answers_is_taken_back(state, monkeypatch):
    monkeypatch.setattr(control, "ANSWER_S", 0.0)
    with pytest.raises(UsageError, match="did not answer"):
        control.ask(state, "retry", 1)
    assert left(state) == []


def test_nothing_is_asked_as_another_user(state, monkeypatch):
    """As with a forgotten `sudo -u lohi-edge`: the daemon could neither read nor answer it."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UsageError, match=f"{state}: belongs to the user .*: sudo -u .* lohi-edge"):
        control.ask(state, "retry", 1)
    assert not (state / control.FOLDER).exists()


def test_an_answer_that_comes_in_the_last_moment_is_taken(state, monkeypatch):
    monkeypatch.setattr(control, "ANSWER_S", 0.0)
    withdrawn = control._withdrawn

    def answered_before(request):
        request.with_suffix(".answer").write_text(json.dumps({"did": "retried"}))
        request.unlink()
        return withdrawn(request)

    monkeypatch.setattr(control, "_withdrawn", answered_before)
    assert control.ask(state, "retry", 1) == {"did": "retried"}
    assert left(state) == []


def test_a_slow_answer_does_not_stay_where_nobody_waits(parts, tmp_path, monkeypatch):
    folder = tmp_path / "state" / control.FOLDER
    folder.mkdir()
    request = folder / "1.request"
    request.write_text(json.dumps({"do": "retry", "scan": 7}))

    def given_up(*_):
        request.unlink()
        return "retried"

    monkeypatch.setattr(control, "_do", given_up)
    control.obey(tmp_path / "state", parts)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"do": "drop", "scan": 1%s}' % ("0" * 30), "no scan 1"),
        ('{"do": "drop", "scan": Infinity}', "not a request"),
        ("[" * 60_000, "not a request"),
    ],
)
def test_no_request_ends_the_daemon(parts, tmp_path, text, answer):
    folder = tmp_path / "state" / control.FOLDER
    folder.mkdir()
    (folder / "1.request").write_text(text)
    control.obey(tmp_path / "state", parts)
    assert answer in json.loads((folder / "1.answer").read_text())["error"]


def test_a_reason_that_cannot_be_removed_leaves_the_scan_as_it_was(parts, tmp_path):
    """The outbox may have turned read-only."""
    (parts.root / "scan.nii").write_bytes(b"x")
    (scan,) = parts.ledger.receive([Found("scan.nii", parts.inbox.mark("scan.nii"), 1)])
    parts.ledger.finish(scan, "failed", original="kept")
    parts.outbox.reason_path("failed", "scan.nii", scan).mkdir(parents=True)
    folder = tmp_path / "state" / control.FOLDER
    folder.mkdir()
    (folder / "1.request").write_text(json.dumps({"do": "retry", "scan": scan}))
    control.obey(tmp_path / "state", parts)
    assert "cannot be written" in json.loads((folder / "1.answer").read_text())["error"]
    assert parts.ledger.get(scan).state == "failed"


def test_a_new_daemon_drops_the_answers_of_the_one_before(box):
    folder = box.state / control.FOLDER
    folder.mkdir(parents=True)
    for name in ("1.answer", ".1.answer.x.tmp"):
        (folder / name).write_text("{}")
    (folder / "2.request").write_text(json.dumps({"do": "retry", "scan": 1}))
    box.start()
    box.wait_ready()
    box.wait(lambda: [path.name for path in folder.iterdir()] == ["2.answer"], "the answer")
    box.stop()
