"""TensorRT engines that this device built and accepted, as the chooser sees them."""

from __future__ import annotations

from lohi_edge.bundle import Bundle
from lohi_edge.runtime import Choice


def pick(bundle: Bundle, request: object, notes: list[str]) -> Choice | None:
    return None
