"""The bench that held-out pairs are measured on, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from lohi_edge.quality.reference import Mask
from lohi_edge.volume import Float32
from lohi_export.dataset import SlicePair, decode
from lohi_export.run import Run
from lohi_export.study import measure
from lohi_export.study.cases import Case, brain, open_case
from lohi_export.study.stages import Result

TRUTH, RAW = "3T", "raw"  # systems that are no models


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        model: its name in the registry.
        run: its run folder, opened.
        weights: sha256 of the weights.
        parameters: of the generator.
    """

    model: str
    run: Run
    weights: str
    parameters: int


class Bench:
    """One pair, read when the first figure is wanted and not before; images are made once.

    Args:
        slices: the pair's.
        models: that are measured on it, all of one slice window.
        device: that generators run on.
    """

    def __init__(self, slices: SlicePair, models: Sequence[Trained], device: torch.device) -> None:
        self._slices, self._device = slices, device
        self._models = {trained.model: trained for trained in models}
        self._contract = models[0].run.config.contract
        self._images: dict[str, tuple[Float32, dict[str, float | None]]] = {}

    def identity(self, system: str) -> dict[str, Any]:
        """What decides a system's image of this pair."""
        window = (self._contract.height, self._contract.width)
        given: dict[str, Any] = {"scan": self._slices.digest, "window": window}
        if system in self._models:
            trained = self._models[system]
            given |= {"weights": trained.weights, "config": trained.run.config.to_dict()}
        return given

    def figures(self, system: str) -> Result:
        """Metrics, middle slices and, of a model, the time of a slice."""
        if system == TRUTH:
            return measure.truth_figures(self._case)
        image, seconds = self._image(system)
        found = measure.figures(self._case, image, self._brain)
        return found | {"slice": seconds} if system in self._models else found

    @cached_property
    def _case(self) -> Case:
        return open_case(self._slices, self._contract)

    @cached_property
    def _brain(self) -> Mask | None:
        labels = self._case.labels
        return None if labels is None else brain(labels)

    def _image(self, system: str) -> tuple[Float32, dict[str, float | None]]:
        """A system's image (N, H, W) in [-1, 1], and the seconds that a slice took."""
        if system == TRUTH:
            return self._case.truth, {}
        if system == RAW:
            return decode(self._slices.source), {}
        if system not in self._images:
            trained = self._models[system]
            self._images[system] = measure.translated(
                self._case,
                trained.run.generator().to(self._device),
                trained.run.config.channels,
                self._device,
            )
        return self._images[system]
