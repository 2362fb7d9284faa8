"""Where the planes of a series lie: PS3.3 C.7.6.2.1.1 (classic) and C.7.6.16.2 (enhanced).

Positions and directions are millimetres in the patient's frame as DICOM has it: LPS+.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from lohi_edge.dicom.instance import ENHANCED, Instance, items, number, numbers, text
from lohi_edge.dicom.pixels import shape
from lohi_edge.errors import BadInput
from lohi_edge.volume import MAX_SHEAR, Float64

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_DIRECTION = 1e-3  # largest difference of direction cosines within one stack
SAME_POSITION_MM = 1e-3
# Largest deviation of one gap from the median gap. Table positions rounded to 0.1 mm, as some
# scanners write them, deviate by 2 %; a missing slice by 100 %.
UNEVEN = 0.05


@dataclass(frozen=True, eq=False)
class Frame:
    """One plane of an instance.

    Attributes:
        instance: that holds it; `index` is its place therein.
        size: (rows, columns).
        position: centre of the first pixel, mm, (3,).
        directions: unit vectors along a row and down a column, (2, 3).
        spacing: mm between (rows, columns), as PixelSpacing has them.
        slope, intercept: stored value -> real value.
        echo: echo time in ms, where known.
        number: InstanceNumber, or the frame's number.
    """

    instance: Instance
    index: int
    size: tuple[int, int]
    position: Float64
    directions: Float64
    spacing: tuple[float, float]
    slope: float
    intercept: float
    echo: float | None
    number: int

    @property
    def normal(self) -> Float64:
        normal: Float64 = np.cross(self.directions[0], self.directions[1])
        return normal


def frames(instance: Instance) -> list[Frame]:
    """The planes of a classic or enhanced MR instance.

    Raises:
        BadInput: positions or spacing are missing or make no plane.
    """
    count, rows, columns = shape(instance)
    header = instance.header
    if instance.sop_class not in ENHANCED:
        if count > 1:
            raise BadInput("several frames in a classic MR image; export it as enhanced MR")
        order = int(number(header, "InstanceNumber") or 0)
        return [_frame(instance, 0, (rows, columns), [header], order)]
    shared = _groups(items(header, "SharedFunctionalGroupsSequence"))
    own = items(header, "PerFrameFunctionalGroupsSequence")
    if len(own) != count:
        raise BadInput(f"expected {count} per-frame functional groups, got {len(own)}")
    return [
        _frame(instance, index, (rows, columns), [*_groups([group]), *shared, header], index + 1)
        for index, group in enumerate(own)
    ]


def stack(planes: Sequence[Frame]) -> tuple[list[Frame], tuple[str, ...]]:
    """The planes of one volume in spatial order, along their normal, and what was noticed.

    Raises:
        BadInput: they do not make one gapless, evenly spaced, upright stack; says why.
    """
    if len(planes) < 2:
        raise BadInput("expected the slices of a volume, got one slice; name their folder")
    _refuse_mixture(planes)
    first = planes[0]
    along = [float(plane.position @ first.normal) for plane in planes]
    order = np.argsort(along, kind="stable")
    ranked = [planes[i] for i in order]
    positions = np.array([plane.position for plane in ranked])
    gaps = np.diff(positions @ first.normal)
    _refuse_repeats(gaps, len(planes))
    _refuse_tilt(positions, first.normal)
    _refuse_gaps(gaps)
    return ranked, _unevenness(positions, gaps)


def affine(ranked: Sequence[Frame]) -> Float64:
    """RAS+ mm of voxel (column, row, slice) of a stack in spatial order, float64 (4, 4).

    The distance between slices is that between the two first acquired ones, and the first acquired
    one is where its header says: the convention of dcm2niix, so that results overlay.
    """
    ends = (ranked[0], ranked[-1])
    backwards = ends[1].number < ends[0].number
    anchor, beside = (ranked[-1], ranked[-2]) if backwards else (ranked[0], ranked[1])
    step = float(np.linalg.norm(beside.position - anchor.position))
    normal = anchor.normal / np.linalg.norm(anchor.normal)
    lps = np.eye(4)
    lps[:3, 0] = anchor.directions[0] * anchor.spacing[1]
    lps[:3, 1] = anchor.directions[1] * anchor.spacing[0]
    lps[:3, 2] = normal * step
    lps[:3, 3] = anchor.position - (normal * step * (len(ranked) - 1) if backwards else 0)
    ras: Float64 = LPS_TO_RAS @ lps
    return ras


def _groups(holders: list[Dataset]) -> list[Dataset]:
    """The functional groups in an item of the shared or per-frame sequence, flattened."""
    found: list[Dataset] = []
    for holder in holders:
        for keyword in (
            "PlanePositionSequence",
            "PlaneOrientationSequence",
            "PixelMeasuresSequence",
            "PixelValueTransformationSequence",
            "MREchoSequence",
        ):
            found.extend(items(holder, keyword)[:1])
    return found


def _frame(
    instance: Instance, index: int, size: tuple[int, int], places: list[Dataset], order: int
) -> Frame:
    """A frame whose attributes stand in the first of `places` that has them."""

    def find(keyword: str, count: int) -> tuple[float, ...] | None:
        return next((v for place in places if (v := numbers(place, keyword, count))), None)

    def need(keyword: str, count: int) -> tuple[float, ...]:
        if (found := find(keyword, count)) is None:
            raise BadInput(f"expected {keyword} in every slice, one has none; export it again")
        return found

    cosines = np.array(need("ImageOrientationPatient", 6)).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(cosines[0] @ cosines[1]) > MAX_SHEAR:
        raise BadInput("expected perpendicular unit vectors in ImageOrientationPatient")
    spacing = need("PixelSpacing", 2)
    slope = (find("RescaleSlope", 1) or (1.0,))[0]
    if slope == 0:
        raise BadInput("expected a RescaleSlope other than zero; export the scan again")
    echo = find("EffectiveEchoTime", 1) or find("EchoTime", 1)
    return Frame(
        instance=instance,
        index=index,
        size=size,
        position=np.array(need("ImagePositionPatient", 3)),
        directions=cosines / lengths[:, None],
        spacing=(spacing[0], spacing[1]),
        slope=slope,
        intercept=(find("RescaleIntercept", 1) or (0.0,))[0],
        echo=echo[0] if echo else None,
        number=order,
    )


def _refuse_mixture(planes: Sequence[Frame]) -> None:
    first = planes[0]
    sizes = Counter(plane.size for plane in planes)
    if len(sizes) > 1:
        found = ", ".join(f"{n} of {r} x {c}" for (r, c), n in sizes.items())
        raise BadInput(f"expected slices of one size, got {found}; name one series' folder")
    if any(np.abs(p.directions - first.directions).max() > SAME_DIRECTION for p in planes):
        raise BadInput("expected parallel slices, got several orientations; is it a localizer?")
    if any(np.abs(np.subtract(p.spacing, first.spacing)).max() > 1e-4 for p in planes):
        raise BadInput("expected one PixelSpacing, got several; name one series' folder")
    echoes = sorted({plane.echo for plane in planes if plane.echo is not None})
    if len(echoes) > 1:
        times = ", ".join(f"{echo:g}" for echo in echoes)
        raise BadInput(
            f"{len(echoes)} echoes in one series (echo times {times} ms); "
            "split it and name the folder of one echo"
        )


def _refuse_repeats(gaps: Float64, count: int) -> None:
    repeats = int((gaps < SAME_POSITION_MM).sum())
    if repeats:
        raise BadInput(
            f"{repeats} of {count} slices lie where another one lies (several time points, "
            "diffusion weightings or a mixture of scans); name the folder of one volume"
        )


def _refuse_tilt(positions: Float64, normal: Float64) -> None:
    way = positions[-1] - positions[0]
    across = np.linalg.norm(way - normal * (way @ normal)) / np.linalg.norm(way)
    if across > MAX_SHEAR:
        angle = np.degrees(np.arcsin(min(1.0, float(across))))
        raise BadInput(
            f"the slices are sheared by {angle:.1f} degrees (gantry tilt); resample the scan first"
        )


def _refuse_gaps(gaps: Float64) -> None:
    # Where many slices are missing the median is a gap itself; the smallest ones are the spacing.
    usual = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    steps = np.rint(gaps / usual)
    off = np.abs(gaps - usual) > UNEVEN * usual
    if not off.any():
        return
    missing = int((steps[off] - 1).clip(0).sum())
    if missing and np.abs(gaps - steps * usual).max() <= UNEVEN * usual:
        place = int(np.argmax(off)) + 1
        raise BadInput(
            f"{missing} slice(s) missing, the first behind slice {place} of {len(gaps) + 1} "
            f"(a gap of {gaps[place - 1]:.2f} mm, usually {usual:.2f} mm); send the series again"
        )
    raise BadInput(
        f"expected evenly spaced slices, got gaps of {gaps.min():.2f} to {gaps.max():.2f} mm"
    )


def _unevenness(positions: Float64, gaps: Float64) -> tuple[str, ...]:
    drift = abs(float(gaps.mean() - gaps[0])) * len(gaps)
    if drift < 0.1:
        return ()
    return (
        f"spacing: gaps of {gaps.min():.3f} to {gaps.max():.3f} mm are taken as equal, which "
        f"moves the farthest slice by up to {drift:.1f} mm",
    )


def describe(planes: Sequence[Frame]) -> str:
    """A few words on a stack for lists, without a word of the patient's."""
    rows, columns = planes[0].size
    number = text(planes[0].instance.header, "SeriesNumber")
    return f"series {number or '?'}, {len(planes)} slices of {rows} x {columns}"
