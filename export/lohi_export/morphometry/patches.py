"""What the segmenter's second stage learns from: patches of heads, painted or simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lohi_edge.quality import features, tissue
from lohi_edge.quality.features import CLASSES, FLOOR
from lohi_edge.quality.frame import CROP
from lohi_export.morphometry import voxels
from lohi_export.morphometry.networks import Model, Window
from lohi_export.morphometry.painting import Painted

PATCH = (56, 72, 56)  # voxels of 2 mm, a third of the window
LARGEST_STEP = 1.0  # norm of a gradient, which no norms in the network bound
DICE_WEIGHT = 0.5


@dataclass(frozen=True, eq=False)
class Head:
    """One head.

    Attributes:
        context: float16 (SECOND, *CROP), what the stage sees; the first stage's answer is in it.
        counts: uint8 (CLASSES, *CROP), the truth in eighths.
        right, left: uint8 (*CROP), how many eighths are sided, and on which side.
    """

    context: NDArray[np.float16]
    counts: NDArray[np.uint8]
    right: NDArray[np.uint8]
    left: NDArray[np.uint8]


def look(model: Model, painted: Painted, rng: np.random.Generator) -> Head:
    """A window as the second stage sees it: the first stage answers."""
    first = voxels.answer(model, painted.image, voxels.misplaced(painted, rng))
    context = features.context(painted.image, first).astype(np.float16)
    return Head(context, painted.counts, painted.right, painted.left)


def update(
    stage: Window,
    optimizer: torch.optim.Optimizer,
    kept: Sequence[Head],
    rng: np.random.Generator,
    amp: bool,
) -> tuple[float, float]:
    """One step on a patch of a kept head; its loss, and the share of brain told right."""
    parts = _patch(kept[int(rng.integers(len(kept)))], rng)
    context, counts, right, left = (torch.from_numpy(p.astype(np.float32))[None] for p in parts)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        logits = stage(context.contiguous(memory_format=torch.channels_last_3d)).float()
    share = counts / 8
    classes = logits[:, :CLASSES] + torch.log(context[:, tissue.CHANNELS : -1] + FLOOR)
    cross = -(share * F.log_softmax(classes, 1)).sum(1).mean()
    sided = right + left
    side = F.binary_cross_entropy_with_logits(
        logits[:, CLASSES], right / sided.clamp(min=1), weight=sided / 8
    )
    loss = cross + DICE_WEIGHT * _dice_loss(classes.softmax(1), share) + voxels.SIDE_WEIGHT * side
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(stage.parameters(), LARGEST_STEP)
    optimizer.step()
    thin = (slice(None), slice(None), *[slice(None, None, 2)] * 3)
    truth = share[thin].argmax(1)
    told = (classes[thin].argmax(1) == truth)[truth > 0].float().mean()
    return float(loss.detach()), float(told)


def _dice_loss(found: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice of shares (n, CLASSES, x, y, z), mean over the regions that are there.

    Milletari et al., 3DV 2016, with plain sums below the line.
    """
    axes = (0, 2, 3, 4)
    common, sizes = (found * truth).sum(axes), (found + truth).sum(axes)
    there = truth.sum(axes) > voxels.RARE
    there[0] = False
    return 1 - (2 * common / sizes.clamp(min=1))[there].mean()


def _patch(head: Head, rng: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
    start = [int(rng.integers(n - p + 1)) for n, p in zip(CROP, PATCH, strict=True)]
    x, y, z = (slice(s, s + p) for s, p in zip(start, PATCH, strict=True))
    right, left = head.right[x, y, z], head.left[x, y, z]
    return head.context[:, x, y, z], head.counts[:, x, y, z], right, left
