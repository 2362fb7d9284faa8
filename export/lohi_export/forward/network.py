"""The forward model's network: what a 64 mT scan looks like where a result shows this.

It works on cells of 4 mm. Of the scan it sees only what surrounds a cell, never the cell itself, so
that it can tell how bright this scan shows such tissue here, but not copy what it ought to predict.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

WIDTH, MIXED = 24, 48
REACH = (6, 6, 4)  # cells that the surroundings reach to either side
HOLE = 2.6  # cells in the slice's plane that are left out of them, and one above and below
WIDE = 3.0  # cells; sd of the surroundings of the whole plane
TRUST = 60.0  # at most: the inverse of a misfit to expect, relative to the level of the inner head
MIDDLE = 0.6  # of grey values, which are shifted by it


class ForwardModel(nn.Module):
    """Scan and result -> the scan as predicted, trust in that, and where the brain is."""

    around: Tensor

    def __init__(self) -> None:
        super().__init__()
        around = torch.from_numpy(surroundings())
        self.register_buffer("around", around[:, None])
        self.fine = nn.Conv3d(1, WIDTH, 6, stride=2, padding=2)
        self.deep = nn.ModuleList(nn.Conv3d(WIDTH, WIDTH, 3, padding=1) for _ in range(3))
        self.mix = nn.ModuleList(
            [nn.Conv3d(WIDTH + 2 * len(around) + 3, MIXED, 1), nn.Conv3d(MIXED, MIXED, 1)]
        )
        self.last = nn.Conv3d(MIXED, 3, 1)
        nn.init.zeros_(self.last.weight)

    def context(self, scan: Tensor, result: Tensor) -> Tensor:
        """Surroundings (1, 2n, x, y, z) of every cell in both images, the scan's first."""
        pad = tuple(n // 2 for n in self.around.shape[2:])
        cells = functional.avg_pool3d(result, 2)
        parts = [functional.conv3d(image, self.around, padding=pad) for image in (scan, cells)]
        return torch.cat(parts, 1) - MIDDLE

    def forward(self, result: Tensor, context: Tensor, place: Tensor) -> tuple[Tensor, ...]:
        """Each (1, 1, x, y, z): the prediction, trust in it (0 to TRUST), brain's logit.

        Args:
            result: (1, 1, 2x, 2y, 2z) on the 2 mm grid, 1 at the top of the range.
            context: of `context`.
            place: (1, 3, x, y, z), see `lohi_edge.quality.forward.places`.
        """
        return self.tell(self.see(result, context, place), context)

    def see(self, result: Tensor, context: Tensor, place: Tensor) -> Tensor:
        """What `forward` makes its answer of: (1, MIXED, x, y, z)."""
        h = functional.relu(self.fine(2 * result - MIDDLE))
        for layer in self.deep:
            h = h + functional.relu(layer(h))
        h = functional.relu(self.mix[0](torch.cat([h, context, place], 1)))
        seen: Tensor = h + functional.relu(self.mix[1](h))
        return seen

    def tell(self, seen: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """The answer of `forward`."""
        mean, trust, brain = self.last(seen).split(1, 1)
        return mean + context[:, :1] + MIDDLE, TRUST * torch.sigmoid(trust - 1), brain


def surroundings() -> NDArray[np.float32]:
    """Weights (n, *(2 * REACH + 1)) of means around a cell that leave out what is near it."""
    x, y, z = np.ogrid[tuple(slice(-r, r + 1) for r in REACH)]
    across = np.hypot(x, y)
    distance = np.sqrt(x**2.0 + y**2 + (1.25 * z) ** 2)
    hole = (across < HOLE) & (abs(z) <= 1)
    ring = np.exp(-((distance - WIDE) ** 2) / 2)
    means = [
        np.where(hole, 0, np.exp(-(distance**2) / (2 * 2.5**2))),
        np.where(hole | (z != 0), 0, np.exp(-(across**2) / (2 * WIDE**2))),
        np.where(hole | (across > 6), 0, np.exp(-(distance**2) / (2 * 5.0**2))),
    ]
    for axis in (x, y):
        means += [np.where(hole | (sign * axis < HOLE) | (abs(z) > 1), 0, ring) for sign in (1, -1)]
    above = np.exp(-((abs(z) - 2.0) ** 2) / 2)
    means += [np.where((sign * z < 2) | (across > HOLE), 0, above) for sign in (1, -1)]
    return np.stack([mean / mean.sum() for mean in means]).astype(np.float32)
