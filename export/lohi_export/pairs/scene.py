"""Two scans of one head made comparable, and the metric that says how well they lie on each other.

Positions are mm in NIfTI's RAS+ world; inside ITK they are LPS+.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_edge.head import BLOCK, find_head
from lohi_edge.quality.scan import INNER_MM, block_mean
from lohi_edge.volume import Float32, Float64, Volume

SHADING_MM = 20.0  # sd of the smoothing that takes coil shading out of both scans
FWHM = 2.3548  # of a Gaussian, in standard deviations
DARKEST = 0.15  # of the shading's 90th percentile: no noise is raised beyond that
MARGIN = 2  # cells of air about the head that are compared as well
BINS = 32
MAX_STEPS = 200

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS+ to LPS+ and back
Transform = sitk.Euler3DTransform | sitk.AffineTransform
_T = TypeVar("_T", sitk.Euler3DTransform, sitk.AffineTransform)
Cells = NDArray[np.bool_]


@dataclass(frozen=True)
class Level:
    """One resolution: shrink factor, share of voxels sampled, first and last step.

    A step is the length of the change in parameters: mm, with radians or matrix elements.
    """

    shrink: int
    share: float
    step: float
    least: float


class Scene:
    """A 64 mT and a 3 T scan, coil shading taken out, 3 T blurred to the 64 mT voxels.

    Args:
        mm: grid on which they are compared; a divisor of 4.

    Attributes:
        head: (n, 3) positions of the cells of the 64 mT head.
        high_centre: (3,) position of the middle of the 3 T head.

    Raises:
        BadInput: a scan without a head.
    """

    def __init__(self, low: Volume, high: Volume, mm: int) -> None:
        fine, sharp = low.isotropic(), high.isotropic()
        cells, other = find_head(fine.data).cells, find_head(sharp.data).cells
        deep = ndi.distance_transform_edt(np.pad(cells, 1))[1:-1, 1:-1, 1:-1] * BLOCK > INNER_MM
        self._inner = _positions(fine, deep if deep.any() else cells)
        self._seen = block_mean(sharp.data - sharp.data.min(), BLOCK) > 0
        self._to_voxels: Float64 = np.linalg.inv(sharp.affine).astype(np.float64)
        # Mutual information peaks where it should only when edges are as wide in both scans.
        width = np.sqrt(np.maximum(0, low.zooms**2 - high.zooms**2)) / FWHM
        sharp = sharp.with_data(blurred(sharp, width))
        self.head, self.high_centre = _positions(fine, cells), _positions(sharp, other).mean(0)
        self._mm = mm
        self._fixed, self._moving = _flattened(fine, cells, mm), _flattened(sharp, other, mm)
        near = _grown(ndi.binary_dilation(cells, iterations=MARGIN), BLOCK, fine.shape)
        mask = sitk.Resample(
            image(Volume(near.astype(np.float32), fine.affine)),
            self._fixed,
            sitk.Transform(),
            sitk.sitkNearestNeighbor,
        )
        self._mask = sitk.Cast(mask > 0.5, sitk.sitkUInt8)

    def rigid(self, shift: Float64, nod: float = 0.0, turn: float = 0.0) -> sitk.Euler3DTransform:
        """A shift (3,) in mm; degrees of nodding and turning about the middle of the 64 mT head."""
        transform = sitk.Euler3DTransform()
        transform.SetCenter((LPS[:3, :3] @ self.head.mean(0)).tolist())
        transform.SetTranslation((LPS[:3, :3] @ shift).tolist())
        transform.SetRotation(float(np.radians(nod)), 0.0, float(np.radians(turn)))
        return transform

    def optimise(self, start: _T, level: Level, seed: int) -> tuple[_T, float]:
        """A better transform and its metric: negative mutual information, nats."""
        transform = type(start)(start)
        method = self._method(level.shrink, level.share, seed)
        # Shifts settle long before rotations and shears: with fewer or faster shortened steps the
        # descent ends at the first and leaves the others.
        method.SetOptimizerAsRegularStepGradientDescent(
            level.step, level.least, MAX_STEPS, relaxationFactor=0.7
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(self._fixed, self._moving)
        return transform, float(method.GetMetricValue())

    def metric(self, transform: Transform) -> float:
        """Negative mutual information in nats, from few samples."""
        method = self._method(1, 0.05, seed=1)
        method.SetInitialTransform(transform)
        return float(method.MetricEvaluate(self._fixed, self._moving))

    def overlap(self, matrix: Float64) -> float:
        """Share of the 64 mT head that a matrix puts inside the 3 T scan's field of view."""
        at = [
            self._moving.TransformPhysicalPointToContinuousIndex(point.tolist())
            for point in apply(matrix, self.head) @ LPS[:3, :3]
        ]
        size = np.array(self._moving.GetSize())
        inside = (np.array(at) > -0.5) & (np.array(at) < size - 0.5)
        return float(inside.all(axis=1).mean())

    def shown(self, matrix: Float64) -> float:
        """Share of the inner 64 mT head that a matrix puts where the 3 T scan is not blank."""
        voxels = apply(self._to_voxels, apply(matrix, self._inner))
        cells = np.floor((voxels + 0.5) / BLOCK).astype(int)
        inside = ((cells >= 0) & (cells < self._seen.shape)).all(axis=1)
        return float(np.count_nonzero(self._seen[tuple(cells[inside].T)])) / len(cells)

    def _method(self, shrink: int, share: float, seed: int) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)  # the order of sums would differ from run to run
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, seed)
        method.SetMetricFixedMask(self._mask)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetShrinkFactorsPerLevel([shrink])
        method.SetSmoothingSigmasPerLevel([shrink * self._mm / 2])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        return method


