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


def psnr(truth: Float32, image: Float32, data_range: float = 2.0) -> float:
    """Peak signal-to-noise ratio (dB), 10 log10(range^2 / MSE); higher is better.

    Args:
        truth, image: arrays of one shape.
        data_range: largest possible difference; 2 for slices in [-1, 1].
    """
    error = float(np.mean(np.square(truth.astype(np.float64) - image)))
    return float("inf") if error == 0 else 10 * float(np.log10(data_range**2 / error))


def nrmse(truth: Float32, image: Float32) -> float:
    """Root mean squared error over the truth's range (max - min); lower is better."""
    span = float(truth.max()) - float(truth.min())
    return float(np.sqrt(np.mean(np.square(truth.astype(np.float64) - image)))) / span


def ssim(
    truth: Float32,
    image: Float32,
    data_range: float = 2.0,
    inside: NDArray[np.bool_] | None = None,
) -> float:
    """Mean structural similarity of two slices (H, W) or volumes (X, Y, Z); 1 is identical.

    Wang et al. 2004: Gaussian window of sigma 1.5, cut at radius 5, population statistics, a
    border of 5 samples left out, as in scikit-image with `gaussian_weights=True,
    use_sample_covariance=False`. A volume is compared in 3-D, by windows of 11 x 11 x 11 voxels.

    Args:
        truth, image: arrays of one shape, at least 11 samples along each axis.
        data_range: largest possible difference.
        inside: same shape; the mean is taken over it alone (a background that is black in both
            flatters the mean over the whole grid).

    Raises:
        ValueError: too small for a window, or nothing inside.
    """
    if min(truth.shape) <= 2 * SSIM_RADIUS:
        raise ValueError(f"expected at least 11 samples along each axis, got {truth.shape}")
    a, b = truth.astype(np.float64), image.astype(np.float64)

    def blur(x: Float64) -> Float64:
        blurred: Float64 = ndi.gaussian_filter(x, SSIM_SIGMA, radius=SSIM_RADIUS)
        return blurred

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    inner = (slice(SSIM_RADIUS, -SSIM_RADIUS),) * similarity.ndim
    if inside is None:
        return float(similarity[inner].mean())
    if not inside[inner].any():
        raise ValueError("expected something inside, got an empty mask")
    return float(similarity[inner][inside[inner]].mean())


def ulf_enc(truth: Float32, image: Float32) -> tuple[float, float]:
    """PSNR (dB) and 3-D SSIM in the manner of the ULF-EnC challenge; higher is better.

    Both volumes (X, Y, Z) are brought to [0, 1] by their own minimum and maximum and compared with
    data range 1 on the whole grid.

    Raises:
        ValueError: a volume of one brightness.
    """
    a, b = _min_max(truth), _min_max(image)
    return psnr(a, b, 1.0), ssim(a, b, 1.0)


def _min_max(data: Float32) -> Float32:
    low, high = float(data.min()), float(data.max())
    if not high > low:
        raise ValueError("expected contrast, got a volume of one brightness")
    scaled: Float32 = ((data - np.float32(low)) / np.float32(high - low)).astype(np.float32)
    return scaled
