"""What a training run was asked for; everything that decides its result."""

from __future__ import annotations

import dataclasses
import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import UsageError
from lohi_edge.files import atomic_write, make_directory
from lohi_edge.slices import SliceContract

SPLITS = ("train", "validation", "test")


def _default_split() -> dict[str, list[str]]:
    numbers = {"train": range(1, 11), "validation": range(11, 13), "test": range(13, 17)}
    return {name: [f"{n:02d}" for n in values] for name, values in numbers.items()}


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a run.

    Attributes:
        model: a name of `networks.GENERATORS`.
        width, depth, channels: of the generator.
        discriminator_width: channels of the discriminator's first layer.
        steps: generator updates in all; the cosine schedule ends there.
        batch, crop: slices a step and the side of a random square cut from each; 0 for no cut.
        lr, discriminator_lr: learning rates at the start of the cosine schedule.
        adversarial, l1, ssim: weights of the generator's loss.
        ema: decay of the running average of the generator's weights.
        gamma: inputs are raised to a random power within exp(-gamma) to exp(gamma).
        hold: share of samples whose neighbouring slices repeat the middle one.
        interval: steps between validations and checkpoints.
        seed: decides initial weights, order and augmentation.
        init: sha256 of the weights the generator began with; empty for random ones.
        split: subjects of each part, BIDS labels without "sub-".
        height, width_px: the slice contract's window.
    """

    contrast: str = "T1w"
    model: str = "lohiresgan"
    width: int = 16
    depth: int = 3
    channels: int = 1
    discriminator_width: int = 32
    steps: int = 8000
    batch: int = 4
    crop: int = 128
    lr: float = 1e-3
    discriminator_lr: float = 2e-4
    adversarial: float = 1.0
    l1: float = 100.0
    ssim: float = 1.0
    ema: float = 0.999
    gamma: float = 0.15
    hold: float = 0.0
    interval: int = 250
    seed: int = 0
    height: int = 192
    width_px: int = 240
    init: str = ""
    split: dict[str, list[str]] = field(default_factory=_default_split)

    def __post_init__(self) -> None:
        problems = [
            f"{name} {getattr(self, name)} is not positive"
            for name in (
                "width",
                "depth",
                "discriminator_width",
                "steps",
                "batch",
                "lr",
                "interval",
            )
            if not getattr(self, name) > 0
        ]
        if self.crop < 0 or self.crop % 2**self.depth:
            problems.append(f"crop {self.crop} is not a multiple of {2**self.depth}")
        if self.crop > min(self.height, self.width_px):
            problems.append(f"crop {self.crop} exceeds the {self.height} x {self.width_px} window")
        if not 0 <= self.ema < 1:
            problems.append(f"ema {self.ema} is not within 0 to 1")
        if not 0 <= self.hold <= 1:
            problems.append(f"hold {self.hold} is not within 0 to 1")
        if self.channels not in range(1, 16, 2):
            problems.append(f"channels {self.channels} is not an odd number from 1 to 15")
        if self.contrast not in CONTRASTS:
            problems.append(f"contrast {self.contrast!r} is none of {', '.join(CONTRASTS)}")
        problems += _split_problems(self.split)
        if problems:
            raise UsageError("unusable training configuration: " + "; ".join(problems))
        check_split(self.split)

    @property
    def contract(self) -> SliceContract:
        return SliceContract(self.height, self.width_px, self.channels)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """From JSON; missing keys take their defaults.

        Raises:
            UsageError: a key that no configuration has, with the nearest one that does.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known are {known}"
                raise UsageError(f"unknown configuration key {key!r}{hint}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _split_problems(split: Any) -> list[str]:
    """What keeps a value from being {part: [subject, ...]} of all three parts."""
    if not isinstance(split, dict) or set(split) != set(SPLITS):
        return [f"split is not an object of the parts {', '.join(SPLITS)}"]
    return [
        f"split's {part} is not a list of subjects such as ['01', '02']"
        for part, subjects in split.items()
        if not (isinstance(subjects, list) and all(isinstance(s, str) for s in subjects))
    ]


def check_split(split: dict[str, list[str]]) -> None:
    """Refuse a subject that would be learned from and judged on.

    Raises:
        UsageError: names the subject and its parts.
    """
    homes: dict[str, str] = {}
    for part, subjects in split.items():
        for subject in subjects:
            if subject in homes:
                raise UsageError(
                    f"subject {subject} is in {homes[subject]} and in {part}; "
                    "put every subject in one part of the split"
                )
            homes[subject] = part


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all.

    Raises:
        DiskError: the disk would not take it.
    """
    make_directory(path.parent)
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())