def image(volume: Volume) -> sitk.Image:
    """A volume as ITK's image, in ITK's world."""
    affine = LPS @ volume.affine
    result = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.transpose(2, 1, 0)))
    result.SetSpacing(volume.zooms.tolist())
    result.SetOrigin(affine[:3, 3].tolist())
    result.SetDirection((affine[:3, :3] / volume.zooms).ravel().tolist())
    return result


def to_ras(transform: Transform) -> Float64:
    """float64 (4, 4) on RAS+ positions."""
    centre, linear = np.array(transform.GetCenter()), np.reshape(transform.GetMatrix(), (3, 3))
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - linear @ centre
    result: Float64 = LPS @ matrix @ LPS
    return result


def apply(matrix: Float64, points: Float64) -> Float64:
    """Where a (4, 4) matrix puts points (..., 3)."""
    result: Float64 = points @ matrix[:3, :3].T + matrix[:3, 3]
    return result


def blurred(volume: Volume, sd: Float64) -> Float32:
    """Voxels after a Gaussian of `sd` (3,) mm."""
    result: Float32 = ndi.gaussian_filter(volume.data, sd / volume.zooms, truncate=3)
    return result


def _flattened(volume: Volume, cells: Cells, mm: int) -> sitk.Image:
    """A 1 mm scan on a coarser grid, its brightest voxels clipped, without shading.

    Shading is what a Gaussian of SHADING_MM leaves of the head, each cell counting alike.
    """
    coarse = volume.isotropic(mm)
    near: Float32 = _grown(cells, BLOCK // mm, coarse.shape).astype(np.float32)
    thin = (slice(None, None, BLOCK // mm),) * 3
    weight = ndi.gaussian_filter(near[thin], SHADING_MM / BLOCK)
    field: Float32 = ndi.gaussian_filter((coarse.data * near)[thin], SHADING_MM / BLOCK)
    field /= np.maximum(weight, 1e-3)
    field = np.maximum(field, DARKEST * float(np.percentile(field[near[thin] > 0], 90)))
    flat = coarse.data / _grown(field, BLOCK // mm, coarse.shape).astype(np.float32)
    low, top = np.percentile(flat, [0.5, 99.5])
    return image(coarse.with_data(np.clip(flat, low, top)))


def _grown(
    cells: NDArray[np.generic], factor: int, shape: tuple[int, int, int]
) -> NDArray[np.generic]:
    """Cells (x, y, z) repeated to a grid of `shape`; the last is repeated where they end short."""
    for axis in range(3):
        at = np.minimum(np.arange(shape[axis]) // factor, cells.shape[axis] - 1)
        cells = np.take(cells, at, axis=axis)
    return cells


def _positions(volume: Volume, cells: Cells) -> Float64:
    """(n, 3) positions of the centres of a 1 mm volume's cells."""
    return apply(
        volume.affine, np.asarray(np.argwhere(cells) * BLOCK + (BLOCK - 1) / 2, np.float64)
    )
