"""What a power cut left undone is done at the next start: crash-only, so starting is recovery."""

from __future__ import annotations

import datetime
import os
from typing import Any

from lohi_edge.receipt import is_withheld, reasons
from lohi_edge.watch import localfs, withheld
from lohi_edge.watch.clock import wall
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.log import printable
from lohi_edge.watch.names import TROUBLE
from lohi_edge.watch.placed import Placed, inbox_path

REBUILD = "rebuild"  # fact of the ledger: "wanted" from its first moment on, then "done"


def recover(parts: Closing) -> None:
    """Bring ledger, outbox and originals into step; can be repeated at any time.

    Raises:
        DiskError: a folder cannot be written.
    """
    for scan in parts.ledger.select("state = 'running'"):
        placed = scan.identity and parts.outbox.find_own(scan.id, scan.path, scan.identity)
        if placed:
            parts.adopt(scan, placed)
        else:
            for state in TROUBLE:  # it may end otherwise now
                parts.outbox.take_back(state, scan.path, scan.id)
            withheld.take_back(parts.outbox, scan.path, scan.id)
            parts.ledger.put_back(scan.id)
            parts.log("scan.interrupted", scan=scan.id, attempts=scan.attempts)
    if parts.ledger.fact(REBUILD) == "wanted" and (count := rebuild(parts)):
        parts.log("ledger.rebuilt", results=count)
        parts.audit.append("ledger.rebuilt", results=count)
    parts.settle_pending()


def seconds_of_last(parts: Closing, count: int) -> list[float]:
    """How long the last scans took, by their receipts, oldest first.

    The ledger does not keep it, so that an older version can still open the ledger.
    """
    rows = parts.ledger.select(
        "state = 'done' AND first IS NULL", order=f"finished_at DESC, id DESC LIMIT {count:d}"
    )
    found = []
    for scan in rows:
        placed = parts.outbox.find(scan.result or "", scan.identity or "")
        seconds = placed and placed.record["timings"].get("total")
        if isinstance(seconds, int | float):
            found.append(float(seconds))
    return found[::-1]


def rebuild(parts: Closing) -> int:
    """Fill a new ledger from the receipts in the outbox; returns how many it did not know.

    In the order in which their scans came, each with that time: people tell scans of one name apart
    by it. Each gets the number it had; of a result that was held back the files are named by it.

    A power cut leaves it as it was, and still to be filled. So is one that saw a bare mount point
    in place of the outbox: the receipts are to be read once they are there.
    """
    found = sorted(parts.outbox.all(), key=lambda p: ("repeats" in p.record["watch"], _received(p)))
    count = 0
    firsts: dict[str, int] = {}
    with parts.ledger.transaction():
        for placed in found:
            if is_withheld(placed.record):
                count += _adopt_withheld(parts, placed)
                continue
            identity = placed.record["watch"]["identity"]
            known = _known(parts, placed, identity)
            # Of one that was enhanced anew, the image being gone, the result is its own.
            repeats = "repeats" in placed.record["watch"]
            first = firsts.get(identity) if repeats else None
            scan = known or _adopt(parts, placed, first)
            if first is None:
                firsts[identity] = scan
            count += known is None
        if parts.outbox.is_there() and not localfs.not_mounted(parts.outbox.root):
            parts.ledger.set(REBUILD, "done")
    return count


def _known(parts: Closing, placed: Placed, identity: str) -> int | None:
    """The scan of the ledger that has a result already; None where it does not know of it."""
    where = "identity = ? AND state = 'done' AND result = ?"
    rows = parts.ledger.select(where, identity, os.fsencode(placed.folder))
    return next((scan.id for scan in rows), None)


def _adopt(parts: Closing, placed: Placed, first: int | None) -> int:
    """Tell the ledger of a result that it does not know; returns the scan's number."""
    return _tell(parts, placed, "done", result=os.fsencode(placed.folder), first=first)


def _adopt_withheld(parts: Closing, placed: Placed) -> bool:
    """Tell the ledger of a scan that was held, so that it is not enhanced again; whether it did.

    Not where its number is another's by now: by that its files would not be found.
    """
    number, identity = _number(parts, placed), placed.record["watch"]["identity"]
    if not number or not withheld.find(parts.outbox, inbox_path(placed.record), number, identity):
        return False
    _tell(parts, placed, withheld.HELD, reason=printable("; ".join(reasons(placed.record))))
    return True


def _tell(parts: Closing, placed: Placed, state: str, **values: Any) -> int:
    stamp, record = placed.record["watch"], placed.record
    return parts.ledger.adopt(
        _number(parts, placed),
        inbox_path(placed.record),
        stamp["mark"],
        state,
        record["source"]["sha256"],
        identity=stamp["identity"],
        finished_wall=_received(placed) or wall(),
        verdict=record["verdict"],
        contrast=record["contrast"]["name"],
        bytes=placed.bytes,
        original="pending" if parts.settings.watch.originals != "keep" else "kept",
        **values,
    )


def _number(parts: Closing, placed: Placed) -> int | None:
    """The number that a scan had; None where it is another's by now, or the receipt was edited."""
    number = placed.record["watch"].get("scan")
    known = type(number) is int and 0 < number < 1 << 63
    return number if known and parts.ledger.is_free(number) else None


def _received(placed: Placed) -> str:
    """When the scan of a result came, by the clock of the device; empty where nothing says so."""
    at = str(placed.record["watch"].get("received"))
    try:
        return datetime.datetime.fromisoformat(at).isoformat()
    except ValueError:
        return ""
