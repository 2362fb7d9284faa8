"""The LoHiResGAN generator: a U-shaped translator with residual blocks in its encoder.

After Islam et al., Sci Rep 13, 21183 (2023): an encoder-decoder with skip connections (Isola et
al., CVPR 2017) whose encoder carries residual blocks (He et al., CVPR 2016). Ours differs where a
small device asks for it: normalisation that folds into the convolutions, and upsampling by nearest
neighbours before a 3 x 3 convolution, which leaves no checkerboard (Odena et al., Distill 2016).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

# Where no feature fires the result is tanh of this. Features after a ReLU learn first to darken, so
# a young generator shows nothing brighter, and the bias moves by no more than the rate a step.
HEAD_BIAS = 1.0
WIDEST = 6  # channels stop growing at this multiple of the base width


def conv_norm(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution, BatchNorm and, if wanted, ReLU; the first two fold into one at export."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """ReLU(x + F(x)), F being two 3 x 3 convolutions; the identity at the start of training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_norm(channels, channels)
        self.second = conv_norm(channels, channels, relu=False)
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(x + self.second(self.first(x)))
        return out


class UpBlock(nn.Module):
    """Halve the channels, double the size, join the skip connection and mix."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = conv_norm(inputs, outputs, kernel=1)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.mix = conv_norm(2 * outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.mix(torch.cat([self.upsample(self.reduce(x)), skip], dim=1))
        return out


class LoHiResGenerator(nn.Module):
    """(N, channels, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1]; H and W multiples of 2**depth.

    Args:
        width: channels at full resolution; 16 is the edge model, 64 the study's.
        depth: number of stride-2 levels.
        channels: 1, or an odd number of neighbouring slices.
        residual_blocks: False removes the residual blocks, the study's ablation.
    """

    def __init__(
        self, width: int = 16, depth: int = 3, channels: int = 1, residual_blocks: bool = True
    ) -> None:
        super().__init__()
        widths = [width * min(2**level, WIDEST) for level in range(depth + 1)]
        self.stem = conv_norm(channels, widths[0])
        self.encoder = nn.ModuleList(
            # Two blocks where they are deep and cheap: there the view of the head is widest.
            nn.Sequential(*(ResidualBlock(w) for _ in range(1 if level < 2 else 2)))
            if residual_blocks
            else nn.Identity()
            for level, w in enumerate(widths)
        )
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(conv_norm(fine, coarse, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(UpBlock(coarse, fine) for fine, coarse in reversed(pairs))
        self.head = nn.Conv2d(widths[0], 1, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, HEAD_BIAS)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](self.stem(x))
        skips = []
        for down, blocks in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(x)
            x = blocks(down(x))
        for up in self.up:
            x = up(x, skips.pop())
        return torch.tanh(self.head(x))
