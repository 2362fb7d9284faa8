"""Volume -> a derived MR series in the study, frame of reference and planes of the acquired one."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from lohi_edge.dicom import uids
from lohi_edge.dicom.attributes import KEPT_PER_SLICE, common, copy_keyword, source_images
from lohi_edge.dicom.folder import encoded, write_folder
from lohi_edge.dicom.geometry import Frame
from lohi_edge.dicom.read import Acquired
from lohi_edge.nifti_write import Grid, as_stored
from lohi_edge.volume import Float64, Volume, axcodes

INT16_MAX = 32767
MARK = "SYN"


@dataclass(frozen=True, eq=False)
class Planes:
    """Where the planes of the derived series lie.

    Attributes:
        positions: of the first pixel's centre, LPS mm, (n, 3).
        spacing: mm between (rows, columns).
        gap: mm between planes.
        sources: the acquired planes around each plane, nearest first.
        native: the acquired series' own grid.
    """

    positions: Float64
    spacing: tuple[float, float]
    gap: float
    sources: list[list[Frame]]
    native: bool


def write(
    folder: Path, volume: Volume, record: dict[str, Any], grid: Grid, *, mark: bool = False
) -> dict[str, Any]:
    """Write a derived series into `folder`, which appears complete and on disk or not at all.

    The volume's grid is the acquired one or any other along its axes. An existing `folder` is
    replaced.

    Args:
        volume: read from a DICOM series (`volume.origin.kind` is "dicom"), with new intensities.
        record: the receipt so far.
        grid: what to say of the grid.
        mark: burn "SYN" into a corner of every image.

    Returns:
        What was written, for the receipt's `result`.

    Raises:
        DiskError: nothing was left behind.
        UsageError: an existing `folder` holds something else.
    """
    assert volume.origin is not None
    acquired: Acquired = volume.origin.header
    data, affine = as_stored(volume)
    planes = _planes(acquired, volume.origin.affine, affine, data.shape)
    values, slope = _quantised(data)
    if mark:
        _burn(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of slips in the acquired header, with text
        shared = common(acquired.frames[0], record)
        shared.BurnedInAnnotation = "YES" if mark else "NO"
        _describe_pixels(shared, acquired, planes, values, slope)
        sources = [frame.instance.sop_uid for frame in acquired.frames]
        pixels = hashlib.sha256(values.tobytes()).hexdigest()
        identity = uids.result(sources, record, grid, pixels)
        shared.SeriesInstanceUID = uids.derive("series", *identity)
        instances = [
            _instance(shared, acquired, planes, k, values[k], identity) for k in range(len(values))
        ]
        write_folder(folder, instances)
    return {
        "format": "dicom",
        "files": len(instances),
        "series_uid": str(shared.SeriesInstanceUID),
        "shape": list(data.shape),
        "zooms": [round(float(z), 6) for z in np.linalg.norm(affine[:3, :3], axis=0)],
        "affine": affine.tolist(),
        "axcodes": axcodes(affine),
        "dtype": "int16",
        "slope": slope,
        "marked": mark,
    }


def _planes(acquired: Acquired, old: Float64, new: Float64, shape: tuple[int, ...]) -> Planes:
    """The planes of grid `new` in terms of the acquired ones.

    Positions are interpolated between those the scanner wrote, not taken from the affine, which
    has evened them out.
    """
    frames = acquired.frames
    moved = np.linalg.inv(old) @ new  # new index (column, row, slice) -> acquired index
    native = shape == (*frames[0].size[::-1], len(frames)) and bool(
        np.abs(moved - np.eye(4)).max() < 1e-6
    )
    first = frames[0]
    at = moved[2, 2] * np.arange(shape[2]) + moved[2, 3]
    if native:
        at = np.arange(len(frames), dtype=np.float64)
    known = np.array([frame.position for frame in frames])
    low = np.clip(np.floor(at).astype(int), 0, len(frames) - 2)
    share = (at - low)[:, None]  # beyond 0 to 1 outside the acquired planes: extrapolated
    positions = known[low] * (1 - share) + known[low + 1] * share
    if not native:
        along_row, down_column = moved[0, 3] * first.spacing[1], moved[1, 3] * first.spacing[0]
        positions = positions + first.directions.T @ [along_row, down_column]
    sources = []
    for place in at:
        near = sorted(range(len(frames)), key=lambda n, place=place: abs(n - place))  # type: ignore[misc]
        sources.append([frames[n] for n in near[:2] if abs(n - place) < 0.999 or n == near[0]])
    spacing = (first.spacing[0] * moved[1, 1], first.spacing[1] * moved[0, 0])
    gap = float(np.linalg.norm((known[1] - known[0]) * moved[2, 2]))
    return Planes(positions, first.spacing if native else spacing, gap, sources, native)


def _quantised(data: NDArray[Any]) -> tuple[NDArray[np.int16], float]:
    """Stored values (slices, rows, columns) and the slope that takes them back."""
    peak = float(np.abs(data).max())
    slope = float(_ds(peak / INT16_MAX)) if peak > 0 else 1.0
    values = np.rint(data.transpose(2, 1, 0) * np.float32(1 / slope))
    return np.ascontiguousarray(values.clip(-INT16_MAX, INT16_MAX).astype("<i2")), slope


def _burn(values: NDArray[np.int16]) -> None:
    """Write MARK into the upper left corner of every plane."""
    rows, columns = values.shape[1:]
    picture = Image.new("L", (columns, rows))
    font = ImageFont.load_default(max(8, rows // 16))
    ImageDraw.Draw(picture).text((2, 2), MARK, fill=255, font=font)
    values[:, np.asarray(picture) > 127] = values.max()


def _describe_pixels(
    shared: Dataset, acquired: Acquired, planes: Planes, values: NDArray[np.int16], slope: float
) -> None:
    first = acquired.frames[0]
    shared.SamplesPerPixel, shared.PhotometricInterpretation = 1, "MONOCHROME2"
    shared.Rows, shared.Columns = values.shape[1:]
    shared.BitsAllocated, shared.BitsStored, shared.HighBit = 16, 16, 15
    shared.PixelRepresentation = 1
    shared.RescaleSlope, shared.RescaleIntercept = _ds(slope), "0"
    shared.RescaleType = "US"
    peak = float(values.max()) * slope
    shared.WindowCenter, shared.WindowWidth = _ds(peak / 2), _ds(max(peak, 1.0))
    shared.PixelSpacing = [_ds(v) for v in planes.spacing]
    shared.ImageOrientationPatient = [_ds(v) for v in first.directions.ravel()]
    shared.SpacingBetweenSlices = _ds(planes.gap)
    shared.SliceThickness = _ds(planes.gap)
    if planes.native:
        copy_keyword(first.instance, shared, "SliceThickness")


def _instance(
    shared: Dataset,
    acquired: Acquired,
    planes: Planes,
    k: int,
    values: NDArray[np.int16],
    identity: list[Any],
) -> Dataset:
    """The k-th image of the derived series."""
    ds = Dataset()
    ds.update(shared)
    for keyword in KEPT_PER_SLICE:
        copy_keyword(planes.sources[k][0].instance, ds, keyword)
    # Numbered in the direction in which the acquired series is.
    backwards = acquired.frames[-1].number < acquired.frames[0].number
    ds.InstanceNumber = len(planes.positions) - k if backwards else k + 1
    ds.SOPInstanceUID = uids.derive("instance", *identity, k)
    ds.ImagePositionPatient = [_ds(v) for v in planes.positions[k]]
    normal = np.cross(*acquired.frames[0].directions)
    ds.SliceLocation = _ds(planes.positions[k] @ normal)
    ds.SourceImageSequence = source_images(planes.sources[k])
    ds.add_new("PixelData", "OW", values.tobytes())
    return encoded(ds)


def _ds(value: Any) -> str:
    """A decimal string (PS3.5 6.2: at most 16 characters), as exact as fits."""
    number = float(value) + 0.0  # -0 becomes 0
    # pydicom's own formatter writes 17 characters for some negative numbers.
    return next(t for digits in range(16, 0, -1) if len(t := f"{number:.{digits}g}") <= 16)
