"""Fitness of scans alone, as `lohi-edge qc` prints it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lohi_edge import contrast as contrasts
from lohi_edge import source
from lohi_edge.bundle import CONTRASTS
from lohi_edge.clock import Clock
from lohi_edge.errors import LohiError, UsageError
from lohi_edge.quality.inspect import inspect


def check(scan: Path, contrast: str | None = None, limits: Path | None = None) -> dict[str, Any]:
    """`source`, `contrast`, `metrics`, `verdict`, `reasons` of one scan; or `source` and `error`.

    Raises:
        UsageError: an unknown contrast or unusable limits.
    """
    if contrast is not None and contrast not in CONTRASTS:
        raise UsageError(f"expected --contrast to be one of {', '.join(CONTRASTS)}, got {contrast}")
    try:
        resolved = source.resolve(scan)
        volume = source.read(resolved, None, Clock())
        fine = volume.isotropic()
        sidecar = volume.origin.sidecar if volume.origin else None
        name, rule = contrasts.decide(contrast, source.stem(resolved), sidecar, fine)
        seen = inspect(volume, fine, name, override=limits)
    except UsageError:
        raise
    except LohiError as error:
        return {
            "source": {"path": scan.name},
            "error": {"exit_code": error.exit_code, "message": str(error)},
        }
    return {
        "source": {"path": scan.name},
        "contrast": {"name": name, "rule": rule},
        "metrics": seen.metrics,
        "verdict": seen.verdict,
        "reasons": seen.reasons,
    }


def line(record: dict[str, Any]) -> str:
    """What became of a scan, for people."""
    name = record["source"]["path"]
    if "error" in record:
        return f"{name}: error: {record['error']['message']}"
    contrast = record["contrast"]
    reasons = "".join(f"\n  {r['level']}: {r['text']}" for r in record["reasons"])
    return f"{name}: {record['verdict']} ({contrast['name']}, {contrast['rule']}){reasons}"


def exit_code(records: list[dict[str, Any]]) -> int:
    """3 where a scan could not be read, else 4 where one is held, else 0."""
    if any("error" in record for record in records):
        return 3
    return 4 if any(record["verdict"] == "hold" for record in records) else 0
