"""Losses of images (N, 1, H, W) in [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DATA_RANGE = 2.0


def adversarial_loss(scores: Tensor, real: bool, kind: str = "least-squares") -> Tensor:
    """Loss of discriminator scores that ought to say `real`.

    "least-squares" (Mao et al., ICCV 2017; CycleGAN) keeps a gradient for samples the
    discriminator already tells apart, which small batches need, and its scale stays put beside
    lambda * L1. "logistic" (Goodfellow et al., NIPS 2014; pix2pix) takes scores as logits; a
    generator that minimises it for `real` has the non-saturating form.
    """
    wanted = torch.full_like(scores, float(real))
    if kind == "logistic":
        return F.binary_cross_entropy_with_logits(scores, wanted)
    return F.mse_loss(scores, wanted)


def ssim(
    a: Tensor, b: Tensor, data_range: float = DATA_RANGE, sigma: float = 1.5, size: int = 11
) -> Tensor:
    """Mean structural similarity of (N, 1, H, W) images (Wang et al., IEEE TIP 13:600, 2004).

    Gaussian window of `size` x `size`, K1 = 0.01, K2 = 0.03, population covariances, averaged
    where the window fits: what scikit-image computes with gaussian_weights=True and
    use_sample_covariance=False. 1 for equal images; differentiable.
    """
    offsets = torch.arange(size, dtype=a.dtype, device=a.device) - size // 2
    window = torch.exp(-(offsets**2) / (2 * sigma**2))
    window = window / window.sum()
    # Five blurs in one pass, as two one-dimensional convolutions.
    planes = torch.cat([a, b, a * a, b * b, a * b])
    planes = F.conv2d(planes, window.view(1, 1, size, 1))
    planes = F.conv2d(planes, window.view(1, 1, 1, size))
    mean_a, mean_b, aa, bb, ab = planes.chunk(5)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    covariance = ab - mean_a * mean_b
    variances = aa - mean_a**2 + bb - mean_b**2
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean()
