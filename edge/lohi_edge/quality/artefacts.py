"""Ghosts, spikes and zipper lines."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy import ndimage as ndi

from lohi_edge.quality.scan import Mask, block_mean
from lohi_edge.volume import Float32

_CELL = 4  # work voxels a side of an air cell: 8 mm
_MIN_CELLS = 60
_MIN_RADIUS = 0.2  # cycles per sample; below, anatomy has peaks of its own


def ghost_level(work: Float32, air: Mask, level: float) -> float | None:
    """Brightness of the brightest air over that of typical air, relative to tissue; lower better.

    98th percentile minus median of 8 mm cells of air: noise averages out, ghosts do not (after
    Mortamet et al. 2009). None where too little air was left by masking.
    """
    whole = block_mean(air.astype(np.float32), _CELL) > 0.99
    if int(whole.sum()) < _MIN_CELLS:
        return None
    cells = block_mean(work, _CELL)[whole]
    middle, high = np.percentile(cells, [50, 98])
    return float(high - middle) / level


def spike(slices: Float32) -> float:
    """Highest peak of k-space over its surroundings; about 3 to 5 without spikes, lower is better.

    A spike in k-space is a herringbone pattern over the slice (Zhuo and Gullapalli, Radiographics
    26:275, 2006). Every slice is transformed; each frequency is compared with the mean magnitude
    of the frequencies 3 and 4 samples away. Anatomy's own peaks are wider than that.

    Args:
        slices: (x, y, s).
    """
    x, y, _ = slices.shape
    window = np.hanning(x)[:, None] * np.hanning(y)[None]
    spectrum = np.abs(fft.rfft2(slices * window[..., None].astype(np.float32), axes=(1, 0)))
    spectrum = np.fft.fftshift(spectrum, axes=1)[4:]  # low x frequencies wrap around
    wide, narrow = (ndi.uniform_filter(spectrum, (n, n, 1)) * n * n for n in (9, 5))
    around = (wide - narrow) / (81 - 25)
    radius = np.hypot(np.fft.rfftfreq(x)[4:, None], np.fft.fftshift(np.fft.fftfreq(y))[None])
    far = radius > _MIN_RADIUS
    return float(np.max((spectrum / np.maximum(around, 1e-9))[far]))


def zipper(slices: Float32) -> float:
    """Strongest line along an in-plane axis, in robust standard deviations; lower is better.

    A radio-frequency leak draws a line through the whole field of view at one position (Zhuo and
    Gullapalli 2006). Taken from the lower quartile across each line, which the head cannot lift.

    Args:
        slices: (x, y, s).
    """
    strongest = 0.0
    for axis in range(2):
        profile = np.quantile(slices[:, :, ::2], 0.25, axis=axis).mean(axis=1)
        bend = profile[1:-1] - (profile[:-2] + profile[2:]) / 2
        spread = 1.4826 * float(np.median(np.abs(bend - np.median(bend))))
        scale = max(spread, 0.002 * float(np.abs(profile).max()), 1e-9)
        strongest = max(strongest, float(np.abs(bend).max()) / scale)
    return strongest
