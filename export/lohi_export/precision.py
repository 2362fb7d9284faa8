"""`lohi-export calibrate`: FP16 and INT8 files for a bundle, within an accuracy budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from lohi_calibration import graph, half, qdq, ranges
from lohi_calibration.accuracy import measure, within
from lohi_calibration.journal import Journal
from lohi_calibration.latency import saved_ms
from lohi_calibration.plot import plot
from lohi_calibration.search import Found, search
from lohi_calibration.sensitivity import Trial, analyse, to_csv
from lohi_edge.bundle import Bundle, Manifest
from lohi_edge.errors import BundleError
from lohi_edge.files import atomic_write, make_directory, sha256
from lohi_edge.store import digest
from lohi_edge.volume import Float32
from lohi_export.bundle_folder import refuse_existing, write
from lohi_export.precision_data import PrecisionData

SCHEMA = 1
RECORD, TABLE = "calibration.json", "sensitivity.csv"
# Other processors and GPUs round and sum otherwise than the one the tolerance was measured on.
TOLERANCE_FACTOR = 2.0
LEAST_TOLERANCE = {"fp16": 4e-3, "int8.cpu": 0.05, "int8.trt": 0.05}
Stage = Callable[[str], Callable[[int, int], None]]  # a stage's title -> its progress


def calibrate(
    bundle: Bundle, data: PrecisionData, out: Path, budget_db: float, stage: Stage
) -> Manifest:
    """Write `out`: the bundle with fp16.onnx, int8.trt.onnx, int8.cpu.onnx and their record.

    `out` may be the bundle's own path: it is then replaced in one step, and keeps its serial;
    another directory is another release. Interrupted, it goes on where it stopped: costly steps
    lie in OUT.calibration, as do the sensitivity table and its plot.

    Raises:
        UsageError: `out` is something else that exists.
        BundleError: FP16 overflows, or no INT8 model holds the budget.
    """
    in_place = out.exists() and out.samefile(bundle.path)
    if not in_place:
        refuse_existing(out)
    work = out.absolute().with_name(out.absolute().name + ".calibration")
    make_directory(work)
    model = graph.load(bundle.read_onnx("fp32.onnx"))
    stage("FP16 overflow check")(0, 1)
    largest = half.check_overflow(model, data.calibration.slices)
    used = [data.calibration.sha256, sha256(data.input.tobytes()), sha256(data.truth.tobytes())]
    journal = Journal(work / "journal.json", digest([bundle.manifest.files["fp32.onnx"], used]))
    fp32 = graph.run(model, data.input)
    method, reach, compared = _ranges(model, data, fp32, journal, stage("Ranges"))
    trial = Trial(model, reach, data.input, data.truth, fp32)
    rows = analyse(trial, saved_ms, journal, stage("Sensitivity"))
    found = search(trial, rows, budget_db, journal, stage("Search"))
    table = to_csv(rows).encode()
    for name, content in ((TABLE, table), ("sensitivity.png", plot(rows, found.skip))):
        with atomic_write(work / name) as file:
            file.write(content)
    models = {
        "fp16.onnx": half.to_fp16(model),
        "int8.trt.onnx": half.to_fp16(qdq.quantize(model, reach, found.skip)),
        "int8.cpu.onnx": qdq.quantize(model, reach, found.skip, unsigned=True),
    }
    record = {
        "schema": SCHEMA,
        "calibration": data.calibration.to_dict(),
        "data": data.digests,
        "largest_value": round(largest, 4),
        "methods_psnr_fp32_db": compared,
        "method": method,
        "budget_db": budget_db,
        "unquantized": sorted(found.skip),
        "steps": list(found.steps),
        "software": {"onnx": onnx.__version__, "onnxruntime": _ort_version()},
    }
    files = {name: m.SerializeToString() for name, m in models.items()}
    figures, tolerance = _figures(bundle, files, data, fp32, found, budget_db)
    files[RECORD] = json.dumps(record, indent=1, allow_nan=False).encode()
    files[TABLE] = table
    old = bundle.manifest
    manifest = replace(
        old,
        serial=old.serial if in_place else old.serial + 1,
        tolerance=tolerance,
        metrics={**old.metrics, "precision": figures},
    )
    kept = {name: bundle.read(name) for name in old.files if name not in files}
    return write(out, {**kept, **files}, manifest, over=in_place)


def _ranges(
    model: onnx.ModelProto,
    data: PrecisionData,
    fp32: Float32,
    journal: Journal,
    progress: Callable[[int, int], None],
) -> tuple[str, dict[str, float], dict[str, float]]:
    """The method whose ranges keep the fully quantized model nearest to FP32; all compared."""

    def collect() -> dict[str, dict[str, float]]:
        found = ranges.collect(
            model, qdq.tensors(model), data.calibration.slices, progress=progress
        )
        return {m: {k: h.reach(m) for k, h in found.items()} for m in ranges.METHODS}

    by_method: dict[str, dict[str, float]] = journal.step("ranges", collect)

    def compare() -> dict[str, float]:
        scores = {}
        for method, reach in by_method.items():
            output = graph.run(qdq.quantize(model, reach), data.input)
            scores[method] = round(measure(output, fp32, fp32).psnr_fp32, 3)
        return scores

    compared: dict[str, float] = journal.step("methods", compare)
    best = max(compared, key=lambda method: compared[method])
    return best, by_method[best], compared


def _figures(
    bundle: Bundle,
    files: dict[str, bytes],
    data: PrecisionData,
    fp32: Float32,
    found: Found,
    budget_db: float,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Accuracy of every file on the trial slices, and its tolerance on the golden slices."""
    golden = bundle.golden()
    figures: dict[str, Any] = {"fp32": found.reference.to_dict()}
    tolerance = dict(bundle.manifest.tolerance)
    for name, model in files.items():
        stem = name.removesuffix(".onnx")
        literal = name == "int8.trt.onnx"
        accuracy = measure(graph.run(model, data.input, literal=literal), fp32, data.truth)
        if problems := within(accuracy, found.reference, budget_db):
            raise BundleError(f"{name} breaks the budget: {'; '.join(problems)}")
        figures[stem] = accuracy.to_dict()
        output = graph.run(model, golden.input, literal=literal)
        error = float(np.abs(output - golden.output).max())
        granted = max(LEAST_TOLERANCE[stem], TOLERANCE_FACTOR * error)
        tolerance[stem] = round(min(granted, 2.0), 4)
    return figures, tolerance


def _ort_version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)
