"""The segmenter's two stages: a small network a voxel, then a U-Net over the whole window."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lohi_edge.quality.features import ATLAS_SHAPE, CLASSES, FIRST, SECOND
from lohi_edge.volume import Float32

HIDDEN = (128, 96)  # of the first stage
STEM = 12  # channels that the second stage's input is narrowed to
WIDTHS = (16, 32, 64, 96)  # of the second stage, at 2, 4, 8 and 16 mm
SLOPE = 0.1  # of LeakyReLU below 0


class Voxels(nn.Module):
    """Features (n, FIRST) -> what is added to the logits of classes, and right side's logit."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        size = FIRST
        for width in HIDDEN:
            layers += [nn.Linear(size, width), nn.LeakyReLU(SLOPE)]
            size = width
        last = nn.Linear(size, CLASSES + 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Tensor) -> Tensor:
        """(n, FIRST) -> (n, CLASSES + 1)."""
        return torch.as_tensor(self.layers(x))


class Window(nn.Module):
    """A U-Net (Ronneberger et al., MICCAI 2015) in 3-D whose paths are added, without norms.

    Its input is scaled by its own tissues already, and patches as well as whole windows go
    through it.
    """

    def __init__(self) -> None:
        super().__init__()
        steps = list(pairwise(WIDTHS))
        self.narrow = _conv(SECOND, STEM, 1)
        self.stem = _conv(STEM, WIDTHS[0], 3)
        self.down = nn.ModuleList(_conv(a, b, 3, 2) for a, b in steps)
        self.deep = nn.ModuleList(_conv(b, b, 3) for _, b in steps)
        self.up = nn.ModuleList(_conv(b, a, 1) for a, b in steps)
        self.join = nn.ModuleList(_conv(a, a, 3) for a, _ in steps)
        self.last = nn.Conv3d(WIDTHS[0], CLASSES + 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(n, SECOND, x, y, z) -> (n, CLASSES + 1, x, y, z); sizes are multiples of 8."""
        x = _act(self.stem, _act(self.narrow, x))
        passed = []
        for down, deep in zip(self.down, self.deep, strict=True):
            passed.append(x)
            x = _act(down, x)
            x = x + _act(deep, x)
        for up, join in zip(reversed(self.up), reversed(self.join), strict=True):
            x = F.interpolate(_act(up, x), scale_factor=2.0, mode="nearest") + passed.pop()
            x = x + _act(join, x)
        return torch.as_tensor(self.last(x))


class Model(nn.Module):
    """Both stages and the atlas they start from."""

    atlas: Tensor

    def __init__(self, atlas: Float32 | None = None) -> None:
        super().__init__()
        self.first, self.second = Voxels(), Window()
        empty = torch.zeros(CLASSES, *ATLAS_SHAPE)
        self.register_buffer("atlas", empty if atlas is None else torch.from_numpy(atlas))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv3d:
    conv = nn.Conv3d(inputs, outputs, size, stride, size // 2)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _act(conv: nn.Module, x: Tensor) -> Tensor:
    return F.leaky_relu(conv(x), SLOPE)
