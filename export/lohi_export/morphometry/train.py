"""Training of the segmenter on a bank of deformed label maps; interrupted, it goes on.

Voxels, not patches, are what it learns from: neighbours in a patch tell the same thing, whereas a
few thousand voxels of a head, balanced over the regions, tell most of what that head can teach.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lohi_edge.errors import BadInput
from lohi_edge.quality import features
from lohi_edge.quality.features import CLASSES, FLOOR, Place
from lohi_edge.volume import Float32
from lohi_export.checkpoint import load_checkpoint, save_checkpoint
from lohi_export.morphometry.atlas import make_atlas
from lohi_export.morphometry.bank import Codes
from lohi_export.morphometry.painting import Painted, paint
from lohi_export.stopping import Stop

HIDDEN = (128, 96)
VOXELS = 12_000  # of a painted head
RARE = 50  # voxels: a class of fewer is drawn no more often than one of so many
INTERVAL = 20  # heads between checkpoints
KEPT = 60  # heads that are learned from at a time
UPDATES = 10  # for every new head
BATCH = 8192  # voxels an update
EMA = 0.99
SIDE_WEIGHT = 0.3
CHECKPOINT, MODEL = "checkpoint.safetensors", "segmenter"
SIZES = (features.FIRST, features.SECOND)
Report = Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class Options:
    """What determines a run.

    Attributes:
        heads: painted for the first stage and for the second.
        lr: highest learning rate of each stage; a cosine leads to 0.
        seed: head k depends on (seed, k) and the bank alone.
    """

    heads: tuple[int, int] = (300, 130)
    lr: float = 2e-3
    seed: int = 0


class Bank:
    """The training crops in memory, about 5 MB each, and their atlas."""

    def __init__(self, folder: Path, heads: Iterable[int]) -> None:
        """Read the crops of some heads.

        Raises:
            BadInput: none.
        """
        wanted = set(heads)
        self.crops: list[Codes] = []
        for path in sorted(folder.glob("[0-9][0-9]-[0-9][0-9].npz")):
            if int(path.name[:2]) in wanted:
                with np.load(path, allow_pickle=False) as file:
                    self.crops += list(file["codes"])
        if not self.crops:
            raise BadInput(f"{folder}: expected crops of heads {sorted(wanted)}; make the bank")


class Stage(nn.Module):
    """Features (n, size) -> what is added to the logits of classes, and right side's logit."""

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in HIDDEN:
            layers += [nn.Linear(size, width), nn.LeakyReLU(0.1)]
            size = width
        last = nn.Linear(size, CLASSES + 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Tensor) -> Tensor:
        """(n, size) -> (n, CLASSES + 1)."""
        return torch.as_tensor(self.layers(x))


class Model(nn.Module):
    """Both stages and the atlas they start from."""

    atlas: Tensor

    def __init__(self, atlas: Float32 | None = None) -> None:
        super().__init__()
        self.first, self.second = (Stage(size) for size in SIZES)
        empty = torch.zeros(CLASSES, *features.ATLAS_SHAPE)
        self.register_buffer("atlas", empty if atlas is None else torch.from_numpy(atlas))

    def stage(self, number: int) -> Stage:
        """The first stage is 0, the second 1."""
        return (self.first, self.second)[number]


@dataclass(frozen=True, eq=False)
class Lesson:
    """Voxels of one painted head.

    Attributes:
        features: float16 (n, size).
        before: float16 (n, CLASSES), what logits are added to: log of the shares before, and of
            how much more often than in the head a class is drawn, so that the logits themselves
            stay those of the head as it is.
        share: float16 (n, CLASSES), the truth.
        right, sided: float16 (n,), share of the right side among sided tissue, and its share.
    """

    features: NDArray[np.float16]
    before: NDArray[np.float16]
    share: NDArray[np.float16]
    right: NDArray[np.float16]
    sided: NDArray[np.float16]


def lesson(model: Model, number: int, codes: Codes, rng: np.random.Generator) -> Lesson:
    """Paint a crop and describe voxels of it for a stage."""
    painted = paint(codes, rng)
    place = _misplaced(painted, rng)
    atlas = features.atlas_in(place, model.atlas.numpy())
    maps = features.ImageMaps.of(painted.image, atlas)
    index = features.candidates(atlas)
    chosen, excess = _balanced(painted, index, rng)
    before = atlas
    if number:
        before = _first_answer(model, index, maps, place, atlas)
        maps = features.ImageMaps.of(painted.image, before[:CLASSES])
    parts = [maps.at(chosen), features.place_features(chosen, place, atlas)]
    if number:
        parts.append(features.ShareMaps.of(before).at(chosen))
    x, y, z = chosen.T
    right, left = painted.right[x, y, z] / 8, painted.left[x, y, z] / 8
    return Lesson(
        np.concatenate(parts, axis=1).astype(np.float16),
        (np.log(before[:CLASSES, x, y, z] + FLOOR).T + excess).astype(np.float16),
        (painted.counts[:, x, y, z] / 8).T.astype(np.float16),
        (right / np.maximum(right + left, 1e-6)).astype(np.float16),
        (right + left).astype(np.float16),
    )


