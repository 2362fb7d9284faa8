"""Faults that a result can have, made on purpose: what the check of its plausibility must catch.

Those of RESULT_FAULTS take an image, a strength (0 weak, 1 middle, 2 strong) and a generator.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.quality.faults import Fault, tissue_level
from lohi_edge.volume import Float32

_BESIDE_MM = 6  # of tissue about the ventricles, which is darker or brighter than they are


def blob(shape: tuple[int, ...], centre: Any, diameter: float, zooms: Any = (1, 1, 1)) -> Float32:
    """A soft-edged ball (X, Y, Z), 1 inside, of a diameter in mm."""
    grid = [
        ((np.arange(n) - c) * z).astype(np.float32)
        for n, c, z in zip(shape, centre, zooms, strict=True)
    ]
    x, y, z = np.meshgrid(*grid, indexing="ij", sparse=True)
    distance = np.sqrt(x**2 + y**2 + z**2)
    return np.clip(diameter / 2 + 0.5 - distance, 0, 1).astype(np.float32)


def invented(image: Float32, centre: Any, diameter: float, change: float) -> Float32:
    """A result with a lesion, `change` of its surroundings brighter (or darker), put in."""
    level = _local_level(image, centre, diameter)
    return image + np.float32(change * level) * blob(image.shape, centre, diameter)


def slice_shifted(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """Four slices of a result moved sideways by 2, 4 or 8 mm."""
    faulty = image.copy()
    at = int(rng.integers(image.shape[2] // 3, image.shape[2] * 2 // 3))
    faulty[:, :, at : at + 4] = np.roll(image[:, :, at : at + 4], (2, 4, 8)[strength], axis=0)
    return faulty


def checkerboard(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """The pattern of transposed convolutions, 2, 5 or 10 % of tissue."""
    x, y, _ = image.shape
    sign = (-1.0) ** (np.arange(x)[:, None] + np.arange(y))
    return (image * (1 + (0.02, 0.05, 0.1)[strength] * sign[..., None])).astype(np.float32)


def collapsed(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """Contrast inside the head shrinks to 60, 30 or 10 %."""
    keep = (0.6, 0.3, 0.1)[strength]
    level = tissue_level(image)
    head = image > 0.3 * level
    return np.where(head, level + keep * (image - level), image).astype(np.float32)


def enlarged(result: Float32, ventricle: Any, grown: float) -> Float32:
    """A result (X, Y, Z) at 1 mm whose ventricles (mask) reach `grown` mm further."""
    level = float(np.median(result[ndi.binary_erosion(ventricle)]))
    distance = ndi.distance_transform_edt(~ventricle)
    share = np.clip(grown + 0.5 - distance, 0, 1).astype(np.float32)
    bright = level > np.median(result[(distance > 0) & (distance <= _BESIDE_MM)])
    fluid = (np.maximum if bright else np.minimum)(result, np.float32(level))
    wrong: Float32 = result + share * (fluid - result)
    return wrong


def _local_level(image: Float32, centre: Any, diameter: float) -> float:
    reach = int(diameter)
    box = tuple(slice(max(0, int(c) - reach), int(c) + reach + 1) for c in centre)
    return float(np.median(image[box]))


RESULT_FAULTS: dict[str, Fault] = {
    "slice shifted": slice_shifted,
    "checkerboard": checkerboard,
    "contrast collapsed": collapsed,
}
