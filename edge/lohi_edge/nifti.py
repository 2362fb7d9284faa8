"""NIfTI-1 and NIfTI-2 single files: untrusted bytes -> Volume.

Every voxel, slope and affine is checked before anything is built on it. The header is read in
nifti_header.py, files are written in nifti_write.py.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lohi_edge import intensities
from lohi_edge.clock import Clock
from lohi_edge.errors import BadInput
from lohi_edge.files import is_file, read_bytes, sha256
from lohi_edge.nifti_header import Prefer, choose_affine, parse
from lohi_edge.volume import MAX_VOXELS, Float32, Origin, Volume, axcodes, check_affine

MAX_FILE_BYTES = (2 << 30) + (64 << 20)  # the largest grid as uncompressed float64, and a margin
MAX_SIDECAR = 1 << 20
SYNTHETIC_MARK = "SYNTHETIC"  # first word of `descrip` in every image this package writes
SUFFIXES = (".nii", ".nii.gz")
RESULT, UNCERTAINTY = "_desc-synthetic", "_desc-uncertainty"  # in the name of every result
WITHHELD = "_desc-withheld"  # in that of a receipt whose image the quality check held back


def is_nifti_name(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def names_result(name: str) -> bool:
    """Whether a file name is one that only this package gives."""
    return any(mark in name for mark in (RESULT, UNCERTAINTY, WITHHELD))


def is_synthetic(header: Any) -> bool:
    """Whether an image was written by this package."""
    return bytes(header["descrip"].item()).startswith(SYNTHETIC_MARK.encode())


def stem(path: Path) -> str:
    """File name without .nii or .nii.gz."""
    name = path.name
    for suffix in reversed(SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def read(
    path: str | Path,
    *,
    prefer: Prefer | None = None,
    max_voxels: int = MAX_VOXELS,
    clock: Clock | None = None,
) -> Volume:
    """One head scan from a .nii or .nii.gz file.

    Args:
        path: the file; a JSON file of the same stem beside it is read as its BIDS sidecar, unless
            it is empty, which a note tells of.
        prefer: which of two contradictory transforms to believe.
        max_voxels: largest grid accepted.
        clock: gets the phases "read" (bytes, inflating) and "validate" (everything else).

    Raises:
        BadInput: anything this reader will not vouch for; the message names the file, what was
            expected, what was found and what to do.
    """
    path = Path(path)
    clock = clock or Clock()
    try:
        with clock("read"):
            stored = read_bytes(path, MAX_FILE_BYTES)
            header, values = parse(stored, max_voxels)
        with clock("validate"):
            affine, notes = choose_affine(header, prefer)
            check_affine(affine)
            data = _intensities(header, values)
            sidecar, said = _sidecar(path)
            origin = Origin(
                name=path.name,
                sha256=sha256(stored),
                axcodes=axcodes(affine),
                shape=tuple(values.shape),
                affine=affine,
                header=header,
                notes=(*notes, *said),
                sidecar=sidecar,
            )
            return Volume.canonical(data.reshape(values.shape[:3]), affine, origin)
    except BadInput as error:
        text = str(error)
        raise BadInput(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _intensities(header: Any, values: NDArray[Any]) -> Float32:
    """Stored values x slope + intercept as float32, checked."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise BadInput(f"expected finite scaling, got slope {slope} and intercept {inter}")
    data: Float32
    with np.errstate(over="ignore", invalid="ignore"):  # looked for behind it
        if slope == 0 or (slope == 1 and inter == 0):  # NIfTI: slope 0 means no scaling
            data = values.astype(np.float32)
        elif values.dtype.itemsize <= 2:
            data = values.astype(np.float32) * np.float32(slope) + np.float32(inter)
        else:
            data = (values * np.float64(slope) + np.float64(inter)).astype(np.float32)
    intensities.check(data)
    return data


def _sidecar(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the sidecar of a scan states, and notes on it."""
    beside = path.with_name(stem(path) + ".json")
    if not is_file(beside):
        return {}, ()
    text = read_bytes(beside, MAX_SIDECAR)
    if not text.strip():  # as a shell makes it, before the command runs whose output goes there
        note = f"{beside.name} beside the scan is empty: it was not taken for the scan's sidecar"
        return {}, (note,)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"its sidecar {beside.name} is not JSON ({error}); mend or remove it"
        ) from None
    if _is_output(values):
        raise BadInput(
            f"its sidecar {beside.name} is what lohi-edge printed with --json, and states nothing "
            "of the scan; if another sidecar stood there before, bring that back, else rename or "
            "remove this one"
        )
    if not isinstance(values, dict):
        raise BadInput(f"its sidecar {beside.name} is not a JSON object; mend or remove it")
    return values, ()


def _is_output(values: Any) -> bool:
    """Whether this is what enhance, qc or volumes print: a list with a record of each scan."""
    return (
        isinstance(values, list)
        and values != []
        and all(
            isinstance(one, dict)
            and isinstance(one.get("source"), dict)
            and not {"verdict", "error", "volumes"}.isdisjoint(one)
            for one in values
        )
    )
