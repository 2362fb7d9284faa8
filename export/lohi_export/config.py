"""What a training run was asked for; everything that decides its result."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from typing import Any

from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import UsageError
from lohi_edge.slices import SliceContract
from lohi_export import models

GAN_LOSSES = ("least-squares", "logistic")
SMALLEST_JUDGED = 32  # pixels; a PatchGAN leaves nothing of smaller images
SPLITS = ("train", "validation", "test")


def _default_split() -> dict[str, list[str]]:
    numbers = {"train": range(1, 11), "validation": range(11, 13), "test": range(13, 17)}
    return {name: [f"{n:02d}" for n in values] for name, values in numbers.items()}


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a run.

    Attributes:
        model: a name of `models.MODELS`.
        width, depth, channels: of the generator.
        discriminator_width: channels of the discriminator's first layer.
        steps: generator updates in all; the cosine schedule ends there.
        batch, crop: slices a step and the side of a random square cut from each; 0 for no cut.
        lr, discriminator_lr: learning rates at the start of the cosine schedule.
        adversarial, l1, ssim, cycle, identity: weights of the generator's losses.
        gan_loss: see `losses.adversarial_loss`.
        ema: decay of the running average of the generator's weights.
        gamma: inputs are raised to a random power within exp(-gamma) to exp(gamma).
        noise: largest standard deviation of noise added to the input, relative to its range.
        spots: share of samples into both of whose images a spot is put, brighter or darker than
            what is there, so that a generator learns to keep what no healthy head shows.
        hold: share of samples whose neighbouring slices repeat the middle one.
        elastic: standard deviation in pixels of a smooth random warp of both images.
        slip: standard deviation in pixels of a smooth warp of the target alone. Real pairs never
            fit to the voxel; a generator that never saw that is too sure of thin edges.
        levels: how far black and white of the input wander, of `augment.BLACK` and `WHITE`.
        amp: mixed precision: the networks compute in 16 bits.
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
    noise: float = 0.0
    spots: float = 0.0
    hold: float = 0.0
    interval: int = 250
    seed: int = 0
    height: int = 192
    width_px: int = 240
    init: str = ""
    gan_loss: str = "least-squares"
    cycle: float = 0.0
    identity: float = 0.0
    elastic: float = 0.0
    slip: float = 0.0
    levels: float = 0.0
    amp: bool = False
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
        problems += [
            f"{name} {value} is no finite number"
            for name, value in vars(self).items()
            if isinstance(value, float) and not math.isfinite(value)
        ]
        if not 0 <= self.ema < 1:
            problems.append(f"ema {self.ema} is not within 0 to 1")
        problems += [
            f"{name} {getattr(self, name)} is not within 0 to 1"
            for name in ("hold", "spots", "levels")
            if not 0 <= getattr(self, name) <= 1
        ]
        problems += [
            f"{name} {getattr(self, name)} is negative"
            for name in ("gamma", "noise", "elastic", "slip", "seed", "discriminator_lr")
            if not getattr(self, name) >= 0
        ]
        if self.channels not in range(1, 16, 2):
            problems.append(f"channels {self.channels} is not an odd number from 1 to 15")
        if self.contrast not in CONTRASTS:
            problems.append(f"contrast {self.contrast!r} is none of {', '.join(CONTRASTS)}")
        problems += _size_problems(self) + _loss_problems(self) + _split_problems(self.split)
        if problems:
            raise UsageError("unusable training configuration: " + "; ".join(problems))
        check_split(self.split)

    @property
    def contract(self) -> SliceContract:
        return SliceContract(self.height, self.width_px, self.channels)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """From JSON; missing keys take the model's defaults.

        Raises:
            UsageError: no such model, or a key that no configuration has, with the nearest that is.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known are {known}"
                raise UsageError(f"unknown configuration key {key!r}{hint}")
        if odd := [line for f in dataclasses.fields(cls) for line in _type_problems(f, values)]:
            raise UsageError("unusable training configuration: " + "; ".join(odd))
        model = models.find(values.get("model", cls.model))
        return cls(**{**model.defaults, **values})

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _type_problems(setting: dataclasses.Field[Any], values: dict[str, Any]) -> list[str]:
    """What a JSON value that should be a number or text is instead."""
    default = setting.default
    if setting.name not in values or default is dataclasses.MISSING:
        return []
    value, kind = values[setting.name], type(default)
    # A whole number is a fine rate; a truth value is no number, though Python counts it as one.
    fits = (int, float) if kind is float else (kind,)
    if isinstance(value, fits) and isinstance(value, bool) == (kind is bool):
        return []
    return [f"{setting.name} {value!r} is not of type {kind.__name__}"]


def _size_problems(config: TrainConfig) -> list[str]:
    """What keeps images of this size from passing through the networks."""
    crop, window = config.crop, f"{config.height} x {config.width_px} window"
    multiple = 2**config.depth
    problems = []
    if crop < 0 or crop % multiple:
        problems.append(f"crop {crop} is not a multiple of {multiple}")
    if crop > min(config.height, config.width_px):
        problems.append(f"crop {crop} exceeds the {window}")
    if config.height % multiple or config.width_px % multiple:
        problems.append(f"depth {config.depth} halves the {window} too often")
    if config.adversarial and 0 < crop < SMALLEST_JUDGED:
        problems.append(f"crop {crop} is too small to be judged, {SMALLEST_JUDGED} is not")
    return problems


def _loss_problems(config: TrainConfig) -> list[str]:
    """What the model does not do with the losses it was given."""
    model = models.find(config.model)
    weights = {name: getattr(config, name) for name in models.LOSSES}
    problems = [
        f"{config.model} has no {name} loss, got weight {weight}"
        for name, weight in weights.items()
        if weight and name not in model.losses
    ]
    problems += [f"{name} {weight} is negative" for name, weight in weights.items() if weight < 0]
    if not any(weights.values()):
        problems.append("every loss has weight 0")
    if config.gan_loss not in GAN_LOSSES:
        problems.append(f"gan_loss {config.gan_loss!r} is none of {', '.join(GAN_LOSSES)}")
    if not model.paired and not config.adversarial:
        problems.append(f"{config.model} learns from its adversaries, got adversarial 0")
    if not model.paired and config.channels > 1:
        problems.append(f"{config.model} translates single slices, got channels {config.channels}")
    return problems


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


def learning_rate(config: TrainConfig, network: str, step: int) -> float:
    """Cosine from the configured rate at step 0 to zero at the last (Loshchilov & Hutter 2017)."""
    base = config.discriminator_lr if network.startswith("discriminator") else config.lr
    return base * (1 + math.cos(math.pi * step / config.steps)) / 2
