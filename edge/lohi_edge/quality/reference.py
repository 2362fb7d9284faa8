"""Full-reference image quality: how close an image is to the truth it should show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_edge.volume import Float32, Float64

# Gaussian SSIM window of Wang et al., IEEE Trans Image Process 13:600, 2004.
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
K1, K2 = 0.01, 0.03

Mask = NDArray[np.bool_]


def psnr(
    truth: Float32, image: Float32, data_range: float = 2.0, inside: Mask | None = None
) -> float:
    """Peak signal-to-noise ratio (dB), 10 log10(range^2 / MSE); higher is better.

    Args:
        truth, image: arrays of one shape.
        data_range: largest possible difference; 2 for slices in [-1, 1].
        inside: same shape; only these samples count. None for all.

    Raises:
        ValueError: nothing inside.
    """
    error = _mean_squared(truth, image, inside)
    return float("inf") if error == 0 else 10 * float(np.log10(data_range**2 / error))


def nrmse(truth: Float32, image: Float32, inside: Mask | None = None) -> float:
    """Root mean squared error over the truth's range (max - min); lower is better.

    scikit-image's `normalized_root_mse` with `normalization="min-max"`: its default divides by the
    truth's Euclidean norm, which depends on where zero lies and means nothing in [-1, 1].

    Args:
        truth, image: arrays of one shape.
        inside: same shape; error and range are taken over these samples alone. None for all.

    Raises:
        ValueError: nothing inside, or a truth of one brightness there.
    """
    error = _mean_squared(truth, image, inside)
    seen = truth if inside is None else truth[inside]
    span = float(seen.max()) - float(seen.min())
    if not span > 0:
        raise ValueError("expected contrast in the truth, got one brightness")
    return float(np.sqrt(error)) / span


def ssim(
    truth: Float32, image: Float32, data_range: float = 2.0, inside: Mask | None = None
) -> float:
    """Mean structural similarity of two slices (H, W) or volumes (X, Y, Z); 1 is identical.

    A volume is compared in 3-D. The mean leaves a border of 5 samples out, as scikit-image does.

    Args:
        truth, image: arrays of one shape, at least 11 samples along each axis.
        data_range: largest possible difference.
        inside: same shape; the mean is taken over it alone (a background that is black in both
            flatters the mean over the whole grid).

    Returns:
        The mean; NaN where either holds what is no finite number: leaving it out would hide it.

    Raises:
        ValueError: too small for a window, or nothing inside.
    """
    if not (np.isfinite(truth).all() and np.isfinite(image).all()):
        return float("nan")
    return mean_inside(ssim_map(truth, image, data_range), inside)


def ssim_map(
    truth: Float32, image: Float32, data_range: float = 2.0, axes: tuple[int, ...] | None = None
) -> Float64:
    """Structural similarity about each sample; NaN within 5 samples of an edge.

    Wang et al. 2004: Gaussian window of sigma 1.5, cut at radius 5, population statistics, as in
    scikit-image with `gaussian_weights=True, use_sample_covariance=False`.

    Args:
        truth, image: arrays of one shape.
        data_range: largest possible difference.
        axes: that a window spans, all by default; (1, 2) compares a stack (N, H, W) slice by slice.

    Raises:
        ValueError: fewer than 11 samples along one of the axes.
    """
    axes = tuple(range(truth.ndim)) if axes is None else axes
    if min(truth.shape[axis] for axis in axes) <= 2 * SSIM_RADIUS:
        raise ValueError(f"expected at least 11 samples along each axis, got {truth.shape}")
    a, b = truth.astype(np.float64), image.astype(np.float64)

    def blur(x: Float64) -> Float64:
        blurred: Float64 = ndi.gaussian_filter(x, SSIM_SIGMA, radius=SSIM_RADIUS, axes=axes)
        return blurred

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    similarity: Float64 = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    for axis in axes:
        along = np.moveaxis(similarity, axis, 0)
        along[:SSIM_RADIUS] = along[-SSIM_RADIUS:] = np.nan
    return similarity


def mean_inside(similarity: Float64, inside: Mask | None = None) -> float:
    """Mean of an SSIM map over a mask of its shape, the map's NaN border left out.

    Raises:
        ValueError: nothing inside.
    """
    seen = similarity if inside is None else similarity[inside]
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        raise ValueError("expected something inside, got an empty mask")
    return float(seen.mean())


def unit_range(data: Float32) -> Float32:
    """Intensities as the ULF-EnC challenge compares them: minimum 0, maximum 1.

    Raises:
        ValueError: one brightness.
    """
    low, high = float(data.min()), float(data.max())
    if not high > low:
        raise ValueError("expected contrast, got a volume of one brightness")
    scaled: Float32 = ((data - np.float32(low)) / np.float32(high - low)).astype(np.float32)
    return scaled


def _mean_squared(truth: Float32, image: Float32, inside: Mask | None) -> float:
    squares = np.square(truth.astype(np.float64) - image)
    if inside is not None:
        if not inside.any():
            raise ValueError("expected something inside, got an empty mask")
        squares = squares[inside]
    return float(squares.mean())
