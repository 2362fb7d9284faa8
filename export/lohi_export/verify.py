"""`lohi-export verify`: one report over every precision and runtime that a bundle meets here."""

from __future__ import annotations

import html
import json
import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime

from lohi_calibration import graph
from lohi_calibration.accuracy import MOST_DB
from lohi_edge import acceptance
from lohi_edge.bundle import Bundle
from lohi_edge.errors import BadInput, BundleError
from lohi_edge.quality.reference import psnr, ssim
from lohi_edge.runtime import PRECISIONS, RUNTIMES, Progress, Runtime, choose
from lohi_edge.runtime.chooser import Request, cpu_candidates, cpu_name
from lohi_edge.volume import Float32
from lohi_export import region_drift
from lohi_export.dataset import SlicePair
from lohi_export.evaluation import spread
from lohi_export.region_drift import Volumes

SCHEMA = 1
HELD_OUT_SLICES = 12  # of each head
PSNR_DROP_DB, SSIM_DROP = 0.3, 0.005
# What TensorRT builds INT8 from. onnxruntime computes the same arithmetic, without its kernels.
EMULATED, EMULATION = "int8.trt.onnx", "tensorrt, emulated"
_COLUMNS = (
    ("runtime", "{}"),
    ("precision", "{}"),
    ("accepted", "{}"),
    ("max_error", "{:.4f}"),
    ("mean_error", "{:.5f}"),
    ("psnr_fp32_db", "{:.1f}"),
    ("psnr_db", "{:.2f}"),
    ("ssim", "{:.4f}"),
    ("held_out_psnr_db", "{:.2f}"),
    ("held_out_ssim", "{:.4f}"),
    ("region_drift_percent", "{:.2f}"),
    ("ms_a_slice", "{:.1f}"),
)
_DRIFT = {True: "against FP32: mean over regions and heads", False: "was not measured"}


class Emulated:
    """INT8 as TensorRT is given it, computed by onnxruntime as it is written."""

    name, version, precision, device, threads = EMULATION, onnxruntime.__version__, "int8", "CPU", 0

    def __init__(self, model: bytes) -> None:
        self._model = model

    def run(self, stack: Float32, progress: Progress | None = None) -> Float32:
        """(N, C, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1], float32."""
        try:
            return graph.run(self._model, stack, literal=True)
        except Exception as error:  # onnxruntime's own exceptions share no narrower public base
            raise BundleError(f"{EMULATED}: onnxruntime rejects it: {error}") from error


def verify(
    bundle: Bundle,
    held_out: Sequence[SlicePair],
    progress: Callable[[int, int], None],
    volumes: Volumes | None = None,
) -> dict[str, Any]:
    """Run golden slices, and held-out heads where given, on everything there is.

    INT8 as TensorRT computes it is emulated by onnxruntime, whatever GPU there is.

    Args:
        volumes: measures brain regions; on the held-out heads each precision's are compared with
            FP32's.

    Returns:
        `rows`, one a runtime and precision; `gates`, what failed, in words; `passed`.
    """
    rows: list[dict[str, Any]] = []
    asked = [(r, p) for p in PRECISIONS for r in RUNTIMES]
    for number, (name, precision) in enumerate(asked, start=1):
        row = _row(bundle, name, precision, held_out, volumes)
        if row:
            rows.append(row)
        progress(number, len(asked) + 1)
    if EMULATED in bundle.manifest.files:
        try:
            runtime = Emulated(bundle.read_onnx(EMULATED))
            row = _measured(bundle, runtime, EMULATED, held_out, volumes)
        except BundleError as error:
            row = _failed(EMULATION, "int8", error)
        unknown = {"ms_a_slice": None, "latency_ms": None, "seconds_per_slice": None}
        rows.append({**row, **unknown})
    progress(len(asked) + 1, len(asked) + 1)
    gates = [f"{r['precision']} on {r['runtime']}: {p}" for r in rows for p in r["problems"]]
    gates += _held_out_gates(rows)
    gates += _drift_gates(rows)
    if not any(row["precision"] == "fp32" and row["accepted"] for row in rows):
        gates.append("no runtime is accepted with fp32.onnx, the last resort of every device")
    return {
        "schema": SCHEMA,
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "cpu": cpu_name(),
        "machine": platform.machine(),
        "held_out": [pair.pair.name for pair in held_out],
        "regions_measured": any("region_drift" in row for row in rows),
        "rows": rows,
        "gates": gates,
        "passed": not gates,
    }


