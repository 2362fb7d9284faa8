"""Who cannot send or be echoed is told what is wrong, each cause in words of its own."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage

from certificates import certificate
from dicom_series import SMALL, save, slices
from lohi_edge.dicom import send as scu
from lohi_edge.dicom import unanswered
from lohi_edge.dicom.send import NetworkError, Node, echo, send
from lohi_edge.dicom.sendqueue import Queue
from orthanc import free_port

# pynetdicom leaves the socket of a refused connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def told(node, tls=None) -> str:
    with pytest.raises(NetworkError) as caught:
        echo(node, tls)
    return str(caught.value).removeprefix(f"{node}: ")


def test_nobody_listens():
    assert "connection refused; check the port" in told(Node("PACS", "127.0.0.1", free_port()))


def test_nothing_comes_back(monkeypatch):
    """As from an address that no machine has, or through a firewall that says nothing."""
    monkeypatch.setattr(scu, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(unanswered, "PROBE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):  # nobody ever takes it from the queue
            assert "timed out; check the address" in told(Node("PACS", *address))


def test_titles_are_told_apart(receiver):
    _, node, _, _ = receiver()
    assert "it does not know our title STRANGER" in told(replace(node, caller="STRANGER"))
    assert "it is not called NOBODY" in told(replace(node, title="NOBODY"))


def test_an_address_it_does_not_take(receiver):
    _, node, _, _ = receiver(peers=("10.1.2.0/24",))
    words = told(node)
    assert "takes the connection but does not answer" in words
    assert "the address of this machine" in words


def test_instances_it_does_not_take(receiver, tmp_path):
    _, node, _, _ = receiver()
    made = slices(SMALL)
    for ds in made:
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture
    with pytest.raises(NetworkError, match="takes no instances of this kind"):
        send([save(tmp_path / "a", made)], node)


@pytest.fixture
def answering():
    """Factory: a node that answers every C-STORE as told, by a status or by its end."""
    running = []

    def start(answer, syntax=ExplicitVRLittleEndian):
        entity = AE("PACS")
        entity.add_supported_context(MRImageStorage, syntax)
        handlers = [(evt.EVT_C_STORE, answer)]
        running.append(entity.start_server(("127.0.0.1", 0), False, evt_handlers=handlers))
        return Node("PACS", *running[-1].socket.getsockname())

    yield start
    for server in running:
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0xA700, "0xA700; it is out of resources: check its disk"),
        (0xA900, "0xA900; it says that the instance does not fit its class"),
        (0xC123, "0xC123; it cannot understand the instance"),
        (0x0124, "0x0124; it may not take this from our title"),
        (0x0111, "0x0111; it has one of this UID already, maybe another image"),
        (0x0112, "0x0112; see its log"),
    ],
)
def test_instances_it_refuses(answering, tmp_path, status, words):
    node = answering(lambda event: status)
    with pytest.raises(NetworkError, match=f"instance 1 of 5 failed with status {words}"):
        send([save(tmp_path / "a", slices(SMALL))], node)


def test_a_node_that_takes_the_default_syntax_alone_gets_the_same_pixels(answering, tmp_path):
    got = []

    def store(event):
        got.append(event.dataset)
        return 0

    made = slices(SMALL)
    folder = save(tmp_path / "a", made)
    assert send([folder], answering(store, ImplicitVRLittleEndian)) == 5
    assert {d.SOPInstanceUID: d.PixelData for d in got} == {
        d.SOPInstanceUID: d.PixelData for d in made
    }


def test_a_node_that_is_full_amid_a_series_gets_all_of_it_later(answering, tmp_path):
    stored, now = [], [1000.0]

    def store(event):
        if now[0] < 1006 and len(stored) == 2:
            return 0xA700
        stored.append(event.request.AffectedSOPInstanceUID)
        return 0

    queue = Queue(tmp_path / "queue", clock=lambda: now[0])
    job = queue.add([save(tmp_path / "a", slices(SMALL))], answering(store))
    (line,) = queue.run()
    assert "instance 3 of 5 failed with status 0xA700" in line
    assert json.loads(job.read_text())["why"] in line
    now[0] += 6
    assert queue.run() == queue.pending() == []
    assert len(set(stored)) == 5


def test_a_node_that_ends_the_association_at_an_instance(answering, tmp_path):
    """As Orthanc does with a title that it does not know, which it has answered an echo."""

    def end(event):
        event.assoc.abort()
        return 0

    with pytest.raises(
        NetworkError, match=r"instance 1 of 5; .*may not store what LOHI_EDGE sends"
    ):
        send([save(tmp_path / "a", slices(SMALL))], answering(end))


def test_a_node_that_has_some_of_a_derived_series_gets_the_rest(answering, derived, tmp_path):
    """Their UIDs are hashes of their pixels: what a node has under one can be no other image."""
    got = []

    def store(event):
        uid = event.request.AffectedSOPInstanceUID
        if uid in got:
            return 0x0111
        got.append(uid)
        return 0

    folder, _, _ = derived()
    files = sorted(folder.iterdir())
    node = answering(store)
    assert send(files[:2], node) == 2
    queue = Queue(tmp_path / "queue")
    queue.add([folder], node)
    assert queue.run() == queue.pending() == []
    assert len(got) == len(set(got)) == len(files)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
class TestTls:
    @pytest.fixture
    def good(self, tmp_path):
        return certificate(tmp_path, "good")

    def test_on_our_side_alone(self, receiver, good):
        _, node, _, _ = receiver()
        assert "check that this port speaks TLS" in told(node, good)

    def test_on_its_side_alone(self, receiver, good):
        _, node, _, _ = receiver(tls=good)
        assert "it may expect TLS" in told(node)

    def test_a_certificate_of_an_authority_we_do_not_know(self, receiver, good, tmp_path):
        _, node, _, _ = receiver(tls=good)
        node, other = replace(node, host="localhost"), certificate(tmp_path, "other")
        assert "its TLS certificate is not accepted" in told(node, other)
        ours = replace(other, authority=good.authority)  # and it does not know ours
        assert "it may not accept our certificate" in told(node, ours)

    def test_a_certificate_for_another_host(self, receiver, good):
        _, node, _, _ = receiver(tls=good)
        assert "that the certificate names this host" in told(node, good)
