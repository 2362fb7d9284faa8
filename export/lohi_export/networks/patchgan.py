"""PatchGAN: a discriminator that judges overlapping patches (Isola et al., CVPR 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lohi_export.networks.instancenorm import InstanceNorm


class PatchDiscriminator(nn.Module):
    """Judges whether `image` is an acquired partner of `condition`, patch by patch.

    Receptive field 70 x 70 with three stride-2 levels. At the paper's batch size of one its
    BatchNorm is instance normalisation, which is used here whatever the batch size.

    Args:
        condition_channels: channels of the generator's input; 0 for an unconditional one.
        width: channels of the first layer; 64 in the paper.
        levels: number of stride-2 layers.
    """

    def __init__(self, condition_channels: int = 1, width: int = 64, levels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(condition_channels + 1, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
        ]
        channels = width
        for level in range(1, levels + 1):
            outputs = width * min(2**level, 8)
            layers += [
                nn.Conv2d(channels, outputs, 4, 2 if level < levels else 1, 1, bias=False),
                InstanceNorm(outputs, affine=True),
                nn.LeakyReLU(0.2),
            ]
            channels = outputs
        layers.append(nn.Conv2d(channels, 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        """(N, C, H, W) and (N, 1, H, W) -> scores (N, 1, h, w), one a patch; high is real."""
        scores: Tensor = self.layers(torch.cat([condition, image], dim=1))
        return scores
