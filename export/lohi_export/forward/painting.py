"""Lesions painted into a scan, into the result made of it, or into both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.quality.forward import Cells
from lohi_edge.quality.result_faults import blob
from lohi_edge.quality.scan import Mask, block_mean
from lohi_edge.volume import Float32
from lohi_export.forward.samples import Sample

# Diameter, relative change in an image, and that of the scan over the result's where both show it.
LESION_MM, CHANGE, SEEN = (5.0, 16.0), (0.12, 0.8), (0.7, 1.2)
BLUR = (0.5, 0.5, 1.0)  # sd in voxels of 2 mm by which a scan blurs them
TRIES = 20  # at a place where no other lesion lies


class Shown(Enum):
    """Which image shows a lesion."""

    RESULT = "invented"
    SCAN = "erased"
    BOTH = "kept"


@dataclass(frozen=True, eq=False)
class Painted:
    """A sample with lesions.

    Attributes:
        cells: scan and result.
        wrong: float32 (x, y, z), how much of a cell a lesion takes that one image alone shows.
        kept: the same of lesions that both show.
        near: cells close to any of them.
    """

    cells: Cells
    wrong: Float32
    kept: Float32
    near: Mask


def paint(
    sample: Sample, rng: np.random.Generator, count: int, kinds: Sequence[Shown] = tuple(Shown)
) -> Painted:
    """Balls of LESION_MM in the brain, `count` of each kind where there is room, none on another.

    What both images show is no departure, however odd; without such a detector would learn how
    painted balls look.
    """
    cells = sample.cells
    shown, seen = np.ones_like(cells.result), np.ones_like(cells.result)
    covers = {kind: np.zeros_like(cells.result) for kind in Shown}
    taken = np.zeros(cells.result.shape, bool)
    where = 2 * np.argwhere(sample.brain > 0.9)
    for kind in list(kinds) * count:
        size = float(rng.uniform(*LESION_MM))
        change = np.float32(rng.uniform(*CHANGE) * rng.choice((-1, 1)))
        for _ in range(TRIES):
            at = where[int(rng.integers(len(where)))]
            box = tuple(slice(max(0, int(i - size)), int(i + size)) for i in at)
            if not taken[box].any():
                break
        else:
            continue
        taken[box] = True
        centre = [i + rng.uniform(0, 2) - s.start for i, s in zip(at, box, strict=True)]
        ball = blob(shown[box].shape, centre, size, (2, 2, 2))
        covers[kind][box] = ball
        if kind is not Shown.SCAN:
            shown[box] *= 1 + change * ball
        if kind is not Shown.RESULT:
            share = np.float32(rng.uniform(*SEEN) if kind is Shown.BOTH else 1)
            seen[box] *= 1 + share * change * ball
    scan = cells.scan * block_mean(ndi.gaussian_filter(seen, BLUR), 2)
    return Painted(
        replace(cells, scan=scan, result=np.minimum(cells.result * shown, 1)),
        block_mean(np.maximum(covers[Shown.RESULT], covers[Shown.SCAN]), 2),
        block_mean(covers[Shown.BOTH], 2),
        block_mean(taken.astype(np.float32), 2) > 0,
    )
