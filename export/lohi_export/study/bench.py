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
from lohi_export.record import Origin
from lohi_export.run import Run
from lohi_export.study import measure
from lohi_export.study.cases import Case, brain, open_case
from lohi_export.study.segmenting import Segmenting, label_volumes
from lohi_export.study.stages import Result

TRUTH, RAW, LABELS = "3T", "raw", "labels"  # systems that are no models


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        model: its name in the registry.
        run: its run folder, opened.
        weights: sha256 of the weights.
        parameters: of the generator.
        data: sha256 over the scans of each part that it learned from; empty for a loaded run.
        began: what the weights it began with had learned from; empty for random ones.
    """

    model: str
    run: Run
    weights: str
    parameters: int
    data: dict[str, str]
    began: tuple[Origin, ...]


class Bench:
    """One pair, read when the first figure is wanted and not before; images are made once.

    Args:
        slices: the pair's.
        models: that are measured on it, all of one slice window.
        device: that generators run on.
        segmenting: measures volumes; None where nobody asked for them.
    """

    def __init__(
        self,
        slices: SlicePair,
        models: Sequence[Trained],
        device: torch.device,
        segmenting: Segmenting | None,
    ) -> None:
        self._slices, self._device, self._segmenting = slices, device, segmenting
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

    def volumes(self, system: str) -> Result:
        """Volumes of the regions on a system's image; of the 3 T image those of its labels too."""
        assert self._segmenting
        found = self._segmenting.volumes(self._case.volume(self._image(system)[0]))
        labels = self._case.labels
        if system == TRUTH and labels is not None:
            return found | {"labels": label_volumes(labels.transpose(1, 2, 0), self._case.affine)}
        return found

    @cached_property
    def _case(self) -> Case:
        return open_case(self._slices, self._contract)

    @cached_property
    def _brain(self) -> Mask | None:
        if self._case.labels is not None:
            return brain(self._case.labels)
        if self._segmenting is None:
            return None
        mask = self._segmenting.brain(self._case.volume(self._case.truth))
        return None if mask is None else mask.transpose(2, 0, 1)

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
