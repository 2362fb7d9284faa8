"""Reference metrics over a part of the grid: head or brain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import metrics

from lohi_edge.quality.reference import nrmse, psnr, ssim, ssim_map, ssim_slices, ulf_enc

SHAPE = (15, 18, 16)


def stacks(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and image (N, H, W) in [-1, 1] and a mask about the middle."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-1, 1, SHAPE).astype(np.float32)
    image = np.clip(truth + rng.normal(0, 0.2, SHAPE), -1, 1).astype(np.float32)
    axes = [np.linspace(-1, 1, n) for n in SHAPE]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return truth, image, z**2 + y**2 + x**2 < rng.uniform(0.3, 1)


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_only_what_is_inside_counts(seed: int) -> None:
    """scikit-image's figures of the masked samples and of its own SSIM map."""
    truth, image, inside = stacks(seed)
    a, b = truth[inside].astype(float), image[inside].astype(float)
    assert psnr(truth, image, 2, inside) == pytest.approx(
        metrics.peak_signal_noise_ratio(a, b, data_range=2)
    )
    assert nrmse(truth, image, inside) == pytest.approx(
        metrics.normalized_root_mse(a, b, normalization="min-max")
    )
    wang = {"data_range": 2, "gaussian_weights": True, "use_sample_covariance": False}
    _, volume = metrics.structural_similarity(truth, image, full=True, **wang)
    core = (slice(5, -5),) * 3
    assert ssim(truth, image, 2, inside) == pytest.approx(
        volume[core][inside[core]].mean(), abs=1e-5
    )
    maps = [
        metrics.structural_similarity(t, i, full=True, **wang)[1]
        for t, i in zip(truth, image, strict=True)
    ]
    core = (slice(None), *core[1:])
    seen = np.stack(maps)[core][inside[core]]
    assert ssim_slices(truth, image, 2, inside) == pytest.approx(seen.mean(), abs=1e-5)


def test_a_mask_of_everything_changes_nothing() -> None:
    truth, image, _ = stacks(3)
    everything = np.ones(SHAPE, bool)
    for metric in (psnr, ssim, ssim_slices):
        assert metric(truth, image, 2, everything) == pytest.approx(metric(truth, image, 2))
    assert nrmse(truth, image, everything) == pytest.approx(nrmse(truth, image))
    assert ulf_enc(truth, image, everything) == pytest.approx(ulf_enc(truth, image))


def test_slices_are_averaged_over_the_stack() -> None:
    truth, image, _ = stacks(4)
    each = [ssim(t, i) for t, i in zip(truth, image, strict=True)]
    assert ssim_slices(truth, image) == pytest.approx(np.mean(each))


def test_what_happens_outside_does_not_matter() -> None:
    """Beyond the reach of the windows that touch the mask."""
    truth, image, _ = stacks(5)
    inside = np.zeros(SHAPE, bool)
    inside[5:7] = True
    changed = image.copy()
    changed[12:] = 0
    for metric in (psnr, ssim, ssim_slices):
        assert metric(truth, changed, 2, inside) == metric(truth, image, 2, inside)
        assert metric(truth, changed, 2) != metric(truth, image, 2)
    assert nrmse(truth, changed, inside) == nrmse(truth, image, inside)


def test_the_challenge_scales_by_the_whole_volume() -> None:
    """A bright voxel outside the mask sets the range, so the error inside counts for less."""
    truth, image, _ = stacks(6)
    inside = np.zeros(SHAPE, bool)
    inside[5:7] = True
    bright, brighter = truth.copy(), image.copy()
    bright[-1, 0, 0] = brighter[-1, 0, 0] = 20
    assert ulf_enc(bright, brighter, inside)[0] > ulf_enc(truth, image, inside)[0] + 10


def test_nothing_inside_and_a_flat_truth_are_refused() -> None:
    truth, image, _ = stacks(7)
    nothing = np.zeros(SHAPE, bool)
    for metric in (psnr, ssim, ssim_slices):
        with pytest.raises(ValueError, match="empty mask"):
            metric(truth, image, 2, nothing)
    with pytest.raises(ValueError, match="empty mask"):
        nrmse(truth, image, nothing)
    with pytest.raises(ValueError, match="one brightness"):
        nrmse(np.ones_like(truth), image)


def test_the_map_has_the_images_shape_and_is_one_where_they_agree() -> None:
    truth, image, _ = stacks(8)
    image[:, :, :8] = truth[:, :, :8]
    similarity = ssim_map(truth[0], image[0])
    assert similarity.shape == truth[0].shape
    assert np.allclose(similarity[:, :3], 1)
    assert similarity[:, 8:].mean() < 0.95
