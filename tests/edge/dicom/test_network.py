"""The storage SCP and SCU: what is acknowledged is on disk, and peers cannot harm."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading

import pydicom
import pytest
from pydicom import uid as uids
from pynetdicom import AE

from dicom_series import SMALL, save, slices, write
from lohi_edge import dicom
from lohi_edge.dicom import door, receive
from lohi_edge.dicom.instance import parse
from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.dicom.send import NetworkError, Node, echo, send
from lohi_edge.dicom.sendqueue import Queue
from lohi_edge.dicom.tls import Tls
from lohi_edge.errors import BadInput, UsageError
from orthanc import free_port


@pytest.fixture
def receiver(tmp_path):
    """Factory: a running receiver, `receiver(**listening)`; yields (receiver, node, inbox, log)."""
    running = []

    def start(**values):
        log = []
        values = {"port": 0, "callers": ("SCANNER",), "reserve": 0} | values
        listening = Listening(**values)
        found = Receiver(tmp_path / "inbox", listening, log.append).__enter__()
        running.append(found)
        node = Node("LOHI_EDGE", "127.0.0.1", found.port, caller="SCANNER")
        return found, node, tmp_path / "inbox", log

    yield start
    for found in running:
        found.__exit__(None, None, None)


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


def test_only_known_callers_and_addresses(receiver, tmp_path):
    _, node, inbox, _ = receiver()
    for stranger in (
        Node("LOHI_EDGE", node.host, node.port, "STRANGER"),
        Node("OTHER", node.host, node.port, "SCANNER"),
    ):
        with pytest.raises(NetworkError, match="refuses the association"):
            echo(stranger)
    with pytest.raises(UsageError, match="AE titles that may send"):
        Receiver(inbox, Listening(), print)
    _, far, _, _ = receiver(peers=("10.1.2.0/24",))
    with pytest.raises(NetworkError, match="does not answer"):
        echo(far)


def test_a_full_disk_is_said_before_anything_is_written(receiver, tmp_path):
    _, node, inbox, _ = receiver(reserve=1 << 60)
    with pytest.raises(NetworkError, match="0xA700"):
        send([save(tmp_path / "a", slices(SMALL))], node)
    assert not list(inbox.rglob("*.dcm"))


def test_hostile_uids_never_become_paths(receiver, tmp_path, monkeypatch):
    _, node, inbox, _ = receiver()
    with pytest.raises(BadInput, match="valid SeriesInstanceUID"):
        send([hostile(tmp_path)], node)
    # A peer that checks nothing.
    monkeypatch.setattr("lohi_edge.dicom.send.parse", lambda data: known(pydicom.uid))
    with pytest.raises(NetworkError, match="0xC000"):
        send([hostile(tmp_path)], node)
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
    assert not list(inbox.rglob("*.dcm"))


def hostile(tmp_path):
    import warnings

    ds = slices(SMALL)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.SeriesInstanceUID = "../../evil"
        return write(tmp_path / "hostile", ds)


def known(uid):
    class Known:
        sop_class, syntax = uid.MRImageStorage, uid.ExplicitVRLittleEndian

    return Known()


def test_giant_pdus_and_messages_are_cut_off(receiver, tmp_path, monkeypatch):
    _, node, inbox, _ = receiver()
    for kind in (1, 4):
        with socket.create_connection((node.host, node.port), timeout=20) as peer:
            peer.sendall(struct.pack(">BBI", kind, 0, 0xFFFFFFF0) + bytes(1000))
            assert read_to_end(peer) <= 20  # an abort, or nothing: closed
    assert echo(node) > 0
    monkeypatch.setattr(door, "MAX_INSTANCE", 1000)
    with pytest.raises(NetworkError):
        send([save(tmp_path / "a", slices())], node)
    assert not list(inbox.rglob("*.dcm"))


def read_to_end(peer):
    count = 0
    try:
        while chunk := peer.recv(4096):
            count += len(chunk)
    except ConnectionError:
        pass
    return count


def test_leftovers_of_a_killed_receiver_are_removed(receiver, tmp_path):
    folder = tmp_path / "inbox" / ("0" * 32)
    folder.mkdir(parents=True)
    (folder / ".x.dcm.abc.tmp").write_bytes(b"half")
    receiver()
    assert not list(folder.iterdir())


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


def test_a_damaged_or_hopeless_job_is_set_aside(tmp_path):
    queue = Queue(tmp_path)
    (tmp_path / "0.json").write_text("{")
    queue.add([tmp_path / "gone"], Node("A", "127.0.0.1", 1))
    lines = queue.run()
    assert len(lines) == 2
    assert all("set aside" in line for line in lines)
    assert queue.pending() == []
    assert len(list(tmp_path.glob("failed-*.json"))) == 2


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "@host:104", "A B@h:1", "PACS@h:99999"])
def test_nodes_are_written_as_title_host_port(text):
    with pytest.raises(UsageError, match="TITLE@host:port"):
        Node.parse(text)
    assert str(Node.parse("PACS@10.0.0.5:104")) == "PACS@10.0.0.5:104"


def test_tls_lets_in_whom_the_authority_signed(receiver, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    good, other = certificate(tmp_path, "good"), certificate(tmp_path, "other")
    _, node, inbox, _ = receiver(tls=good)
    node = Node(node.title, "localhost", node.port, node.caller)
    assert send([save(tmp_path / "a", slices(SMALL))], node, good) == 5
    for tls in (None, other):
        with pytest.raises(NetworkError):
            echo(node, tls)
    with pytest.raises(UsageError, match="TLS files"):
        Tls(inbox, inbox, inbox).context(server=True)


@contextlib.contextmanager
def crowd(node, addresses, said=b""):
    """Connections from addresses of the loopback network, which say this and no more."""
    with contextlib.ExitStack() as stack:
        peers = []
        for address in addresses:
            peer = socket.create_connection((node.host, node.port), 60, (address, 0))
            peers.append(stack.enter_context(peer))
            peer.sendall(said)
        yield peers


class TestSilentPeers:
    """Who connects and says nothing holds up nobody."""

    @pytest.mark.parametrize(
        ("addresses", "said"),
        [
            (["127.0.0.1"] * 20, struct.pack(">BBI", 1, 0, 200) + bytes(20)),  # half a PDU
            ([f"127.0.1.{n + 1}" for n in range(door.WAITING + 5)], b""),
        ],
        ids=["one address", "many addresses"],
    )
    def test_the_longest_waiting_go(self, receiver, addresses, said):
        _, node, _, log = receiver()
        with crowd(node, addresses, said) as peers:
            assert echo(node) > 0
            assert any("to make room" in line for line in log)
            assert read_to_end(peers[0]) <= 20  # it was closed: at most an abort was said
            peers[-1].setblocking(False)
            with pytest.raises(BlockingIOError):
                peers[-1].recv(1)  # the last are still there

    def test_a_crowd_at_one_address_costs_others_nothing(self, receiver):
        _, node, _, _ = receiver()
        with crowd(node, ["127.0.0.2", *["127.0.0.1"] * 20]) as peers:
            assert echo(node) > 0
            peers[0].setblocking(False)
            with pytest.raises(BlockingIOError):
                peers[0].recv(1)

    def test_with_tls_as_without(self, receiver, tmp_path):
        if not shutil.which("openssl"):
            pytest.skip("openssl is not installed")
        good = certificate(tmp_path, "good")
        _, node, _, _ = receiver(tls=good)
        with crowd(node, ["127.0.0.1"] * 12, b"\x16\x03\x01"):
            node = Node(node.title, "localhost", node.port, node.caller)
            assert echo(node, good) > 0

    def test_silence_ends_the_connection(self, receiver, monkeypatch):
        monkeypatch.setattr(receive, "FIRST_SECONDS", 0.3)
        _, node, _, _ = receiver()
        with crowd(node, ["127.0.0.1"]) as (peer,):
            assert read_to_end(peer) <= 20

    def test_associations_are_bounded_as_before(self, receiver):
        _, node, _, log = receiver(associations=1)
        entity = AE("SCANNER")
        entity.add_requested_context("1.2.840.10008.1.1")
        first = entity.associate(node.host, node.port, ae_title=node.title)
        assert first.is_established
        with pytest.raises(NetworkError, match="refuses the association"):
            echo(node)
        assert "too many at a time" in log[-1]
        first.release()


def certificate(folder, name):
    """A self-signed certificate, its own authority."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    command += [
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return Tls(cert, key, cert)


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
