"""Region volumes of scans and results, as receipts and `lohi-edge volumes` give them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib

from lohi_edge import nifti, source
from lohi_edge.clock import Clock
from lohi_edge.dicom import Series
from lohi_edge.errors import BadInput, LohiError, UsageError
from lohi_edge.files import atomic_write, make_directory
from lohi_edge.nifti_header import Prefer
from lohi_edge.quality.morphometry import Segmentation, Segmenter, region_volumes
from lohi_edge.source import label
from lohi_edge.volume import Volume

LABELS = "_dseg"  # at the end of the stem of a file of regions
UNUSABLE_PERCENT = 20  # a region measured worse than this, on average, is flagged
NOTE = "Research use only: automatic, not checked by anybody, not for diagnosis."


def assess(volume: Volume, segmenter: Segmenter) -> tuple[dict[str, Any], Segmentation]:
    """`ml` and `error_percent` by region, and `unusable`, the regions not to be relied on.

    Raises:
        BadInput: the network finds no head.
    """
    segmentation = segmenter.segment(volume)
    errors = segmenter.errors(volume)
    measured = {name: round(ml, 3) for name, ml in region_volumes(segmentation).items()}
    # What nothing is known about is not to be relied on either.
    unusable = [name for name in measured if not errors.get(name, 100.0) <= UNUSABLE_PERCENT]
    expected = {name: errors[name] for name in measured if name in errors}
    record = {"ml": measured, "error_percent": expected, "unusable": unusable, "note": NOTE}
    return record, segmentation


def before_and_after(fine: Volume, result: Volume, segmenter: Segmenter) -> dict[str, Any]:
    """`input` and `result`, each as `assess` gives it; `error` in words where no head is found."""
    found: dict[str, Any] = {}
    for name, volume in (("input", fine), ("result", result)):
        try:
            found[name] = assess(volume, segmenter)[0]
        except BadInput as error:
            found[name] = {"error": str(error)}
    return found


def measurable(file: Path) -> bool:
    """Whether a NIfTI file of a folder is a scan or result, no map of ours that shows no head."""
    return nifti.UNCERTAINTY not in file.name and not nifti.stem(file).endswith(LABELS)


def check(
    scan: Path | Series,
    segmenter: Segmenter,
    labels: Path | None = None,
    prefer: Prefer | None = None,
) -> dict[str, Any]:
    """`source` and `volumes` of one scan or result; or `source` and `error`.

    `labels` is a folder for NAME_dseg.nii.gz, the regions at 1 mm; `prefer` the affine to take
    where sform and qform disagree.

    Raises:
        DiskError: the regions cannot be written.
    """
    name = {"path": scan.name}
    try:
        resolved = source.resolve(scan)
        if isinstance(resolved, Path):
            volume = nifti.read(resolved, prefer=prefer)
        else:
            volume = source.read(resolved, None, Clock())
        record, segmentation = assess(volume, segmenter)
    except LohiError as error:
        failed = {"exit_code": error.exit_code, "message": str(error)}
        return {"source": name, "error": failed}
    if labels:
        make_directory(labels)
        write_labels(labels / _labels_name(resolved), segmentation)
    return {"source": name, "volumes": record}


def _labels_name(scan: Path | Series | Volume) -> str:
    return f"{source.stem(scan)}{LABELS}.nii.gz"


def refuse_same_names(scans: Iterable[Path | Series]) -> None:
    """Raises UsageError where the regions of two scans would go into one file."""
    seen: dict[str, Path | Series] = {}
    for scan in scans:
        name = _labels_name(scan)
        other = seen.setdefault(name, scan)
        if other is not scan:
            raise UsageError(
                f"the regions of {label(other)} and {label(scan)} would both become {name}; "
                "measure them one by one, with two folders for --labels"
            )


def write_labels(path: Path, segmentation: Segmentation) -> None:
    """A segmentation as a NIfTI file of FreeSurfer's label numbers, int16.

    Raises:
        DiskError: nothing was left behind.
    """
    from isal import igzip

    image = nib.Nifti1Image(segmentation.labels, segmentation.affine)
    image.header.set_xyzt_units("mm")
    image.header.set_intent("label")
    image.header["descrip"] = b"lohi-edge regions, automatic, research use only"
    with atomic_write(path) as file:
        file.write(igzip.compress(image.to_bytes(), mtime=0))


def to_csv(records: list[dict[str, Any]]) -> str:
    """One line a scan and region."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["scan", "region", "ml", "error_percent", "usable"])
    for record in records:
        volumes = record.get("volumes", {"ml": {}})
        for name, ml in volumes["ml"].items():
            error = volumes["error_percent"].get(name, "")
            usable = "no" if name in volumes["unusable"] else "yes"
            writer.writerow([record["source"]["path"], name, ml, error, usable])
    return out.getvalue()


def lines(record: dict[str, Any]) -> str:
    """A scan's volumes, for people."""
    name = record["source"]["path"]
    if "error" in record:
        return f"{name}: error: {record['error']['message']}\n"
    volumes = record["volumes"]
    rows = [f"{name}\n  {'region':34}{'ml':>10}{'usual error':>14}\n"]
    for region, ml in volumes["ml"].items():
        error = volumes["error_percent"].get(region)
        shown = "unknown" if error is None else f"{error:.0f} %"
        flag = "  not usable" if region in volumes["unusable"] else ""
        rows.append(f"  {region:34}{ml:10.2f}{shown:>14}{flag}\n")
    return "".join(rows) + f"  {volumes['note']}\n"


def exit_code(records: list[dict[str, Any]]) -> int:
    """3 where a scan could not be measured, else 0."""
    return 3 if any("error" in record for record in records) else 0
