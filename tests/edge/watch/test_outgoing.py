"""What is to be sent on is a job on disk, told of until it is sent, whoever has to see to it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from dicom_series import SMALL, save, slices
from lohi_edge.cli import app
from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.dicom.send import NetworkError, Node
from lohi_edge.dicom.sendqueue import Queue
from lohi_edge.errors import UsageError
from lohi_edge.files import atomic_write
from lohi_edge.settings import load
from lohi_edge.watch import disk, outgoing, state
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
    for number in range(11):
        deliver(sending, f"ser{number}", f"{number:064d}", format="dicom")
    assert sending.outgoing.reasons() == []  # nobody has tried yet

    def refuse(paths, node, tls):
        raise NetworkError(f"{node}: its disk is \x1b full")

    monkeypatch.setattr("lohi_edge.dicom.sendqueue.send", refuse)
    queue = Queue(tmp_path / "state/send")
    assert len(queue.run()) == 22
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
    for number in range(11):
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


def retry(state, *words):
    """Exit code and answer of `queue retry`, with no daemon there to ask."""
    run = CliRunner().invoke(app, ["queue", "retry", *words, "--json", "--state", str(state)])
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run.exit_code, json.loads(run.stdout)


class TestGivenUp:
    """A job is given up where its files are no DICOM, or it is damaged itself."""

    @pytest.fixture
    def given_up(self, sending, tmp_path):
        """Two scans' jobs, each for two nodes; returns (state, jobs by scan, the files)."""
        state.same_folders(sending.ledger, sending.root, sending.outbox.root)
        files = {}
        for scan, name in ((1, "ser"), (2, "other")):
            folder = deliver(sending, name, str(scan) * 64, format="dicom")
            files[scan] = folder / "image.nii.gz"
        home = tmp_path / "state"
        assert len(Queue(home / "send").run()) == 4
        assert not list(sending.outgoing._jobs())
        jobs = {n: sorted(p.name for p in (home / "send").glob(f"*{n}-*-*.json")) for n in files}
        return home, jobs, files

    def test_is_sent_when_asked_for_and_mended(self, sending, given_up, tmp_path):
        home, jobs, files = given_up
        assert "`lohi-edge queue retry --sends`" in sending.outgoing.reasons()[0]
        assert retry(home, "--sends") == (
            0,
            {
                "did": "4 jobs of sending are in the queue again",
                "sends": [name.removeprefix("failed-")[:-5] for n in jobs for name in jobs[n]],
                "hurried": [],
                "damaged": [],
            },
        )
        assert "sends.retried" in (home / "audit.jsonl").read_text()
        assert len(Queue(home / "send").run()) == 4  # nobody had mended anything
        (made,) = save(tmp_path / "made", slices(SMALL)[:1]).iterdir()
        for file in files.values():
            file.write_bytes(made.read_bytes())
        took = Listening("A", port=0, callers=("LOHI_EDGE",), reserve=0)
        with Receiver(tmp_path / "archive", took, lambda line: None) as archive:
            for job in (home / "send").iterdir():
                said = json.loads(job.read_text())
                said["node"] |= {"title": "A", "host": "127.0.0.1", "port": archive.port}
                job.write_text(json.dumps(said))
            assert retry(home, "--sends")[0] == 0
            assert Queue(home / "send").run() == []
        assert len(list((tmp_path / "archive").rglob("*.dcm"))) == 1
        assert sending.outgoing.unsent() == set()
        assert retry(home, "--sends")[1]["did"] == "nothing is to be sent"

    def test_of_one_scan_alone(self, sending, given_up):
        home, jobs, _ = given_up
        assert retry(home, "2") == (0, {
            "did": "2 jobs of sending are in the queue again",
            "sends": [name.removeprefix("failed-")[:-5] for name in jobs[2]],
            "hurried": [],
            "damaged": [],
        })  # fmt: skip
        left = sorted(p.name for p in (home / "send").glob("failed-*"))
        assert left == jobs[1]
        for job in sending.outgoing._jobs():
            job.unlink()
        again = CliRunner().invoke(app, ["queue", "retry", "2", "--state", str(home)])
        assert isinstance(again.exception, UsageError)
        assert "scan 2 is done, and nothing of it is to be sent" in str(again.exception)

    def test_begins_as_if_nobody_had_tried(self, sending, given_up):
        """Not at the end of an hour's wait, which the last attempt had come to."""
        home, _, _ = given_up
        for job in (home / "send").glob("failed-*"):
            said = json.loads(job.read_text())
            job.write_text(json.dumps({**said, "attempts": 12, "due": said["due"] + 3000}))
        retry(home, "--sends")
        assert len(Queue(home / "send").run()) == 4

    def test_and_damaged_stays_and_is_told_of(self, sending, given_up):
        home, jobs, _ = given_up
        broken = home / "send" / jobs[1][0]
        broken.write_text("{")
        code, said = retry(home, "--sends")
        assert (code, len(said["sends"]), said["damaged"]) == (3, 3, [str(broken)])
        assert "not 1 that are damaged" in said["did"]
        assert broken.read_text() == "{"

    def test_does_not_replace_what_was_queued_since(self, sending, given_up):
        home, jobs, _ = given_up
        name = jobs[1][0].removeprefix("failed-")[:-5]
        Queue(home / "send").add([home], Node("NEW", "h", 1), name)
        _, said = retry(home, "1")
        titles = {
            json.loads((home / "send" / f"{job}.json").read_text())["node"]["title"]
            for job in (name, *said["sends"])
        }
        assert titles == {"NEW", "A", "B"}
        assert len(sending.outgoing.unsent()) == 2


@pytest.mark.parametrize("words", [["--sends"], ["2"]])
def test_what_waits_for_a_node_is_tried_when_asked_for(sending, tmp_path, words):
    """The archive is back, and the next attempt would be in an hour."""
    home = tmp_path / "state"
    state.same_folders(sending.ledger, sending.root, sending.outbox.root)
    for scan, name in ((1, "ser"), (2, "other")):
        deliver(sending, name, str(scan) * 64, format="dicom")
    jobs = sorted(sending.outgoing._jobs())
    for job in jobs[:-1]:  # the last was not tried yet
        said = json.loads(job.read_text())
        said |= {"attempts": 12, "due": said["due"] + 3000, "why": "away"}
        job.write_text(json.dumps(said))
    code, said = retry(home, *words)
    waited = [job.stem for job in jobs[:-1]]
    wanted = waited if words == ["--sends"] else waited[2:]
    assert (code, said["sends"], said["hurried"]) == (0, [], wanted)
    assert f"{len(wanted)} that waited for another attempt are tried now" in said["did"]
    for job in jobs[:-1]:
        hurried = json.loads(job.read_text())
        assert (hurried["attempts"], hurried["why"]) == (0 if job.stem in wanted else 12, "away")
    assert len(Queue(home / "send").run()) == len(wanted) + 1


@pytest.mark.parametrize("words", [[], ["2", "--sends"]])
def test_what_to_retry_is_named_once(words):
    run = CliRunner().invoke(app, ["queue", "retry", *words])
    assert isinstance(run.exception, UsageError)
    assert "expected SCAN or --sends" in str(run.exception)
