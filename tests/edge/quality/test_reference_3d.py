"""3-D SSIM and the mask."""

from __future__ import annotations

import numpy as np
import pytest

from lohi_edge.quality.reference import ssim


def volumes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    truth = rng.random((20, 18, 16), dtype=np.float32)
    return truth, (truth + rng.normal(0, 0.1, truth.shape)).astype(np.float32)


def test_volume_agrees_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    truth, image = volumes()
    expected = metrics.structural_similarity(
        truth, image, data_range=1, gaussian_weights=True, use_sample_covariance=False
    )
    assert ssim(truth, image, 1) == pytest.approx(expected, abs=1e-5)


def test_mask_leaves_the_flattering_background_out() -> None:
    truth, image = volumes()
    truth[:, :9], image[:, :9] = 0, 0
    inside = np.zeros(truth.shape, bool)
    inside[:, 11:] = True
    assert ssim(truth, image, 1, inside) < ssim(truth, image, 1)


def test_nothing_inside_and_too_small_are_refused() -> None:
    truth, image = volumes()
    with pytest.raises(ValueError, match="empty mask"):
        ssim(truth, image, 1, np.zeros(truth.shape, bool))
    with pytest.raises(ValueError, match="11 samples"):
        ssim(truth[:10], image[:10], 1)
