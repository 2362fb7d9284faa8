"""A trained run -> the bundle that travels to the device."""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge.bundle import GOLDEN, Bundle, Golden, Manifest
from lohi_edge.errors import BundleError, UsageError
from lohi_edge.files import read_bytes, sha256
from lohi_edge.manifest import MAX_LIMITS, MAX_SHORT, is_short_text
from lohi_edge.volume import Float32
from lohi_export.bundle_folder import refuse_existing, write
from lohi_export.dataset import SlicePair
from lohi_export.evaluation import spread
from lohi_export.onnx_export import export_checked, infer
from lohi_export.record import LEARNED, as_json, began_with, digest_of, read_record
from lohi_export.references import deciles
from lohi_export.run import MAX_WEIGHTS_BYTES, Run, data_digest
from lohi_export.steps import INIT_STEPS, STEPS_MADE

ONNX = "fp32.onnx"
GOLDEN_SLICES = 4
GRID = 2048  # golden inputs and truths are multiples of 1/2048, which compress well
# FP32 on another processor sums in another order; a wrong kernel is off by far more.
TOLERANCE = {"fp32": 1e-3}
NAME = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")  # of a bundle
EDGE_WIDTH = 32  # below this base width a model is called an edge model


def write_bundle(
    run: Run, out: Path, figures: dict[str, Any], name: str | None, version: str, serial: int
) -> Manifest:
    """Write the bundle of a run as the new directory `out`, complete or not at all.

    Args:
        figures: `evaluation.evaluate` of the validation and the test subjects, by part.

    Raises:
        UsageError: `out` exists.
        BadInput: the run has no weights, or its data set is gone.
        BundleError: ONNX and PyTorch disagree, or the device's reader refuses the bundle.
        DiskError: the disk would not take it.
    """
    refuse_existing(out)
    config = run.config
    model = export_checked(run.generator(), config.contract)
    golden = golden_slices(model, run.slices("validation"), config.channels)
    files = {ONNX: model, GOLDEN: _npz(golden)}
    kind = "edge" if config.width < EDGE_WIDTH else "study"
    trained = [part.pair for part in run.slices("train")]
    reference = {config.contrast: deciles(trained, config.contract)}
    quality = {**figures.get("quality", {}), "reference": reference}
    manifest = Manifest(
        name=name or f"{config.contrast.lower()}-{kind}",
        version=version,
        serial=serial,
        contrasts=(config.contrast,),
        slice_contract=config.contract,
        files={},
        tolerance=TOLERANCE,
        metrics={**figures, "quality": quality},
        provenance=provenance(run),
    )
    return write(out, files, manifest)


def measured_parts(run: Run) -> list[str]:
    """The parts of a split that are not learned from and have scans: validation, and test if any.

    A run may report on nobody, for want of subjects or because another data set is to do that.

    Raises:
        BadInput: the run's data set cannot be used.
    """
    there = {pair.subject for pair in run.pairs()}
    if there & set(run.config.split["test"]):
        return ["validation", "test"]
    sys.stderr.write(
        "no test subject is in the data set: figures of the validation subjects alone\n"
    )
    return ["validation"]


def write_card(bundle: Bundle, limits: str | None, credits: str | None) -> Manifest:
    """Put words into a bundle's manifest, in its place; its signature goes, its files stay.

    Args:
        limits: what the model gets wrong. None leaves what is there, as for `credits`.
        credits: whose images and labels it learned from, and under which licences.

    Raises:
        UsageError: a text that a manifest may not hold.
        BundleError: a damaged bundle.
        DiskError: the disk would not take it.
    """
    _check_words("--limits", limits)
    _check_words("--credits", credits)
    provenance = dict(bundle.manifest.provenance)
    if limits is not None:
        provenance["limits"] = limits
    if credits is not None:
        data_set = provenance.get("data_set")
        known = data_set if isinstance(data_set, dict) else {}
        provenance["data_set"] = {**known, "Acknowledgements": credits}
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    return write(bundle.path, files, replace(bundle.manifest, provenance=provenance), over=True)


def _check_words(option: str, text: str | None) -> None:
    if text is not None and not (0 < len(text) <= MAX_LIMITS and text.isprintable()):
        raise UsageError(
            f"expected {option} of 1 to {MAX_LIMITS} printable characters in one line, got "
            f"{len(text)}: {text[:40]!r}"
        )


def refuse_name(name: str) -> None:
    """Raises UsageError where a name is more than a word; devices name folders by it."""
    if len(name) > MAX_SHORT or not NAME.fullmatch(name):
        raise UsageError(
            f"expected --name of letters and digits, joined by - _ or . where there are several "
            f"parts, {MAX_SHORT} characters at most, such as t1w-mine; got {name[:120]!r}"
        )


def refuse_version(version: str) -> None:
    """Raises UsageError where a version is none that a manifest may hold."""
    if not is_short_text(version) or not version.strip():
        raise UsageError(
            f"expected --version of 1 to {MAX_SHORT} printable characters in one line, such as "
            f"2026.11; got {len(version)}: {version[:40]!r}"
        )


def golden_slices(model: bytes, pairs: Sequence[SlicePair], channels: int) -> Golden:
    """Slices spread over the validation heads, from one head to the next, with FP32 answers.

    Raises:
        BundleError: the model answers one of them with something that is no image.
    """
    inputs, truths = [], []
    subjects = list({pair.pair.subject: pair for pair in pairs}.values())
    for number in range(GOLDEN_SLICES):
        pair = subjects[number % len(subjects)]
        z = spread(pair, GOLDEN_SLICES)[number : number + 1]
        source, target = pair.batch(z, channels)
        inputs.append(_on_grid(source))
        truths.append(_on_grid(target))
    stack = np.concatenate(inputs)
    output = infer(model, stack)
    if not np.isfinite(output).all():
        raise BundleError("expected finite output on the golden slices; train this model again")
    return Golden(stack, output, np.concatenate(truths))


def provenance(run: Run) -> dict[str, Any]:
    """Where a model came from, without a word of the machine that made it."""
    record = read_record(run.folder)
    scans = record.get("scans")  # what is there now, for a run that did not keep them
    began = as_json(began_with(record, record["config"]))
    return {
        "data_set": record["data_set"],
        "data_sha256": {
            part: digest_of(scans[part]) if scans else data_digest(run.slices(part))
            for part in LEARNED
        },
        **({"init_learned": began} if began else {}),
        "software": record["software"],
        "training": record["config"],
        **({INIT_STEPS: record[INIT_STEPS]} if INIT_STEPS in record else {}),
        STEPS_MADE: run.steps.made,
        "weights_sha256": sha256(read_bytes(run.weights, MAX_WEIGHTS_BYTES)),
    }


def _on_grid(stack: Float32) -> Float32:
    rounded: Float32 = np.rint(stack * np.float32(GRID)) / np.float32(GRID)
    return rounded


def _npz(golden: Golden) -> bytes:
    """The golden slices as a compressed .npz, the same bytes every time."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in vars(golden).items():
            part = io.BytesIO()
            np.save(part, np.ascontiguousarray(array, dtype=np.float32))
            # A fixed date: ZipInfo's own default.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue(), zipfile.ZIP_DEFLATED)
    return stream.getvalue()
