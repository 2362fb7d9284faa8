"""Simulated phantoms: what lies in the scanner when no head does."""

from __future__ import annotations

import numpy as np

from lohi_edge.volume import Float32, Volume

SHAPE, ZOOMS = (140, 140, 32), (1.6, 1.6, 5.0)


def phantom(rng: np.random.Generator) -> Volume:
    """A ball, bottle, box or bottle with rods, 64 mT grid (140, 140, 32), with Rician noise."""
    grid = [
        ((np.arange(n) - (n - 1) / 2) * z).astype(np.float32)
        for n, z in zip(SHAPE, ZOOMS, strict=True)
    ]
    x, y, z = np.meshgrid(*grid, indexing="ij", sparse=True)
    radius, squeeze = rng.uniform(40, 95), rng.uniform(0.7, 1.3)
    height = rng.uniform(35, 75)
    disc = x**2 + squeeze * y**2
    kind = int(rng.integers(4))
    if kind == 0:
        body = (disc + rng.uniform(0.7, 1.5) * z**2) < radius**2
    elif kind == 1:
        body = np.maximum(np.abs(x), np.abs(y)) < radius
        body = body & (np.abs(z) < height)
    else:
        body = (disc < radius**2) & (np.abs(z) < height)
    image = np.broadcast_to(np.where(body, 100.0, 0.0), SHAPE).astype(np.float32)
    if kind == 3:
        for _ in range(12):
            at = rng.uniform(-0.7, 0.7, 2) * radius
            rod = (x - at[0]) ** 2 + (y - at[1]) ** 2 < rng.uniform(4, 12) ** 2
            image = np.where(rod & body, np.float32(rng.uniform(0, 160)), image)
    sd = rng.uniform(1, 6)
    noisy: Float32 = np.hypot(image + rng.normal(0, sd, SHAPE), rng.normal(0, sd, SHAPE))
    affine = np.diag([*ZOOMS, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * v for n, v in zip(SHAPE, ZOOMS, strict=True)]
    return Volume(noisy.astype(np.float32), affine)
