"""Linear registration of a 3 T head scan to a 64 mT scan of the same head.

Mattes' mutual information (IEEE Trans Med Imaging 22:120, 2003) over three resolutions and
regular-step gradient descent, by SimpleITK. Same input, same result but for the last bits: the
samples' seeds are fixed and one thread is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from lohi_edge.errors import UsageError
from lohi_edge.volume import Float64, Volume
from lohi_export.pairs.scene import FWHM, Level, Scene, Transform, apply, blurred, image, to_ras

KINDS = ("rigid", "affine")
WORK_MM, QUICK_MM = 2, 4
# Degrees (nodding, turning to a side) between the two scanners that the starts try.
POSES = ((0.0, 0.0), (20.0, 0.0), (-20.0, 0.0), (0.0, 15.0), (0.0, -15.0))
NUDGE_MM, NUDGE_DEGREES = 3.0, 2.0  # along and about every axis: where the second refinement starts
APART_MM = 20.0  # a displacement at which nothing fits any more
# What a head that moved between two scanners cannot show (see `Registration.problems`).
MAX_RESIDUAL_MM = 2.0
MAX_DEGREES = 50.0
SCALES = (0.88, 1.14)
MIN_OVERLAP = 0.75
MIN_SHOWN = 0.9
MIN_GAIN = 0.1


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the head of the 3 T scan lies in the 64 mT scan.

    Attributes:
        kind: "rigid" or "affine".
        matrix: float64 (4, 4), position in the 64 mT scan, mm RAS+ -> position in the 3 T scan.
        metric: mutual information at the end, nats; more is better.
        gain: its lead over the mean of the six places APART_MM away.
        residual_mm: mean distance over the head between two refinements from different places with
            different samples: how far the answer can be trusted, distortions left aside.
        degrees, shift_mm: rotation, and displacement of the head's centre, between the two scans'
            coordinates.
        scales: singular values of the matrix, ascending; 1 for a rigid one.
        overlap: share of the 64 mT head inside the 3 T scan's field of view.
        shown: share of its inner part, brain and skull base, where the 3 T scan is not blank; what
            defacing and skull-stripping take away lies further out.
    """

    kind: str
    matrix: Float64
    metric: float
    gain: float
    residual_mm: float
    degrees: float
    shift_mm: float
    scales: tuple[float, float, float]
    overlap: float
    shown: float
    transform: sitk.Transform = field(repr=False)

    def problems(self) -> list[str]:
        """Why this registration must not be believed, in words; empty where it may be."""
        limits = [
            (self.residual_mm <= MAX_RESIDUAL_MM,
             f"two starts ended {self.residual_mm:.1f} mm apart, at most {MAX_RESIDUAL_MM:g}"),
            (self.gain >= MIN_GAIN,
             f"the scans fit hardly better ({self.gain:.3f} nats, at least {MIN_GAIN:g}) than "
             f"{APART_MM:g} mm apart"),
            (self.degrees <= MAX_DEGREES,
             f"turned by {self.degrees:.0f} degrees, at most {MAX_DEGREES:g}"),
            (SCALES[0] <= self.scales[0] and self.scales[2] <= SCALES[1],
             f"scaled by {self.scales[0]:.2f} to {self.scales[2]:.2f}, expected {SCALES[0]:g} to "
             f"{SCALES[1]:g}"),
            (self.overlap >= MIN_OVERLAP,
             f"{self.overlap:.0%} of the head lie inside the 3 T scan, at least {MIN_OVERLAP:.0%}"),
            (self.shown >= MIN_SHOWN,
             f"the 3 T scan shows nothing in {1 - self.shown:.0%} of the inner head, at most "
             f"{1 - MIN_SHOWN:.0%}"),
        ]  # fmt: skip
        return [words for fine, words in limits if not fine]


def register(low: Volume, high: Volume, kind: str = "rigid") -> Registration:
    """Align a 3 T scan with a 64 mT scan, whatever their poses and grids.

    Starts lay the heads' centres on each other, in POSES; the best is refined twice.

    Raises:
        UsageError: another kind than rigid or affine.
        BadInput: a scan without a head.
    """
    if kind not in KINDS:
        raise UsageError(f"expected a transform of {', '.join(KINDS)}; got {kind!r}")
    scene = Scene(low, high, WORK_MM)
    between = scene.high_centre - scene.head.mean(0)
    starts = [
        scene.optimise(scene.rigid(between, *pose), Level(4, 1.0, 8.0, 0.001), seed=1)
        for pose in POSES
    ]
    best = min(starts, key=lambda found: found[1])[0]
    first, second = sorted(
        (_refine(scene, best, kind, seed=2), _refine(scene, _nudged(best), kind, seed=3)),
        key=lambda found: found[1],
    )
    return _judge(scene, kind, first, second[0])


