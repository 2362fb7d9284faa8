"""Noise, contrast, shading and sharpness of a scan. Pure functions on arrays.

Where a docstring names a paper, the formula is the paper's; brightness always means intensities
of one scan, which have no unit.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.quality.measure import NotApplicable
from lohi_edge.quality.scan import WORK_MM, Mask, block_mean
from lohi_edge.volume import Float32, Float64

_MAD = 0.6745  # median absolute value of a standard normal variable
_FIELD_CELLS = 4  # work voxels a side of a cell of the shading field: 8 mm
_FIELD_SIGMA = 2.5  # of its smoothing, in cells: 20 mm
_SLOPE_POINTS = 50  # cells, at least, to fit ten terms to


def tissue_noise(thin: Float32, inside: Mask) -> float:
    """Standard deviation of the noise inside tissue, in brightness; lower is better.

    Immerkaer, Comput Vis Image Underst 64:300, 1996: the difference of two Laplacians in the plane
    of the slices, here with the median instead of the mean so that edges do not count.

    Args:
        thin: (x, y, z) samples, not averages, so that noise keeps its size.
        inside: same shape.

    Raises:
        ValueError: nothing inside but the border.
    """
    centre = inside[1:-1, 1:-1]
    if not centre.any():
        raise ValueError("too little of a head to measure")
    along_x = thin[:-2] - 2 * thin[1:-1] + thin[2:]
    both = along_x[:, :-2] - 2 * along_x[:, 1:-1] + along_x[:, 2:]
    return float(np.median(np.abs(both[centre]))) / _MAD / 6


def offset(thin: Float32, level: float) -> float:
    """How bright the darkest voxels are (first percentile) relative to the head, -1 to 1; about 0
    where nothing was added to the signal.

    Args:
        thin: (x, y, z) samples.
        level: typical brightness of the head, > 0.
    """
    floor = float(np.percentile(thin, 1))
    return floor / max(abs(floor), level)


def dietrich_snr(thin: Float32, inside: Mask, air: Mask) -> float:
    """Signal-to-noise ratio against air, mean(tissue) / (sd(air) / 0.655); higher is better.

    Dietrich et al., J Magn Reson Imaging 26:375, 2007: the factor sqrt(2 / (4 - pi)) turns the
    Rayleigh-distributed magnitude noise of air into the noise of tissue.
    """
    noise = float(thin[air].std()) * float(np.sqrt(2 / (4 - np.pi)))
    return float(thin[inside].mean()) / max(noise, 1e-6)


def foreground_background_energy(thin: Float32, head: Mask, air: Mask) -> float:
    """FBER: mean energy of the head over the median energy of air; higher is better.

    Shehzad et al., Front Neurosci 2015 (Preprocessed Connectomes Project quality protocol).
    """
    background = float(np.median(np.square(thin[air])))
    return float(np.mean(np.square(thin[head]))) / max(background, 1e-6)


def artefact_share(thin: Float32, air: Mask) -> float:
    """QI1: share of air that is brighter than noise in a piece; 0 to 1, lower is better.

    Mortamet et al., Magn Reson Med 62:365, 2009: voxels of air above twice the mode of its
    histogram that survive an opening.
    """
    values = thin[air]
    counts, edges = np.histogram(values, bins=64, range=(0, float(np.percentile(values, 99))))
    mode = float(edges[int(counts.argmax())] + edges[1] / 2)
    bright = ndi.binary_opening(air & (thin > 2 * mode))
    return float(bright.sum()) / float(air.sum())


def entropy_focus(work: Float32, head: Mask) -> float:
    """EFC: entropy of the head's intensities relative to its maximum; 0 to 1, lower is better.

    Atkinson et al., IEEE Trans Med Imaging 16:903, 1997. Ghosts and blur spread energy over more
    voxels. Taken inside the head, so that masked and unmasked backgrounds compare.
    """
    values = np.abs(work[head]).astype(np.float64)
    count = len(values)
    share = values / max(float(np.sqrt(np.sum(values**2))), 1e-12)
    entropy = float(np.sum(share * np.log(share + 1e-16)))
    largest = float(np.sqrt(count) * np.log(1 / np.sqrt(count)))
    return entropy / largest


def shading_field(work: Float32, inside: Mask) -> Float32:
    """Brightness of tissue smoothed over about 20 mm, on the grid of `work`; 1 outside."""
    size = _FIELD_CELLS
    pad = [(0, -n % size) for n in work.shape]
    weight = np.pad(inside.astype(np.float32), pad)
    cells = block_mean(np.pad(work, pad) * weight, size)
    weights = block_mean(weight, size)
    smooth = ndi.gaussian_filter(cells, _FIELD_SIGMA, mode="constant")
    mass = ndi.gaussian_filter(weights, _FIELD_SIGMA, mode="constant")
    ratio = np.where(mass > 0.01, smooth / np.maximum(mass, 0.01), 1.0).astype(np.float32)
    for axis in range(3):
        ratio = _upsampled(ratio, size, axis)
    return ratio[: work.shape[0], : work.shape[1], : work.shape[2]]


def _upsampled(cells: Float32, size: int, axis: int) -> Float32:
    """Linear interpolation between cell centres along an axis, `size` samples a cell."""
    count = cells.shape[axis]
    at = np.clip((np.arange(count * size) + 0.5) / size - 0.5, 0, count - 1)
    low = np.minimum(at.astype(int), max(count - 2, 0))
    high = np.minimum(low + 1, count - 1)
    part = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    result: Float32 = cells.take(low, axis) * (1 - part) + cells.take(high, axis) * part
    return result


def shading(field: Float32, inside: Mask) -> float:
    """Strength of shading: standard deviation of the log of the field; 0 is even brightness."""
    return float(np.std(np.log(np.maximum(field[inside], 1e-6))))


def shading_slopes(field: Float32, inside: Mask) -> Float64:
    """How the log of brightness rises towards right, front and top, per 100 mm (3,).

    At the centre of the field of view, where a coil stands still while heads come and go: least
    squares with the second-order terms, which take up how bright the rim is.

    Args:
        field: of `shading_field`, on the 2 mm grid, RAS+ order.
        inside: same shape.

    Raises:
        ValueError: fewer points than the fit needs.
    """
    every = (slice(_FIELD_CELLS // 2, None, _FIELD_CELLS),) * 3
    points = np.argwhere(inside[every])
    if len(points) < _SLOPE_POINTS:
        raise ValueError("too little of a head to measure")
    centre = (np.array(inside.shape) - 1) / 2
    at = (points * _FIELD_CELLS + _FIELD_CELLS // 2 - centre) * WORK_MM / 100
    x, y, z = at.T
    terms = np.stack([x, y, z, np.ones_like(x), x * x, y * y, z * z, x * y, x * z, y * z], axis=1)
    values = field[every][inside[every]]
    middle = max(float(np.median(values)), 1e-6)
    log = np.log(np.maximum(values / middle, 1e-6)).astype(np.float64)
    slopes: Float64 = np.linalg.lstsq(terms, log, rcond=None)[0][:3]
    return slopes


def contrast(work: Float32, field: Float32, inside: Mask) -> float:
    """Spread of tissue brightness, (P90 - P10) / median after shading; 0 is one brightness."""
    even = work[inside] / np.maximum(field[inside], 1e-6)
    low, middle, high = np.percentile(even, [10, 50, 90])
    return float(high - low) / max(float(middle), 1e-6)


def sharpness(thin: Float32, inside: Mask, axis: int, noise: float) -> float:
    """Edge energy at 2 mm over that at 8 mm along an axis; about 0.25 for a blur far above 8 mm,
    higher is sharper.

    Square root of the ratio of the structure function at two lags (Kolmogorov's D(l) =
    <(I(x + l) - I(x))^2>), with the noise's share, 2 sd^2, taken off both.
    """
    near, far = (_structure(thin, inside, axis, lag) - 2 * noise**2 for lag in (1, 4))
    return float(np.sqrt(max(near, 0.0) / max(far, 1e-9)))


def _structure(thin: Float32, inside: Mask, axis: int, lag: int) -> float:
    """Trimmed mean of squared differences at a lag: the rim of the brain must not decide alone."""
    first = [slice(None)] * 3
    second = [slice(None)] * 3
    first[axis], second[axis] = slice(None, -lag), slice(lag, None)
    a, b = tuple(first), tuple(second)
    both = inside[a] & inside[b]
    if not both.any():
        return 0.0
    return float(np.mean(np.square(thin[a][both] - thin[b][both])))


def clipped(native: Float32, level: float) -> float:
    """Share of voxels brighter than half of tissue that have the very top value; lower is better.

    One voxel has the top value in any scan and does not count. The bright voxels are counted on
    every second voxel along each axis.

    Raises:
        NotApplicable: no voxel is that bright, as in a scan whose sign was turned.
    """
    thin = native[::2, ::2, ::2]
    bright = native.size / thin.size * np.count_nonzero(thin > level / 2)
    if not bright:
        raise NotApplicable("no voxel is as bright as tissue")
    return min(1.0, float(np.count_nonzero(native == native.max()) - 1) / bright)
