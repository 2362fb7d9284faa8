"""A finished result, or the receipt of one that was held back, as it lies in the outbox."""

from __future__ import annotations

import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lohi_edge import finished
from lohi_edge.errors import BadInput, DiskError
from lohi_edge.watch.group import files_of
from lohi_edge.watch.names import size_of

_STAMPED = {
    "watch": {"identity": str, "path": str, "mark": str},
    "source": {"sha256": str},
    "timings": dict,
}
_IDENTITY = re.compile(r"[0-9a-f]{64}")
_VERDICTS = ("pass", "warn", "hold", None)


@dataclass(frozen=True)
class Placed:
    """A receipt found in the outbox."""

    folder: str  # relative to the outbox
    receipt: Path
    record: dict[str, Any]  # the receipt; record["watch"] is the daemon's stamp

    def files(self) -> list[Path]:
        """What retention may remove: all that was delivered but the receipt.

        Results of other scans may lie in the same folder, where the inbox had a folder of its name.
        """
        ours = self.receipt.stem
        beside = self.receipt.parent.iterdir()
        return [path for path in beside if path != self.receipt and path.name.startswith(ours)]

    @property
    def image(self) -> Path | None:
        """The image that the receipt tells of; None where it is not there any more.

        Raises:
            DiskError: it cannot be looked at; no result is to be made a second time for that.
        """
        if self.record["result"] is None:
            return None
        path: Path = self.receipt.parent / self.record["result"]["path"]
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            raise DiskError(f"{path}: cannot be looked at: {words}; check the outbox") from None
        return path

    @property
    def bytes(self) -> int:
        return sum(size_of(path) for path in self.files())


def stamped(path: Path, root: Path) -> dict[str, Any] | None:
    """A receipt that the daemon of the outbox `root` stamped; None for any other file.

    Whoever may write into the outbox may edit receipts. What of one names a file, is sent on, or
    goes into the ledger is such as the daemon itself writes.
    """
    try:
        record = finished.read_receipt(path, root)
    except BadInput:  # of a later version: who made it knows what it means
        return None
    return record if record and finished.has(record, _STAMPED) and _is_sound(record) else None


def inbox_path(record: dict[str, Any]) -> str:
    """The path in the inbox that a receipt's stamp names."""
    return os.fsdecode(urllib.parse.unquote_to_bytes(record["watch"]["path"]))


def _is_sound(record: dict[str, Any]) -> bool:
    stamp, result = record["watch"], record["result"]
    texts = (stamp["mark"], record["source"]["sha256"], record["contrast"]["name"])
    try:
        files_of(stamp["mark"])
        for text in texts:
            text.encode()
    except ValueError:
        return False
    repeats = stamp.get("repeats", 1)
    return (
        _IDENTITY.fullmatch(stamp["identity"]) is not None
        and _is_below(inbox_path(record))
        and record.get("verdict", "") in _VERDICTS
        and (result is None or (_has_path(result) and _has_path(result.get("sheet", result))))
        and type(repeats) is int
        and 0 < repeats < 1 << 63  # what SQLite can count
    )


def _has_path(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("path"), str)


def _is_below(path: str) -> bool:
    """Whether a path leads from the inbox to something in it: originals are moved and deleted."""
    return "\0" not in path and not {"", ".", ".."}.intersection(path.split("/"))
