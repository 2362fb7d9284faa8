"""Are the ventricles of a result as wide as the scan shows them?"""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.quality.consistency import seen
from lohi_edge.quality.measure import NotApplicable
from lohi_edge.quality.scan import WORK_MM, Mask, block_mean
from lohi_edge.volume import Float32, Float64

HALF_MM = (30, 50, 34)  # half axes of the ellipsoid in the middle of the head that is looked at
UPPER_MM = 90  # of the inner head, whose centre of mass is near the ventricles whatever the neck
DEPTH = 2.5  # voxels from the border of the fluid to its middle
RIM = 3.5  # voxels that the rim reaches from the middle
AROUND_CELLS = 5  # of 4 mm, about the middle: the rim, and what gives the level of tissue
AROUND_MM = 16  # of room about the ellipsoid
FEWEST = 40  # voxels of the middle, 0.3 ml
_NARROW = "no ventricle of the result is wide enough to tell its rim from its middle"
_PIECE = 20  # voxels; smaller ones are dark spots of noise
_FLUID_VOXELS = 190  # 1.5 ml: the darkest or brightest that give the level of fluid
_OTHER_CELLS = 47  # of other fluid, 3 ml, that make it count as much as the middle


def rim_support(scan: Float32, result: Float32, inner: Mask) -> float:
    """How much fluid the scan shows in the rim of the result's ventricles, against their middle.

    About 1 where scan and result agree; the rim of ventricles that are too wide lies in what the
    scan shows as tissue, which gives 0, or less. Least squares on 4 mm cells: the scan as a sum of
    the result's tissue, a smooth brightness of second order, and how much of a cell is middle of
    wide fluid, rim of it (up to 7 mm off the middle), or other fluid. The rim is held against the
    mean of middle and other fluid, if there is enough of it to tell its weight: where ventricles
    are far too wide, their middle is tissue too.

    Args:
        scan, result: (x, y, z) on the 2 mm grid.
        inner: same shape; the inside of the head.

    Raises:
        NotApplicable: the result shows no fluid wide enough to have a middle.
    """
    window = _window(inner)
    scan, result, inner = scan[window], result[window], inner[window]
    tissue, fluid = _fluid(result, inner)
    middle, rim, near = _parts(fluid)
    without: Float32 = np.where(ndi.binary_dilation(fluid), 1, result / tissue).astype(np.float32)
    cells = near & (block_mean(inner.astype(np.float32), 2) > 0.9)
    rest = fluid & ~middle & ~rim
    shown = seen(scan)[cells].astype(np.float64)
    maps = np.stack([seen(part)[cells] for part in (middle, rim, rest, without)], axis=1)
    core, border, other = _weights(shown, maps, cells)[:3]
    sign = 1.0 if core > 0 else -1.0
    trust = min(1.0, float(maps[:, 2].sum()) / _OTHER_CELLS)
    level = (abs(core) + trust * max(sign * other, 0.0)) / (1 + trust)
    return float(sign * border / max(level, 1e-9))


def _window(inner: Mask) -> tuple[slice, ...]:
    """The middle of the head, whole cells, with room for what lies about the ellipsoid."""
    rows = np.flatnonzero(inner.any(axis=(0, 1)))
    upper = inner[:, :, max(0, int(rows[-1]) + 1 - UPPER_MM // WORK_MM) :]
    window = []
    for axis, half in enumerate(HALF_MM):
        mass = upper.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
        centre = mass @ np.arange(len(mass)) / mass.sum()
        if axis == 2:
            centre += inner.shape[2] - upper.shape[2]
        reach = (half + AROUND_MM) // WORK_MM // 2
        low = round(centre / 2) - reach
        window.append(slice(2 * max(0, low), 2 * max(0, low + 2 * reach)))
    return tuple(window)


def _fluid(result: Float32, inner: Mask) -> tuple[float, Mask]:
    """Level of tissue, and the fluid inside the ellipsoid: nearer to its level than to tissue's."""
    grid = np.ogrid[tuple(slice(0, n) for n in result.shape)]
    distance = sum(
        np.square((at - (at.size - 1) / 2) * WORK_MM / half)
        for at, half in zip(grid, HALF_MM, strict=True)
    )
    inside = (distance < 1) & inner
    values = np.sort(result[inside])
    if len(values) < 10 * _FLUID_VOXELS:
        raise NotApplicable("too little of the middle of the head is in view")
    tissue = max(float(np.median(result[inner])), 1e-6)
    dark, bright = (float(np.median(v)) for v in (values[:_FLUID_VOXELS], values[-_FLUID_VOXELS:]))
    if bright - tissue > tissue - dark:
        return tissue, inside & (result > (bright + tissue) / 2)
    return tissue, inside & (result < (dark + tissue) / 2)


def _parts(fluid: Mask) -> tuple[Mask, Mask, Mask]:
    """The middle of wide fluid, the rim about it, and the cells that lie near."""
    if not fluid.any():
        raise NotApplicable(_NARROW)
    box = ndi.find_objects(fluid.astype(np.uint8))[0]  # distances in it alone, to save time
    part = np.pad(fluid[box], 1)
    labels, _ = ndi.label(np.asarray(ndi.distance_transform_edt(part)) >= DEPTH)
    large = np.bincount(labels.ravel()) >= _PIECE
    large[0] = False
    deep = large[labels]
    if int(deep.sum()) < FEWEST:
        raise NotApplicable(_NARROW)
    close = part & ~deep & (np.asarray(ndi.distance_transform_edt(~deep)) <= RIM)
    middle, rim = np.zeros_like(fluid), np.zeros_like(fluid)
    middle[box], rim[box] = (m[1:-1, 1:-1, 1:-1] for m in (deep, close))
    cells = block_mean(middle.astype(np.float32), 2) > 0
    near = np.asarray(ndi.distance_transform_edt(~cells)) <= AROUND_CELLS
    return middle, rim, near


def _weights(shown: Float64, maps: Float32, cells: Mask) -> Float64:
    """Weights of maps (cells, n) that with a brightness of second order give what is `shown`."""
    at = [(i - i.mean()) / 10 for i in np.nonzero(cells)]
    smooth = [np.ones(len(shown)), *at, *(at[i] * at[j] for i in range(3) for j in range(i, 3))]
    found: Float64 = np.linalg.lstsq(np.column_stack([maps, *smooth]), shown, rcond=None)[0]
    return found
