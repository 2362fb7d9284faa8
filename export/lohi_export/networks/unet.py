"""The U-Net (Ronneberger et al., MICCAI 2015) as a translator of images."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from lohi_export.networks.lohiresgan import HEAD_BIAS, conv_norm


class UNet(nn.Module):
    """(N, channels, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1]; H and W multiples of 2**depth.

    Two 3 x 3 convolutions a level, 2 x 2 maximum pooling down, 2 x 2 transposed convolutions up,
    skip connections by concatenation, channels doubled at each level. Unlike the paper's: padded
    convolutions, so that the output is as large as the input; BatchNorm in place of dropout; one
    output through tanh in place of classes.

    Args:
        width: channels at full resolution; 64 in the paper.
        depth: number of poolings; 4 in the paper.
        channels: 1, or an odd number of neighbouring slices.
    """

    def __init__(self, width: int = 64, depth: int = 4, channels: int = 1) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            _double(fine, coarse) for fine, coarse in itertools.pairwise([channels, *widths])
        )
        self.pool = nn.MaxPool2d(2)
        pairs = list(itertools.pairwise(widths))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(wide, thin, 2, 2) for thin, wide in pairs)
        self.decoder = nn.ModuleList(_double(wide, thin) for thin, wide in pairs)
        self.head = nn.Conv2d(width, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, HEAD_BIAS)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](x)
        skips = []
        for level in list(self.encoder)[1:]:
            skips.append(x)
            x = level(self.pool(x))
        for up, level in zip(self.up, self.decoder, strict=True):
            x = level(torch.cat([skips.pop(), up(x)], dim=1))
        return torch.tanh(self.head(x))


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*conv_norm(inputs, outputs), *conv_norm(outputs, outputs))
