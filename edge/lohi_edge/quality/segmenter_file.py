"""The segmenter's ONNX file: what is refused, and what its metadata say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge.errors import BundleError
from lohi_edge.files import read_bytes
from lohi_edge.quality.features import ATLAS_SHAPE, CLASSES, FIRST, SECOND
from lohi_edge.quality.network import open_network
from lohi_edge.quality.regions import REGIONS, TOTAL
from lohi_edge.volume import Float32

MAX_BYTES = 16 << 20
ERRORS = "volume_errors"  # key in the file's metadata
INPUTS, OUTPUTS, ATLAS = ("first", "second"), ("guess", "answer"), "atlas"
SIZES = (FIRST, SECOND)
MULTIPLE = 8  # of voxels along each axis, which the second stage halves three times
Errors = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Network:
    """A loaded segmenter.

    Attributes:
        session: onnxruntime's.
        atlas: float32 (CLASSES, *ATLAS_SHAPE), share of each class on cells about the brain.
        errors: kind of image ("64mT", "3T", "synthetic") -> region name -> mean volume error in
            percent on heads that it was not trained on; empty where none were measured.
    """

    session: Any
    atlas: Float32
    errors: Errors

    def first(self, features: Float32) -> Float32:
        """Features (n, FIRST) of voxels -> (CLASSES + 1, n): every class, then the right side.

        What the first stage adds to the logits of the atlas.
        """
        return self._run(0, np.ascontiguousarray(features.T)[None])

    def second(self, context: Float32) -> Float32:
        """A window (SECOND, *CROP) -> (CLASSES + 1, *CROP), added to the logits of the first."""
        return self._run(1, context[None])

    def _run(self, stage: int, values: Float32) -> Float32:
        inputs = {**_idle(), INPUTS[stage]: values}
        result: Float32 = self.session.run([OUTPUTS[stage]], inputs)[0][0]
        return result


def load(path: Path | None, threads: int | None) -> Network:
    """Load a segmenter; None is the one that ships.

    Raises:
        BadInput: no such file.
        BundleError: not a segmenter.
    """
    if path is None:
        data = resources.files("lohi_edge.quality").joinpath("segmenter.onnx").read_bytes()
    else:
        data = read_bytes(path, MAX_BYTES)
    name = str(path or "segmenter.onnx")
    session = open_network(data, name, threads)
    shapes = [(i.name, i.shape[1]) for i in session.get_inputs()]
    wanted = list(zip(INPUTS, SIZES, strict=True))
    if shapes != wanted or [o.name for o in session.get_outputs()] != [*OUTPUTS, ATLAS]:
        raise BundleError(f"{name}: expected a segmenter with inputs {wanted}, got {shapes}")
    atlas = session.run([ATLAS], _idle())[0]
    if atlas.shape != (CLASSES, *ATLAS_SHAPE):
        raise BundleError(
            f"{name}: expected an atlas of {CLASSES, *ATLAS_SHAPE}, got {atlas.shape}"
        )
    try:
        errors = _errors(session.get_modelmeta().custom_metadata_map[ERRORS])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise BundleError(f"{name}: expected a segmenter that states its volume errors") from None
    return Network(session, atlas, errors)


def _idle() -> dict[str, Float32]:
    """The least that either stage takes; onnxruntime asks for every input."""
    shapes = ((1, FIRST, 1), (1, SECOND, MULTIPLE, MULTIPLE, MULTIPLE))
    return {k: np.zeros(shape, np.float32) for k, shape in zip(INPUTS, shapes, strict=True)}


def _errors(text: str) -> Errors:
    names = {*REGIONS.values(), TOTAL}
    return {
        str(kind): {name: float(of[name]) for name in names}
        for kind, of in json.loads(text).items()
    }
