"""The images a report shows, as far as they can still be read from the files of a receipt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lohi_edge import nifti
from lohi_edge.errors import LohiError
from lohi_edge.nifti_header import Prefer
from lohi_edge.receipt import is_withheld, preferred
from lohi_edge.volume import Volume

_GONE, _CHANGED = "is not where the receipt says", "was changed since, or is another"
_SERIES = "is a DICOM series, and pictures are made of NIfTI files alone"


@dataclass(frozen=True, eq=False)
class Images:
    """What a report shows; None for what is gone, which `notes` names.

    Attributes:
        scan: on its own grid; `fine` the same at 1 mm.
        result, uncertainty: on the grid of `fine`.
    """

    scan: Volume | None = None
    fine: Volume | None = None
    result: Volume | None = None
    uncertainty: Volume | None = None
    notes: tuple[str, ...] = ()


def find_images(folder: Path, record: dict[str, Any], source: Path | None = None) -> Images:
    """Scan, result and uncertainty of a receipt in `folder`, as far as they can still be read.

    `source` is where the scan lies, if not where the receipt says.
    """
    notes, prefer = [], preferred(record)
    named = record["source"] | ({"path": str(source.absolute())} if source else {})
    scan, why = _read(folder, named, prefer)
    if scan is None:
        notes.append(f"The scan {why}")
    fine = scan and scan.isotropic()
    placed: list[Volume | None] = []
    for key, what in (("result", "The result"), ("uncertainty", "The uncertainty map")):
        entry = None if is_withheld(record) else record.get(key)
        volume, why = (None, _GONE)
        if isinstance(entry, dict):
            volume, why = _read(folder, entry, prefer)
        volume = volume and volume.isotropic()
        if volume and fine and volume.shape != fine.shape:
            volume, why = None, "is not on the scan's grid"
        if volume is None and entry is not None:
            notes.append(f"{what} {why}")
        placed.append(volume)
    result, uncertainty = placed
    return Images(scan, fine, result, uncertainty, tuple(notes))


def _read(folder: Path, entry: dict[str, Any], prefer: Prefer | None) -> tuple[Volume | None, str]:
    """The very volume that an entry of a receipt names; else None, and in words why."""
    path = entry.get("path")
    if "dicom" in (entry.get("kind"), entry.get("format")):
        return None, _SERIES
    if not isinstance(path, str) or not nifti.is_nifti_name(folder / path):
        return None, _GONE
    try:
        volume = nifti.read(folder / path, prefer=prefer)
    except LohiError:
        return None, _GONE
    assert volume.origin is not None
    same = volume.origin.sha256 == entry.get("sha256")
    return (volume, "") if same else (None, _CHANGED)
