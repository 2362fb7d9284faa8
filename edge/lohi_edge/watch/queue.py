"""Reading the ledger for people: the queue, one scan, and the audit log's anchors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lohi_edge.device.library import Library
from lohi_edge.watch import audit, withheld
from lohi_edge.watch.audit import Head
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.log import printable
from lohi_edge.watch.outbox import Outbox
from lohi_edge.watch.placed import Placed
from lohi_edge.watch.schema import Scan


def rows(state: Path, every: bool = False) -> list[dict[str, Any]]:
    """Scans in the order of the queue; delivered ones only if asked for."""
    ledger = Ledger(state, read_only=True)
    try:
        where = "1" if every else "state <> 'done'"
        return [_row(scan) for scan in ledger.select(where)]
    finally:
        ledger.close()


def one(state: Path, number: int) -> dict[str, Any]:
    """All that the ledger knows of one scan, and `reasons` as in its receipt, where that is there.

    Raises:
        UsageError: there is no such scan.
        DiskError: the outbox cannot be read.
    """
    ledger = Ledger(state, read_only=True)
    try:
        scan, folders = ledger.get(number), ledger.fact("folders")
    finally:
        ledger.close()
    found = asdict(scan)
    for name in ("path", "result"):
        found[name] = found[name] and printable(found[name])
    placed = _placed(Outbox(Path(folders.split("\n")[1])), scan) if folders else None
    return {**found, "reasons": placed.record.get("reasons", []) if placed else []}


def _placed(outbox: Outbox, scan: Scan) -> Placed | None:
    if scan.identity is None:
        return None
    if scan.state == withheld.HELD:
        return withheld.find(outbox, scan.path, scan.id, scan.identity)
    return outbox.find(scan.result, scan.identity) if scan.result else None


def show(rows: list[dict[str, Any]]) -> None:
    """The table of `queue list`."""
    if not rows:
        Console().print("Nothing waits, runs, or needs anybody.")
        return
    table = Table("scan", "state", "path", "attempts", "reason", box=None)
    for row in rows:
        # Text from outside: never markup.
        table.add_row(*(_plain(row[k]) for k in ("scan", "state", "path", "attempts", "reason")))
    Console().print(table)


def verify_audit(state: Path) -> dict[str, Any]:
    """Check the audit log against the heads in ledger and receipts, and that of the bundles."""
    ledger = Ledger(state, read_only=True)
    try:
        head = ledger.fact("audit_head")
        folders = ledger.fact("folders")
    finally:
        ledger.close()
    anchors = list(_anchors(head, folders))
    found = audit.verify(state / audit.FILE, anchors)
    said: dict[str, Any] = {
        "lines": found.lines,
        "anchors": found.anchors,
        "faults": list(found.faults),
    }
    changes = Library().root / audit.FILE
    if changes.is_file():
        of_bundles = audit.verify(changes, ())
        said["bundle_lines"] = of_bundles.lines
        said["faults"] += [f"{changes}: {fault}" for fault in of_bundles.faults]
    return said


def _anchors(head: str | None, folders: str | None) -> Iterator[tuple[str, Head]]:
    if head:
        seq, sha256 = head.split()
        yield "the ledger", Head(int(seq), sha256)
    if not folders:
        return
    for placed in Outbox(Path(folders.split("\n")[1])).all():
        known = placed.record["watch"].get("audit")
        if isinstance(known, dict) and isinstance(known.get("seq"), int):
            scan = placed.record["watch"].get("scan")
            yield f"the receipt of scan {scan}", Head(known["seq"], str(known.get("sha256")))


def _row(scan: Scan) -> dict[str, Any]:
    return {
        "scan": scan.id,
        "state": scan.state,
        "path": printable(scan.path),
        "attempts": scan.attempts,
        "strikes": scan.strikes,
        "verdict": scan.verdict,
        "reason": scan.reason,
        "result": scan.result and printable(scan.result),
        "received": scan.received_wall,
        "finished": scan.finished_wall,
    }


def _plain(value: Any) -> str:
    from rich.markup import escape

    return escape("" if value is None else str(value))
