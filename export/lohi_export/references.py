"""What brightness a model was trained to produce, for the device to hold its results against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lohi_edge import nifti
from lohi_edge.head import find_head
from lohi_edge.quality.plausibility import DECILES
from lohi_edge.quality.scan import block_mean, lay_out
from lohi_edge.slices import SliceContract, intensity_range
from lohi_export.pairs.matching import Pair

PAIRS = 24  # looked at, spread over the data set: a second each, and more change little


def deciles(pairs: Sequence[Pair], contract: SliceContract) -> list[float]:
    """Deciles (10,), 0 to 1, of 3 T deep inside the head, as `quality.plausibility` takes them.

    Args:
        pairs: what the model was trained on.

    Raises:
        BadInput: a scan that cannot be read or shows no head.
    """
    chosen = np.unique(np.linspace(0, len(pairs) - 1, PAIRS).round().astype(int))
    found = []
    for number in chosen:
        low, high = nifti.read(pairs[number].low), nifti.read(pairs[number].high)
        inner = lay_out(low, low.isotropic()).inner
        dark, bright = intensity_range(high.data, find_head(high.data), contract)
        scaled = np.clip((high.data - dark) / np.float32(bright - dark), 0, 1)
        found.append(np.percentile(block_mean(scaled, 2)[inner], DECILES))
    return [round(float(value), 4) for value in np.mean(found, axis=0)]
