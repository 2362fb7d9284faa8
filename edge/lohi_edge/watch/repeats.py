"""Scans that were enhanced before: touched under their name, sent again, or under another name."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from lohi_edge import delivery, nifti
from lohi_edge.files import atomic_write
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.group import files_of
from lohi_edge.watch.names import clean_name
from lohi_edge.watch.placed import Placed
from lohi_edge.watch.schema import Scan


def identify(facts: dict[str, Any], settings: str) -> str:
    """What makes a scan the same work: its bytes, contrast, bundle serial and settings."""
    parts = (facts["sha256"], facts["contrast"], facts["bundle"], settings)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def same_file(parts: Closing, scan: Scan, identity: str) -> bool:
    """Whether this is a file done before that was merely touched.

    One that had left the inbox is not: it was sent again.
    """
    before = list(
        parts.ledger.select(
            "path = ? AND id <> ?", os.fsencode(scan.path), scan.id, order="id DESC"
        )
    )
    old = next((o for o in before if o.identity == identity and o.state == "done"), None)
    if old is None or old.original in ("moved", "deleted"):
        return False
    if parts.settings.watch.originals != "keep" and old is not before[0]:
        return False  # another scan has had its place since
    parts.ledger.touch(old.id, scan)
    parts.log("scan.known", scan=old.id)
    parts.settle_original(parts.ledger.get(old.id))
    return True


def remainder(parts: Closing, scan: Scan) -> str | None:
    """Why this may be no scan but a part of a series that was delivered already, or None.

    Slices that come after the others have left the inbox are such a part too.
    """
    where = "path = ? AND state = 'done'"
    before = parts.ledger.select(where, os.fsencode(scan.path))
    most = max((files_of(one.mark) for one in before), default=0)
    count = files_of(scan.mark)
    if count >= most:
        return None
    return (
        f"{count} file(s) of a series of which {most} were enhanced already; "
        "send all of the series again if it has changed"
    )


def earlier(parts: Closing, identity: str) -> tuple[Scan, Placed] | None:
    """The scan that was enhanced before, and its result with the image.

    None where retention or a person has taken every image of it away: a receipt that points to
    nothing would be all that whoever sends the scan again ever gets.

    Raises:
        DiskError: the outbox cannot be read.
    """
    for scan in parts.ledger.with_identity(identity):
        placed = parts.outbox.find(scan.result or "", identity)
        if placed and placed.image:
            return scan, placed
    return None


def deliver(parts: Closing, scan: Scan, first: Scan, placed: Placed) -> None:
    """A receipt of its own for the second name, which points to the first result.

    Args:
        first: the scan that was enhanced.
        placed: its result.

    Raises:
        DiskError: nothing was delivered.
    """
    assert first.identity is not None
    folder = parts.outbox.choose(scan.path, first.identity)
    record = dict(placed.record)
    source = parts.source(scan, folder)
    record["source"] = {**record["source"], "path": source}
    record["watch"] = {**parts.stamp(scan, first.identity), "repeats": first.id}
    record["verdict"] = first.verdict
    image = placed.receipt.parent / record["result"]["path"]
    there = os.path.relpath(image, parts.outbox.root / folder)
    record["result"] = {**record["result"], "path": there}
    sidecar = {
        "Description": "The same scan under another name; the image lies beside the first receipt. "
        "Synthetic. Research use only.",
        "Sources": [source],
        "LohiEdge": record,
    }
    name = delivery.output_name(nifti.stem(Path(clean_name(Path(scan.path).name))))
    staged = delivery.receipt_path(parts.outbox.stage(scan.id) / name)
    with atomic_write(staged) as file:
        file.write(json.dumps(sidecar, indent=2, allow_nan=False).encode() + b"\n")
    parts.log("scan.repeats", scan=scan.id, first=first.id)
    parts.deliver(scan, folder, {"verdict": first.verdict}, first=first.id)
