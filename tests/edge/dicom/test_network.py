"""The storage SCP and SCU: what is acknowledged is on disk, and the queue outlasts outages."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pydicom
import pytest
from pydicom import uid as uids

from dicom_series import SMALL, save, slices
from lohi_edge import dicom
from lohi_edge.dicom.instance import parse
from lohi_edge.dicom.send import NetworkError, Node, echo, send
from lohi_edge.dicom.sendqueue import Queue
from lohi_edge.errors import UsageError
from lohi_edge.watch.ground import Ground
from orthanc import free_port


def test_what_is_sent_is_what_is_read(receiver, tmp_path):
    _, node, inbox, log = receiver()
    folder = save(tmp_path / "out", slices(SMALL))
    assert echo(node) > 0
    assert send([folder], node) == 5
    (series,) = dicom.find(inbox).series
    assert (dicom.read(series).data == dicom.read(folder).data).all()
    assert send([folder], node) == 5  # again: acknowledged again, stored once
    assert len(list(inbox.rglob("*.dcm"))) == 5
    assert "PLANTED" not in " ".join(log)


def test_another_instance_under_a_known_uid_is_refused(receiver, tmp_path):
    _, node, inbox, log = receiver()
    send([save(tmp_path / "a", slices(SMALL))], node)
    kept = {file: file.read_bytes() for file in inbox.rglob("*.dcm")}
    with pytest.raises(NetworkError, match="0x0111"):
        send([save(tmp_path / "b", slices(SMALL + 1))], node)
    assert {file: file.read_bytes() for file in inbox.rglob("*.dcm")} == kept
    assert "another one has its UID" in log[-1]


def test_a_rejection_says_who_called_whom(receiver):
    _, node, _, log = receiver()
    for other in (replace(node, caller="STRANGER"), replace(node, title="NOBODY")):
        with pytest.raises(NetworkError, match="refuses the association"):
            echo(other)
    assert "from 'STRANGER' to 'LOHI_EDGE', expected from SCANNER to LOHI_EDGE" in log[0]
    assert "from 'SCANNER' to 'NOBODY'" in log[1]


def test_what_is_offered_and_not_taken_is_said(receiver, tmp_path):
    """Orthanc, asked to send a study, stops at the first instance of another class."""
    _, node, _, log = receiver()
    made = slices(SMALL)
    made[0].SOPClassUID = made[0].file_meta.MediaStorageSOPClassUID = (
        uids.SecondaryCaptureImageStorage
    )
    made[1].SOPClassUID = made[1].file_meta.MediaStorageSOPClassUID = "1.2.3.4"
    with pytest.raises(NetworkError, match="takes no such instances"):
        send([save(tmp_path / "out", made)], node)
    assert "a private class, Secondary Capture Image Storage; if it ended" in log[0]
    assert "1.2.3.4" not in log[0]
    assert "MR" not in log[0].split(";")[0]


def test_a_host_that_no_name_server_knows_is_a_node_that_does_not_answer(tmp_path):
    node = Node("PACS", "nowhere.invalid", 104)
    with pytest.raises(NetworkError, match="address cannot be found"):
        echo(node)
    with pytest.raises(NetworkError, match="address cannot be found"):
        echo(replace(node, host="n" * 64))
    queue = Queue(tmp_path / "queue")
    queue.add([save(tmp_path / "out", slices(SMALL))], node)
    assert "attempt 1, next in 5 s" in queue.run()[0]  # and the others have their turn


def test_a_machine_without_descriptors_does_not_blame_the_address():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(NetworkError, match="from here: too many open files"):
            echo(Node("PACS", "127.0.0.1", 104))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("title", ["", " ", "SEVENTEEN_LETTERS", "BACK\\SLASH", "M\u00dcLLER"])
def test_no_title_is_a_usage_error(title, receiver):
    with pytest.raises(UsageError, match="AE title"):
        receiver(callers=(title,))
    with pytest.raises(UsageError, match="AE title"):
        Node.parse("PACS@host:104", title)


def test_a_full_disk_is_said_before_anything_is_written(receiver, tmp_path):
    _, node, inbox, _ = receiver(reserve=1 << 60)
    with pytest.raises(NetworkError, match="0xA700"):
        send([save(tmp_path / "a", slices(SMALL))], node)
    assert not list(inbox.rglob("*.dcm"))


class TestAnInboxWhoseMountGoes:
    """What lands on the bare folder below would be out of sight once the mount is back."""

    def go(self, inbox):
        inbox.rename(inbox.with_name("unmounted"))
        inbox.mkdir()

    def come_back(self, inbox):
        shutil.rmtree(inbox)
        inbox.with_name("unmounted").rename(inbox)

    def test_its_sender_keeps_the_scan_until_it_is_back(self, receiver, tmp_path):
        _, node, inbox, log = receiver()
        folder = save(tmp_path / "a", slices(SMALL))
        self.go(inbox)
        with pytest.raises(NetworkError, match="0xA700"):
            send([folder], node)
        assert list(inbox.iterdir()) == []
        assert "mount it" in log[-1]
        self.come_back(inbox)
        assert send([folder], node) == 5
        assert len(list(inbox.rglob("*.dcm"))) == 5

    def test_while_an_instance_is_written(self, receiver, tmp_path, monkeypatch):
        _, node, inbox, _ = receiver()

        def too_late(path, usage=shutil.disk_usage):
            self.go(inbox)
            return usage(path)

        with monkeypatch.context() as patched:
            patched.setattr("shutil.disk_usage", too_late)
            with pytest.raises(NetworkError, match="0xA700"):
                send([save(tmp_path / "a", slices(SMALL))], node)

    def test_another_receiver_of_the_same_service_knows_it(self, receiver, tmp_path):
        _, node, inbox, _ = receiver()
        place = Ground(inbox).place
        self.go(inbox)
        _, again, _, _ = receiver(Ground(inbox, place))
        folder = save(tmp_path / "a", slices(SMALL))
        with pytest.raises(NetworkError, match="0xA700"):
            send([folder], again)
        self.come_back(inbox)
        assert send([folder], again) == send([folder], node) == 5


def test_leftovers_of_a_killed_receiver_are_removed(receiver, tmp_path):
    folder = tmp_path / "inbox" / ("0" * 32)
    folder.mkdir(parents=True)
    (folder / ".x.dcm.abc.tmp").write_bytes(b"half")
    receiver()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "@host:104", "A B@h:1", "PACS@h:99999"])
def test_nodes_are_written_as_title_host_port(text):
    with pytest.raises(UsageError, match="TITLE@host:port"):
        Node.parse(text)
    assert str(Node.parse("PACS@10.0.0.5:104")) == "PACS@10.0.0.5:104"


# Forks a receiver whenever it is asked to, so that a hundred of them start in seconds.
ZYGOTE = """
import os, signal, sys
from pathlib import Path
from lohi_edge.dicom.receive import Listening, Receiver
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listening = Listening(port=int(sys.argv[2]), callers=("SCANNER",), reserve=0)
for _ in sys.stdin:
    if os.fork() == 0:
        with Receiver(Path(sys.argv[1]), listening, lambda line: None):
            print(os.getpid(), flush=True)
            signal.pause()
