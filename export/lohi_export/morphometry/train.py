"""Training of the segmenter on a bank of deformed label maps; interrupted, it goes on."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import make_directory
from lohi_export.checkpoint import load_checkpoint, save_checkpoint
from lohi_export.morphometry import patches, voxels
from lohi_export.morphometry.atlas import make_atlas
from lohi_export.morphometry.bank import Codes
from lohi_export.morphometry.networks import Model
from lohi_export.morphometry.painting import Painted, paint
from lohi_export.stopping import Stop

INTERVAL = 20  # heads between checkpoints
KEPT = (60, 12)  # heads that a stage learns from at a time
UPDATES = (10, 8)  # for every new head
EMA = 0.99
STAGES = ("first", "second")
CHECKPOINT, MODEL = "checkpoint.safetensors", "segmenter"
Report = Callable[[int, int, float, float], None]
Scanned = Callable[[np.random.Generator], Painted]


@dataclass(frozen=True)
class Options:
    """What determines a run.

    Attributes:
        heads: painted for the first stage and for the second.
        lr: highest learning rate of each stage; a cosine leads to 0.
        seed: head k depends on (seed, k) and the bank alone.
        amp: compute the second stage in bfloat16.
        of: heads of the bank.
        scans: whether every second head of the second stage is a scan.
    """

    heads: tuple[int, int] = (300, 600)
    lr: tuple[float, float] = (2e-3, 1e-3)
    seed: int = 0
    amp: bool = False
    of: tuple[int, ...] = ()
    scans: bool = False


class Bank:
    """The training crops in memory, about 5 MB each."""

    def __init__(self, folder: Path, heads: Iterable[int]) -> None:
        """Read the crops of some heads.

        Raises:
            BadInput: there are none of one of them.
        """
        wanted = set(heads)
        files = {
            path: int(path.name[:2]) for path in sorted(folder.glob("[0-9][0-9]-[0-9][0-9].npz"))
        }
        if missing := sorted(wanted - set(files.values())):
            raise BadInput(f"{folder}: expected crops of heads {missing}; make the bank")
        self.crops: list[Codes] = []
        for path, head in files.items():
            if head in wanted:
                with np.load(path, allow_pickle=False) as file:
                    self.crops += list(file["codes"])

    def draw(self, rng: np.random.Generator) -> Codes:
        """Any of the crops."""
        return self.crops[rng.integers(len(self.crops))]


def fit(
    bank: Bank,
    folder: Path,
    options: Options,
    stop: Stop,
    report: Report,
    scanned: Scanned | None = None,
    init: Model | None = None,
) -> None:
    """Train both stages until their end or `stop`; `averaged` reads the result.

    The heads that a stage learns from at a time are not kept: resumed, it gathers new ones.

    Every second head of the second stage is what `scanned` gives, where there is such a thing.
    `init` is what a new run begins with.

    Raises:
        BadInput: a checkpoint that cannot be read.
        UsageError: `folder` holds a run of other options.
    """
    make_directory(folder)
    torch.manual_seed(options.seed)
    path = folder / CHECKPOINT
    model = init or Model(None if path.is_file() else make_atlas(bank.crops))
    smooth = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=False
    )
    optimizers = {
        name: torch.optim.AdamW(getattr(model, name).parameters(), lr, weight_decay=1e-4)
        for name, lr in zip(STAGES, options.lr, strict=True)
    }
    modules, done = {"model": model, "averaged": smooth}, 0
    if path.is_file():
        position = load_checkpoint(path, MODEL, modules, optimizers)
        _check_same(folder, options, position)
        done = position["heads"]
    teacher = smooth.module
    assert isinstance(teacher, Model)
    lessons: deque[voxels.Lesson] = deque(maxlen=KEPT[0])
    heads: deque[patches.Head] = deque(maxlen=KEPT[1])
    while done < sum(options.heads) and not stop.reason:
        number = int(done >= options.heads[0])
        rng = np.random.default_rng((options.seed, done))
        progress = (done - number * options.heads[0]) / options.heads[number]
        optimizer = optimizers[STAGES[number]]
        for group in optimizer.param_groups:
            group["lr"] = options.lr[number] * 0.5 * (1 + math.cos(math.pi * progress))
        if number:
            painted = scanned(rng) if scanned and done % 2 else paint(bank.draw(rng), rng)
            heads.append(patches.look(teacher, painted, rng))
        else:
            lessons.append(voxels.lesson(model, bank.draw(rng), rng))
        for _ in range(UPDATES[number]):
            if number:
                loss, told = patches.update(model.second, optimizer, heads, rng, options.amp)
            else:
                loss, told = voxels.update(model.first, optimizer, lessons, rng)
            smooth.update_parameters(model)
        done += 1
        report(done, number, loss, told)
        if done % INTERVAL == 0 or done == sum(options.heads) or stop.reason:
            position = {"model": MODEL, "heads": done, "options": vars(options)}
            save_checkpoint(path, modules, optimizers, position)


def _check_same(folder: Path, options: Options, position: Mapping[str, Any]) -> None:
    """Raises UsageError where a run was begun otherwise; one that did not keep how goes on."""
    had = position.get("options", {})
    asked = json.loads(json.dumps(vars(options)))
    if odd := [f"{k} {had[k]}, not {v}" for k, v in asked.items() if had.get(k, v) != v]:
        raise UsageError(
            f"{folder} holds a run with {'; '.join(odd)}; repeat its options to resume it, or name "
            "another folder with --out"
        )


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