def _refine(
    scene: Scene, start: sitk.Euler3DTransform, kind: str, seed: int
) -> tuple[Transform, float]:
    rigid, _ = scene.optimise(start, Level(2, 0.4, 2.0, 0.001), seed)
    if kind == "rigid":
        return scene.optimise(rigid, Level(1, 0.15, 1.0, 0.001), seed)
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    # A matrix element counts like a millimetre in a step: longer ones shrink the head and lose it.
    affine, _ = scene.optimise(affine, Level(2, 0.4, 0.05, 0.0005), seed)
    return scene.optimise(affine, Level(1, 0.15, 0.05, 0.0005), seed)


def _nudged(transform: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
    copy = sitk.Euler3DTransform(transform)
    off = [float(np.radians(NUDGE_DEGREES))] * 3 + [NUDGE_MM] * 3
    copy.SetParameters([p + d for p, d in zip(copy.GetParameters(), off, strict=True)])
    return copy


def _judge(
    scene: Scene, kind: str, best: tuple[Transform, float], other: Transform
) -> Registration:
    transform, metric = best
    matrix = to_ras(transform)
    centre = scene.head.mean(0)
    least, middle, most = np.linalg.svd(matrix[:3, :3], compute_uv=False)[::-1]
    return Registration(
        kind=kind,
        matrix=matrix,
        metric=-metric,
        gain=_apart(scene, transform) - metric,
        residual_mm=_distance(matrix, to_ras(other), scene.head),
        degrees=_degrees(matrix),
        shift_mm=float(np.linalg.norm(apply(matrix, centre) - centre)),
        scales=(float(least), float(middle), float(most)),
        overlap=scene.overlap(matrix),
        shown=scene.shown(matrix),
        transform=transform,
    )


def _apart(scene: Scene, transform: Transform) -> float:
    """Mean metric of the six places APART_MM away."""
    values = []
    for way in (*np.eye(3), *-np.eye(3)):
        away = type(transform)(transform)
        away.SetTranslation((np.array(away.GetTranslation()) + way * APART_MM).tolist())
        values.append(scene.metric(away))
    return float(np.mean(values))


def _distance(a: Float64, b: Float64, points: Float64) -> float:
    """Mean distance between where two matrices put points (n, 3)."""
    return float(np.linalg.norm(apply(a, points) - apply(b, points), axis=1).mean())


def _degrees(matrix: Float64) -> float:
    """Angle of the rotation nearest to a matrix's linear part (polar decomposition)."""
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    return float(np.degrees(np.arccos(np.clip((np.trace(u @ vt) - 1) / 2, -1, 1))))


@dataclass(frozen=True)
class Misalignment:
    """How far two scans of one grid seem to be from showing the head in one place.

    Attributes:
        mm: mean displacement over the head.
        degrees: rotation.
    """

    mm: float
    degrees: float


def misalignment(low: Volume, high: Volume) -> Misalignment:
    """A cheap estimate (about a second) for scans that ought to be aligned already.

    Rigid, from where the scans are, at one resolution; capture range about 30 mm.

    Raises:
        BadInput: a scan without a head.
    """
    scene = Scene(low, high, QUICK_MM)
    far, _ = scene.optimise(scene.rigid(np.zeros(3)), Level(2, 1.0, 4.0, 0.001), seed=1)
    near, _ = scene.optimise(far, Level(1, 0.6, 1.0, 0.001), seed=2)
    matrix = to_ras(near)
    return Misalignment(_distance(matrix, np.eye(4), scene.head), _degrees(matrix))


def resample(
    high: Volume, registration: Registration, shape: tuple[int, int, int], affine: Float64
) -> Volume:
    """The 3 T scan on another grid, after its registration; one interpolation (cubic B-spline).

    Where its voxels are smaller than the grid's they are averaged first, so that nothing aliases.
    Values beyond the scan's own range, which the interpolation makes at edges, are clipped.
    """
    wanted = np.linalg.norm(affine[:3, :3], axis=0)
    data = blurred(high, np.sqrt(np.maximum(0, wanted**2 - high.zooms**2)) / FWHM)
    grid = image(Volume(np.zeros(shape, np.float32), affine))
    moved = sitk.Resample(
        image(high.with_data(data)), grid, registration.transform, sitk.sitkBSpline, 0.0
    )
    array = sitk.GetArrayFromImage(moved).transpose(2, 1, 0)
    low, top = min(0.0, float(high.data.min())), float(high.data.max())
    return Volume(np.clip(array, low, top), affine, high.origin)
