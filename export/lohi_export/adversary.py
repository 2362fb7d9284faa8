"""Discriminators at work: what they learn and what they teach."""

from __future__ import annotations

import torch
from torch import Tensor

from lohi_export.losses import adversarial_loss
from lohi_export.updates import Networks


def judge(
    networks: Networks, name: str, condition: Tensor, real: Tensor, fake: Tensor, kind: str
) -> Tensor:
    """Update a discriminator on as many real as generated images; its mean loss.

    Args:
        condition: what it sees beside an image; (N, 0, H, W) for nothing.
        fake: generated images, detached.
        kind: see `adversarial_loss`.
    """
    # One pass for both: InstanceNorm keeps the images of a batch apart.
    scores = networks(name, torch.cat([condition, condition]), torch.cat([real, fake]))
    for_real, for_fake = scores.chunk(2)
    loss = (adversarial_loss(for_real, True, kind) + adversarial_loss(for_fake, False, kind)) / 2
    networks.update(loss, name)
    return loss.detach()


def fooled(networks: Networks, name: str, condition: Tensor, fake: Tensor, kind: str) -> Tensor:
    """The generator's adversarial loss: how far its images are from passing as real."""
    return adversarial_loss(networks.frozen(name, condition, fake), True, kind)