"""


@pytest.mark.slow
def test_sigkill_loses_no_acknowledged_instance(tmp_path):
    """100 times, at moments nobody chose within an association."""
    inbox, port, rng = tmp_path / "inbox", free_port(), random.Random(7)
    node = Node("LOHI_EDGE", "127.0.0.1", port, "SCANNER")
    acknowledged = set()
    zygote = subprocess.Popen(
        [sys.executable, "-c", ZYGOTE, str(inbox), str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    for number in range(100):
        zygote.stdin.write("\n")
        zygote.stdin.flush()
        pid = int(zygote.stdout.readline())
        made = slices(SMALL.repeat(4, axis=2), series=number + 1)
        folder = save(tmp_path / f"s{number}", made)
        uids_sent = [pydicom.dcmread(f).SOPInstanceUID for f in sorted(folder.iterdir())]
        after = rng.randint(1, 15)
        kill = threading.Timer(rng.uniform(0, 0.05), os.kill, (pid, signal.SIGKILL))

        def note(done, total, sent=uids_sent, kill=kill, after=after):
            acknowledged.add(sent[done - 1])
            if done == after:
                kill.start()

        with contextlib.suppress(NetworkError):  # it may just be done
            send([folder], node, progress=note)
        kill.join()
    with zygote:
        zygote.stdin.close()
    stored = {parse(f.read_bytes()).sop_uid for f in inbox.rglob("*.dcm")}
    assert acknowledged <= stored
    assert len(acknowledged) > 500


def test_compressed_storage_is_accepted_as_it_is(receiver, tmp_path):
    _, node, inbox, _ = receiver()
    made = slices()
    for ds in made:
        ds.compress(uids.RLELossless, generate_instance_uid=False)
    assert send([save(tmp_path / "a", made)], node) == 16
    stored = pydicom.dcmread(next(inbox.rglob("*.dcm")))
    assert stored.file_meta.TransferSyntaxUID == uids.RLELossless
