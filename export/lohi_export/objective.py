"""What a model is trained for: its networks, their optimizers, and one training step.

The trainer knows an objective only through this interface, so a model without an adversary or
with two generators is another objective, not another trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from lohi_export.losses import adversarial_loss, ssim
from lohi_export.networks import PatchDiscriminator


class Objective(Protocol):
    """A model under training.

    Attributes:
        modules: every network by name; "generator" is the one that ships.
        optimizers: by the name of the network that each one updates.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]

    def step(self, source: Tensor, target: Tensor) -> dict[str, float]:
        """Update all networks on one batch, (N, C, H, W) and (N, 1, H, W); losses by name.

        Without randomness of its own: a resumed run repeats what an uninterrupted one would do.
        """
        ...


@dataclass(frozen=True)
class LossWeights:
    """Weights of the generator's loss; an adversarial weight of 0 trains without an adversary."""

    adversarial: float = 1.0
    l1: float = 100.0
    ssim: float = 1.0


class ConditionalGan:
    """A generator against a discriminator that sees the input as well (pix2pix, LoHiResGAN).

    Generator: adversarial + l1 * L1 + ssim * (1 - SSIM). Discriminator: mean of the losses on real
    and generated pairs. Adam with beta1 = 0.5 as in pix2pix.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: PatchDiscriminator,
        weights: LossWeights,
        learning_rates: dict[str, float],
    ) -> None:
        self.modules: dict[str, nn.Module] = {
            "generator": generator,
            "discriminator": discriminator,
        }
        self.weights = weights
        self.optimizers: dict[str, Optimizer] = {
            name: Adam(module.parameters(), lr=learning_rates[name], betas=(0.5, 0.999))
            for name, module in self.modules.items()
        }

    def step(self, source: Tensor, target: Tensor) -> dict[str, float]:
        generator, discriminator = self.modules["generator"], self.modules["discriminator"]
        output = generator(source)
        losses = {
            "l1": F.l1_loss(output, target),
            "ssim": 1 - ssim(output, target),
        }
        if self.weights.adversarial:
            losses["discriminator"] = self._judge(discriminator, source, target, output.detach())
            discriminator.requires_grad_(False)
            losses["adversarial"] = adversarial_loss(discriminator(source, output), real=True)
            discriminator.requires_grad_(True)
        total = sum(
            weight * losses[name] for name, weight in vars(self.weights).items() if name in losses
        )
        losses["generator"] = torch.as_tensor(total)
        _update(self.optimizers["generator"], losses["generator"])
        return {name: loss.item() for name, loss in losses.items()}

    def _judge(
        self, discriminator: nn.Module, source: Tensor, target: Tensor, output: Tensor
    ) -> Tensor:
        """Update the discriminator on a batch of real and generated pairs; its loss."""
        # One pass for both: InstanceNorm keeps the images of a batch apart.
        scores = discriminator(torch.cat([source, source]), torch.cat([target, output]))
        real, fake = scores.chunk(2)
        loss = (adversarial_loss(real, real=True) + adversarial_loss(fake, real=False)) / 2
        _update(self.optimizers["discriminator"], loss)
        return loss.detach()


def _update(optimizer: Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
