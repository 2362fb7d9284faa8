"""A finished result, or the receipt of one that was held back, as it lies in the outbox."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lohi_edge.errors import BadInput, DiskError
from lohi_edge.files import read_bytes
from lohi_edge.watch.names import size_of

MAX_RECEIPT = 4 << 20


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
        result = self.record.get("result")
        name = result.get("path") if isinstance(result, dict) else None
        if not isinstance(name, str):
            return None
        path = self.receipt.parent / name
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError, ValueError):  # a name that none can have
            return None
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            raise DiskError(f"{path}: cannot be looked at: {words}; check the outbox") from None
        return path

    @property
    def bytes(self) -> int:
        return sum(size_of(path) for path in self.files())


def stamped(path: Path) -> dict[str, Any] | None:
    """A receipt that this daemon stamped; None for any other file."""
    try:
        record: dict[str, Any] = json.loads(read_bytes(path, MAX_RECEIPT))["LohiEdge"]
        stamp = record["watch"]
        known = all(isinstance(stamp[key], str) for key in ("identity", "path", "mark"))
        return record if known and isinstance(record["source"]["sha256"], str) else None
    except (ValueError, RecursionError, TypeError, KeyError, BadInput):
        return None
