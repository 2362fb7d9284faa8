"""Ghosts, echoes of motion, spikes and zipper lines."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy import ndimage as ndi

from lohi_edge.quality import robust
from lohi_edge.quality.measure import NotApplicable
from lohi_edge.quality.scan import Mask, block_mean
from lohi_edge.volume import Float32, Float64

_CELL = 4  # work voxels a side of an air cell: 8 mm
_MIN_CELLS = 60
_ECHO_SLICES = 12
_NEAR = 8  # voxels; nearer copies of an edge are its own ringing
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


def echo(slices: Float32) -> float:
    """How strongly copies of the head's edges lie over the picture; 0 is none, lower is better.

    A head that moves between lines of k-space, a gain that wanders and a half-field-of-view ghost
    all put displaced copies of every edge along the phase-encoding axis (Zaitsev et al., J Magn
    Reson Imaging 42:887, 2015). For every displacement, a weighted regression of the fine detail
    (what a Gaussian of 2 voxels takes out) on itself displaced says how much of it returns; strong
    edges weigh little where they stand and all where they return, so anatomy drops out. The figure
    is the root mean square over displacements, of the in-plane axis that shows more. It needs no
    air, so masked backgrounds do not matter.

    Args:
        slices: (x, y, s); twelve of them are looked at.
    """
    count = slices.shape[2]
    chosen = np.unique(np.linspace(0.2 * count, 0.85 * (count - 1), _ECHO_SLICES).astype(int))
    part = slices[:, :, chosen]
    fine = part - ndi.gaussian_filter(part, (2, 2, 0), truncate=3)
    strength = ndi.gaussian_filter(np.abs(fine), (1, 1, 0), truncate=3)
    floor = 0.25 * np.median(strength[strength > 0]) if strength.any() else 1.0
    weight = (part > part.min()) / (np.square(strength) + np.float32(floor**2))
    return max(_returns(fine, weight, axis) for axis in range(2))


def _returns(fine: Float32, weight: Float32, axis: int) -> float:
    """Root mean square of the regression coefficients over displacements along an axis."""
    count = fine.shape[axis]
    if count <= 2 * _NEAR:
        raise NotApplicable(f"only {count} voxels across a slice")
    others = tuple(a for a in range(3) if a != axis)

    def correlation(a: Float32, b: Float32) -> Float64:
        spectrum = fft.rfft(a, axis=axis) * np.conj(fft.rfft(b, axis=axis))
        result: Float64 = fft.irfft(spectrum.sum(axis=others, dtype=np.complex128), count)
        return result

    likeness = correlation(weight * fine, fine)
    mass = correlation(weight, fine * fine)
    far = slice(_NEAR, count - _NEAR + 1)
    return float(np.sqrt(np.mean(np.square(likeness[far] / np.maximum(mass[far], 1e-12)))))


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
    Gullapalli 2006). Taken from the lower quartile across each line, which the head cannot lift,
    where at least half of the line is not masked: the edge of a mask over a noise floor would be a
    line of its own.

    Args:
        slices: (x, y, s).
    """
    strongest = 0.0
    for axis in range(2):
        profile = _profile(slices[:, :, ::2], axis)
        bend = profile[1:-1] - (profile[:-2] + profile[2:]) / 2
        bend = bend[np.isfinite(bend)]
        if not len(bend):
            continue
        scale = max(robust.deviation(bend), 0.002 * float(np.nanmax(np.abs(profile))), 1e-9)
        strongest = max(strongest, float(np.abs(bend).max()) / scale)
    return strongest


def _profile(slices: Float32, axis: int) -> Float32:
    """Mean over slices of the lower quartile of each line along an axis; NaN where all is masked.

    (x, y, s) -> (y,) or (x,).
    """
    ordered = np.sort(slices, axis=axis)
    count = slices.shape[axis]
    masked = np.sum(slices <= slices.min(), axis=axis)
    shown = masked <= count // 2
    at = np.expand_dims(masked + (count - masked) // 4, axis)
    quartile = np.take_along_axis(ordered, np.minimum(at, count - 1), axis).squeeze(axis)
    sums, lines = np.where(shown, quartile, 0).sum(axis=1), shown.sum(axis=1)
    profile: Float32 = np.where(lines > 0, sums / np.maximum(lines, 1), np.nan)
    return profile
