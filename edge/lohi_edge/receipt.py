"""The receipt: what was done to a scan, with what, and how it turned out. Schema 1."""

from __future__ import annotations

import math
import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from lohi_edge.bundle import INTENDED_USE, Bundle
from lohi_edge.nifti_header import Prefer, preferred_note
from lohi_edge.quality.inspect import Inspection
from lohi_edge.runtime import Choice
from lohi_edge.volume import Volume, axcodes

SCHEMA = 1
_LIBRARIES = ("lohi-edge", "numpy", "scipy", "nibabel")
_SYNTHETIC = "Synthetic 3 T-like image computed from a 64 mT scan. Not acquired. Research use only."
_WITHHELD = (
    "No image: the synthetic one computed from this 64 mT scan was held back by the quality check. "
    "Research use only."
)


def start(
    volume: Volume,
    scan: Any,
    contrast: str,
    rule: str,
    bundle: Bundle,
    choice: Choice,
) -> dict[str, Any]:
    """A receipt with all that is known before the generator runs."""
    runtime = choice.runtime
    return {
        "schema": SCHEMA,
        "intended_use": INTENDED_USE,
        "synthetic": True,
        "made": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "source": _source(volume),
        "result": None,
        "contrast": {"name": contrast, "rule": rule},
        "bundle": {
            "name": bundle.manifest.name,
            "version": bundle.manifest.version,
            "serial": bundle.manifest.serial,
            "sha256": bundle.sha256,
        },
        "model_limits": bundle.manifest.limits,
        "onnx": {"file": choice.onnx, "sha256": bundle.manifest.files[choice.onnx]},
        "engine": choice.engine,
        "runtime": {
            "name": runtime.name,
            "version": runtime.version,
            "device": runtime.device,
            "threads": runtime.threads,
            "why": choice.why,
        },
        "precision": runtime.precision,
        "fallback": choice.fallback,
        "device": {"machine": platform.machine(), "cores": os.cpu_count()},
        "software": {
            **{name: metadata.version(name) for name in _LIBRARIES},
            "python": platform.python_version(),
        },
        "timings": {},
        "metrics": {},
        "verdict": None,
        "reasons": [],
    }


def judge(record: dict[str, Any], seen: Inspection, volume: Volume) -> None:
    """Set metrics, verdict and reasons in the receipt; the reader's notes come last."""
    record["metrics"].update(seen.metrics)
    record["verdict"] = seen.verdict
    record["reasons"] = [*seen.reasons, *notes(volume)]


def notes(volume: Volume) -> list[dict[str, Any]]:
    """What the reader of a scan had to decide, as reasons that change no verdict."""
    said = volume.origin.notes if volume.origin else ()
    return [{"name": "input", "level": "note", "text": note} for note in said]


def reasons(record: dict[str, Any]) -> list[str]:
    """What the quality check had to say of a result; nothing where it was edited beyond reading."""
    found = record.get("reasons")
    known = [r for r in found if isinstance(r, dict)] if isinstance(found, list) else []
    return [str(reason.get("text", "")) for reason in known]


def remarks(record: dict[str, Any]) -> list[str]:
    """Verdict, reasons and the model's known faults, where a picture lacks its receipt."""
    verdict = record.get("verdict") or "not assessed"
    limits = known_limits(record)
    known = [f"this model's known limits: {limits}"] if limits else []
    return [f"quality check: {verdict}", *(f"- {text}" for text in reasons(record)), *known]


def known_limits(record: dict[str, Any]) -> str:
    """What the model's makers say its results get wrong.

    Empty where they, or an edited receipt, say nothing, and where there is no result.
    """
    text = record.get("model_limits") if record.get("result") else None
    return text if isinstance(text, str) else ""


def is_withheld(record: dict[str, Any]) -> bool:
    """Whether a receipt, be it edited, is that of a result which was held back."""
    return record.get("result", record) is None and record.get("verdict") == "hold"


def preferred(record: dict[str, Any]) -> Prefer | None:
    """Which of its source's two transforms a receipt says was to be believed."""
    texts = [reason.get("text") for reason in record.get("reasons", []) if isinstance(reason, dict)]
    found: list[Prefer] = [form for form in get_args(Prefer) if preferred_note(form) in texts]
    return found[0] if found else None


def sidecar(record: dict[str, Any], acquired: dict[str, Any] | None) -> dict[str, Any]:
    """The JSON that goes beside an image: BIDS keys on top, the receipt under `LohiEdge`.

    Where the image was held back it stands alone, and says so.

    Of the acquired scan's sidecar only the field strength comes along: it stays the source's, and
    free text may name a patient.
    """
    keys: dict[str, Any] = {
        "Description": _WITHHELD if record["result"] is None else _SYNTHETIC,
        "SkullStripped": False,
        # A DICOM series has no path that a sidecar may show: a folder's name may name a patient.
        "Sources": []
        if record["source"]["kind"] == "dicom" or not record["source"]["path"]
        else [record["source"]["path"]],
    }
    strength = (acquired or {}).get("MagneticFieldStrength")
    if type(strength) in (int, float) and math.isfinite(float(strength or 0)):
        keys["MagneticFieldStrength"] = strength
    return {**keys, "LohiEdge": record}


def _source(volume: Volume) -> dict[str, Any]:
    origin = volume.origin
    return {
        "kind": origin.kind if origin else None,
        "path": origin.name if origin else None,
        "sha256": origin.sha256 if origin else None,
        "shape": list(origin.shape if origin else volume.shape),
        "zooms": [round(float(z), 6) for z in volume.zooms],
        "affine": (origin.affine if origin else volume.affine).tolist(),
        "axcodes": origin.axcodes if origin else axcodes(volume.affine),
    }


def relative(path: Path, to: Path) -> str:
    """`path` as seen from the folder `to`, so that a data set can be moved as a whole."""
    return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(to))).as_posix()


def shown(path: Path, to: Path) -> str:
    """`path` as a receipt in the folder `to` may show it.

    Relative where that names no folder outside `to`, else the file's name alone: a folder may bear
    a patient's name.
    """
    found = relative(path, to)
    outside = found.startswith("..") and set(found.split("/")[:-1]) != {".."}
    return path.name if outside else found
