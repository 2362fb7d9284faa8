"""What a power cut left undone is done at the next start: crash-only, so starting is recovery."""

from __future__ import annotations

import datetime
import os
import urllib.parse

from lohi_edge.watch.clock import wall
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.placed import Placed


def recover(parts: Closing) -> None:
    """Bring ledger, outbox and originals into step; can be repeated at any time.

    Raises:
        DiskError: a folder cannot be written.
    """
    if parts.ledger.is_new and (count := rebuild(parts)):
        parts.log("ledger.rebuilt", results=count)
        parts.audit.append("ledger.rebuilt", results=count)
    for scan in parts.ledger.select("state = 'running'"):
        placed = scan.identity and parts.outbox.find_own(scan.id, scan.path, scan.identity)
        if placed:
            parts.adopt(scan, placed)
        else:
            parts.ledger.put_back(scan.id)
            parts.log("scan.interrupted", scan=scan.id, attempts=scan.attempts)
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
        seconds = placed and placed.record.get("timings", {}).get("total")
        if isinstance(seconds, int | float):
            found.append(float(seconds))
    return found[::-1]


def rebuild(parts: Closing) -> int:
    """Fill an empty ledger from the receipts in the outbox; returns how many were found.

    In the order in which their scans came, each with that time: people tell scans of one name apart
    by it, and when a result was made is in no receipt.
    """
    count = 0
    firsts: dict[str, int] = {}
    found = sorted(parts.outbox.all(), key=lambda p: ("repeats" in p.record["watch"], _received(p)))
    for placed in found:
        stamp, record = placed.record["watch"], placed.record
        path = os.fsdecode(urllib.parse.unquote_to_bytes(stamp["path"]))
        # Of one that was enhanced anew, the image being gone, the result is its own.
        first = firsts.get(stamp["identity"]) if "repeats" in stamp else None
        scan = parts.ledger.adopt(
            path,
            stamp["mark"],
            stamp["identity"],
            record["source"]["sha256"],
            placed.folder,
            finished_wall=_received(placed) or wall(),
            verdict=record.get("verdict"),
            contrast=(record.get("contrast") or {}).get("name"),
            bytes=placed.bytes,
            first=first,
            original="pending" if parts.settings.watch.originals != "keep" else "kept",
        )
        if first is None:
            firsts[stamp["identity"]] = scan
        count += 1
    return count


def _received(placed: Placed) -> str:
    """When the scan of a result came, by the clock of the device; empty where nothing says so."""
    at = str(placed.record["watch"].get("received"))
    try:
        return datetime.datetime.fromisoformat(at).isoformat()
    except ValueError:
        return ""
