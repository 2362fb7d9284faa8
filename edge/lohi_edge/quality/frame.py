"""The window about the brain that the segmenter sees, the same in training and on the device."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lohi_edge.quality.regions import CSF
from lohi_edge.volume import Float32, Float64, Volume

CROP = (80, 104, 80)  # voxels of 2 mm
SPACING_MM = 2
CROP_MM = (160, 208, 160)
# Where the brain's centre of mass lies in the window, mm from its low corner: so that heads 01-12,
# which reach 71, 98 and 79 mm from it, fit with the same to spare at each end.
CENTRE_MM = (80.0, 102.0, 84.0)
PERCENTILES = (1, 99)


def centre_of_brain(regions: NDArray[np.int16]) -> Float64:
    """Centre of mass (3,), in voxels, of brain and ventricles in a map of regions (X, Y, Z)."""
    mass = (regions > 0) & (regions != CSF)
    sums = [mass.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return np.array([s @ np.arange(len(s)) / max(s.sum(), 1e-9) for s in sums], dtype=np.float64)


def crop_start(centre: Float64) -> Float64:
    """Position (3,), in mm along the axes, of the centre of the window's first 1 mm voxel."""
    start: Float64 = np.asarray(centre, dtype=np.float64) - np.array(CENTRE_MM) + 0.5
    return start


def start_voxel(centre: Float64) -> NDArray[np.int_]:
    """The window's first voxel (3,) in a 1 mm volume with the brain's centre at voxel `centre`."""
    return np.rint(crop_start(centre)).astype(int)


def window(fine: Volume, start: NDArray[np.int_]) -> Float32:
    """The window (*CROP) of a 1 mm volume that begins at voxel `start`, scaled for the network.

    Beside and above the scan lies air; below it, its lowest slice again, as a neck would go on.
    """
    affine = fine.affine.copy()
    affine[:3, :3] *= SPACING_MM
    affine[:3, 3] += fine.affine[:3, :3] @ (start + (SPACING_MM - 1) / 2)
    image = fine.resampled(CROP, affine).data.copy()
    low, high = np.percentile(image, PERCENTILES)
    image = scaled(image, float(low), float(high) if high > low else float(low) + 1)
    for axis, size in enumerate(fine.shape):
        at = start[axis] + SPACING_MM * np.arange(CROP[axis])
        outside = (at >= size) if axis == 2 else (at >= size) | (at + 1 < 0)
        image[(slice(None),) * axis + (outside,)] = 0
    return image


def scaled(image: Float32, low: float, high: float) -> Float32:
    """Brightness as the network is fed it: the window's 1st to 99th percentile as 0 to 1.

    Clipped far above 1, so that a bright scalp does not saturate what lies near it.
    """
    result: Float32 = np.clip((image - np.float32(low)) / np.float32(high - low), -0.2, 2)
    return result


def finer(field: Float32) -> Float32:
    """A field on the window's 2 mm voxels (*CROP) at its 1 mm voxels (*CROP_MM), linearly."""
    for axis, (coarse, fine) in enumerate(zip(CROP, CROP_MM, strict=True)):
        at = np.clip((np.arange(fine) - 0.5) / SPACING_MM, 0, coarse - 1)
        weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(coarse))).astype(np.float32)
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def paste(
    part: NDArray[np.int16], start: NDArray[np.int_], shape: tuple[int, int, int]
) -> NDArray[np.int16]:
    """A volume of `shape` with `part` (*CROP_MM) at voxel `start`, 0 elsewhere."""
    whole = np.zeros(shape, np.int16)
    low = np.clip(start, 0, shape)
    high = np.clip(start + part.shape, low, shape)
    into = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    whole[into] = part[source]
    return whole
