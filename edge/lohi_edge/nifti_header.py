"""The NIfTI header as hostile bytes: sizes, types and transforms, checked one by one.

Sizes are bounded before a voxel is inflated.
"""

from __future__ import annotations

import io
import math
import struct
from typing import Any, BinaryIO, Literal

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from lohi_edge.errors import BadInput
from lohi_edge.volume import MAX_ZOOM_MM, MIN_ZOOM_MM, Float64

Prefer = Literal["sform", "qform"]
MAX_EXTENSIONS = 16 << 20
MAX_DEFLATE_RATIO = 1032  # the most that one byte of deflate can become
MAX_TRAILER = 1 << 20  # bytes tolerated behind the voxels
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units: unknown, metre, mm, micron


def parse(stored: bytes, max_voxels: int) -> tuple[Any, NDArray[Any]]:
    """The header and the stored voxel values (in Fortran order) of a file's bytes.

    Raises:
        BadInput: not a NIfTI file, damaged, or not one volume of at most `max_voxels` real voxels.
    """
    zipped = stored[:2] == b"\x1f\x8b"
    stream: Any = io.BytesIO(stored)
    if zipped:
        stream = igzip.GzipFile(fileobj=stream)
    try:
        header = _header(stream)
        shape = _shape(header, max_voxels)
        dtype = _dtype(header)
        _skip_to_voxels(stream, header)
        size = math.prod(shape) * dtype.itemsize
        if size > len(stored) * (MAX_DEFLATE_RATIO if zipped else 1):
            raise BadInput(
                f"truncated: expected {size:,} bytes of voxels, it has {len(stored):,} in all; "
                "copy it again"
            )
        raw = bytearray(size)
        _fill(stream, raw)
        if len(stream.read(MAX_TRAILER + 1)) > MAX_TRAILER:
            raise BadInput(
                f"more than {MAX_TRAILER:,} bytes behind the voxels; not a scan as saved"
            )
    except (EOFError, isal_zlib.IsalError, igzip.BadGzipFile) as error:  # type: ignore[misc]
        raise BadInput(f"truncated or damaged gzip ({error}); copy the file again") from None
    return header, np.frombuffer(raw, dtype=dtype).reshape(shape, order="F")


def _header(stream: BinaryIO) -> Any:
    start = stream.read(4)
    if not start:
        raise BadInput("expected a NIfTI file, got an empty one; copy it again")
    sizes = {struct.pack(e + "i", n): n for e in "<>" for n in (348, 540)}
    size = sizes.get(start)
    if size is None:
        raise BadInput("not a NIfTI file (no NIfTI header at its start); convert it with dcm2niix")
    block = start + stream.read(size - 4)
    if len(block) < size:
        raise BadInput(f"truncated: expected a {size}-byte header, got {len(block)} bytes")
    kind, magics = (
        (nib.Nifti1Header, (b"n+1", b"ni1"))
        if size == 348
        else (nib.Nifti2Header, (b"n+2", b"ni2"))
    )
    endianness = "<" if start == struct.pack("<i", size) else ">"
    header = kind(block, endianness=endianness, check=False)
    magic = bytes(header["magic"].item())[:3]
    if magic == magics[1]:
        raise BadInput("a header/image pair (.hdr/.img); convert it to a single .nii file")
    if magic != magics[0]:
        raise BadInput(
            f"expected NIfTI magic {magics[0]!r}, got {magic!r}; convert it with dcm2niix"
        )
    return header


def _shape(header: Any, max_voxels: int) -> tuple[int, ...]:
    dims = [int(n) for n in header["dim"]]
    rank, sizes = dims[0], dims[1:]
    if not 1 <= rank <= 7:
        raise BadInput(f"expected dim[0] from 1 to 7, got {rank}; the header is damaged")
    sizes = sizes[:rank]
    if min(sizes) < 1:
        raise BadInput(f"expected positive dimensions, got {sizes}; the header is damaged")
    if rank < 3 or any(n > 1 for n in sizes[3:]) or rank > 4:
        raise BadInput(
            f"expected one 3-D volume (or 4-D with a single frame), got dimensions {sizes}; "
            "extract one frame first"
        )
    count = math.prod(sizes)
    if count > max_voxels:
        raise BadInput(f"expected at most {max_voxels:,} voxels, got {count:,} ({sizes})")
    return tuple(sizes)


def _dtype(header: Any) -> np.dtype[Any]:
    code = int(header["datatype"])
    try:
        dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    except (KeyError, ValueError, nib.spatialimages.HeaderDataError):
        raise BadInput(f"unknown NIfTI data type code {code}; the header is damaged") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise BadInput(
            f"expected real voxels of at most 64 bits, got {dtype}; save a magnitude image"
        )
    if int(header["bitpix"]) != dtype.itemsize * 8:
        raise BadInput(
            f"expected {dtype.itemsize * 8} bits per {dtype} voxel, header says {header['bitpix']}"
        )
    return dtype


