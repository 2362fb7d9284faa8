"""The daemon's stamp in a receipt: what a lost ledger is rebuilt from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lohi_edge import finished
from lohi_edge.errors import DiskError
from lohi_edge.files import atomic_write


def stamp_receipt(
    path: Path, home: str, stamp: dict[str, Any], read: dict[str, float]
) -> dict[str, Any]:
    """Add to a receipt what only the daemon knows, and the time that reading ahead took.

    Args:
        home: where the original will be, as seen from the result.
        stamp: what `Closing.stamp` made.
        read: seconds by phase.

    Raises:
        DiskError: it cannot be written, or is not what was written there just now.
    """
    sidecar = finished.read_sidecar(path)
    record = finished.read_receipt(path)
    if record is None:
        raise DiskError(
            f"{path}: expected the receipt that was written just now, got another file or none; "
            "see that nothing but the daemon writes into the outbox"
        )
    sidecar["LohiEdge"] = record
    sidecar["Sources"] = [home]
    record["source"]["path"] = home
    record["watch"] = stamp
    timings = record["timings"]
    timings["total"] = round(timings["total"] + read["total"], 4)
    for phase in ("read", "validate"):
        timings[phase] = read[phase]
    with atomic_write(path) as file:
        file.write(json.dumps(sidecar, indent=2, allow_nan=False).encode() + b"\n")
    return record
