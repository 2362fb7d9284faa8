"""Results that the quality check held back: receipt and page stand beside the reason.

OUTBOX/held/.../<scan>.<number>_desc-withheld.json, _report.html, _report.png

Named by the scan's number, so that doing it again after a power cut replaces them.
"""

from __future__ import annotations

import os
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.errors import DiskError
from lohi_edge.files import disk_error, fsync_directory
from lohi_edge.watch import faults
from lohi_edge.watch.names import size_of
from lohi_edge.watch.originals import make_durable
from lohi_edge.watch.outbox import ELSEWHERE, REASON, STAGING, Outbox
from lohi_edge.watch.placed import Placed, stamped

HELD = "held"  # a state of the ledger, and the folder in the outbox
HOLD = "hold"  # the verdict


def receipt_path(outbox: Outbox, path: str, scan: int) -> Path:
    """Where the receipt of inbox `path` goes, whose number is `scan`."""
    reason = outbox.reason_path(HELD, path, scan)
    return reason.with_name(f"{reason.name.removesuffix(REASON)}{nifti.WITHHELD}.json")


def place(outbox: Outbox, path: str, scan: int) -> int:
    """Move what was staged to where it stays, the receipt last; returns how many bytes pages take.

    Raises:
        DiskError: some of it may be there, but no receipt is.
    """
    if not outbox.is_there():
        raise DiskError(ELSEWHERE)
    beside = receipt_path(outbox, path, scan)
    make_durable(beside.parent, outbox.root)
    staged = outbox.root / STAGING / str(scan)
    try:
        for file in sorted(staged.iterdir(), key=lambda file: file.name == beside.name):
            file.replace(beside.with_name(file.name))
        fsync_directory(beside.parent)
        pages = sum(size_of(page) for page in _pages(beside) if page.is_file())
    except OSError as error:
        raise disk_error(beside, error) from None
    faults.reach("after_withheld", path)
    return pages


def find(outbox: Outbox, path: str, scan: int, identity: str | None) -> Placed | None:
    """The receipt of a scan whose result was held back; None where there is none, or another's."""
    beside = receipt_path(outbox, path, scan)
    record = stamped(beside, outbox.root)
    if record is None or record["watch"]["identity"] != identity:
        return None
    return Placed(os.path.relpath(beside.parent, outbox.root), beside, record)


def take_back(outbox: Outbox, path: str, scan: int) -> None:
    """Remove what `place` placed: the scan is in the queue again.

    Raises:
        DiskError: it may still be there.
    """
    beside = receipt_path(outbox, path, scan)
    try:
        for file in (*_pages(beside), beside):
            file.unlink(missing_ok=True)
        if beside.parent.is_dir():
            fsync_directory(beside.parent)
    except OSError as error:
        raise disk_error(beside, error) from None


def _pages(beside: Path) -> list[Path]:
    return [beside.with_name(f"{beside.stem}_report{suffix}") for suffix in (".html", ".png")]
