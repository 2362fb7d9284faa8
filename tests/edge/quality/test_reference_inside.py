"""Reference metrics over a part of the grid: head or brain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import metrics

from lohi_edge.quality.compare import METRICS, compare
from lohi_edge.quality.reference import mean_inside, nrmse, psnr, ssim, ssim_map

SHAPE = (15, 18, 16)


def ssim_slices(truth, image, data_range=2.0, inside=None) -> float:
    return mean_inside(ssim_map(truth, image, data_range, axes=(1, 2)), inside)


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


def test_a_value_that_is_no_number_is_not_passed_over() -> None:
    truth, image, inside = stacks(0)
    image[7, 9, 8] = np.nan
    assert np.isnan(ssim(truth, image))
    assert np.isnan(ssim(truth, image, inside=inside))


def test_a_mask_of_everything_changes_nothing() -> None:
    truth, image, _ = stacks(3)
    everything = np.ones(SHAPE, bool)
    for metric in (psnr, ssim, ssim_slices):
        assert metric(truth, image, 2, everything) == pytest.approx(metric(truth, image, 2))
    assert nrmse(truth, image, everything) == pytest.approx(nrmse(truth, image))


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


def test_every_figure_is_that_of_its_own_function() -> None:
    truth, image, inside = stacks(6)
    found = compare(truth, image, {"whole": None, "inside": inside})
    assert list(found) == ["whole", "inside"]
    units = [(v - v.min()) / (v.max() - v.min()) for v in (truth, image)]
    for region, mask in (("whole", None), ("inside", inside)):
        assert found[region] == pytest.approx(
            {
                "psnr": psnr(truth, image, 2, mask),
                "nrmse": nrmse(truth, image, mask),
                "ssim_2d": ssim_slices(truth, image, 2, mask),
                "ssim_3d": ssim(truth, image, 2, mask),
                "ulf_enc_psnr": psnr(*units, 1, mask),
                "ulf_enc_ssim": ssim(*units, 1, mask),
            },
            rel=1e-5,
        )
        assert found[region].keys() == METRICS.keys()


def test_the_challenge_ignores_scale_and_offset_but_knows_the_whole_volumes_range() -> None:
    truth, image, inside = stacks(6)
    (found,) = compare(truth, image, {"": inside}).values()
    (again,) = compare(3 * truth + 5, 40 * image - 2, {"": inside}).values()
    challenge = [name for name in METRICS if name.startswith("ulf_enc")]
    assert [again[n] for n in challenge] == pytest.approx([found[n] for n in challenge], rel=1e-4)
    bright, brighter = truth.copy(), image.copy()
    bright[-1, 0, 0] = brighter[-1, 0, 0] = 20
    assert not inside[-1, 0, 0]
    assert compare(bright, brighter, {"": inside})[""]["ulf_enc_psnr"] > found["ulf_enc_psnr"] + 10
    with pytest.raises(ValueError, match="one brightness"):
        compare(np.ones_like(truth), image, {"": inside})


def test_what_a_collapsed_generator_makes_is_measured_like_any_image() -> None:
    truth, image, inside = stacks(3)
    (found,) = compare(truth, np.full_like(image, 0.3), {"": inside}).values()
    assert np.isfinite(list(found.values())).all()
    assert found["ulf_enc_ssim"] < compare(truth, image, {"": inside})[""]["ulf_enc_ssim"]
    image[2, 2, 2] = np.nan
    with pytest.raises(ValueError, match="expected an image of numbers"):
        compare(truth, image, {"": inside})


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


def test_the_map_has_the_images_shape_and_no_value_at_its_border() -> None:
    truth, image, _ = stacks(8)
    similarity = ssim_map(truth[0], image[0])
    assert similarity.shape == truth[0].shape
    assert np.isnan(similarity[:5]).all()
    assert np.isnan(similarity[:, -5:]).all()
    image[:] = truth
    assert np.allclose(ssim_map(truth[0], image[0])[5:-5, 5:-5], 1)
