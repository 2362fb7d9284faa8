"""What quantizing each layer costs in accuracy and saves in time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import onnx

from lohi_calibration import graph
from lohi_calibration.accuracy import Accuracy, measure
from lohi_calibration.graph import Float32
from lohi_calibration.journal import Journal
from lohi_calibration.qdq import quantizable, quantize
from lohi_calibration.ranges import Progress

Saved = Callable[[bytes, bytes], float]  # ms a slice that the second ONNX file saves


@dataclass(frozen=True)
class Sensitivity:
    """One layer.

    Attributes:
        psnr_lost_db: PSNR against the truth lost by quantizing this layer alone.
        error_db: PSNR against the FP32 output with this layer alone quantized; high is harmless.
        ms_saved: how much slower a slice is when all other layers are quantized and this one not.
    """

    layer: str
    psnr_lost_db: float
    error_db: float | None
    ms_saved: float


@dataclass(frozen=True, eq=False)
class Trial:
    """A model and slices to try precisions on: input (n, C, H, W); truth and fp32 (n, 1, H, W)."""

    model: onnx.ModelProto
    ranges: Mapping[str, float]
    input: Float32
    truth: Float32
    fp32: Float32

    def accuracy(self, skip: frozenset[str]) -> Accuracy:
        """Of the model with every layer quantized but `skip`.

        As TensorRT computes it: of the two forms the coarser one, for uint8 reaches twice as far.
        """
        quantized = quantize(self.model, self.ranges, skip)
        return measure(graph.run(quantized, self.input), self.fp32, self.truth)

    def reference(self) -> Accuracy:
        """Of the FP32 model."""
        return measure(self.fp32, self.fp32, self.truth)


def analyse(
    trial: Trial, saved: Saved, journal: Journal, progress: Progress | None = None
) -> list[Sensitivity]:
    """One row a layer, in graph order."""
    names = quantizable(trial.model)
    reference = trial.reference()

    def file(skip: frozenset[str]) -> bytes:
        model = quantize(trial.model, trial.ranges, skip, unsigned=True)
        data: bytes = model.SerializeToString()
        return data

    whole = file(frozenset())
    rows = []
    for done, name in enumerate(names, start=1):

        def work(name: str = name) -> dict[str, Any]:
            alone = trial.accuracy(frozenset(names) - {name})
            return asdict(
                Sensitivity(
                    name,
                    reference.psnr - alone.psnr,
                    alone.to_dict()["psnr_fp32"],
                    saved(file(frozenset([name])), whole),
                )
            )

        rows.append(Sensitivity(**journal.step(f"layer {name}", work)))
        if progress:
            progress(done, len(names))
    return rows


def to_csv(rows: list[Sensitivity]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Sensitivity)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
