"""Generators and discriminators, and the generators by the names of `models.MODELS`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lohi_export import models
from lohi_export.networks.lohiresgan import LoHiResGenerator
from lohi_export.networks.patchgan import PatchDiscriminator
from lohi_export.networks.pix2pix import Pix2PixGenerator
from lohi_export.networks.resnet import ResnetGenerator
from lohi_export.networks.unet import UNet

__all__ = [
    "GENERATORS",
    "LoHiResGenerator",
    "PatchDiscriminator",
    "Pix2PixGenerator",
    "ResnetGenerator",
    "UNet",
    "build_generator",
]

# name -> generator of (width, depth, channels)
GENERATORS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "lohiresgan": LoHiResGenerator,
    "lohiresgan-plain": lambda width, depth, channels: LoHiResGenerator(
        width, depth, channels, residual_blocks=False
    ),
    "cgan": Pix2PixGenerator,
    "gan": Pix2PixGenerator,
    "cyclegan": ResnetGenerator,
    "unet": UNet,
}


def build_generator(name: str, width: int, depth: int, channels: int) -> nn.Module:
    """A fresh generator of the registry.

    Raises:
        UsageError: no generator of that name.
    """
    models.find(name)
    return GENERATORS[name](width, depth, channels)
