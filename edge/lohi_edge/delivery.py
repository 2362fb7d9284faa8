"""Where results go: names that say "synthetic", the image first, the receipt last.

An image whose receipt is there is finished; one without was cut off and is made again.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import dicom, nifti, nifti_write, picture, receipt, source, unfinished
from lohi_edge.clock import Clock
from lohi_edge.dicom import Series
from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_edge.files import (
    atomic_write,
    discard,
    disk_error,
    make_directory,
    read_bytes,
    sha256,
)
from lohi_edge.nifti_write import Grid
from lohi_edge.slices import INTENSITY_MEANING
from lohi_edge.source import Format
from lohi_edge.spots import sheet_rows
from lohi_edge.volume import Volume

_BIDS = re.compile(
    r"(?P<entities>sub-[a-zA-Z0-9]+(?:_[a-z]+-[a-zA-Z0-9]+)*)_(?P<suffix>[a-zA-Z0-9]+)"
)


def output_name(stem: str) -> str:
    """File name of the result for a scan's stem.

    >>> output_name("scan")
    'scan_desc-synthetic.nii.gz'
    >>> output_name("sub-01_desc-preproc_T1w")
    'sub-01_desc-synthetic_T1w.nii.gz'
    """
    bids = _BIDS.fullmatch(stem)
    if not bids:
        return f"{stem}{nifti.RESULT}.nii.gz"
    entities = re.sub(r"_desc-[a-zA-Z0-9]+", "", bids["entities"])
    return f"{entities}{nifti.RESULT}_{bids['suffix']}.nii.gz"


def target(
    scan: Path | Series | Volume, out: str | Path | None, format: Format = "auto"
) -> Path | None:
    """The image file, or for DICOM the folder, a result will be written to.

    None when nothing is asked to be written.
    """
    if out is None:
        return None
    name = output_name(source.stem(scan))
    as_dicom = source.written_as(scan, format) == "dicom"
    return Path(out) / (nifti.stem(Path(name)) if as_dicom else name)


def held(image: Path) -> Path:
    """The name of a result that the quality check held back and that is delivered all the same."""
    return image.with_name(image.name.replace(nifti.RESULT, f"{nifti.RESULT}HELD"))


def withheld_path(image: Path) -> Path:
    """Where the receipt goes of a result that is held back and not delivered.

    No delivered image has its stem, so that it is never taken for the receipt of one.
    """
    stem = nifti.stem(image).replace(f"{nifti.RESULT}HELD", nifti.RESULT)
    return image.with_name(f"{stem.replace(nifti.RESULT, nifti.WITHHELD)}.json")


def uncertainty_path(image: Path) -> Path:
    """Where the uncertainty of a result stands, beside it."""
    return image.with_name(image.name.replace(nifti.RESULT, nifti.UNCERTAINTY))


def has_uncertainty(image: Path, record: dict[str, Any]) -> bool:
    """Whether the uncertainty that a result's receipt speaks of stands beside it, unchanged."""
    entry = record.get("uncertainty")
    if not isinstance(entry, dict):
        return False
    try:
        return digest(uncertainty_path(image)) == entry.get("sha256")
    except BadInput:
        return False


def receipt_path(image: Path) -> Path:
    return image.with_name(nifti.stem(image) + ".json")


def deliver(
    image: Path,
    volume: Volume,
    record: dict[str, Any],
    scan: Any,
    grid: Grid,
    clock: Clock,
    mark: bool = False,
) -> None:
    """Write the image and record in the receipt what was written.

    Raises:
        DiskError: nothing is left behind.
    """
    with clock("write"):
        make_directory(image.parent)
        unfinished.clear(image, receipt_path(image), uncertainty_path(image), sheet_path(image))
        _remove_withheld(withheld_path(image))  # an image is delivered now
        if nifti.is_nifti_name(image):
            _remove(uncertainty_path(image))  # of the result that this one replaces
            written = nifti_write.write(image, volume, _descrip("3T-like", record))
        else:
            written = dicom.write(image, volume, record, grid, mark=mark)
        record["result"] = {
            "path": image.name,
            "sha256": digest(image),
            "grid": grid,
            **written,
            "intensity": INTENSITY_MEANING,
        }
    if isinstance(scan, Path):
        record["source"]["path"] = receipt.shown(scan, image.parent)


def deliver_uncertainty(image: Path, volume: Volume, record: dict[str, Any]) -> None:
    """Write a result's uncertainty beside it and record in the receipt what was written.

    Raises:
        DiskError: neither of the two is left behind.
    """
    path = uncertainty_path(image)
    try:
        nifti_write.write(path, volume, _descrip("uncertainty", record))
        record["uncertainty"] |= {"path": path.name, "sha256": digest(path)}
    except DiskError:
        discard(image)
        raise


def _remove_withheld(beside: Path) -> None:
    for name in (beside.name, f"{beside.stem}_report.html", f"{beside.stem}_report.png"):
        _remove(beside.with_name(name))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(path, error) from None


def _descrip(what: str, record: dict[str, Any]) -> str:
    """What an image's header says of it."""
    version = record["software"]["lohi-edge"]
    mark_held = "HELD BY QUALITY CHECK, " if record["verdict"] == "hold" else ""
    return f"{nifti.SYNTHETIC_MARK} {what}, {mark_held}lohi-edge {version}, research use only"


def sheet_path(image: Path) -> Path:
    """Where the contact sheet of a derived series goes."""
    return image.with_name(f"{image.name}_sheet.dcm")


def deliver_sheet(
    image: Path, before: Volume, after: Volume, record: dict[str, Any], clock: Clock
) -> None:
    """Write the contact sheet of a derived series as a secondary capture of the same study.

    Args:
        before, after: scan and result on one 1 mm grid.

    Raises:
        DiskError: nothing is left behind.
    """
    with clock("write"):
        rows = sheet_rows(record, before, after)
        path = sheet_path(image)
        try:
            record["result"]["sheet"] = dicom.write_sheet(
                path, np.asarray(picture.sheet(rows, receipt.remarks(record))), before, record
            )
        except DiskError:
            discard(image)
            raise


def digest(image: Path) -> str:
    """sha256 of a result: of the file, or over the files of a series."""
    if image.is_dir():
        return dicom.folder_digest(image)
    return sha256(read_bytes(image, nifti.MAX_FILE_BYTES))


def write_receipt(image: Path, record: dict[str, Any], acquired: dict[str, Any] | None) -> None:
    """Write the receipt beside its image, with what comes along of the acquired scan's sidecar.

    From now on the result is finished.
    """
    text = json.dumps(receipt.sidecar(record, acquired), indent=2, allow_nan=False)
    try:
        with atomic_write(receipt_path(image)) as file:
            file.write(text.encode() + b"\n")
    except DiskError:
        # An image that nothing vouches for is not delivered.
        discard(image)
        if "uncertainty" in record:
            discard(uncertainty_path(image))
        discard(sheet_path(image))
        raise


def refuse_source(image: Path | None, scan: Path | Series | Volume) -> None:
    """Raises UsageError where a result would replace the very scan it is made from."""
    if image and isinstance(scan, Path) and os.path.realpath(image) == os.path.realpath(scan):
        raise UsageError(
            f"{scan}: its result would bear its own name and replace it; choose another folder "
            "with -o"
        )
