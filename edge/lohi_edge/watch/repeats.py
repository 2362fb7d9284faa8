"""Scans that were enhanced before: touched again under their name, or delivered under another."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lohi_edge import delivery, nifti
from lohi_edge.files import atomic_write
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.names import clean_name
from lohi_edge.watch.schema import Scan


def same_file(parts: Closing, scan: Scan, identity: str) -> bool:
    """Whether this is a file done before that was merely touched."""
    where = "path = ? AND identity = ? AND state = 'done' AND id <> ?"
    path = os.fsencode(scan.path)
    old = next(parts.ledger.select(where, path, identity, scan.id), None)
    if old is None:
        return False
    parts.ledger.touch(old.id, scan)
    parts.log("scan.known", scan=old.id)
    parts.settle_original(parts.ledger.get(old.id))
    return True


def deliver(parts: Closing, scan: Scan, first: Scan) -> None:
    """A receipt of its own for the second name, which points to the first result.

    Raises:
        DiskError: nothing was delivered.
    """
    assert first.result is not None
    assert first.identity is not None
    folder = parts.outbox.choose(scan.path, first.identity)
    placed = parts.outbox.find(first.result, first.identity)
    unknown: dict[str, Any] = {"source": {"sha256": scan.sha256}}
    record = {**(placed.record if placed else unknown)}
    here = parts.outbox.root / folder
    there = parts.outbox.root / first.result
    source = parts.source(scan, folder)
    record["source"] = {**record["source"], "path": source}
    record["watch"] = {**parts.stamp(scan, first.identity), "repeats": first.id}
    record["verdict"] = first.verdict
    if placed and record.get("result"):
        first_image = there / record["result"]["path"]
        record["result"] = {**record["result"], "path": os.path.relpath(first_image, here)}
    sidecar = {
        "Description": "The same scan under another name; the image lies beside the first receipt. "
        "Synthetic. Research use only.",
        "Sources": [source],
        "LohiEdge": record,
    }
    image = delivery.output_name(nifti.stem(Path(clean_name(Path(scan.path).name))))
    staged = delivery.receipt_path(parts.outbox.stage(scan.id) / image)
    with atomic_write(staged) as file:
        file.write(json.dumps(sidecar, indent=2, allow_nan=False).encode() + b"\n")
    parts.log("scan.repeats", scan=scan.id, first=first.id, folder_known=placed is not None)
    parts.outbox.place(scan.id, folder)
    parts.record_done(scan, folder, {"verdict": first.verdict}, first=first.id)
