"""One pair: a label map in, a 64 mT and a 3 T volume of the same head out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from lohi_edge.errors import BadInput
from lohi_edge.volume import Float64, Volume, isotropic_grid
from lohi_export.pairs import acquisition, anatomy
from lohi_export.pairs.anatomy import Labels
from lohi_export.pairs.fields import Float32, Shape, random_field
from lohi_export.pairs.pathology import Pathology
from lohi_export.pairs.ranges import Ranges

FIELD_OF_VIEW = (224, 224, 160)  # mm, and voxels of the 3 T volume
WHITE = 100.0  # white matter's intensity at the centre of the brain, both scanners


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


def simulate_pair(
    labels: Labels,
    affine: Float64,
    seed: int | Sequence[int],
    ranges: Ranges,
    contrast: str = "T1w",
    field_of_view: Shape = FIELD_OF_VIEW,
    pathology: Pathology | None = None,
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

    Raises:
        BadInput: a label map that is not 1 mm RAS+ or has no brain.
    """
    _check(labels, affine)
    box = _head_box(labels)
    labels = np.ascontiguousarray(labels[box])
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
    params = ranges.draw(streams[0])
    shape, low_affine = low_grid(params, streams[1], field_of_view)
    high_shape, high_affine = isotropic_grid(shape, low_affine)
    if pathology:
        pathology = pathology.within(box)
        labels = pathology.labels
    dressed = anatomy.dress(labels, params, streams[2])
    signals = anatomy.tissue_signals(dressed, params, contrast, streams[2])
    if pathology:
        signals = pathology.paint(signals, params, contrast)
    at = anatomy.coordinates(labels, high_shape, params, streams[2])
    high = acquisition.acquire_high(anatomy.sample(signals.high, at), params, streams[3])
    distorted = distort(signals.low, at, params, streams[4])
    low = acquisition.acquire_low(distorted, shape, params, streams[4])
    segmentation = anatomy.sample_labels(anatomy.truth(labels, dressed, params), at)
    return Pair(
        Volume(low * WHITE, low_affine), Volume(high * WHITE, high_affine), segmentation, params
    )


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
    squeezed: Float32 = anatomy.sample(signal, moved) * (1 + np.gradient(shift, axis=axis))
    return squeezed


def _head_box(labels: Labels) -> tuple[slice, slice, slice]:
    """The box about the head, with a voxel of air: the rest of the map is work for nothing.

    A map whose neck is cut stays cut where it is (`anatomy.sample`).
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
