"""Where the head is: a coarse mask, good enough to centre a crop and to scale intensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_edge.errors import BadInput
from lohi_edge.volume import Float32

BLOCK = 4  # voxels a side of one mask cell


@dataclass(frozen=True, eq=False)
class Head:
    """A head found in an isotropic 1 mm volume.

    Attributes:
        cells: bool (ceil(X/4), ceil(Y/4), ceil(Z/4)), one cell per 4 x 4 x 4 voxels.
        low, high: bounding box in voxels, half-open, (3,) each.
    """

    cells: NDArray[np.bool_]
    low: tuple[int, int, int]
    high: tuple[int, int, int]

    @property
    def size(self) -> tuple[int, int, int]:
        """Extent (3,) of the bounding box in voxels."""
        x, y, z = (h - lo for lo, h in zip(self.low, self.high, strict=True))
        return x, y, z

    def mask(self, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        """The head's cells as voxels of its volume, bool (X, Y, Z); coarse, 4 mm a step."""
        x, y, z = shape
        return self.cells.repeat(BLOCK, 0).repeat(BLOCK, 1).repeat(BLOCK, 2)[:x, :y, :z]

    def samples(self, data: Float32) -> Float32:
        """Every eighth voxel (one in 2 x 2 x 2) that lies in a cell of the head, (n,)."""
        half = BLOCK // 2
        fine = self.cells.repeat(half, 0).repeat(half, 1).repeat(half, 2)
        thin = data[::2, ::2, ::2]
        x, y, z = thin.shape
        return thin[fine[:x, :y, :z]]


def find_head(data: Float32) -> Head:
    """The largest bright object of a volume (X, Y, Z) at 1 mm spacing.

    Foreground is what exceeds Otsu's threshold (IEEE Trans Syst Man Cybern 9:62, 1979) of the
    square roots of the block means: the root draws a bright scalp towards the brain, so that the
    two classes are head and noise, whatever the noise's level, corners masked or not.

    Raises:
        BadInput: nothing in the volume stands out from its background.
    """
    means = _block_means(data)
    roots = np.sqrt(np.maximum(means - means.min(), 0))
    if not roots.max() > 0:
        raise BadInput("expected a head, got a volume of one brightness; check the scan")
    bright = roots > _otsu(roots)
    # Opening parts the head from ghosts and cushions that touch it by a thin bridge.
    opened = ndi.binary_opening(bright)
    labels, count = ndi.label(opened if opened.any() else bright)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel(), minlength=count + 1)[1:]))
    cells = ndi.binary_fill_holes(labels == largest)
    boxes = ndi.find_objects(cells.astype(np.int8))[0]
    x, y, z = (
        (int(s.start) * BLOCK, min(int(s.stop) * BLOCK, n))
        for s, n in zip(boxes, data.shape, strict=True)
    )
    return Head(cells, (x[0], y[0], z[0]), (x[1], y[1], z[1]))


def _otsu(values: Float32) -> float:
    """The threshold that parts `values` into two classes of the largest variance between them."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    sums = np.cumsum(counts * centres)
    above = below[-1] - below
    between = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * above, 1)
    return float(centres[int(np.argmax(between))])


def _block_means(data: Float32) -> Float32:
    """Means over BLOCK^3 voxels; the last, incomplete cell of an axis averages what it has."""
    for axis in range(3):
        edges = np.arange(0, data.shape[axis], BLOCK)
        counts = np.diff(np.append(edges, data.shape[axis]))
        sums = np.add.reduceat(data, edges, axis=axis)
        data = sums / np.expand_dims(counts, tuple(a for a in range(3) if a != axis))
    return data.astype(np.float32)
