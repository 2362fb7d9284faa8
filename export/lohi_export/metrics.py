"""Likeness of images to their truth, with scikit-image's definitions and defaults."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from lohi_edge.volume import Float32

DATA_RANGE = 2.0


def psnr(image: Float32, truth: Float32) -> float:
    """Peak signal-to-noise ratio, dB, data range 2; higher is better, infinite for equal images."""
    error = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(DATA_RANGE**2 / error))


def ssim(image: Float32, truth: Float32) -> float:
    """Structural similarity of two slices (H, W); higher is better, 1 for equal images.

    Wang et al., IEEE TIP 13:600, 2004, with a uniform 7 x 7 window, sample covariances, K1 = 0.01,
    K2 = 0.03 and data range 2, averaged where the window fits.
    """
    size = 7
    a, b = image.astype(np.float64), truth.astype(np.float64)
    mean_a, mean_b = uniform_filter(a, size), uniform_filter(b, size)
    sample = size**2 / (size**2 - 1)
    variances = sample * (
        uniform_filter(a * a, size) - mean_a**2 + uniform_filter(b * b, size) - mean_b**2
    )
    covariance = sample * (uniform_filter(a * b, size) - mean_a * mean_b)
    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    values = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    values *= (2 * covariance + c2) / (variances + c2)
    edge = size // 2
    return float(values[edge:-edge, edge:-edge].mean())
