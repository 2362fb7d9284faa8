"""The trainer: any objective, on cached slices, interruptible at any moment.

Everything random in a step is a function of (seed, step), so a checkpoint needs no generator
states, and a run that was killed repeats from its last checkpoint what it would have done. Of
several processes all train and the first alone validates, writes and holds the curves.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lohi_edge.errors import BadInput, UsageError
from lohi_export import processes
from lohi_export.checkpoint import (
    load_checkpoint,
    load_weights,
    read_tensors,
    save_checkpoint,
    write_tensors,
)
from lohi_export.config import learning_rate
from lohi_export.curves import Row, write_curves
from lohi_export.evaluation import figures, mean, spread
from lohi_export.objective import build_objective
from lohi_export.run import Run
from lohi_export.sampler import Sampler
from lohi_export.stopping import Stop

VALIDATION_SLICES = 24
# What a decibel is worth in SSIM when the best weights are chosen: +8 dB and +0.25 alike.
SSIM_IN_DB = 32

Report = Callable[[int, Row | None], None]  # (steps done, the interval's row where one ended)


class Averaged:
    """Running average of a module's weights and statistics (EMA), as a module of its own.

    The decay grows with the first steps so that the initial weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, live: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(_state(self.module), _state(live), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


def _state(module: nn.Module) -> list[Tensor]:
    return list(module.state_dict().values())


class Trainer:
    """A run in progress: an objective, its averaged generator, and where it stands.

    Attributes:
        step: updates done.
        rows: one an interval; written as curves.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run, self.config, self.device = run, run.config, device
        config = run.config
        self.sampler = Sampler(run.slices("train"), config, processes.rank(), processes.size())
        self.validation = run.slices("validation")
        torch.manual_seed(config.seed)
        self.objective = build_objective(config, device)
        self.networks = self.objective.networks
        generator = self.networks.modules["generator"]
        if config.init:
            load_weights(generator, read_tensors(run.init)[0], run.init)
        self.average = Averaged(generator, config.ema)
        self.step = 0
        self.rows: list[Row] = []
        self._sums: dict[str, float] = {}
        self._best = -math.inf
        if run.checkpoint.is_file():
            self._restore()

    @property
    def _modules(self) -> dict[str, nn.Module]:
        kept = {**self.networks.modules, **self.objective.memory}
        return {**kept, "average": self.average.module}

    def fit(self, stop: Stop, report: Report) -> None:
        """Train to the last step or until `stop` has a reason; leave a checkpoint either way.

        Raises:
            BadInput: the losses are no longer finite.
            DiskError: the last checkpoint could not be written; the one before it stands.
        """
        while self.step < self.config.steps and not processes.any_of(bool(stop.reason)):
            self._advance()
            row = None
            if self.step % self.config.interval == 0 or self.step == self.config.steps:
                row = self._close_interval()
            report(self.step, row)
        self.save()

    def save(self) -> None:
        """Checkpoint and curves; called in all processes alike."""
        self._sums = processes.mean(self._sums)
        if not processes.is_first():
            return
        position = {
            "model": self.config.model,
            "step": self.step,
            "rows": self.rows,
            "sums": self._sums,
            "best": None if math.isinf(self._best) else self._best,
            "scaler": self.networks.scaler.state_dict(),
        }
        save_checkpoint(self.run.checkpoint, self._modules, self.networks.optimizers, position)
        write_curves(self.run.folder, self.rows)

    def _advance(self) -> None:
        for name, optimizer in self.networks.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.config, name, self.step)
        source, target = (
            torch.from_numpy(array).to(self.device).contiguous(memory_format=torch.channels_last)
            for array in self.sampler(self.step)
        )
        for module in self.networks.modules.values():
            module.train()
        rng = self.sampler.random(self.step)
        torch.manual_seed(int(rng.integers(2**32)) + processes.rank())  # dropout
        losses = self.objective.step(source, target, rng)
        if not all(math.isfinite(loss) for loss in losses.values()):
            raise BadInput(f"losses are not finite at step {self.step}: {losses}; lower --lr")
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + loss
        self.average.update(self.networks.modules["generator"], self.step)
        self.step += 1

    def _close_interval(self) -> Row | None:
        """The interval's row, and a checkpoint; None but in the first process."""
        sums, self._sums = processes.mean(self._sums), {}
        row = self._row(sums) if processes.is_first() else None
        self.save()
        return row

    def _row(self, sums: Mapping[str, float]) -> Row:
        """Measure the averaged generator, and keep its weights if they are the best so far."""
        length = (self.step - 1) % self.config.interval + 1
        row: Row = {"step": self.step}
        row |= {f"loss_{name}": total / length for name, total in sums.items()}
        row |= self.validate()
        self.rows.append(row)
        score = row["psnr"] + SSIM_IN_DB * row["ssim"]
        # The weights first: a kill between the writes repeats the interval and writes them again.
        if score > self._best:
            self._best = score
            metadata = {"model": self.config.model, "step": str(self.step)}
            write_tensors(self.run.weights, self.average.module.state_dict(), metadata)
        return row

    def validate(self) -> dict[str, float]:
        """Figures of the averaged generator on whole slices spread over the validation scans."""
        each = max(1, VALIDATION_SLICES // len(self.validation))
        return mean(
            row
            for pair in self.validation
            for row in figures(
                self.average.module, pair, spread(pair, each), self.config.channels, self.device
            )
        )

    def _restore(self) -> None:
        position: Mapping[str, Any] = load_checkpoint(
            self.run.checkpoint, self.config.model, self._modules, self.networks.optimizers
        )
        self.step, self.rows = position["step"], position["rows"]
        self._sums = position["sums"]
        self._best = -math.inf if position["best"] is None else position["best"]
        if position.get("scaler"):
            self.networks.scaler.load_state_dict(position["scaler"])
        if processes.is_first():
            write_curves(self.run.folder, self.rows)


def choose_device(name: str) -> torch.device:
    """`auto` takes a CUDA GPU where there is one; each process of `torchrun` one of its own.

    Raises:
        UsageError: an unknown device, or CUDA where there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UsageError(f"expected device auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("expected a CUDA GPU, found none; use --device cpu")
    return torch.device(name, processes.local_rank() if name == "cuda" else 0)
