"""A real T1w head as T2w or FLAIR: its own sulci, its own mixture of tissues, its own texture.

Inside the skull brightness in T1w rises from fluid over cortex to white matter, so it tells how
much of each a voxel holds; a curve through what this draw's tissues give in the wanted contrast, at
3 T and at 64 mT, makes signals of that. The brain's nuclei and the cerebellum lie off that curve,
by as much as their region's middle does. Outside the skull the curve goes from bone over muscle to
fat. Fluid outside the skull (eyes) stays dark.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_edge.errors import BadInput
from lohi_edge.quality.morphometry import Segmenter
from lohi_edge.quality.regions import CSF, REGIONS
from lohi_edge.volume import Volume
from lohi_export.pairs import anatomy
from lohi_export.pairs.anatomy import CORTEX, WHITE, Labels, Signals
from lohi_export.pairs.fields import Float32
from lohi_export.pairs.tissues import FAT

BONE, MUSCLE = 515, 507
# Brightness of bone, muscle and fat in T1w, relative to white matter.
OUTSIDE = (0.08, 0.5, 1.8)
FLUID = (4, 43)  # lateral ventricles, whose middle holds nothing else
ON_THE_CURVE = (*WHITE, *CORTEX, *FLUID, 5, 44, 14, 15, CSF)
TEXTURE = 0.25  # how far above white matter its own texture goes on along the curve
LEAST = 0.3  # of white matter: how dark it may become by that
SMOOTH = 0.7  # sd in mm of the borders of regions
SMALLEST = 50  # voxels of a region whose middle counts


def regions_of(volume: Volume) -> Labels:
    """The 33 regions (X, Y, Z) of a head on the grid of `volume.isotropic()`.

    Raises:
        BadInput: no head that the segmenter understands.
    """
    return Segmenter().segment(volume).labels


def signals(
    source: Float32,
    regions: Labels,
    inside: NDArray[np.bool_],
    params: dict[str, float],
    contrast: str,
    rng: np.random.Generator,
) -> Signals:
    """Signals of a T1w head in another contrast, on its own grid.

    Args:
        source: (X, Y, Z), T1w, white matter at 1 and fat at about OUTSIDE's.
        regions: (X, Y, Z), of `regions_of`.
        inside: (X, Y, Z), of `skull`.
        params: drawn from the ranges of `contrast`.

    Raises:
        BadInput: the head is not T1w.
    """
    level, _ = anatomy.tables(params, contrast, rng)
    share = ndi.gaussian_filter(inside.astype(np.float32), SMOOTH)
    bright = brightness(source, regions)
    middles = {
        region: _middle(source, regions, (region,), deep=True)
        for region in REGIONS
        if region not in ON_THE_CURVE and np.count_nonzero(regions == region) >= SMALLEST
    }
    low, high = (_mapped(source, regions, share, bright, middles, row) for row in level)
    return Signals(low, np.maximum(high, 0))


def skull(regions: Labels) -> NDArray[np.bool_]:
    """Where the inside of the skull is, bool (X, Y, Z), gaps closed."""
    closed = ndi.binary_closing(np.pad(regions > 0, 2), iterations=2)[2:-2, 2:-2, 2:-2]
    filled: NDArray[np.bool_] = ndi.binary_fill_holes(closed)
    return filled


def brightness(source: Float32, regions: Labels) -> T1w:
    """How bright fluid and cortex are in a scan whose white matter is 1.

    Raises:
        BadInput: no cortex or ventricles, or not darker from white matter over cortex to fluid, as
            in T1w.
    """
    if not (np.isin(regions, CORTEX).any() and np.isin(regions, FLUID).any()):
        raise BadInput("expected a head with cortex and ventricles, found none of one or both")
    fluid = _middle(source, regions, FLUID, deep=True)
    cortex = _middle(source, regions, CORTEX, deep=False)
    if not 0 < fluid < cortex < 1:
        raise BadInput(
            "expected a T1w scan, cortex darker than white matter and ventricles darker still, "
            f"got {cortex:.2f} and {fluid:.2f} of white matter; check which contrast it is"
        )
    return T1w(fluid, cortex)


@dataclasses.dataclass(frozen=True)
class T1w:
    """Brightness of fluid and cortex in a T1w scan, relative to white matter."""

    fluid: float
    cortex: float

    def curve(self, level: Float32) -> tuple[list[float], list[float]]:
        """Brightness in T1w against that of a contrast with `level` (labels,)."""
        fluid, cortex, white = (float(level[k[0]]) for k in (FLUID, CORTEX, WHITE))
        slope = (white - cortex) / (1 - self.cortex)
        beyond = max(LEAST, white + slope * TEXTURE)
        # Darker than half of fluid is what has no signal: dura, flowing blood.
        at = [0, self.fluid / 2, self.fluid, self.cortex, 1, 1 + TEXTURE]
        return at, [0, fluid, fluid, cortex, white, beyond]


def _mapped(
    source: Float32,
    regions: Labels,
    share: Float32,
    bright: T1w,
    middles: dict[int, float],
    level: Float32,
) -> Float32:
    """Signal (X, Y, Z) at one field, of which `level` (labels,) holds the tissues'."""
    curve = bright.curve(level)
    inside = np.interp(source, *curve).astype(np.float32)
    for region, middle in middles.items():
        off = level[region] - np.interp(middle, *curve)
        mask = (regions == region).astype(np.float32)
        inside += np.float32(off) * ndi.gaussian_filter(mask, SMOOTH)
    outside = np.interp(source, (0, *OUTSIDE), (0, *(level[k] for k in (BONE, MUSCLE, FAT))))
    mapped: Float32 = (share * inside + (1 - share) * outside).astype(np.float32)
    return mapped


def _middle(source: Float32, regions: Labels, labels: tuple[int, ...], deep: bool) -> float:
    """Median brightness of some regions; `deep` leaves their border out, where enough is left."""
    mask = np.isin(regions, labels)
    if deep and np.count_nonzero(inner := ndi.binary_erosion(mask)) >= SMALLEST:
        mask = inner
    return float(np.median(source[mask]))
