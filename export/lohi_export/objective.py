"""What a model is trained for: its networks and one training step.

The trainer knows an objective only through this interface, so a model without an adversary or
with two generators is another objective, not another trainer.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lohi_export import models
from lohi_export.config import TrainConfig, learning_rate
from lohi_export.networks import PatchDiscriminator, build_generator
from lohi_export.objective_cycle import CycleGan
from lohi_export.objective_paired import Paired
from lohi_export.updates import Networks, half_precision


class Objective(Protocol):
    """A model under training.

    Attributes:
        networks: all of them; "generator" is the one that ships.
        memory: what else a step depends on, as buffers by name.
    """

    networks: Networks
    memory: dict[str, nn.Module]

    def step(self, source: Tensor, target: Tensor, rng: np.random.Generator) -> dict[str, float]:
        """Update all networks on one batch, (N, C, H, W) and (N, 1, H, W); losses by name.

        Args:
            rng: the step's random numbers, alike in all processes. Nothing else is random but
                dropout, for which the trainer seeds torch: a resumed run repeats what an
                uninterrupted one would do.
        """
        ...


def build_objective(config: TrainConfig, device: torch.device) -> Objective:
    """The objective of a configuration, on a device, in the layout that convolutions like."""
    model = models.find(config.model)

    def generator() -> nn.Module:
        return build_generator(config.model, config.width, config.depth, config.channels)

    modules = {"generator": generator()}
    if config.adversarial:
        seen = config.channels if model.conditional else 0
        modules["discriminator"] = PatchDiscriminator(seen, config.discriminator_width)
    if not model.paired:
        modules["generator_back"] = generator()
        modules["discriminator_back"] = PatchDiscriminator(0, config.discriminator_width)
    for module in modules.values():
        module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rates = {name: learning_rate(config, name, 0) for name in modules}
    networks = Networks(modules, rates, half_precision(device) if config.amp else None)
    return Paired(networks, config) if model.paired else CycleGan(networks, config)
