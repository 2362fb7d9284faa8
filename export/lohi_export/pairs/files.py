"""Files of a paired data set: written whole, and the same bytes for the same content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from lohi_edge.errors import BadInput
from lohi_edge.files import atomic_write, make_directory
from lohi_edge.volume import Volume
from lohi_export.pairs.anatomy import Labels
from lohi_export.pairs.scans import read_object

DESCRIPTION = "dataset_description.json"


def read_labels(path: Path) -> tuple[Labels, np.ndarray]:
    """A label map as (int16 (X, Y, Z), affine (4, 4)).

    Raises:
        BadInput: not a readable NIfTI file of whole numbers.
    """
    try:
        image: Any = nib.load(path)
        return np.asarray(image.dataobj, dtype=np.int16), image.affine
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise BadInput(f"expected a NIfTI label map, got {path.name}: {error}") from error


def nifti_bytes(volume: Volume, description: str) -> bytes:
    """int16 with slope."""
    top = float(volume.data.max())
    slope = top / 32000 if top > 0 else 1.0
    stored = np.rint(volume.data / slope).astype(np.int16)
    image = nib.Nifti1Image(stored, volume.affine)
    image.header.set_slope_inter(slope, 0)
    return _packed(image, volume.affine, description)


def label_nifti_bytes(labels: Labels, affine: np.ndarray) -> bytes:
    """Whole numbers as they are."""
    image = nib.Nifti1Image(labels, affine)
    return _packed(image, affine, "labels a simulated 3T scan was made from")


def _packed(image: Any, affine: np.ndarray, description: str) -> bytes:
    """As a gzip stream without a time stamp (same pair, same bytes)."""
    from isal import igzip

    image.header.set_xyzt_units("mm")
    image.header.set_qform(affine, 1)
    image.header.set_sform(affine, 1)
    image.header["descrip"] = description.encode()
    return bytes(igzip.compress(image.to_bytes(), mtime=0))


def as_json(content: Any) -> bytes:
    """As readable JSON."""
    return (json.dumps(content, indent=1) + "\n").encode()


def described(folder: Path) -> dict[str, Any]:
    """dataset_description.json of a data set; empty where there is none.

    Raises:
        BadInput: it is no JSON object.
    """
    path = folder / DESCRIPTION
    return read_object(path) if path.is_file() else {}


def describe_beside(folder: Path, own: dict[str, Any], tool: str) -> None:
    """Write dataset_description.json; what is not of `tool` alone keeps its name and credits.

    Whose pairs were there first names the data set. A licence stays only where it is that of both.

    Raises:
        BadInput: the one that is there is no JSON object.
    """
    before = described(folder)
    made = before.get("GeneratedBy")
    makers = [one for one in made if isinstance(one, dict)] if isinstance(made, list) else []
    others = [one for one in makers if one.get("Name") != tool]
    if before and (others or not makers):
        known, credit = (
            str(before.get("Acknowledgements", "")),
            str(own.get("Acknowledgements", "")),
        )
        both = known if credit in known else f"{known} {credit}".strip()
        license_of_both = before.get("License") == own.get("License")
        own = {**own, **before, "GeneratedBy": [*others, *own["GeneratedBy"]]}
        if both:
            own["Acknowledgements"] = both
        if not license_of_both:
            own.pop("License", None)
    write_whole(folder / DESCRIPTION, as_json(own))


def write_whole(path: Path, content: bytes) -> None:
    """A file and its folder; the file is there whole or not at all.

    Raises:
        DiskError: the disk would not take it.
    """
    make_directory(path.parent)
    with atomic_write(path) as file:
        file.write(content)
