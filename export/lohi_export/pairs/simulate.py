"""One pair: a label map in, a 64 mT and a 3 T volume of the same head out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from lohi_edge.errors import BadInput
from lohi_edge.volume import Float64, Volume, isotropic_grid
from lohi_export.pairs import acquisition, anatomy, placing
from lohi_export.pairs.anatomy import Labels
from lohi_export.pairs.fields import Float32, Shape, random_field
from lohi_export.pairs.pathology import Pathology
from lohi_export.pairs.ranges import Ranges

FIELD_OF_VIEW = (224, 224, 160)  # mm, and voxels of the 3 T volume
WHITE = 100.0  # white matter's intensity at the centre of the brain, both scanners
# What is drawn for a head and its tissue, and not anew when it is scanned again at 64 mT.
_OF_THE_HEAD = {
    "tilt", "offset", "rise", "scale", "warp", "fill", "sulcus", "relaxation_jitter",
    "low_jitter", "texture", "density_texture", "skin", "fat", "low_tr", "low_te", "low_ti",
    "low_train", "low_cortex_gain", "narrow_sulci", "narrow_ventricles",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pair:
    """A simulated pair; `low.isotropic()` and `high` share shape and affine.

    Attributes:
        low: 64 mT, about 1.6 x 1.6 x 5 mm.
        high: 3 T, 1 mm isotropic.
        labels: int16, the segmentation `high` was made from, on its grid. Every contrast of one
            seed shows the same anatomy. None where it was made from a real volume.
        params: what was drawn, by the names of `Ranges`.
    """

    low: Volume
    high: Volume
    labels: Labels | None
    params: dict[str, float]


@dataclass(frozen=True, eq=False)
class Posed:
    """A head in the scanner, before any scan.

    Attributes:
        signals: on the label map's grid.
        at: (3, X, Y, Z), where the voxels of the 1 mm grid lie in it.
        labels: int16 (X, Y, Z), the segmentation on the label map's grid.
        params: what was drawn.
        field_of_view: mm along each axis.
    """

    signals: anatomy.Signals
    at: Float32
    labels: Labels
    params: dict[str, float]
    field_of_view: Shape


def simulate_pair(
    labels: Labels,
    affine: Float64,
    seed: int | Sequence[int],
    ranges: Ranges,
    contrast: str = "T1w",
    field_of_view: Shape = FIELD_OF_VIEW,
    pathology: Pathology | None = None,
    scanner: int | None = None,
) -> Pair:
    """Simulate one head scanned at 64 mT and at 3 T.

    Args:
        labels: int16 (X, Y, Z), whole-head label map (tissues.LABEL_TISSUE) at 1 mm, RAS+.
        affine: float64 (4, 4) of the label map, mm.
        seed: of everything random; the same seed gives the same voxels.
        ranges: what is drawn from where.
        contrast: T1w, T2w or FLAIR; `ranges` must be that contrast's (`ranges_for`).
        field_of_view: mm along each axis.
        pathology: made of `labels`; all that is random stays as it is in the healthy head.
        scanner: number of the scanner whose `ranges` these are (`of_scanner`), and whose coil is
            drawn from it; None for another coil in every scan.

    Raises:
        BadInput: a label map that is not 1 mm RAS+ or has no brain.
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
    head = pose(labels, affine, streams[0], streams[2], ranges, contrast, field_of_view, pathology)
    shape, low_affine = low_grid(head.params, streams[1], field_of_view)
    _, high_affine = isotropic_grid(shape, low_affine)
    sampled = placing.sample(head.signals.high, head.at)
    high = acquisition.acquire_high(sampled, head.params, streams[3])
    low = _scanned(head, shape, head.params, streams[4], scanner)
    segmentation = placing.sample_labels(head.labels, head.at)
    return Pair(
        Volume(low, low_affine), Volume(high * WHITE, high_affine), segmentation, head.params
    )


