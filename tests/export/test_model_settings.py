"""Every model's own settings: the paper's where none are asked for, refused where it has no use."""

from __future__ import annotations

from typing import Any

import pytest

from lohi_edge.errors import UsageError
from lohi_export.config import TrainConfig
from lohi_export.models import MODELS


@pytest.mark.parametrize("name", sorted(MODELS))
def test_losses_and_rates_are_the_papers_where_none_are_asked_for(name: str) -> None:
    config = TrainConfig.from_dict({"model": name})
    weights = [getattr(config, k) for k in ("adversarial", "l1", "ssim", "cycle", "identity")]
    rates = (config.lr, config.discriminator_lr)
    assert (config.gan_loss, rates, weights) == {
        "lohiresgan": ("least-squares", (1e-3, 2e-4), [1, 100, 1, 0, 0]),
        "lohiresgan-plain": ("least-squares", (1e-3, 2e-4), [1, 100, 1, 0, 0]),
        "cgan": ("logistic", (2e-4, 2e-4), [1, 100, 0, 0, 0]),
        "gan": ("logistic", (2e-4, 2e-4), [1, 100, 0, 0, 0]),
        "cyclegan": ("least-squares", (2e-4, 2e-4), [1, 0, 0, 10, 5]),
        "unet": ("least-squares", (1e-3, 2e-4), [0, 100, 1, 0, 0]),
    }[name]
    asked = TrainConfig.from_dict({"model": name, "lr": 0.5, "batch": 7})
    assert (asked.lr, asked.batch) == (0.5, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "cyclegan", "l1": 1.0}, "cyclegan has no l1 loss, got weight 1.0"),
        ({"model": "unet", "adversarial": 1.0}, "unet has no adversarial loss"),
        ({"model": "cyclegan", "channels": 3}, "cyclegan translates single slices"),
        ({"gan_loss": "hinge"}, "'hinge' is none of least-squares, logistic"),
        ({"adversarial": 0, "l1": 0, "ssim": 0}, "every loss has weight 0"),
        ({"l1": -1}, "l1 -1 is negative"),
        ({"depth": 5, "crop": 0}, "depth 5 halves the 192 x 240 window too often"),
        ({"crop": 16}, "crop 16 is too small to be judged"),
        ({"batch": "4"}, "batch '4' is not of type int"),
        ({"amp": 1}, "amp 1 is not of type bool"),
        ({"seed": True}, "seed True is not of type int"),
    ],
)
def test_settings_that_a_model_cannot_use_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig.from_dict(options)
