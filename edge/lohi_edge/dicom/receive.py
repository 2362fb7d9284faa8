"""A storage SCP: what a scanner sends lands in an inbox, on disk before success is answered.

Names come from hashes, never from the wire; nothing is decoded or decompressed here. What a peer
may make us read, and how long it may take, is bounded at the door.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pydicom import uid as uids
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from lohi_edge.dicom.door import FIRST_SECONDS, MAX_INSTANCE, PDU_SECONDS, Door
from lohi_edge.dicom.instance import ENHANCED, MR_IMAGE, parse
from lohi_edge.dicom.titles import require_title
from lohi_edge.dicom.tls import Tls
from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_edge.files import atomic_write, fsync_directory, make_directory, read_bytes
from lohi_edge.watch import localfs
from lohi_edge.watch.ground import Ground

OFFERED_PDU = 256 << 10
IDLE_SECONDS = 60.0
BACKLOG = 128  # with pynetdicom's 5, who connects in a burst tries again a second later
ELSEWHERE = "the inbox is not mounted, or not the folder it was before: mount it, or restart"
SUCCESS, NO_RESOURCES, DUPLICATE = 0x0000, 0xA700, 0x0111
MISMATCH, NOT_UNDERSTOOD = 0xA900, 0xC000
NAMED = 3  # classes that a line of the log names
SYNTAXES = [
    uids.ExplicitVRLittleEndian,
    uids.ImplicitVRLittleEndian,
    uids.RLELossless,
    uids.JPEGLSLossless,
    uids.JPEG2000Lossless,
]
# Its messages quote what peers send.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Listening:
    """Where and to whom a receiver listens.

    Attributes:
        title: its AE title; peers must call it by it.
        host, port: address to bind.
        callers: AE titles that may associate.
        peers: IP addresses or networks that may connect; empty is every one.
        tls: None is no TLS.
        reserve: bytes of disk that stay free; below, senders are told to wait.
        associations: served at a time.
    """

    title: str = "LOHI_EDGE"
    host: str = "127.0.0.1"
    port: int = 11112
    callers: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    tls: Tls | None = None
    reserve: int = 2 << 30
    associations: int = 4


class Receiver:
    """A storage SCP as a context manager; it listens between enter and exit, in threads.

    Every instance becomes `inbox/<series token>/<instance token>.dcm`, tokens being hashes of the
    UIDs. An instance sent again is acknowledged again; another one under its UID is refused
    (0x0111), so that nothing acknowledged is ever replaced. While the inbox is the bare folder
    under its mount, every instance is refused (0xA700) and stays with its sender.

    Args:
        inbox: folder for series.
        listening: where and to whom.
        log: told one line per event, without a word of any patient.
        ground: of the inbox, as an earlier receiver knew it; None to begin with what is there.

    Raises:
        UsageError: no caller is allowed, or a title or an address is malformed.
    """

    def __init__(
        self,
        inbox: Path,
        listening: Listening,
        log: Callable[[str], Any],
        ground: Ground | None = None,
    ) -> None:
        if not listening.callers:
            raise UsageError("expected the AE titles that may send; name them with --caller")
        for title in (listening.title, *listening.callers):
            require_title(title)
        self._door = Door(listening.peers, listening.associations, log)
        self._inbox, self._listening, self._log = inbox, listening, log
        self._ground = ground or Ground(inbox)
        self._server: Any = None
        self._writing = threading.Lock()

    @property
    def port(self) -> int:
        """The port listened on (of use where 0 was asked for)."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Receiver:
        listening = self._listening
        make_directory(self._inbox)
        self._ground.token()  # it may just have been made
        _remove_leftovers(self._inbox)
        entity = AE(listening.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(listening.callers)
        entity.maximum_associations = sys.maxsize  # it would count the silent; the door does not
        entity.maximum_pdu_size = OFFERED_PDU
        entity.network_timeout = IDLE_SECONDS
        entity.acse_timeout, entity.dimse_timeout = FIRST_SECONDS, PDU_SECONDS
        entity.add_supported_context(Verification)
        for sop_class in (MR_IMAGE, *ENHANCED):
            entity.add_supported_context(sop_class, SYNTAXES)
        handlers: Any = [
            (evt.EVT_CONN_OPEN, self._door.opened),
            (evt.EVT_REQUESTED, self._door.requested),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_ACCEPTED, self._accepted),
        ]
        context = listening.tls.context(server=True) if listening.tls else None
        address = (listening.host, listening.port)
        try:
            self._server = entity.start_server(
                address, block=False, evt_handlers=handlers, ssl_context=context
            )
        except OSError as error:
            raise UsageError(f"cannot listen on {address}: {error.strerror}") from None
        self._server.socket.listen(BACKLOG)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()

    def _rejected(self, event: Any) -> None:
        asked = event.assoc.requestor.primitive
        self._log(
            f"an association was rejected: from {asked.calling_ae_title!r} to "
            f"{asked.called_ae_title!r}, expected from {' or '.join(self._listening.callers)} "
            f"to {self._listening.title}"
        )

    def _accepted(self, event: Any) -> None:
        """Say what a peer offered and will not send; some then give up all that they had."""
        refused = event.assoc.rejected_contexts
        names = list(dict.fromkeys(_name(str(one.abstract_syntax)) for one in refused))
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            self._log(
                f"an association offered what is not received here: {', '.join(names[:NAMED])}"
                f"{more}; if it ended early, send the MR series alone"
            )

    def _store(self, event: Any) -> int:
        event.assoc.dul.socket.recv.restart()
        token = ""
        try:
            data = event.encoded_dataset()
            instance = parse(data)
            if instance.sop_uid != str(event.request.AffectedSOPInstanceUID) or (
                instance.sop_class != str(event.request.AffectedSOPClassUID)
            ):
                return self._refuse(MISMATCH, "its UIDs contradict the request")
            token = _token(instance.series_uid)
            folder = self._inbox / token
            target = folder / f"{_token(instance.sop_uid)}.dcm"
            with self._writing:  # two associations may bring one UID at once
                before = self._ground.token()
                if not before:
                    return self._refuse(NO_RESOURCES, ELSEWHERE)
                if target.exists():
                    same = read_bytes(target, MAX_INSTANCE * 2) == data
                    return SUCCESS if same else self._refuse(DUPLICATE, "another one has its UID")
                if shutil.disk_usage(self._inbox).free < self._listening.reserve + len(data):
                    return self._refuse(NO_RESOURCES, "the disk's reserve is reached")
                if not folder.exists():
                    make_directory(folder)
                    fsync_directory(self._inbox)
                with atomic_write(target) as file:
                    file.write(data)
                if localfs.token(self._inbox) != before:  # a mount came or went meanwhile
                    return self._refuse(NO_RESOURCES, ELSEWHERE)
        except BadInput as error:
            return self._refuse(NOT_UNDERSTOOD, str(error))
        except (DiskError, OSError):
            return self._refuse(NO_RESOURCES, "it could not be written")
        self._log(f"received an instance of {token}")
        return SUCCESS

    def _refuse(self, status: int, why: str) -> int:
        self._log(f"refused an instance (0x{status:04X}): {why}")
        return status


def _name(sop_class: str) -> str:
    """What DICOM calls a class; words of a peer's own are not repeated."""
    if sop_class in (MR_IMAGE, *ENHANCED):
        return "MR images in another encoding"
    found = uids.UID(sop_class).name
    return "a private class" if found == sop_class else found


def _token(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _remove_leftovers(inbox: Path) -> None:
    """Temporary files of a receiver that was killed; none of them was ever acknowledged."""
    for leftover in inbox.glob("*/.*.tmp"):
        if len(leftover.parent.name) == 32:
            leftover.unlink(missing_ok=True)
