"""The audit log: JSON lines, each with the hash of the one before; appended to, never rewritten.

The chain shows any edit, removal or reorder before a head that is known from elsewhere: the
ledger and every receipt keep one. It cannot show that lines after the last such head were cut off.
Scans appear by number and hash; names of files, which may name patients, do not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lohi_edge.errors import BadInput
from lohi_edge.files import disk_error, fsync_directory
from lohi_edge.watch.clock import boot_id, boot_seconds, wall

FILE = "audit.jsonl"
GENESIS = "0" * 64


@dataclass(frozen=True)
class Head:
    """The last line of a log: its number (from 1; 0 is an empty log) and its sha256."""

    seq: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        return {"seq": self.seq, "sha256": self.sha256}


class Audit:
    """The log, open for appending.

    Args:
        state: the state folder.

    Raises:
        DiskError: it cannot be opened.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        try:
            self._file = self._path.open("ab+")
            torn = self._cut_torn_line()
            fsync_directory(state)
        except OSError as error:
            raise disk_error(self._path, error) from None
        self.head = self._last()
        if torn:
            self.append("log.mended", bytes_cut=torn)

    def append(self, event: str, **facts: Any) -> Head:
        """One more line, on disk when this returns.

        Raises:
            DiskError: full disk; nothing of the line is left.
        """
        line = _line(self.head, event, facts)
        size = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._reopen(size)
            raise disk_error(self._path, error) from None
        self.head = Head(self.head.seq + 1, _hash(line))
        return self.head

    def close(self) -> None:
        self._file.close()

    def _reopen(self, size: int) -> None:
        # Closing may write what the buffer still holds, so the cut comes after it.
        with contextlib.suppress(OSError):
            self._file.close()
        os.truncate(self._path, size)
        self._file = self._path.open("ab+")

    def _cut_torn_line(self) -> int:
        """A power cut may leave half a line at the end; it was never anyone's head."""
        size = self._file.seek(0, os.SEEK_END)
        end = _last_newline(self._file, size)
        if end < size:
            self._file.truncate(end)
        return size - end

    def _last(self) -> Head:
        line, count = b"", 0
        self._file.seek(0)
        for line in self._file:  # noqa: B007 (the last one is wanted)
            count += 1
        return Head(count, _hash(line)) if count else Head(0, GENESIS)


@dataclass(frozen=True)
class Finding:
    """What `verify` found: the lines counted, and each fault in words."""

    lines: int
    anchors: int
    faults: tuple[str, ...]


def verify(path: Path, anchors: Iterable[tuple[str, Head]]) -> Finding:
    """Check the chain, and that it contains every head known from elsewhere.

    Args:
        path: the log.
        anchors: (where it was found, head).

    Raises:
        BadInput: the log cannot be read.
    """
    wanted: dict[int, list[tuple[str, str]]] = {}
    total = 0
    for where, head in anchors:
        total += 1
        if head.seq:
            wanted.setdefault(head.seq, []).append((where, head.sha256))
    faults: list[str] = []
    before, count = GENESIS, 0
    for count, line in enumerate(_lines(path), 1):
        faults += _faults_of(line, count, before)
        before = _hash(line)
        for where, sha256 in wanted.pop(count, []):
            if sha256 != before:
                faults.append(f"line {count}: {where} knows another line here")
    for seq in sorted(wanted):
        where = wanted[seq][0][0]
        faults.append(f"line {seq}: missing, though {where} knows it")
    return Finding(count, total, tuple(faults))


def last(path: Path, event: str) -> dict[str, Any] | None:
    """The last line of an event; None where there is none.

    Raises:
        BadInput: the log cannot be read, or is none.
    """
    found = None
    for number, line in enumerate(_lines(path), 1):
        try:
            entry = json.loads(line)
            found = entry if entry["event"] == event else found
        except (ValueError, TypeError, KeyError, RecursionError):
            raise BadInput(f"{path}: line {number}: not a line of this log") from None
    return found


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or '').lower()}") from None


def _faults_of(line: bytes, number: int, before: str) -> list[str]:
    try:
        entry = json.loads(line)
        seq, prev = entry["seq"], entry["prev"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return [f"line {number}: not a line of this log"]
    faults = []
    if seq != number:
        faults.append(f"line {number}: numbered {seq!r}")
    if prev != before:
        faults.append(f"line {number}: does not follow from the line before it")
    return faults


def _line(head: Head, event: str, facts: dict[str, Any]) -> bytes:
    entry = {
        "seq": head.seq + 1,
        "at": wall(),
        "boot": boot_id(),
        "uptime_s": round(boot_seconds(), 3),
        "event": event,
        **facts,
        "prev": head.sha256,
    }
    return json.dumps(entry, allow_nan=False).encode() + b"\n"


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _last_newline(file: Any, size: int) -> int:
    """Offset behind the last newline, searched from the end."""
    end = size
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            return int(start + at + 1)
        end = start
    return 0
