"""The device's segmenter as a study uses it: volumes of an image, or why there are none."""

from __future__ import annotations

from functools import cached_property
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from lohi_edge.errors import BadInput
from lohi_edge.files import sha256
from lohi_edge.quality.morphometry import Segmentation, Segmenter, intracranial, region_volumes
from lohi_edge.quality.reference import Mask
from lohi_edge.quality.regions import REGIONS
from lohi_edge.volume import Float64, Volume
from lohi_export.study.stages import Result


class Segmenting:
    """The segmenter that ships, loaded when it is first used.

    Args:
        threads: of the CPU; None for all.
    """

    def __init__(self, threads: int | None) -> None:
        self._threads = threads

    @cached_property
    def digest(self) -> str:
        """sha256 of the network."""
        file = resources.files("lohi_edge.quality").joinpath("segmenter.onnx")
        return sha256(file.read_bytes())

    def volumes(self, volume: Volume) -> Result:
        """Millilitres by region, or None and why: an image may be no head to the segmenter."""
        try:
            return {"volumes": region_volumes(self._segmenter.segment(volume))}
        except BadInput as error:
            return {"volumes": None, "why": str(error)}

    def brain(self, volume: Volume) -> Mask | None:
        """Brain with its ventricles and the CSF about it (X, Y, Z); None of no head to it.

        Why it is none `volumes` of the same image says.
        """
        try:
            return self._segmenter.segment(volume).labels > 0
        except BadInput:
            return None

    @cached_property
    def _segmenter(self) -> Segmenter:
        return Segmenter(threads=self._threads)


def label_volumes(labels: NDArray[np.int16], affine: Float64) -> dict[str, float]:
    """Millilitres by region of a truth segmentation (X, Y, Z), counted as the segmenter counts."""
    known = np.where(np.isin(labels, list(REGIONS)), labels, 0).astype(np.int16)
    return region_volumes(Segmentation(intracranial(known), affine))
