"""The adversary's parts: its losses, the pool of older images."""

from __future__ import annotations

import numpy as np
import torch

from lohi_export.losses import adversarial_loss
from lohi_export.objective_cycle import ImagePool


def test_logistic_losses_are_those_of_the_papers() -> None:
    scores = torch.tensor([0.0, 2.0])
    logistic = adversarial_loss(scores, True, "logistic")
    torch.testing.assert_close(logistic, torch.log1p(torch.exp(-scores)).mean())
    assert adversarial_loss(scores, True) == 1.0  # ((0 - 1)^2 + (2 - 1)^2) / 2


def test_the_pool_shows_every_image_until_full_then_half_older_ones() -> None:
    pool, rng = ImagePool(1, 1, size=3), np.random.default_rng(0)
    shown = [
        float(pool(torch.full((1, 1, 1, 1), float(number)), rng).item()) for number in range(1000)
    ]
    assert shown[:3] == [0, 1, 2]
    older = [s < n for n, s in enumerate(shown[3:], start=3)]
    assert 0.45 < np.mean(older) < 0.55
    assert len(set(shown[3:])) == len(shown[3:])  # what left the pool does not come back
    assert set(pool.state_dict()) == {"images", "count"}
