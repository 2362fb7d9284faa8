"""Learning from pairs, with or without an adversary: pix2pix, LoHiResGAN, U-Net."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lohi_export import models
from lohi_export.adversary import fooled, judge
from lohi_export.config import TrainConfig
from lohi_export.losses import ssim
from lohi_export.updates import Networks


class Paired:
    """Generator: adversarial + l1 * L1 + ssim * (1 - SSIM), each by its weight.

    The discriminator, where there is one, learns from the mean of its losses on real and generated
    images, beside the generator's input if the model is conditional (Isola et al., CVPR 2017).
    """

    def __init__(self, networks: Networks, config: TrainConfig) -> None:
        self.networks, self.config = networks, config
        self.memory: dict[str, nn.Module] = {}
        self._conditional = models.find(config.model).conditional

    def step(self, source: Tensor, target: Tensor, rng: np.random.Generator) -> dict[str, float]:
        output = self.networks("generator", source)
        losses = {
            "l1": F.l1_loss(output, target),
            "ssim": 1 - ssim(output, target),
        }
        if self.config.adversarial:
            condition = source if self._conditional else source[:, :0]
            seen = (self.networks, "discriminator", condition)
            kind = self.config.gan_loss
            losses["discriminator"] = judge(*seen, target, output.detach(), kind)
            losses["adversarial"] = fooled(*seen, output, kind)
        weighted = [
            getattr(self.config, name) * losses[name]
            for name in ("adversarial", "l1", "ssim")
            if name in losses
        ]
        losses["generator"] = torch.stack(weighted).sum()
        self.networks.update(losses["generator"], "generator")
        return {name: loss.item() for name, loss in losses.items()}