def _skip_to_voxels(stream: BinaryIO, header: Any) -> None:
    size, offset = int(header["sizeof_hdr"]), float(header["vox_offset"])
    if not size <= offset <= MAX_EXTENSIONS or offset != int(offset):
        raise BadInput(f"expected voxels at byte {size + 4} or soon after, header says {offset:g}")
    if len(stream.read(int(offset) - size)) < offset - size:
        raise BadInput("truncated inside its header extensions; copy the file again")


def _fill(stream: BinaryIO, raw: bytearray) -> None:
    view, done = memoryview(raw), 0
    while done < len(raw):
        got = stream.readinto(view[done : done + (8 << 20)])  # type: ignore[attr-defined]
        if not got:
            raise BadInput(
                f"truncated: expected {len(raw):,} bytes of voxels, got {done:,}; copy it again"
            )
        done += got


def forms(header: Any) -> dict[Prefer, Float64]:
    """The header's coded transforms, stored voxel index -> mm, by name.

    Raises:
        BadInput: a coded transform that is not finite or not a rotation.
    """
    unit = int(header["xyzt_units"]) & 7
    if unit not in MM_PER_UNIT:
        raise BadInput(f"unknown spatial unit code {unit} in xyzt_units; expected mm (2)")
    to_mm = np.diag([MM_PER_UNIT[unit]] * 3 + [1.0])
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64) * MM_PER_UNIT[unit]
    if not ((zooms >= MIN_ZOOM_MM) & (zooms <= MAX_ZOOM_MM)).all():
        sizes = " x ".join(f"{z:.4g}" for z in zooms)
        raise BadInput(
            f"expected voxel sizes within {MIN_ZOOM_MM}-{MAX_ZOOM_MM} mm, got {sizes} mm; "
            "check pixdim and xyzt_units"
        )
    found: dict[Prefer, Float64] = {}
    if int(header["sform_code"]) > 0:
        found["sform"] = to_mm @ np.asarray(header.get_sform(), dtype=np.float64)
    if int(header["qform_code"]) > 0:
        fixed = header.copy()
        if float(fixed["pixdim"][0]) not in (-1.0, 1.0):
            fixed["pixdim"][0] = 1  # NIfTI: any other qfac means 1
        try:
            found["qform"] = to_mm @ np.asarray(fixed.get_qform(), dtype=np.float64)
        except (ValueError, nib.spatialimages.HeaderDataError) as error:
            raise BadInput(f"the qform is not a rotation ({error}); re-export the scan") from None
    for name, affine in found.items():
        if not np.isfinite(affine).all():
            raise BadInput(f"expected a finite {name}, got NaN or infinity; re-export the scan")
    return found


def choose_affine(header: Any, prefer: Prefer | None) -> tuple[Float64, tuple[str, ...]]:
    """The transform to believe, and what had to be decided about it.

    Raises:
        BadInput: the header's transforms are unusable or contradict each other.
    """
    found = forms(header)
    if not found and prefer:
        raise BadInput(f"expected a coded {prefer}, this file has neither sform nor qform")
    if not found:
        note = "orientation: neither sform nor qform is coded; read as radiological (LAS)"
        unit = MM_PER_UNIT[int(header["xyzt_units"]) & 7]
        base = np.diag([unit] * 3 + [1.0]) @ np.asarray(header.get_base_affine(), dtype=np.float64)
        return base, (note,)
    if prefer:
        if prefer not in found:
            raise BadInput(f"expected a coded {prefer}, this file has only {', '.join(found)}")
        return found[prefer], ((preferred_note(prefer),) if len(found) > 1 else ())
    if len(found) == 2:
        apart = _farthest(found["sform"], found["qform"], header["dim"][1:4])
        if apart > 1.0:
            raise BadInput(
                f"sform and qform disagree by {apart:.1f} mm (at most 1 mm is tolerated); "
                "find out which is right and say --prefer sform or --prefer qform "
                "(the daemon: enhance.prefer)"
            )
    return found.get("sform", found.get("qform")), ()  # type: ignore[return-value]


def preferred_note(form: Prefer) -> str:
    """What a receipt says where one of two transforms was chosen by name."""
    return f"geometry: {form} preferred by request"


def _farthest(a: Float64, b: Float64, shape: Any) -> float:
    """Largest distance (mm) between two transforms over a grid; it lies at one of the corners."""
    corners = np.array(np.meshgrid(*([0, int(n) - 1] for n in shape))).reshape(3, -1)
    points = np.vstack([corners, np.ones(8)])
    return float(np.linalg.norm(((a - b) @ points)[:3], axis=0).max())
