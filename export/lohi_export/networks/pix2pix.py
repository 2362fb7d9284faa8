"""The pix2pix generator: a U-Net of strided convolutions (Isola et al., CVPR 2017, section 6.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDEST = 8  # channels stop growing at this multiple of the base width
DROPOUT_BELOW = 4  # levels without dropout, counted from full resolution


class Pix2PixGenerator(nn.Module):
    """(N, channels, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1]; H and W multiples of 2**depth.

    4 x 4 convolutions of stride 2 down, transposed ones up, skip connections by concatenation,
    BatchNorm but in the outermost and innermost encoder layers, LeakyReLU down and ReLU up, all as
    in the authors' code. There the three decoder layers between the innermost and the four outer
    levels have dropout, the only noise; shallower nets have fewer, none at a depth of 5 or less.
    Dropout and batch statistics are on in training alone: a device must answer alike twice.

    Args:
        width: channels of the outermost layer; 64 in the paper.
        depth: number of stride-2 levels; 8 in the paper, for 256 x 256.
        channels: 1, or an odd number of neighbouring slices.
    """

    def __init__(self, width: int = 64, depth: int = 4, channels: int = 1) -> None:
        super().__init__()
        widths = [width * min(2**level, WIDEST) for level in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(widths):
            inputs = widths[level - 1] if level else channels
            normed = 0 < level < depth - 1
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if level else []
            layers.append(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not normed))
            self.down.append(nn.Sequential(*layers, *[nn.BatchNorm2d(outputs)] * normed))
        for level in reversed(range(depth)):
            # The innermost layer has no skip connection beside it.
            inputs = widths[level] * (1 if level == depth - 1 else 2)
            outputs = widths[level - 1] if level else 1
            layers = [nn.ReLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=not level)]
            layers.append(nn.BatchNorm2d(outputs) if level else nn.Tanh())
            if DROPOUT_BELOW <= level < depth - 1:
                layers.append(nn.Dropout(0.5))
            self.up.append(nn.Sequential(*layers))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = self.up[0](skips.pop())
        for up in list(self.up)[1:]:
            x = up(torch.cat([x, skips.pop()], dim=1))
        return x


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1.0, std=0.02)
