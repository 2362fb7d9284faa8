"""What the segmenter's first stage learns from: voxels of painted heads.

Voxels, not patches: neighbours in a patch tell the same thing, whereas a few thousand voxels of a
head, balanced over the regions, tell most of what that head can teach so small a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lohi_edge.quality import features
from lohi_edge.quality.features import CLASSES, FLOOR, Place
from lohi_edge.volume import Float32
from lohi_export.morphometry.bank import Codes
from lohi_export.morphometry.networks import Model, Voxels
from lohi_export.morphometry.painting import Painted, paint

VOXELS = 12_000  # of a painted head
RARE = 50  # voxels: a class of fewer is drawn no more often than one of so many
BATCH = 8192  # voxels an update
SIDE_WEIGHT = 0.3


@dataclass(frozen=True, eq=False)
class Lesson:
    """Voxels of one painted head.

    Attributes:
        features: float16 (n, FIRST).
        before: float16 (n, CLASSES), what logits are added to: log of the atlas, and of how much
            more often than in the head a class is drawn, so that the logits themselves stay those
            of the head as it is.
        share: float16 (n, CLASSES), the truth.
        right, sided: float16 (n,), share of the right side among sided tissue, and its share.
    """

    features: NDArray[np.float16]
    before: NDArray[np.float16]
    share: NDArray[np.float16]
    right: NDArray[np.float16]
    sided: NDArray[np.float16]


def lesson(model: Model, codes: Codes, rng: np.random.Generator) -> Lesson:
    """Paint a crop and describe voxels of it."""
    painted = paint(codes, rng)
    place = misplaced(painted, rng)
    atlas = features.atlas_in(place, model.atlas.numpy())
    maps = features.ImageMaps.of(painted.image, atlas)
    chosen, excess = _balanced(painted, features.candidates(atlas), rng)
    x, y, z = chosen.T
    right, left = painted.right[x, y, z] / 8, painted.left[x, y, z] / 8
    described = [maps.at(chosen), features.place_features(chosen, place, atlas)]
    return Lesson(
        np.concatenate(described, axis=1).astype(np.float16),
        (np.log(atlas[:, x, y, z] + FLOOR).T + excess).astype(np.float16),
        (painted.counts[:, x, y, z] / 8).T.astype(np.float16),
        (right / np.maximum(right + left, 1e-6)).astype(np.float16),
        (right + left).astype(np.float16),
    )


def misplaced(painted: Painted, rng: np.random.Generator) -> Place:
    """The brain's true place, missed by a little most often, and by more now and then."""
    true = features.place_of(painted.counts.astype(np.float32))
    far = rng.random() < 0.25
    centre = rng.normal(0, 6 if far else 1.5, 3)
    size = np.exp(rng.normal(0, 0.07 if far else 0.02, 3))
    return Place(true.centre + centre, true.size * size)


def answer(model: Model, image: Float32, place: Place) -> Float32:
    """Shares and right side (CLASSES + 1, *CROP) as the first stage gives them for a window."""

    def first(described: Float32) -> Float32:
        with torch.inference_mode():
            return np.asarray(model.first(torch.from_numpy(described)).numpy().T)

    atlas = features.atlas_in(place, model.atlas.numpy())
    maps = features.ImageMaps.of(image, atlas)
    return features.first_answer(first, features.candidates(atlas), maps, place, atlas)


def _balanced(
    painted: Painted, index: features.Index, rng: np.random.Generator
) -> tuple[features.Index, NDArray[np.float64]]:
    """Voxels, half of them from all candidates and half shared out evenly over the classes.

    With the logarithm of how much more often each class (CLASSES,) is drawn than it occurs.
    """
    x, y, z = index.T
    inside = painted.counts[:, x, y, z]
    winner = inside.argmax(axis=0)
    sizes = np.bincount(winner, minlength=CLASSES)
    excess = 1 + len(index) / (CLASSES * np.maximum(sizes, RARE))
    chance = excess[winner]
    chosen = rng.choice(len(index), VOXELS, p=chance / chance.sum())
    return index[chosen], np.log(excess)


def update(
    stage: Voxels,
    optimizer: torch.optim.Optimizer,
    kept: Sequence[Lesson],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """One step on voxels of the kept heads; its loss, and the share of voxels told right."""
    drawn = [kept[i] for i in rng.integers(len(kept), size=8)]
    at = [rng.integers(VOXELS, size=BATCH // 8) for _ in drawn]

    def gather(name: str) -> Tensor:
        parts = [getattr(one, name)[where] for one, where in zip(drawn, at, strict=True)]
        return torch.from_numpy(np.concatenate(parts).astype(np.float32))

    logits = stage(gather("features"))
    share = gather("share")
    classes = logits[:, :CLASSES] + gather("before")
    cross = -(share * F.log_softmax(classes, 1)).sum(1).mean()
    side = F.binary_cross_entropy_with_logits(
        logits[:, CLASSES], gather("right"), weight=gather("sided")
    )
    loss = cross + SIDE_WEIGHT * side
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    told = (classes.argmax(1) == share.argmax(1)).float().mean()
    return float(loss.detach()), float(told)
