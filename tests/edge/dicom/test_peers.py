"""Peers cannot harm: strangers, hostile ones, silent ones, and whom TLS lets in."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct

import pydicom
import pytest
from pynetdicom import AE

from certificates import certificate
from dicom_series import SMALL, save, slices, write
from lohi_edge.dicom import door, receive
from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.dicom.send import NetworkError, Node, echo, send
from lohi_edge.dicom.tls import Tls
from lohi_edge.errors import BadInput, UsageError


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
    key, missing = good.key, tmp_path / "gone.pem"
    for tls, why in (
        (Tls(inbox, key, good.authority), f"{inbox}: expected a regular file"),
        (Tls(missing, key, good.authority), f"{missing}: expected a file, found nothing"),
        (Tls(good.certificate, key, key), "TLS files cannot be used"),
    ):
        with pytest.raises(UsageError, match=why):
            tls.context(server=True)


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
