"""A storage SCU: sends series to other nodes."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from lohi_edge.dicom.instance import SYNTHETIC_TYPE, Instance, looks_like_dicom, parse, texts
from lohi_edge.dicom.titles import require_title
from lohi_edge.dicom.tls import Tls
from lohi_edge.dicom.unanswered import refusal, why
from lohi_edge.errors import BadInput, LohiError, UsageError
from lohi_edge.files import is_directory, may_be_file, read_bytes

MAX_INSTANCE = 1 << 30
CONNECT_SECONDS = 30.0  # for a connection, and for the answer to the request
WARNINGS = (0xB000, 0xB006, 0xB007)  # stored, with a remark (PS3.4 B.2.3)
DUPLICATE = 0x0111  # a failure (PS3.7 C.5): it has an instance of this UID, the same or not
_NODE = re.compile(r"(?P<title>[^@\s\\]{1,16})@(?P<host>[^@:\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d+)")
# Its messages quote what it sends.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


class NetworkError(LohiError):
    """Another DICOM node does not answer, or refuses."""

    exit_code = 7


class Unreachable(NetworkError):
    """A node that gives no association to anybody or to us, whatever is to be sent."""


class Unreadable(BadInput):
    """What is to be sent is missing or cannot be read; it may come back, as a mount does."""


@dataclass(frozen=True)
class Node:
    """Another DICOM node.

    Attributes:
        title: its AE title.
        host, port: its address.
        caller: the AE title we call it from.
    """

    title: str
    host: str
    port: int
    caller: str = "LOHI_EDGE"

    @classmethod
    def parse(cls, text: str, caller: str = "LOHI_EDGE") -> Node:
        """From "TITLE@host:port".

        Raises:
            UsageError: it is written otherwise, or `caller` or TITLE is no AE title.
        """
        require_title(caller)
        found = _NODE.fullmatch(text)
        if not found or not 0 < int(found["port"]) < 65536:
            raise UsageError(f"expected a node as TITLE@host:port, got {text!r}")
        require_title(found["title"])
        return cls(found["title"], found["host"].strip("[]"), int(found["port"]), caller)

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"


def echo(node: Node, tls: Tls | None = None) -> float:
    """Seconds that a C-ECHO took, association included.

    Raises:
        NetworkError: no answer, or a refusal.
    """
    begin = time.perf_counter()
    entity = _entity(node)
    entity.add_requested_context(Verification)
    with _associated(entity, node, tls) as association:
        status = association.send_c_echo()
    _check(status, node, "C-ECHO")
    return time.perf_counter() - begin


def send(
    paths: Iterable[Path],
    node: Node,
    tls: Tls | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> int:
    """Send DICOM files, and folders of them, in one association.

    Returns:
        How many instances the node says it has stored, now or before.

    Raises:
        BadInput: a file was read and is no DICOM, or one is missing or fails (Unreadable).
        NetworkError: the node does not answer, or does not store one of them.
    """
    files = _files(paths)
    entity = _entity(node)
    for sop_class, syntax in sorted({(i.sop_class, i.syntax) for _, i in files}):
        entity.add_requested_context(sop_class, syntax)
        if not syntax.is_compressed:  # the one that every node must take (PS3.5 10.1)
            entity.add_requested_context(sop_class, ImplicitVRLittleEndian)
    with _associated(entity, node, tls) as association:
        for done, (file, instance) in enumerate(files):
            try:
                status = association.send_c_store(file)
            except (ValueError, RuntimeError, OSError):
                raise NetworkError(
                    f"{node}: takes no such instances, or went away after {done}"
                ) from None
            had = status.get("Status") == DUPLICATE and _is_named_by_hash(instance)
            if not had:
                _check(status, node, f"instance {done + 1} of {len(files)}")
            if progress:
                progress(done + 1, len(files))
    return len(files)


def _files(paths: Iterable[Path]) -> list[tuple[Path, Instance]]:
    found, others = [], 0
    for path in paths:
        for file in _listed(path):
            try:
                data = read_bytes(file, MAX_INSTANCE)
            except BadInput as error:
                raise Unreadable(str(error)) from None
            if looks_like_dicom(data[:132]) or file == path:
                found.append((file, parse(data)))
            else:
                others += 1
    if not found:
        # A folder with nothing in it may be what is left where a mount is away.
        kind = BadInput if others else Unreadable
        raise kind("expected DICOM files to send, found none; check the path")
    return found


def _is_named_by_hash(instance: Instance) -> bool:
    """Whether a UID is one of ours, a hash of the pixels: nothing else is ever stored under it."""
    return SYNTHETIC_TYPE in texts(instance.header, "ImageType") and instance.sop_uid.startswith(
        "2.25."
    )


def _listed(path: Path) -> list[Path]:
    """All files of a folder; a file alone, and whatever is no folder.

    Raises:
        Unreadable: a part of the folder cannot be listed, which pathlib would leave out.
    """

    def fail(error: OSError) -> None:
        words = (error.strerror or str(error)).lower()
        raise Unreadable(f"{path}: cannot be listed: {words}; check the path") from None

    if not is_directory(path):
        return [path]
    walked = os.walk(path, onerror=fail)
    return sorted(filter(may_be_file, (Path(base, n) for base, _, names in walked for n in names)))


def _entity(node: Node) -> AE:
    entity = AE(node.caller)
    entity.acse_timeout = entity.connection_timeout = CONNECT_SECONDS
    entity.dimse_timeout = entity.network_timeout = 60
    return entity


@contextmanager
def _associated(entity: AE, node: Node, tls: Tls | None) -> Iterator[Any]:
    """An established association, released in the end.

    Raises:
        NetworkError: the node does not answer (Unreachable), or refuses.
    """
    secure = (tls.context(server=False), node.host) if tls else None
    connected = threading.Event()
    try:
        association = entity.associate(
            node.host,
            node.port,
            ae_title=node.title,
            tls_args=secure,
            max_pdu=0,
            evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: connected.set())],
        )
    except (socket.gaierror, UnicodeError) as error:  # a name server that does not answer, too
        words = (getattr(error, "strerror", None) or str(error)).lower()
        raise Unreachable(f"{node}: its address cannot be found: {words}; check the name") from None
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise Unreachable(f"{node}: no connection can be made from here: {words}") from None
    # pynetdicom forgets to close the socket of an association that the other end has cut.
    connection = association.dul.socket.socket if association.dul.socket else None
    try:
        if not association.is_established:
            # One that was accepted lacks what this job asks for; another job may fare better.
            accepted = getattr(association.acceptor.primitive, "result", None) == 0
            kind = NetworkError if accepted else Unreachable
            raise kind(f"{node}: {why(association, connected.is_set(), node, tls)}")
        yield association
    finally:
        if association.is_established:
            association.release()
        if connection is not None:
            connection.close()


def _check(status: Any, node: Node, what: str) -> None:
    if "Status" not in status:
        raise NetworkError(
            f"{node}: no answer to {what}; if it ended the association, it may not store what "
            f"{node.caller} sends: check its list of known nodes and its log"
        )
    if status.Status != 0 and status.Status not in WARNINGS:
        words = f"{what} failed with status 0x{status.Status:04X}"
        raise NetworkError(f"{node}: {words}{refusal(status.Status)}")
