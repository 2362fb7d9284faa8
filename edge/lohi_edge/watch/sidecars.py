"""JSON sidecars in the inbox: whose they are, and what becomes of one that comes late."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lohi_edge import nifti
from lohi_edge.watch.log import printable
from lohi_edge.watch.names import SIDECARS, moved

if TYPE_CHECKING:
    from lohi_edge.watch.closing import Closing


def sidecar_of(path: Path) -> Path:
    return path.with_name(nifti.stem(path) + ".json")


def had_sidecar(mark: str) -> bool:
    """Whether a sidecar lay beside the scan that bore this mark."""
    return "+" in mark


def is_shared(scan: Path) -> bool:
    """Whether another scan beside this one has the same sidecar: x.nii and x.nii.gz."""
    names = (nifti.stem(scan) + suffix for suffix in nifti.SUFFIXES)
    others = (scan.with_name(name) for name in names if name != scan.name)
    return any(os.path.lexists(other) for other in others)


def alone(names: Iterable[str]) -> set[str]:
    """The JSON files of a folder's names beside which no scan of their name lies or is written."""
    files = {name for name in names if name.endswith(".json") and not name.startswith(".")}
    stems = set()
    for name in names if files else ():
        stem, suffix, _ = name.lower().rpartition(".nii")  # what a copy adds comes behind it
        if suffix:
            stems.add(stem.lstrip("."))
    return {name for name in files if name.removesuffix(".json").lower() not in stems}


def set_aside(parts: Closing, path: str, quiet: float) -> None:
    """Move a sidecar out of the inbox whose scan has left it, for the next of that name is another.

    Where that scan had a sidecar of its own, this one is more likely ahead of the next: it may wait
    longer.

    Args:
        path: of a sidecar that lies alone, relative to the inbox.
        quiet: seconds for which nothing has changed.

    Raises:
        DiskError: it is where it was.
    """
    stem = path.removesuffix(".json")
    scans = [s for suffix in nifti.SUFFIXES if (s := parts.ledger.latest(stem + suffix))]
    scan = max(scans, key=lambda s: s.id, default=None)
    if scan is None or scan.original not in ("moved", "deleted"):
        return
    watch = parts.settings.watch
    if quiet < (watch.incomplete_s if had_sidecar(scan.mark) else watch.series_quiet_s):
        return
    text = (
        f"Sidecar: {printable(path)}\n"
        f"Why: it came after scan {scan.id}, {printable(scan.path)}, had left the inbox, and no "
        "other scan of that name came\n"
        "What to do: put scan and sidecar into the inbox together, if it belongs to that scan\n"
    )
    parts.outbox.explain(SIDECARS, path, scan.id, text)
    parts.outbox.take(parts.root / path, moved(parts.outbox.root, path, SIDECARS))
    parts.log("sidecar.late", scan=scan.id)
