"""One pair from a real high-field volume: its own texture as the target, a 64 mT scan made of it.

After ULF-Synth (arXiv 2605.24625): the contrast is mapped, then the scanner is simulated. Here the
scanner is the label maps' own (acquisition), and the mapping a curve through the signals that each
tissue has at both fields in this draw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_edge.errors import BadInput
from lohi_edge.head import Head, find_head
from lohi_edge.volume import Volume, isotropic_grid
from lohi_export.pairs import acquisition, anatomy, placing, recontrast
from lohi_export.pairs.anatomy import Labels, Signals
from lohi_export.pairs.fields import Float32, Shape
from lohi_export.pairs.pathology import Pathology, Spot
from lohi_export.pairs.ranges import Ranges
from lohi_export.pairs.simulate import FIELD_OF_VIEW, WHITE, Pair, distort, low_grid
from lohi_export.pairs.tissues import FAT, TISSUES

MAX_ZOOM_MM = 2.0
BRAIN_ML = (400, 2500)  # an infant's to a large adult's, with the CSF inside
BRAIN_SHARE = 0.75  # of the head; more is a volume without scalp and skull
# Brightness of brain tissue relative to white matter: CSF in T1w and FLAIR, fat in T1w lie outside.
TISSUE = (0.5, 1.4)
MUSCLE = np.float32(0.66)  # brightness at 3 T, relative to white matter, or less
EDGE_MM = 0.7  # sd of the border of ventricles that were widened
INSIDE, OUTSIDE = (24, 3, 2), (515, 507, FAT)  # labels whose signals make the two curves


@dataclasses.dataclass(frozen=True, eq=False)
class HighField:
    """A real high-field head made ready.

    Attributes:
        signal: float32 (X, Y, Z) at 1 mm, RAS+, white matter at 1.
        brain: bool (X, Y, Z).
        regions: int16 (X, Y, Z), see `recontrast`; None where nobody asked for them.
    """

    signal: Float32
    brain: NDArray[np.bool_]
    regions: Labels | None = None


def prepare(volume: Volume, regions: bool = False) -> HighField:
    """Resample to 1 mm, find the brain, scale white matter to 1.

    Args:
        regions: find them too: another contrast is to be made of it, or lesions put into it.

    Raises:
        BadInput: thick slices, no head, a head without scalp and skull, or no head with the
            segmenter's regions.
    """
    if volume.zooms.max() > MAX_ZOOM_MM:
        raise BadInput(
            f"expected a high-field volume of voxels up to {MAX_ZOOM_MM:g} mm, got "
            f"{volume.zooms.round(2).tolist()} mm; a slice stack is no target"
        )
    data = volume.isotropic().data
    head = find_head(data)
    data = np.maximum(data - np.percentile(data, 1), 0)
    white = white_level(data, head)
    signal: Float32 = (data / np.float32(white)).astype(np.float32)
    brain = find_brain(signal, head)
    millilitres = int(brain.sum()) / 1000
    inside = millilitres / (head.cells.sum() * 0.064)
    if inside > BRAIN_SHARE:
        raise BadInput(
            f"expected a whole head, got a brain in {inside:.0%} of it; a scanner sees scalp and "
            "skull too, so give the volume before skull stripping"
        )
    if not BRAIN_ML[0] <= millilitres <= BRAIN_ML[1]:
        raise BadInput(
            f"expected a brain of {BRAIN_ML[0]}-{BRAIN_ML[1]} ml, found {millilitres:.0f} ml; "
            "check contrast and field of view"
        )
    return HighField(signal, brain, recontrast.regions_of(volume) if regions else None)


def white_level(data: Float32, head: Head) -> float:
    """The commonest brightness in a head's middle: white matter, whatever the contrast."""
    (x0, y0, _), (x1, y1, top) = head.low, head.high
    x, y = (x0 + x1) // 2, (y0 + y1) // 2
    core = data[x - 40 : x + 40, y - 50 : y + 50, max(0, top - 90) : top - 25].ravel()
    core = core[core > 0]
    if core.size < 1000:
        raise BadInput("expected a brain in the middle of the head, got nothing there")
    low, high = np.percentile(core, [2, 99.5])
    counts, edges = np.histogram(core, 128, (low, high))
    peak = int(np.argmax(ndi.gaussian_filter1d(counts.astype(float), 3)))
    return float((edges[peak] + edges[peak + 1]) / 2)