def _misplaced(painted: Painted, rng: np.random.Generator) -> Place:
    """The brain's true place, missed by a little most often, and by more now and then."""
    true = features.place_of(painted.counts.astype(np.float32))
    far = rng.random() < 0.25
    centre = rng.normal(0, 6 if far else 1.5, 3)
    size = np.exp(rng.normal(0, 0.07 if far else 0.02, 3))
    return Place(true.centre + centre, true.size * size)


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


def _first_answer(
    model: Model, index: features.Index, maps: features.ImageMaps, place: Place, atlas: Float32
) -> Float32:
    answer = np.zeros((CLASSES + 1, *atlas.shape[1:]), np.float32)
    answer[0], answer[-1] = 1, 0.5
    for part in np.array_split(index, 8):
        described = np.concatenate(
            [maps.at(part), features.place_features(part, place, atlas)], axis=1
        )
        x, y, z = part.T
        with torch.inference_mode():
            logits = model.first(torch.from_numpy(described)).numpy().T
        answer[:, x, y, z] = features.chances(logits, atlas[:, x, y, z])
    return answer


def fit(bank: Bank, folder: Path, options: Options, stop: Stop, report: Report) -> None:
    """Train both stages until their end or `stop`; `averaged` reads the result."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    path = folder / CHECKPOINT
    model = Model(None if path.is_file() else make_atlas(bank.crops))
    smooth = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=False
    )
    optimizers = {
        name: torch.optim.AdamW(model.stage(n).parameters(), options.lr, weight_decay=1e-4)
        for n, name in enumerate(("first", "second"))
    }
    modules, done = {"model": model, "averaged": smooth}, 0
    if path.is_file():
        done = load_checkpoint(path, MODEL, modules, optimizers)["heads"]
    kept: deque[Lesson] = deque(maxlen=KEPT)
    while done < sum(options.heads) and not stop.reason:
        number = int(done >= options.heads[0])
        if done == options.heads[0]:
            kept.clear()
        rng = np.random.default_rng((options.seed, done))
        teacher = smooth.module if number else model
        assert isinstance(teacher, Model)
        kept.append(lesson(teacher, number, bank.crops[rng.integers(len(bank.crops))], rng))
        progress = (done - number * options.heads[0]) / options.heads[number]
        optimizer = optimizers[("first", "second")[number]]
        for group in optimizer.param_groups:
            group["lr"] = options.lr * 0.5 * (1 + math.cos(math.pi * progress))
        stage = model.stage(number)
        for _ in range(UPDATES):
            loss, right = update(stage, optimizer, list(kept), rng)
            smooth.update_parameters(model)
        done += 1
        report(done, number, loss, right)
        if done % INTERVAL == 0 or done == sum(options.heads) or stop.reason:
            save_checkpoint(path, modules, optimizers, {"model": MODEL, "heads": done})


def update(
    stage: Stage, optimizer: torch.optim.Optimizer, kept: list[Lesson], rng: np.random.Generator
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


def averaged(folder: Path) -> Model:
    """The averaged weights of a run, as far as it has come.

    Raises:
        BadInput: no run.
    """
    model = torch.optim.swa_utils.AveragedModel(Model())
    load_checkpoint(folder / CHECKPOINT, MODEL, {"averaged": model}, {})
    assert isinstance(model.module, Model)
    return model.module


def reporter(options: Options) -> Report:
    """A report that prints a line of means every 10 heads."""
    recent: list[tuple[float, float]] = []
    begun = time.monotonic()

    def report(done: int, stage: int, loss: float, told: float) -> None:
        recent.append((loss, told))
        if done % 10 == 0 or done == sum(options.heads):
            means = np.mean(recent, axis=0)
            recent.clear()
            sys.stderr.write(
                f"{time.monotonic() - begun:6.0f} s  head {done}/{sum(options.heads)}, stage "
                f"{stage + 1}: loss {means[0]:.3f}, voxels told right {means[1]:.3f}\n"
            )

    return report