def pose(
    labels: Labels,
    affine: Float64,
    draws: np.random.Generator,
    rng: np.random.Generator,
    ranges: Ranges,
    contrast: str,
    field_of_view: Shape = FIELD_OF_VIEW,
    pathology: Pathology | None = None,
) -> Posed:
    """Draw a head's parameters from `draws`, dress it, and put it into the scanner.

    Raises:
        BadInput: a label map that is not 1 mm RAS+ or has no brain.
    """
    _check(labels, affine)
    box = _head_box(labels)
    labels = np.ascontiguousarray(labels[box])
    params = ranges.draw(draws)
    if pathology:
        pathology = pathology.within(box)
        labels = pathology.labels
    labels = anatomy.narrow(labels, params)
    dressed = anatomy.dress(labels, params, rng)
    signals = anatomy.tissue_signals(dressed, params, contrast, rng)
    if pathology:
        signals = pathology.paint(signals, params, contrast)
    at = placing.coordinates(labels, field_of_view, params, rng)
    segmentation = anatomy.truth(labels, dressed, params)
    return Posed(signals, at, segmentation, params, field_of_view)


def scan_again(
    labels: Labels,
    affine: Float64,
    seed: Sequence[int],
    ranges: Ranges,
    contrast: str,
    numbers: Iterable[int],
    scanner: int | None = None,
) -> Iterator[tuple[int, Volume, dict[str, float]]]:
    """64 mT scans of the head of `simulate_pair` with other settings, noise and motion.

    Yields each number, its scan and what was drawn for it; a scan depends on seed and number.

    Raises:
        BadInput: a label map that is not 1 mm RAS+ or has no brain.
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
    head = pose(labels, affine, streams[0], streams[2], ranges, contrast)
    kept = {k: v for k, v in head.params.items() if k in _OF_THE_HEAD or k.startswith("high_")}
    for number in numbers:
        own = [np.random.default_rng(s) for s in np.random.SeedSequence([*seed, number]).spawn(3)]
        params = {**ranges.draw(own[0]), **kept}
        shape, grid = low_grid(params, own[1], head.field_of_view)
        yield number, Volume(_scanned(head, shape, params, own[2], scanner), grid), params


def _scanned(
    head: Posed,
    shape: Shape,
    params: dict[str, float],
    rng: np.random.Generator,
    scanner: int | None = None,
) -> Float32:
    """A 64 mT scan (X, Y, Z) of `shape`."""
    distorted = distort(head.signals.low, head.at, params, rng)
    coil = None if scanner is None else np.random.default_rng([scanner, *b"coil"])
    scan = acquisition.acquire_low(distorted, shape, params, rng, coil)
    scan *= np.float32(WHITE)
    return scan


def low_grid(
    params: dict[str, float], rng: np.random.Generator, field_of_view: Shape
) -> tuple[Shape, Float64]:
    """Shape and affine of the 64 mT grid: voxels that divide the field of view, oblique."""
    wanted = (params["zoom_in_plane"], params["zoom_in_plane"], params["zoom_through"])
    x, y, z = (max(4, round(n / v)) for n, v in zip(field_of_view, wanted, strict=True))
    zooms = np.array(field_of_view) / (x, y, z)
    angles = rng.uniform(-1, 1, 3) * params["obliquity"]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * zooms
    affine[:3, 3] = -affine[:3, :3] @ ((np.array((x, y, z)) - 1) / 2)
    return (x, y, z), affine


def distort(
    signal: Float32, at: Float32, params: dict[str, float], rng: np.random.Generator
) -> Float32:
    """The signal as B0 errors displace it along the readout (first or second axis), 1 mm grid.

    Signal that is squeezed together grows brighter by as much (the Jacobian).
    """
    axis = int(rng.integers(2))
    shift = np.float32(params["distortion"]) * random_field(rng, at.shape[1:], 45)
    moved = at.copy()
    moved[axis] += shift
    squeezed: Float32 = placing.sample(signal, moved) * (1 + np.gradient(shift, axis=axis))
    return squeezed


def _head_box(labels: Labels) -> tuple[slice, slice, slice]:
    """The box about the head, with a voxel of air: the rest of the map is work for nothing.

    A map whose neck is cut stays cut where it is (`placing.sample`).
    """
    inside = labels != 0
    box = []
    for axis in range(3):
        hit = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = 0 if axis == 2 else 1
        box.append(slice(max(0, hit[0] - margin), hit[-1] + 2))
    return box[0], box[1], box[2]


def _check(labels: Labels, affine: Float64) -> None:
    if labels.ndim != 3 or np.abs(affine[:3, :3] - np.eye(3)).max() > 1e-3:
        raise BadInput(
            "expected a 3-D label map at 1 mm with axes towards right, anterior and superior; got "
            f"shape {labels.shape} and affine {affine[:3, :3].round(3).tolist()}"
        )
    if not np.isin(labels, (2, 41)).any():
        raise BadInput("expected a label map with cerebral white matter (2, 41), got none")
