"""Spots that a result shows and its scan does not, or hides and its scan shows.

A small network, the forward model (`forward-*.onnx`, learned by `lohi-export quality forward` from
scans and the results made of them), predicts the scan on 4 mm cells from the result and from what
surrounds each cell in the scan. What the scan departs from it is filtered for spots of 8 mm by a
filter that weighs down what departs in healthy heads as well (matched filter for coloured noise:
North, Proc IEEE 51:1016, 1963), and the strongest spot in the brain is told in units of that scan's
own spread. In the same file a detector, which learned from lesions painted into one of the two
images or both, tells from that, from wider and narrower filters and from the tissue about it the
odds that a lesion lies there which the other image lacks. Each finds what the other does not.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.quality import robust
from lohi_edge.quality.consistency import CELL_MM
from lohi_edge.quality.measure import NotApplicable
from lohi_edge.quality.network import open_network
from lohi_edge.quality.scan import Mask, Scan, block_mean
from lohi_edge.slices import INTENSITY_MAX
from lohi_edge.volume import Float32

INPUTS, OUTPUTS = ("scan", "result", "place", "inside"), ("departures", "odds", "brain")
MARGIN = 4  # cells about the inner head that the network sees
UPPER_MM = 90  # of the inner head, whose middle lies in the brain whatever the neck
PLACE_MM = 80  # one unit of `places`
SURE = 0.9  # of being brain
CLOSED = 2  # cells by which gaps of the brain are closed
FEWEST = 2000  # cells of brain
LARGEST = (64, 80, 80)  # cells of the box, 26 x 32 x 32 cm: what memory and time are spent on


@dataclass(frozen=True)
class Spot:
    """The strongest spot of the brain by one of two measures.

    Attributes:
        height: in standard deviations of what departs from the prediction in this scan, filtered;
            or as the logarithm of the odds of a lesion that one image alone shows.
        where: index (3,) of its cell of CELL_MM.
    """

    height: float
    where: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Cells:
    """What the network takes of a scan and its result: arrays over a box of cells.

    Attributes:
        scan: float32 (x, y, z), 1 at the level of the inner head.
        result: float32 (2x, 2y, 2z), 1 at the top of the range.
        place: float32 (3, x, y, z), see `places`.
        inside: float32 (x, y, z), 1 deep in the head.
        corner: cell of the whole grid at which the box begins.
    """

    scan: Float32
    result: Float32
    place: Float32
    inside: Float32
    corner: tuple[int, ...]


def strongest_spots(
    scan: Scan, result: Float32, contrast: str, threads: int | None = None
) -> tuple[Spot, Spot]:
    """The strongest spots that scan and result do not share: by what departs, and by the odds.

    Args:
        result: (x, y, z) on the 2 mm grid of `scan`, 0 to INTENSITY_MAX.
        contrast: of the scan; each has a network of its own.
        threads: of the CPU; None for one per core.

    Raises:
        NotApplicable: too little brain is in view, or what is in view is larger than a head.
        BundleError: the package's file cannot be used.
    """
    cells = lay_cells(scan, result)
    inputs = (cells.scan[None], cells.result[None], cells.place, cells.inside[None])
    named = {name: array[None] for name, array in zip(INPUTS, inputs, strict=True)}
    network = session(contrast, threads)
    try:
        departures, odds, brain = (array[0, 0] for array in network.run(OUTPUTS, named))
    except Exception as error:  # onnxruntime's own exceptions share no narrower public base
        raise ValueError(f"onnxruntime failed: {error}") from error
    within = brain_of(brain, cells.inside > 0)
    values = departures[within]
    if len(values) < FEWEST:
        raise NotApplicable("too little of the brain is in view")
    spread = max(robust.deviation(values), 1e-6)
    departing = np.where(within, np.abs(departures), 0) / np.float32(spread)
    likely = np.where(within, odds, -np.inf)
    return _strongest(departing, cells.corner), _strongest(likely, cells.corner)


def _strongest(height: Float32, corner: tuple[int, ...]) -> Spot:
    at = np.unravel_index(int(np.argmax(height)), height.shape)
    x, y, z = (int(i) + low for i, low in zip(at, corner, strict=True))
    return Spot(float(height[at]), (x, y, z))


def lay_cells(scan: Scan, result: Float32) -> Cells:
    """Cut scan and result (x, y, z), on the 2 mm grid, to the box about the inner head.

    Raises:
        NotApplicable: nothing lies deep in the head, or what does is larger than a head.
    """
    if min(scan.work.shape) < 4:
        raise NotApplicable("too little of the head is in view")
    inside = block_mean(scan.inner.astype(np.float32), 2) > 0.9
    if not inside.any():
        raise NotApplicable("too little of the head is in view")
    corners = np.argwhere(inside)
    low = np.maximum(corners.min(axis=0) - MARGIN, 0)
    high = np.minimum(corners.max(axis=0) + 1 + MARGIN, inside.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    if any(s.stop - s.start > most for s, most in zip(box, LARGEST, strict=True)):
        raise NotApplicable("what is in view is larger than a head")
    twice = tuple(slice(2 * s.start, 2 * s.stop) for s in box)
    return Cells(
        scan=block_mean(scan.work[twice], 2) / np.float32(scan.level),
        result=(result[twice] / np.float32(INTENSITY_MAX)).astype(np.float32),
        place=places(inside)[(slice(None), box[0], box[1], box[2])],
        inside=inside[box].astype(np.float32),
        corner=tuple(s.start for s in box),
    )


def places(inside: Mask) -> Float32:
    """(3, x, y, z): each cell's place from the middle of the upper head, and below its top.

    Units of PLACE_MM; a mirrored head has the first of them with the other sign.
    """
    rows = np.flatnonzero(inside.any(axis=(0, 1)))
    top = int(rows[-1])
    upper = inside[:, :, max(0, top + 1 - UPPER_MM // CELL_MM) : top + 1]
    middle = [at.mean() for at in np.nonzero(upper)[:2]]
    grid = np.meshgrid(*(np.arange(n) for n in inside.shape), indexing="ij", sparse=True)
    parts = [grid[0] - middle[0], grid[1] - middle[1], top - grid[2]]
    scaled = [np.broadcast_to(p * (CELL_MM / PLACE_MM), inside.shape) for p in parts]
    return np.stack(scaled).astype(np.float32)


def brain_of(chance: Float32, inside: Mask) -> Mask:
    """The largest piece that is surely brain, holes filled and without its border.

    A lesion may look like anything but brain: closing and filling keep it in.
    """
    labels, count = ndi.label((chance > SURE) & inside)
    if not count:
        return np.zeros(inside.shape, bool)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    closed = ndi.binary_closing(np.pad(largest, CLOSED), iterations=CLOSED)
    inner = (slice(CLOSED, -CLOSED),) * 3
    eroded: Mask = ndi.binary_erosion(ndi.binary_fill_holes(closed[inner]))
    return eroded


@functools.cache
def session(contrast: str, threads: int | None) -> Any:
    """The forward model of a contrast, loaded once."""
    name = f"forward-{contrast}.onnx"
    data = resources.files("lohi_edge.quality").joinpath(name).read_bytes()
    return open_network(data, name, threads)
