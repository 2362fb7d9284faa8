"""What intensities a scan may have, however it came."""

from __future__ import annotations

import math

import numpy as np

from lohi_edge.errors import BadInput
from lohi_edge.volume import Float32

MAX_INTENSITY = 1e30  # sums over a volume stay within float32


def check(data: Float32) -> None:
    """Look at the voxels of a scan.

    Raises:
        BadInput: they are not finite, all the same, or so large or near to each other that nothing
            can be computed of them.
    """
    low, high = float(data.min()), float(data.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(data.size - np.isfinite(data).sum())
        raise BadInput(
            f"expected finite voxels within float32, got {bad:,} NaN or infinite ones; mask them, "
            "or check the scaling"
        )
    if max(-low, high) > MAX_INTENSITY or 0 < high - low < 1 / MAX_INTENSITY:
        raise BadInput(
            f"expected intensities of at most {MAX_INTENSITY:g} that differ by more than "
            f"{1 / MAX_INTENSITY:g}, got {low:g} to {high:g}; check the scaling"
        )
    if low == high:
        what = "all zero" if low == 0 else f"constant ({low:g})"
        raise BadInput(f"expected an image, got a volume that is {what}; check the export")
