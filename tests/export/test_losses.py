from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from lohi_export.losses import adversarial_loss, ssim


def images(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    a = np.cumsum(rng.uniform(-0.2, 0.2, (3, 1, 40, 48)), axis=-1).clip(-1, 1)
    return torch.from_numpy(a), torch.from_numpy((a + rng.normal(0, 0.2, a.shape)).clip(-1, 1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ssim_is_that_of_scikit_image(seed: int) -> None:
    a, b = images(seed)
    wanted = np.mean(
        [
            structural_similarity(
                x[0], y[0], data_range=2, gaussian_weights=True, use_sample_covariance=False
            )
            for x, y in zip(a.numpy(), b.numpy(), strict=True)
        ]
    )
    assert ssim(a, b).item() == pytest.approx(wanted, abs=1e-6)


def test_ssim_of_equal_images_is_one_and_descends_to_it() -> None:
    a, b = images(0)
    assert ssim(a, a).item() == pytest.approx(1)
    b.requires_grad_()
    before = ssim(a, b)
    before.backward()
    assert b.grad is not None
    assert ssim(a, b + 10 * b.grad).item() > before.item()


def test_adversarial_loss_is_zero_for_a_perfect_judge_only() -> None:
    ones, zeros = torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)
    assert adversarial_loss(ones, real=True) == adversarial_loss(zeros, real=False) == 0
    assert adversarial_loss(zeros, real=True) == adversarial_loss(ones, real=False) == 1
