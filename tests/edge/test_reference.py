"""Full-reference metrics against an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage import metrics

from lohi_edge.quality.reference import nrmse, psnr, ssim

images = arrays(np.float32, (17, 19), elements=st.floats(-1, 1, width=32))


@given(images, images)
def test_equal_to_scikit_image(a, b):
    ours = ssim(a, b)
    theirs = metrics.structural_similarity(
        a, b, data_range=2, gaussian_weights=True, use_sample_covariance=False, sigma=1.5
    )
    assert ours == pytest.approx(theirs, abs=1e-5)
    if np.ptp(a) > 0 and not np.array_equal(a, b):
        assert psnr(a, b) == pytest.approx(
            metrics.peak_signal_noise_ratio(a.astype(float), b.astype(float), data_range=2)
        )
        assert nrmse(a, b) == pytest.approx(
            metrics.normalized_root_mse(a.astype(float), b.astype(float), normalization="min-max")
        )


def test_known_values():
    """An error of 0.2 everywhere at range 2: MSE 0.04, 10 log10(4 / 0.04) = 20 dB."""
    a = np.linspace(-1, 0.8, 400, dtype=np.float32).reshape(20, 20)
    assert psnr(a, a + np.float32(0.2)) == pytest.approx(20, abs=1e-4)
    assert nrmse(a, a + np.float32(0.2)) == pytest.approx(0.2 / 1.8, abs=1e-5)
    assert psnr(a, a) == np.inf
    assert ssim(a, a) == pytest.approx(1)
