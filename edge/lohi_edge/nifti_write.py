"""Volume -> NIfTI file: int16 with an explicit slope, in the frame and axes of its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from isal import igzip

from lohi_edge.files import atomic_write
from lohi_edge.nifti_header import MM_PER_UNIT, forms
from lohi_edge.volume import Float64, Volume, axcodes

Grid = Literal["1mm", "native"]
INT16_MAX = 32767


def write(path: Path, volume: Volume, descrip: str) -> dict[str, Any]:
    """Save a volume atomically; .nii.gz is compressed, .nii is not.

    The grid may be the source's own (header geometry is then copied bit for bit) or any other
    along the same axes: each transform that the source coded is carried over to the new grid.
    A volume from DICOM or without an origin gets its affine as sform, code 1 (scanner).

    Returns:
        What was written: `shape`, `zooms` (mm), `affine` (mm), `axcodes`, `dtype`, `slope`.

    Raises:
        DiskError: nothing was left behind.
    """
    stored, affine = as_stored(volume)
    if volume.origin and volume.origin.kind == "nifti":
        header = _header_like(volume)
    else:
        header = _fresh_header(stored.shape, affine)
    peak = float(np.abs(stored).max())
    slope = peak / INT16_MAX if peak > 0 else 1.0
    values = np.rint(stored * np.float32(1 / slope)).astype("<i2")
    header.set_data_dtype("<i2")
    header["scl_slope"], header["scl_inter"] = slope, 0
    header["cal_min"], header["cal_max"] = 0, 0
    header["descrip"] = descrip.encode("ascii")[:79]
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    content = (header.binaryblock + bytes(4), values.tobytes(order="F"))
    with atomic_write(path) as file:
        if path.name.endswith(".gz"):
            # No time stamp and no name inside: the same volume gives the same bytes.
            with igzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                packed.writelines(content)
        else:
            file.writelines(content)
    return {
        "shape": list(values.shape),
        "zooms": [round(float(z), 6) for z in np.linalg.norm(affine[:3, :3], axis=0)],
        "affine": affine.tolist(),
        "axcodes": axcodes(affine),
        "dtype": "int16",
        "slope": slope,
    }


def as_stored(volume: Volume) -> tuple[Any, Float64]:
    """Voxels and affine (mm) in the axis order and direction of the source, as (array, affine)."""
    codes = volume.origin.axcodes if volume.origin else "RAS"
    ornt = nib.orientations.axcodes2ornt(codes)
    canonical_to_stored = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), ornt
    )
    data = nib.apply_orientation(volume.data, canonical_to_stored)
    flips = nib.orientations.inv_ornt_aff(canonical_to_stored, volume.shape)
    return data, volume.affine @ flips


def _header_like(volume: Volume) -> Any:
    """The source's header, moved to the volume's grid."""
    assert volume.origin is not None
    source = volume.origin.header
    header = source.as_byteswapped("<") if source.endianness == ">" else source.copy()
    stored, affine = as_stored(volume)
    for text in ("aux_file", "intent_name", "db_name"):
        if text in header.keys():  # noqa: SIM118 (a structured array, not a dict)
            header[text] = b""
    header["intent_code"] = 0
    moved = np.linalg.inv(volume.origin.affine) @ affine  # new stored index -> old stored index
    if stored.shape == volume.origin.shape[:3] and np.abs(moved - np.eye(4)).max() < 1e-6:
        return header
    coded = forms(source)
    unit = MM_PER_UNIT[int(source["xyzt_units"]) & 7]
    to_unit = np.diag([1 / unit] * 3 + [1.0])
    header.set_data_shape(stored.shape)
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0) / unit)
    header["dim_info"] = 0
    for timing in ("slice_code", "slice_start", "slice_end", "slice_duration"):
        header[timing] = 0  # these count slices of the source's grid
    if "qform" in coded:
        # The axes do not turn: the quaternion stays as it is, only the first voxel moves.
        first = (to_unit @ coded["qform"] @ moved)[:3, 3]
        header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = first
    if "sform" in coded:
        header.set_sform(to_unit @ coded["sform"] @ moved, int(source["sform_code"]))
    return header


def _fresh_header(shape: tuple[int, ...], affine: Float64) -> Any:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    header.set_xyzt_units("mm")
    header.set_sform(affine, 1)
    return header
