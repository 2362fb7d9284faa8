"""The queue of what is to be sent: it outlives outages of nodes and of the outbox."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket

import pytest
from typer.testing import CliRunner

from dicom_series import SMALL, save, slices
from lohi_edge.cli import app
from lohi_edge.dicom.send import Node, Unreachable
from lohi_edge.dicom.sendqueue import Queue
from lohi_edge.errors import BadInput, UsageError


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_queue_survives_outages(tmp_path, receiver):
    now = [1000.0]
    folder = save(tmp_path / "out", slices(SMALL))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    queue = Queue(tmp_path / "queue", clock=lambda: now[0])
    queue.add([folder], Node("LOHI_EDGE", "127.0.0.1", port, "SCANNER"))
    assert "attempt 1, next in 5 s" in queue.run()[0]
    assert queue.run() == []  # not due yet
    now[0] += 6
    assert "attempt 2, next in 10 s" in Queue(tmp_path / "queue", clock=lambda: now[0]).run()[0]
    _, _, inbox, _ = receiver(port=port)
    now[0] += 11
    assert queue.run() == []
    assert queue.pending() == []
    assert len(list(inbox.rglob("*.dcm"))) == 5


def test_a_node_that_is_away_does_not_hold_up_another(tmp_path, monkeypatch):
    away, here, tried = Node("A", "10.0.0.1", 104), Node("B", "10.0.0.2", 104), []

    def send(paths, node, tls):
        tried.append(node.title)
        if node == away:
            raise Unreachable(f"{node}: does not answer: timed out")

    monkeypatch.setattr("lohi_edge.dicom.sendqueue.send", send)
    queue = Queue(tmp_path / "queue")
    for node in (away, away, away, here):
        queue.add([tmp_path], node)
    assert len(queue.run()) == 1
    assert tried == ["A", "B"]
    assert len(queue.pending()) == 3
    queue.run()
    assert tried == ["A", "B", "A"]  # each in its turn


def test_a_damaged_or_hopeless_job_is_set_aside(tmp_path):
    queue = Queue(tmp_path)
    (tmp_path / "0.json").write_text("{")
    other, notes = tmp_path / "PLANTED.dcm", tmp_path / "notes"
    other.write_text("no DICOM" * 99)
    notes.mkdir()
    (notes / "read.me").write_text("no DICOM" * 99)
    for path in (other, notes):
        queue.add([path], Node("A", "127.0.0.1", 1))
    lines = queue.run()
    assert len(lines) == 3
    assert all("set aside" in line and "PLANTED" not in line for line in lines)
    assert queue.pending() == []
    assert len(list(tmp_path.glob("failed-*.json"))) == 3


def away(outbox, monkeypatch):
    """The share is gone, bare mount point and all."""
    outbox.rename(outbox.with_name("away"))


def bare(outbox, monkeypatch):
    away(outbox, monkeypatch)
    (outbox / "PLANTED").mkdir(parents=True)


def down(outbox, monkeypatch):
    """A share whose server does not answer: its folders are known, and cannot be listed."""
    listed = os.scandir

    def scandir(path):
        if str(path).startswith(str(outbox)):
            raise OSError(errno.EHOSTDOWN, "Host is down", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("goes", [away, bare, down])
def test_jobs_outlast_an_outbox_that_is_away(tmp_path, receiver, monkeypatch, goes):
    now, outbox = [1000.0], tmp_path / "outbox"
    _, node, inbox, _ = receiver()
    series = save(outbox / "PLANTED", slices(SMALL))
    queue = Queue(tmp_path / "queue", clock=lambda: now[0])
    jobs = [queue.add([path], node) for path in (series, min(series.iterdir()))]
    with monkeypatch.context() as patch:
        goes(outbox, patch)
        lines = queue.run()
    whys = [json.loads(job.read_text()).get("why") for job in jobs if job.exists()]
    tried = 2 if goes is not down else 1  # a file alone is found where its folder is not listed
    assert len(lines) == len(whys) == len(queue.pending()) == tried
    for line, why in zip(lines, whys, strict=True):
        assert line == f"{why}; attempt 1, next in 5 s"
        assert why.startswith(f"{node}: cannot be sent now: ")
        assert "PLANTED" not in why
    if goes is not down:
        shutil.rmtree(outbox, ignore_errors=True)
        outbox.with_name("away").rename(outbox)
    now[0] += 6
    assert queue.run() == queue.pending() == []
    assert len(list(inbox.rglob("*.dcm"))) == 5


def test_nothing_is_queued_of_a_path_that_is_not_there(tmp_path):
    words = [
        "send",
        str(tmp_path / "gone"),
        "--to",
        "A@127.0.0.1:1",
        "--queue",
        str(tmp_path / "q"),
    ]
    run = CliRunner().invoke(app, words)
    assert isinstance(run.exception, BadInput)
    assert not (tmp_path / "q").exists()


def send(*words):
    return CliRunner().invoke(app, ["send", *map(str, words)])


class TestRetry:
    """`send --queue DIR --retry` tries what waits, and what was set aside."""

    def test_sends_what_was_set_aside_or_waits(self, tmp_path, receiver):
        _, node, inbox, _ = receiver()
        queue, to = tmp_path / "queue", f"{node.title}@{node.host}:{node.port}"
        made = save(tmp_path / "made", slices(SMALL))
        (first, second, *_) = sorted(made.iterdir())
        bad = tmp_path / "bad.dcm"
        bad.write_bytes(b"no DICOM")
        assert send(bad, "--to", to, "--title", "SCANNER", "--queue", queue).exit_code == 7
        bad.write_bytes(first.read_bytes())
        job = Queue(queue).add([second], node)
        said = json.loads(job.read_text())
        job.write_text(json.dumps({**said, "attempts": 9, "due": said["due"] + 1000}))
        done = send("--queue", queue, "--retry")
        assert (done.exit_code, done.stdout) == (0, f"0 jobs left in {queue}\n"), done.output
        assert list(queue.iterdir()) == []
        assert len(list(inbox.rglob("*.dcm"))) == 2

    def test_says_which_job_is_damaged(self, tmp_path):
        broken = tmp_path / "failed-1-0.json"
        broken.write_text("{")
        done = send("--queue", tmp_path, "--retry")
        assert (done.exit_code, done.stderr) == (
            3, f"error: {broken} is damaged: send its files anew and remove it\n",
        )  # fmt: skip
        assert broken.read_text() == "{"

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (["--retry"], "expected --retry with --queue alone"),
            (["--retry", "--queue", "q", "a.dcm"], "expected --retry with --queue alone"),
            (["--retry", "--queue", "q", "--to", "A@h:1"], "expected --retry with --queue alone"),
            (["--retry", "--queue", "q"], "q: expected the folder of a queue, found none"),
            (["a.dcm"], "expected PATH and --to"),
            (["--to", "A@h:1", "--queue", "q"], "expected PATH and --to"),
        ],
    )
    def test_is_told_from_sending(self, tmp_path, monkeypatch, words, why):
        monkeypatch.chdir(tmp_path)
        done = send(*words)
        assert isinstance(done.exception, UsageError)
        assert why in str(done.exception)
        assert list(tmp_path.iterdir()) == []
