"""PIQE against an independent implementation, and its meaning."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from lohi_edge.quality.piqe import piqe


def picture(seed: int, shape: tuple[int, int] = (112, 96)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndi.gaussian_filter(rng.standard_normal(shape), 4)
    return (100 + 50 * smooth / smooth.std() * (smooth > 0)).clip(0).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(112, 96), (101, 83)])
def test_agrees_with_pypiqe(seed: int, shape: tuple[int, int]) -> None:
    reference = pytest.importorskip("pypiqe", reason="pypiqe is not installed").piqe
    noisy = picture(seed, shape) + np.random.default_rng(seed).normal(0, 2 * seed, shape)
    image = noisy.clip(0).astype(np.float32)
    assert piqe(image) == pytest.approx(reference(image.astype(np.float64))[0], rel=1e-4)


def test_noise_looks_worse() -> None:
    rng = np.random.default_rng(1)
    texture = ndi.gaussian_filter(rng.standard_normal((96, 96)), 1.5)
    image = (128 + 40 * texture / texture.std()).clip(0, 255).astype(np.float32)
    noise = rng.normal(0, 40, image.shape).astype(np.float32)
    assert piqe((image + noise).clip(0, 255)) > piqe(image) + 5


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_uniform_image_scores_100(value: float) -> None:
    assert piqe(np.full((32, 32), value, np.float32)) == 100.0


def test_intensity_window_is_what_low_and_high_say() -> None:
    image = picture(2)
    scaled = image * 2 / image.max() - 1
    assert piqe(scaled, -1, 1) == pytest.approx(piqe(image), rel=1e-3)
