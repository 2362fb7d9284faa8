"""Disk space: a reserve that intake never touches, and retention of delivered results."""

from __future__ import annotations

import os
from pathlib import Path

from lohi_edge.files import fsync_directory
from lohi_edge.settings import Disk
from lohi_edge.watch import withheld
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.names import remove
from lohi_edge.watch.schema import Scan

_OUTPUTS = 3  # image, its temporary self and the report, generously
_GB = 1e9
_DAY_S = 86400.0


def free_bytes(folder: Path) -> int | None:
    """What this process may still write; None where the file system does not say."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def has_room(folder: Path, settings: Disk, expected_bytes: int) -> bool:
    """Whether the reserve would stay free beside a result of the expected size."""
    free = free_bytes(folder)
    return free is not None and free - _OUTPUTS * expected_bytes >= settings.reserve_gb * _GB


def retain(parts: Closing) -> int:
    """Remove the oldest delivered images beyond the limits of age and size.

    Pages of held scans count as well. Undelivered work and receipts are never touched: a receipt is
    the tombstone from which a lost ledger learns that its scan was done. While the outbox is away
    nothing is removed.

    Returns:
        How many results were removed.
    """
    if not parts.outbox.is_there():
        return 0  # what cannot be found would count as removed
    settings = parts.settings.disk
    now = parts.ledger.clock.now()
    rows = list(
        parts.ledger.select(
            "state IN ('done', 'held') AND bytes > 0", order="finished_at DESC, id DESC"
        )
    )
    unsent = parts.outgoing.unsent()
    total, removed = 0, 0
    for scan in rows:
        total += scan.bytes
        assert scan.finished_at is not None
        old = settings.keep_days and now - scan.finished_at > settings.keep_days * _DAY_S
        large = settings.keep_gb and total > settings.keep_gb * _GB
        if (old or large) and not parts.outgoing.waits(scan, unsent):
            _expire(parts, scan)
            removed += 1
    return removed


def _expire(parts: Closing, scan: Scan) -> None:
    assert scan.identity is not None
    if scan.result is None:
        placed = withheld.find(parts.outbox, scan.path, scan.id, scan.identity)
    else:
        placed = parts.outbox.find(scan.result, scan.identity)
    # Without its receipt the folder is no longer what was delivered: leave it alone.
    if placed:
        try:
            for path in placed.files():
                remove(path)
            fsync_directory(placed.receipt.parent)
        except OSError as error:
            parts.log("result.kept", scan=scan.id, why=error.strerror)
            return
    parts.audit.append("result.expired", scan=scan.id)
    parts.ledger.expired(scan.id)
    parts.log("result.expired", scan=scan.id)
