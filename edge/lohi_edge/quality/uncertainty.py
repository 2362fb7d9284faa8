"""How much a result depends on accidents of its making: test-time variants of one scan.

The generator sees the same head mirrored and moved by a few voxels. Anatomy does not depend on
that, so where the answers differ the generator is unsure (test-time augmentation as an estimate of
aleatoric uncertainty: Wang et al., Neurocomputing 338:34, 2019). What it invents the same way in
every variant stays unseen: a low value is no proof.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lohi_edge.slices import INTENSITY_MAX, Placement, SliceContract, from_stack, to_stack
from lohi_edge.volume import Float32

# (mirrored left to right, window moved by x, by y): no multiples of 8, the grid of the network's
# coarsest level, on which a move changes nothing but the border.
VARIANTS = ((True, 0, 0), (False, 3, 0), (False, 0, 3), (True, -3, -3))
MEANING = "standard deviation over {count} variants of the scan, in the units of the result"

Run = Callable[[Float32], Float32]


def summary(deviation: Float32, inside: Float32) -> dict[str, object]:
    """What a receipt says of an uncertainty map (X, Y, Z), given its values inside the head."""
    median, high = np.percentile(inside, [50, 95])
    return {
        "meaning": MEANING.format(count=len(VARIANTS) + 1),
        "median": round(float(median), 3),
        "p95": round(float(high), 3),
        "largest": round(float(deviation.max()), 3),
    }


def spread(
    run: Run, data: Float32, placement: Placement, contract: SliceContract, answer: Float32
) -> Float32:
    """Standard deviation (X, Y, Z) of the generator's answers, in units of 0 to 1000.

    Args:
        run: (N, C, H, W) in [-1, 1] -> (N, 1, H, W); called once for each of VARIANTS.
        data: intensities (X, Y, Z) of the scan at 1 mm.
        placement, contract: how `data` was cut for `answer`.
        answer: (N, 1, H, W) in [-1, 1], the generator's answer to the scan as it is.
    """
    first = from_stack(answer, placement, contract)
    total, squares = np.zeros_like(first), np.zeros_like(first)
    for mirrored, x, y in VARIANTS:
        # Distances from the first answer: sums of squares of these lose nothing to rounding.
        change = _answer(run, data, placement, contract, mirrored, (x, y)) - first
        total += change
        squares += change * change
    count = len(VARIANTS) + 1
    variance = np.maximum(squares / count - np.square(total / count), 0)
    deviation: Float32 = np.sqrt(variance) * np.float32(INTENSITY_MAX / 2)
    return deviation


def _answer(
    run: Run,
    data: Float32,
    placement: Placement,
    contract: SliceContract,
    mirrored: bool,
    move: tuple[int, int],
) -> Float32:
    """The answer (X, Y, Z) to one variant, put back to where the scan lies."""
    x, y = placement.corner
    if mirrored:
        x = placement.shape[0] - x - contract.height
    moved = replace(placement, corner=(x + move[0], y + move[1]))
    view = data[::-1] if mirrored else data
    back = from_stack(run(to_stack(view, moved, contract)), moved, contract)
    return back[::-1] if mirrored else back
