"""Generators and discriminators, and the generators by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lohi_edge.errors import UsageError
from lohi_export.networks.lohiresgan import LoHiResGenerator
from lohi_export.networks.patchgan import PatchDiscriminator

__all__ = ["GENERATORS", "LoHiResGenerator", "PatchDiscriminator", "build_generator", "check_name"]

# name -> generator of (width, depth, channels)
GENERATORS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "lohiresgan": lambda width, depth, channels: LoHiResGenerator(width, depth, channels),
    "lohiresgan-plain": lambda width, depth, channels: LoHiResGenerator(
        width, depth, channels, residual_blocks=False
    ),
}


def check_name(name: str) -> None:
    """Refuse a name that is not in the registry.

    Raises:
        UsageError: names those that are.
    """
    if name not in GENERATORS:
        raise UsageError(f"expected a model of {sorted(GENERATORS)}, got {name!r}")


def build_generator(name: str, width: int, depth: int, channels: int) -> nn.Module:
    """A fresh generator of the registry.

    Raises:
        UsageError: no generator of that name.
    """
    check_name(name)
    return GENERATORS[name](width, depth, channels)
