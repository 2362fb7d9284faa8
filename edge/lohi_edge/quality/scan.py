"""A scan laid out for measuring: the same few arrays serve every metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_edge.errors import BadInput
from lohi_edge.head import BLOCK
from lohi_edge.volume import Float32, Volume

Mask = NDArray[np.bool_]
WORK_MM = 2
# Share of voxels that are exactly the scan's lowest value above which the air counts as masked.
MASKED_SHARE = 0.02
AIR_GAP_MM = 12  # air nearer to the head than this may hold skin, ears and partial volume
INNER_MM = 24  # what lies this deep in the head is brain, skull base and their like
# Brightest values, as powers of two, in which metrics neither round to nothing nor overflow.
PEAKS, PEAK = range(-3, 31), 10


@dataclass(frozen=True, eq=False)
class Scan:
    """Arrays that metrics share, of one brightness: see `in_range`.

    Attributes:
        native: (X, Y, S) voxels as acquired or stored; its axis 2 runs from slice to slice.
        zooms: of `native`, mm.
        axis: of the RAS+ volume along which slices are counted.
        work: (x, y, z) means over 2 mm cubes of the 1 mm volume, RAS+ order.
        head, inner, air: masks on `work`; `air` is empty of masked voxels.
        level: typical brightness of the inner head, > 0.
        masked: share of `native` voxels at its lowest value (0 for one voxel).
        thin: every eighth voxel of the 1 mm volume, same grid as `work`.
    """

    native: Float32
    zooms: tuple[float, float, float]
    axis: int
    work: Float32
    thin: Float32
    head: Mask
    inner: Mask
    air: Mask
    level: float
    masked: float

    @property
    def has_air(self) -> bool:
        """Whether noise can be measured in air at all."""
        return self.masked < MASKED_SHARE and int(self.air.sum()) > 1000


def lay_out(volume: Volume, fine: Volume) -> Scan:
    """Prepare the arrays of `Scan`.

    Args:
        volume: the scan on its own grid.
        fine: the same at 1 mm.

    Raises:
        BadInput: nothing in the volume stands out from its background.
    """
    volume, fine = in_range(volume, fine)
    zooms = volume.zooms
    axis = int(np.argmax(zooms)) if zooms.max() > 1.4 * zooms.min() else 2
    order = [a for a in range(3) if a != axis] + [axis]
    native = np.moveaxis(volume.data, axis, 2)
    work = block_mean(fine.data, WORK_MM)
    shape = work.shape
    cells = outline(work)
    mask = _grow(cells, shape)
    if not mask.any():
        raise BadInput("expected a head, got a volume of one brightness; check the scan")
    inner_cells = ndi.distance_transform_edt(np.pad(cells, 1, mode="edge"))[1:-1, 1:-1, 1:-1]
    inner = _grow(inner_cells * BLOCK > INNER_MM, shape)
    near = ndi.binary_dilation(cells, iterations=AIR_GAP_MM // BLOCK)
    step = 1 if shape == fine.shape else WORK_MM  # a grid too thin for 2 mm cubes stays as it is
    thin = fine.data[::step, ::step, ::step][: shape[0], : shape[1], : shape[2]]
    floor = float(volume.data.min())
    air = ~_grow(near, shape) & (thin > floor)
    inside = work[inner] if inner.any() else work[mask]
    return Scan(
        native=native,
        zooms=(float(zooms[order[0]]), float(zooms[order[1]]), float(zooms[order[2]])),
        axis=axis,
        work=work,
        thin=thin,
        head=mask,
        inner=inner if inner.any() else mask,
        air=air,
        level=max(float(np.median(inside)), 1e-6),
        masked=float(np.count_nonzero(volume.data == floor) - 1) / volume.data.size,
    )


def in_range(volume: Volume, fine: Volume) -> tuple[Volume, Volume]:
    """A scan, and the same at 1 mm, in units of brightness that metrics are made for.

    Intensities have no unit. Those of a reconstruction in volts may all lie below a millionth: a
    power of two brings them up, and rounds nothing. What scanners store is left as it is.
    """
    _, peak = np.frexp(max(-float(fine.data.min()), float(fine.data.max())))
    if int(peak) in PEAKS:
        return volume, fine
    factor = np.ldexp(np.float32(1), PEAK - int(peak))
    return volume.with_data(volume.data * factor), fine.with_data(fine.data * factor)


def block_mean(data: Float32, size: int) -> Float32:
    """Means over size^3 voxels (X, Y, Z) -> (X // size, ...); what does not fill a cube is left."""
    x, y, z = (n // size * size for n in data.shape)
    if min(x, y, z) == 0:
        return np.asarray(data, dtype=np.float32)
    part = data[:x, :y, :z]
    for axis in range(3):
        first = [slice(None)] * 3
        first[axis] = slice(0, None, size)
        total = part[tuple(first)].copy()
        for offset in range(1, size):
            first[axis] = slice(offset, None, size)
            total += part[tuple(first)]
        part = total
    part *= np.float32(1 / size**3)
    return part


def outline(work: Float32) -> Mask:
    """The head with its dark inside, as a mask of 4 mm cells.

    Unlike `head.find_head`, which only centres a crop, the threshold stands above the noise floor
    of air that a partly masked background leaves: floor + 0.12 (P98 - floor), the floor being the
    10th percentile of cells that are not masked.
    """
    means = block_mean(work, BLOCK // WORK_MM)
    lowest = float(means.min())
    unmasked = means[means > lowest]
    if not len(unmasked):
        return np.zeros(means.shape, bool)
    floor, top = np.percentile(unmasked, [10, 98])
    bright = means > floor + 0.12 * (top - floor)
    opened = ndi.binary_opening(bright)
    labels, count = ndi.label(opened if opened.any() else bright)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel(), minlength=count + 1)[1:]))
    closed = ndi.binary_closing(np.pad(largest, 3, mode="edge"), iterations=3)[3:-3, 3:-3, 3:-3]
    filled = [ndi.binary_fill_holes(closed[:, :, k]) for k in range(closed.shape[2])]
    mask: Mask = np.stack(filled, axis=2) | largest
    return mask


def _grow(cells: Mask, shape: tuple[int, ...]) -> Mask:
    """A mask of 4 mm cells on the 2 mm grid."""
    factor = BLOCK // WORK_MM
    short = [(0, max(0, -(-n // factor) - c)) for n, c in zip(shape, cells.shape, strict=True)]
    cells = np.pad(cells, short, mode="edge")  # the last, incomplete cell
    fine = cells.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    return fine[: shape[0], : shape[1], : shape[2]]