def find_brain(signal: Float32, head: Head) -> NDArray[np.bool_]:
    """Brain (X, Y, Z): tissue about the head's middle, cut from the scalp where it is thin.

    Threshold, erosion by 4 mm, the largest part, dilation back, holes filled. CSF at its rim stays
    outside; that is enough to choose a curve by.
    """
    smooth = ndi.gaussian_filter(signal, 0.7)
    tissue = (smooth > TISSUE[0]) & (smooth < TISSUE[1])
    tissue[:, :, : max(0, head.high[2] - 150)] = False
    core = ndi.binary_erosion(tissue, iterations=4)
    labels, count = ndi.label(core)
    if not count:
        return np.zeros(signal.shape, bool)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    grown = ndi.binary_dilation(largest, iterations=5, mask=tissue)
    closed = ndi.binary_closing(np.pad(grown, 6), iterations=6)[6:-6, 6:-6, 6:-6]
    brain: NDArray[np.bool_] = ndi.binary_fill_holes(closed)
    return brain


def simulate_from_volume(
    source: HighField,
    seed: int | Sequence[int],
    ranges: Ranges,
    contrast: str = "T1w",
    field_of_view: Shape = FIELD_OF_VIEW,
    change: bool = False,
    pathology: Pathology | None = None,
) -> Pair:
    """A pair whose 3 T volume is the source itself, posed anew; see `simulate_pair`.

    The 3 T volume keeps the source's blur and noise; its brightest saturate as simulated ones do.

    Args:
        change: the source is T1w, and `contrast` is to be made of it; needs its regions.
        pathology: made of the source's regions. Lesions are even, without its texture.

    Raises:
        BadInput: a source to be changed that is not T1w.
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
    params = ranges.draw(streams[0])
    shape, low_affine = low_grid(params, streams[1], field_of_view)
    high_shape, high_affine = isotropic_grid(shape, low_affine)
    signals, brain = _signals(source, params, contrast, streams[2], change)
    if pathology:
        assert source.regions is not None
        wide = ndi.gaussian_filter((pathology.labels != source.regions).astype(np.float32), EDGE_MM)
        grown = Spot(wide, TISSUES["CSF"])
        ill = dataclasses.replace(pathology, spots=[grown, *pathology.spots])
        signals = ill.paint(signals, params, contrast)
    posed = np.where(brain, np.int16(anatomy.WHITE[0]), np.int16(0))
    at = placing.coordinates(posed, high_shape, params, streams[2])
    high = np.minimum(placing.sample(signals.high, at), np.float32(params["high_top"]))
    distorted = distort(signals.low, at, params, streams[4])
    low = acquisition.acquire_low(distorted, shape, params, streams[4])
    return Pair(Volume(low * WHITE, low_affine), Volume(high * WHITE, high_affine), None, params)


def _signals(
    source: HighField,
    params: dict[str, float],
    contrast: str,
    rng: np.random.Generator,
    change: bool,
) -> tuple[Signals, NDArray[np.bool_]]:
    """Signals at both fields on the source's grid, and where the brain is."""
    if not change:
        source = brighten_fat(source, params["high_top"])
        low = map_contrast(source, params, contrast, rng)
        return Signals(low, source.signal), source.brain
    assert source.regions is not None
    bright = brighten_fat(source, recontrast.OUTSIDE[-1]).signal
    inside = recontrast.skull(source.regions)
    made = recontrast.signals(bright, source.regions, inside, params, contrast, rng)
    return made, inside


def brighten_fat(source: HighField, top: float) -> HighField:
    """The source with fat as bright as simulated 3 T scans show it: up to `top` times white matter.

    Scanners differ in how bright they leave it, and a network's target must not: outside the brain
    what is brighter than muscle is stretched until the brightest fiftieth reaches `top`.
    """
    outside = source.signal[~source.brain & (source.signal > MUSCLE)]
    if not outside.size:
        return source
    gain = (top - MUSCLE) / (np.percentile(outside, 98) - MUSCLE)
    stretched = MUSCLE + (source.signal - MUSCLE) * np.float32(max(gain, 1))
    bright = (source.signal > MUSCLE) & ~source.brain
    return dataclasses.replace(source, signal=np.where(bright, stretched, source.signal))


def map_contrast(
    source: HighField, params: dict[str, float], contrast: str, rng: np.random.Generator
) -> Float32:
    """The signal (X, Y, Z) at 64 mT, by one curve inside the brain and one outside."""
    level, _ = anatomy.tables(params, contrast, rng)
    share = ndi.gaussian_filter(source.brain.astype(np.float32), 1.0)
    inside, outside = (_curve(source.signal, level[:, list(k)]) for k in (INSIDE, OUTSIDE))
    mapped: Float32 = share * inside + (1 - share) * outside
    return mapped


def _curve(signal: Float32, level: Float32) -> Float32:
    """Piecewise linear from nothing through (3 T, 64 mT) levels (2, n), flat beyond the last."""
    order = np.argsort(level[1])
    x, y = np.r_[0, level[1][order]], np.r_[0, level[0][order]]
    return np.interp(signal, x, y).astype(np.float32)
