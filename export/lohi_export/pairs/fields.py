"""Smooth random fields, and separable resampling as small matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Shape = tuple[int, int, int]


def along(matrices: tuple[Float32, Float32, Float32], data: Float32) -> Float32:
    """Apply one matrix (m_i, n_i) along each axis of data (n_0, n_1, n_2)."""
    for axis, matrix in enumerate(matrices):
        data = np.moveaxis(np.tensordot(matrix, data, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(data)


def random_field(rng: np.random.Generator, shape: Shape, scale: float) -> Float32:
    """Gaussian field of `shape`, mean 0, sd about 1, that varies over about `scale` voxels.

    White noise on a grid of `scale` spacing, a random part of it ahead of the volume's corner,
    joined by a cubic B-spline, scaled for the variance that the spline's averaging takes.
    """
    sizes = [int(np.ceil(n / scale)) + 4 for n in shape]
    noise = rng.standard_normal(sizes).astype(np.float32)
    matrices = [_spline(n, m, scale, rng.uniform()) for n, m in zip(shape, sizes, strict=True)]
    return along((matrices[0], matrices[1], matrices[2]), noise)


def _spline(n: int, m: int, scale: float, phase: float) -> Float32:
    """Cubic B-spline weights (n, m), each row of unit norm (white noise in, unit variance out)."""
    at = np.arange(n) / scale + 1 + phase
    x = np.abs(at[:, None] - np.arange(m)[None, :])
    weights = np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.maximum(0, 2 - x) ** 3 / 6)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return weights.astype(np.float32)
