"""What is to be sent on is a job on disk, told of until it is sent, whoever has to see to it."""

from __future__ import annotations

import json

import pytest

from lohi_edge.dicom.send import NetworkError
from lohi_edge.dicom.sendqueue import Queue
from lohi_edge.files import atomic_write
from lohi_edge.settings import load
from lohi_edge.watch import disk, outgoing
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.outgoing import Outgoing
from watch_parts import deliver


@pytest.fixture
def sending(parts, tmp_path):
    settings = load(environ={}, overrides={"dicom": {"send": ["A@h:1", "B@h:2"]}})
    parts.outgoing = Outgoing(tmp_path / "state", settings)
    return parts


def test_every_destination_gets_a_job_once(sending, tmp_path):
    deliver(sending, "ser", "1" * 64, format="dicom")
    deliver(sending, "a.nii", "2" * 64)
    jobs = sorted((tmp_path / "state/send").iterdir())
    assert [json.loads(j.read_text())["node"]["title"] for j in jobs] == ["A", "B"]
    scan = sending.ledger.get(1)
    sending.outgoing.add(scan, sending.outbox.find(scan.result, scan.identity))
    assert sorted((tmp_path / "state/send").iterdir()) == jobs
    assert sending.outgoing.unsent() == {"1" * 16}


def test_a_rebuilt_ledger_loses_no_job(sending, tmp_path):
    """Numbers begin again there: another scan of the same number replaces no job."""
    deliver(sending, "ser", "1" * 64, format="dicom")
    old, sending.ledger = sending.ledger, Ledger(tmp_path / "in")
    deliver(sending, "other", "2" * 64, format="dicom")
    assert sending.ledger.get(1).path == "other"
    assert len(list((tmp_path / "state/send").iterdir())) == 4
    sending.ledger.close()
    sending.ledger = old


def test_why_results_are_not_sent(sending, tmp_path, monkeypatch):
    assert sending.outgoing.reasons() == []
    for number in range(30):
        deliver(sending, f"ser{number}", f"{number:064d}", format="dicom")
    assert sending.outgoing.reasons() == []  # nobody has tried yet

    def refuse(paths, node, tls):
        raise NetworkError(f"{node}: its disk is \x1b full")

    monkeypatch.setattr("lohi_edge.dicom.sendqueue.send", refuse)
    queue = Queue(tmp_path / "state/send")
    assert len(queue.run()) == 60
    a, b = (f"{node}: its disk is \\x1b full" for node in ("A@h:1", "B@h:2"))
    assert sending.outgoing.reasons() == [a, b]
    # A node that was renamed, and a job that nobody can read, need somebody.
    sending.outgoing.settings = load(environ={}, overrides={"dicom": {"send": ["B@h:2"]}})
    (tmp_path / "state/send/000000000001-0000000000000000-0.json").write_text("{")
    queue.run()
    again, gone, aside = sending.outgoing.reasons()
    assert again == b
    assert "A@h:1: no longer in dicom.send" in gone
    assert "1 set aside, the first as" in aside


def test_only_jobs_that_changed_are_read_again(sending, tmp_path, monkeypatch):
    """The daemon asks many times a second, while a queue of days waits for an archive."""
    for number in range(30):
        deliver(sending, f"ser{number}", f"{number:064d}", format="dicom")
    jobs = sorted((tmp_path / "state/send").iterdir())

    def say(job, why):
        """As `sendqueue.Queue` does after an attempt."""
        with atomic_write(job) as file:
            file.write(json.dumps({**json.loads(job.read_text()), "why": why}).encode())

    for job in jobs:
        say(job, "away")
    read = []
    reading = outgoing.read_bytes
    monkeypatch.setattr(
        outgoing, "read_bytes", lambda path, limit: read.append(path) or reading(path, limit)
    )
    assert sending.outgoing.reasons() == ["away"]
    assert len(read) == 21
    read.clear()
    assert sending.outgoing.reasons() == ["away"]
    assert read == []
    say(jobs[3], "full")
    jobs[4].unlink()
    assert sending.outgoing.reasons() == ["away", "full"]
    assert read == [jobs[3], jobs[20]]  # what changed, and what moved up


def test_retention_spares_what_is_not_sent(sending, tmp_path):
    folder = deliver(sending, "ser", "1" * 64, format="dicom")
    sending.settings = load(environ={}, overrides={"disk": {"keep_gb": 1e-9}})
    assert disk.retain(sending) == 0
    jobs = [job.rename(job.with_name(f"failed-{job.name}")) for job in sending.outgoing._jobs()]
    assert len(jobs) == 2
    assert sending.outgoing.unsent() == {"1" * 16}
    assert disk.retain(sending) == 0  # set aside is not sent
    for job in jobs:
        job.unlink()
    assert disk.retain(sending) == 1
    assert [p.suffix for p in folder.iterdir()] == [".json"]