def to_html(report: dict[str, Any]) -> str:
    """One self-contained page."""
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name, _ in _COLUMNS)
    body = "".join(
        "<tr class={}>{}</tr>".format(
            "good" if row["accepted"] else "bad",
            "".join(f"<td>{_cell(row.get(name), form)}</td>" for name, form in _COLUMNS),
        )
        for row in report["rows"]
    )
    gates = "".join(f"<li>{html.escape(gate)}</li>" for gate in report["gates"])
    return (
        "<!doctype html><meta charset=utf-8><title>Precision report</title>"
        "<style>body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:right}"
        ".bad{background:#fdd}</style>"
        f"<h1>{html.escape(report['bundle'])}: {'passed' if report['passed'] else 'FAILED'}</h1>"
        f"<p>Bundle {report['bundle_sha256'][:16]} on {html.escape(report['cpu'])}. "
        f"Held-out heads: {html.escape(', '.join(report['held_out']) or 'none given')}. Volume "
        f"drift of brain regions {_DRIFT[report['regions_measured']]}. Research use only.</p>"
        f"<table><tr>{head}</tr>{body}</table><ul>{gates}</ul>"
    )


def to_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2, allow_nan=False) + "\n"


def _row(
    bundle: Bundle,
    name: str,
    precision: str,
    held_out: Sequence[SlicePair],
    volumes: Volumes | None,
) -> dict[str, Any] | None:
    """None where this runtime or file is not there; what is there and fails is a row."""
    try:
        choice = choose(bundle, runtime=name, precision=precision)
    except BundleError as error:
        there = cpu_candidates(bundle, Request(name, precision))
        if not there and "not accepted" not in str(error):
            return None
        return _failed(name, precision, error)
    return _measured(bundle, choice.runtime, choice.onnx, held_out, volumes)


def _failed(runtime: str, precision: str, error: BundleError) -> dict[str, Any]:
    return {
        "runtime": runtime,
        "precision": precision,
        "accepted": False,
        "problems": [str(error)],
    }


def _measured(
    bundle: Bundle,
    runtime: Runtime,
    onnx: str,
    held_out: Sequence[SlicePair],
    volumes: Volumes | None,
) -> dict[str, Any]:
    record = acceptance.examine(bundle, runtime, onnx)
    row = {**record, "ms_a_slice": round(1e3 * record["seconds_per_slice"], 2)}
    channels = bundle.manifest.slice_contract.channels
    if held_out:
        found, score = _held_out(runtime, held_out, channels)
        row |= {"held_out_psnr_db": _number(found, 4), "held_out_ssim": _number(score, 5)}
    if held_out and volumes:
        try:
            row["region_ml"] = region_drift.measure(runtime, held_out, channels, volumes)
        except BadInput as error:  # an image that is no head to the segmenter
            row["problems"] = [*row["problems"], f"region volumes: {error}"]
    return row


def _held_out(runtime: Runtime, pairs: Sequence[SlicePair], channels: int) -> tuple[float, float]:
    """Mean PSNR (dB) and SSIM against the truth over slices spread over each head."""
    scores = []
    for pair in pairs:
        source, truth = pair.batch(spread(pair, HELD_OUT_SLICES), channels)
        output = runtime.run(source)
        both = zip(truth[:, 0], output[:, 0], strict=True)
        scores += [(min(psnr(t, o), MOST_DB), ssim(t, o)) for t, o in both]
    mean = np.mean(scores, axis=0)
    return float(mean[0]), float(mean[1])


def _held_out_gates(rows: list[dict[str, Any]]) -> list[str]:
    """Where a precision loses more against the truth than it may, on held-out heads."""
    base = next((r for r in rows if r["precision"] == "fp32" and "held_out_ssim" in r), None)
    problems = []
    for row in rows if base else ():
        if "held_out_ssim" not in row:
            continue
        assert base is not None
        for name, words, drop in (
            ("held_out_psnr_db", "PSNR {:.2f} dB", PSNR_DROP_DB),
            ("held_out_ssim", "SSIM {:.4f}", SSIM_DROP),
        ):
            found, wanted = row[name], base[name]
            if found is None or (wanted is not None and found < wanted - drop):
                said = "no number" if found is None else words.format(found)
                problems.append(f"{row['precision']} on {row['runtime']}, held-out heads: {said}")
    return problems


def _number(value: float, digits: int) -> float | None:
    """Rounded; None for NaN, which JSON has no word for."""
    return round(value, digits) if np.isfinite(value) else None


def _drift_gates(rows: list[dict[str, Any]]) -> list[str]:
    """Add `region_drift` to every row with volumes; where it is too large."""
    measured = [row for row in rows if "region_ml" in row]
    base = [row["region_ml"] for row in measured if row["precision"] == "fp32"]
    gates = []
    for row in measured if base else ():
        found = region_drift.drift(row["region_ml"], base[0])
        row["region_drift"] = found
        row["region_drift_percent"] = found["mean_percent"]
        if not found["mean_percent"] <= region_drift.MEAN_DRIFT:
            gates.append(
                f"{row['precision']} on {row['runtime']}: region volumes drift by "
                f"{found['mean_percent']:.1f} % ({found['worst_region']} by "
                f"{found['worst_percent']:.1f} %), expected at most {region_drift.MEAN_DRIFT:g} %"
            )
    return gates


def _cell(value: Any, form: str) -> str:
    return "" if value is None else html.escape(form.format(value))
