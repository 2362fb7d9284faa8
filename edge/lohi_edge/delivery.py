"""Where results go: names that say "synthetic", the image first, the receipt last.

An image whose receipt is there is finished; one without was cut off and is made again.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lohi_edge import nifti, nifti_write, receipt
from lohi_edge.clock import Clock
from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_edge.files import atomic_write, make_directory, read_bytes, sha256
from lohi_edge.nifti_write import Grid
from lohi_edge.slices import INTENSITY_MEANING
from lohi_edge.volume import Volume

MAX_RECEIPT = 4 << 20
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
        return f"{stem}_desc-synthetic.nii.gz"
    entities = re.sub(r"_desc-[a-zA-Z0-9]+", "", bids["entities"])
    return f"{entities}_desc-synthetic_{bids['suffix']}.nii.gz"


def target(scan: str | Path | Volume, out: str | Path | None) -> Path | None:
    """The image file a result will be written to; None when nothing is asked to be written."""
    if out is None:
        return None
    if isinstance(scan, Volume):
        name = scan.origin.name if scan.origin else "volume"
    else:
        name = Path(scan).name
    return Path(out) / output_name(nifti.stem(Path(name)))


def receipt_path(image: Path) -> Path:
    return image.with_name(nifti.stem(image) + ".json")


def existing(image: Path, record: dict[str, Any], grid: Grid) -> dict[str, Any] | None:
    """The receipt of a finished result that `record` would only repeat; None when there is none.

    Raises:
        UsageError: a finished result of another scan, model or grid is in the way.
    """
    beside = receipt_path(image)
    if not (beside.is_file() and image.is_file()):
        return None
    found = read_receipt(beside)
    same = found is not None and all(
        found[key] == record[key] for key in ("bundle", "onnx", "contrast", "precision")
    )
    if (
        found is not None
        and same
        and None is not found["source"]["sha256"] == record["source"]["sha256"]
        and found["result"]["grid"] == grid
        and found["result"]["sha256"] == sha256(read_bytes(image, nifti.MAX_FILE_BYTES))
    ):
        return found
    raise UsageError(
        f"{image}: another result is there already; remove it, choose another folder with -o, "
        "or replace it with --overwrite"
    )


def read_receipt(path: Path) -> dict[str, Any] | None:
    """A receipt from its file, or None where the file holds none of ours."""
    try:
        found = json.loads(read_bytes(path, MAX_RECEIPT))["LohiEdge"]
        complete = {"source", "result", "bundle", "onnx", "contrast", "precision"} <= found.keys()
        return found if complete and {"grid", "sha256"} <= found["result"].keys() else None
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError, BadInput):
        return None


def deliver(
    image: Path, volume: Volume, record: dict[str, Any], scan: Any, grid: Grid, clock: Clock
) -> None:
    """Write the image and record in the receipt what was written.

    Raises:
        DiskError: nothing is left behind.
    """
    with clock("write"):
        make_directory(image.parent)
        # A stale receipt must not vouch for the image that replaces its own.
        unlink(receipt_path(image))
        version = record["software"]["lohi-edge"]
        descrip = f"{nifti.SYNTHETIC_MARK} 3T-like, lohi-edge {version}, research use only"
        geometry = nifti_write.write(image, volume, descrip)
        digest = sha256(read_bytes(image, nifti.MAX_FILE_BYTES))
    record["result"] = {
        "path": image.name,
        "sha256": digest,
        "grid": grid,
        **geometry,
        "intensity": INTENSITY_MEANING,
    }
    if not isinstance(scan, Volume):
        record["source"]["path"] = receipt.relative(Path(scan), image.parent)


def write_receipt(image: Path, record: dict[str, Any], acquired: dict[str, Any] | None) -> None:
    """Write the receipt beside its image, with what comes along of the acquired scan's sidecar.

    From now on the result is finished.
    """
    text = json.dumps(receipt.sidecar(record, acquired), indent=2, allow_nan=False)
    with atomic_write(receipt_path(image)) as file:
        file.write(text.encode() + b"\n")


def unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DiskError(f"{path}: cannot be replaced: {error.strerror}") from None
