"""The atlas the segmenter starts from: where each class lies, relative to the brain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.quality.features import ATLAS_SHAPE, ATLAS_STEP, CLASSES, place_of
from lohi_edge.quality.frame import CROP, SPACING_MM
from lohi_edge.volume import Float32
from lohi_export.morphometry.bank import Codes
from lohi_export.morphometry.painting import targets

CROPS = 30  # that it is made of, evenly spread over the bank
BLUR = 0.6  # cells; there are few heads


def make_atlas(crops: Sequence[Codes]) -> Float32:
    """Share (CLASSES, *ATLAS_SHAPE) of each class on cells of ATLAS_STEP brain sizes.

    Left and right alike. Each head is laid on the others by its brain's centre and size.
    """
    total = np.zeros((CLASSES, *ATLAS_SHAPE), np.float64)
    chosen = crops[:: max(1, len(crops) // CROPS)]
    for codes in chosen:
        shares: Float32 = targets(codes, 0.0)[0] / np.float32(8)
        place = place_of(shares)
        for axis, n in enumerate(ATLAS_SHAPE):
            mm = (np.arange(n) - (n - 1) / 2) * ATLAS_STEP * place.size[axis] + place.centre[axis]
            at = np.clip((mm - 1) / SPACING_MM, 0, CROP[axis] - 1)
            weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(CROP[axis])) / 1.5)
            weights /= weights.sum(axis=1, keepdims=True)
            near = np.tensordot(weights.astype(np.float32), shares, axes=(1, axis + 1))
            shares = np.moveaxis(near, 0, axis + 1)
        total += shares
    total += total[:, ::-1]
    blurred = np.stack([ndi.gaussian_filter(t, BLUR) for t in total])
    return np.asarray(blurred / blurred.sum(axis=0), dtype=np.float32)
