"""From figures to a verdict: pass, warn or hold, with reasons a person can act on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput, BundleError, UsageError
from lohi_edge.files import read_bytes
from lohi_edge.quality import fitness, plausibility
from lohi_edge.quality.advice import sentence
from lohi_edge.quality.measure import Measure
from lohi_edge.toml import refuse_unknown

Verdict = Literal["pass", "warn", "hold"]
PARTS = ("scan", "result")
MAX_BYTES = 1 << 20
_OF_THE_HEADER = ("slices", "in_plane_mm", "slice_mm", "field_strength")
_ORDER: dict[str, int] = {"pass": 0, "note": 0, "warn": 1, "hold": 2}


@dataclass(frozen=True)
class Judged:
    """A verdict, its reasons (worst first) and every metric as the receipt shows it."""

    verdict: Verdict
    reasons: list[dict[str, Any]]
    metrics: dict[str, dict[str, Any]]


@lru_cache(maxsize=1)
def shipped() -> dict[str, Any]:
    """The limits that come with this package (limits.json)."""
    text = resources.files("lohi_edge.quality").joinpath("limits.json").read_text()
    limits: dict[str, Any] = json.loads(text)
    return limits


def limits_for(
    contrast: str,
    bundle_metrics: Mapping[str, Any],
    override: Path | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Limits of the scan's and the result's metrics for a contrast, and `reference` deciles.

    The package's limits, over them those of the bundle (`metrics.quality` of its manifest, same
    form), over them those of `override`, a file or what `read` made of one; metric by metric. A
    layer with `"base": "none"` starts from nothing instead.

    Raises:
        BundleError, UsageError: unusable limits in the bundle or in the file; in the file also
            names that nothing bears.
    """
    layers = [shipped()]
    if found := bundle_metrics.get("quality"):
        layers.append(_checked(found, BundleError, "the bundle's metrics.quality"))
    if override is not None:
        layers.append(read(override) if isinstance(override, Path) else dict(override))
    merged = _nothing()
    for layer in layers:
        if layer.get("base") == "none":
            merged = _nothing()
        for part in PARTS:
            merged[part].update(layer.get(part, {}).get(contrast, {}))
        merged["reference"] = layer.get("reference", {}).get(contrast, merged["reference"])
    return merged


def read(path: Path) -> dict[str, Any]:
    """The quality limits in a file.

    Raises:
        UsageError: it cannot be read, is no such JSON, or names what nothing bears.
    """
    try:
        found = json.loads(read_bytes(path, MAX_BYTES))
    except BadInput as error:
        raise UsageError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected quality limits in JSON: {error}") from None
    limits = _checked(found, UsageError, str(path))
    _refuse_unknown(str(path), limits)
    return limits


def _nothing() -> dict[str, Any]:
    # Whoever starts from nothing still wants numbers: what is none cannot even be written.
    return {"scan": {}, "result": {"finite": {"hold": [1.0, None]}}, "reference": None}


def judge(
    measures: Mapping[str, Measure],
    limits: Mapping[str, Any],
    context: dict[str, str] | None = None,
) -> Judged:
    """Compare measures with their limits.

    A metric that failed counts as warn; one that does not apply, or has no limits, as nothing.

    Args:
        measures: name -> measure.
        limits: name -> {"warn": [low, high], "hold": [low, high]}; null is no limit.
        context: words for the sentences (`contrast`, `seen`, `orientation`, places).
    """
    metrics, reasons = {}, []
    for name, measure in measures.items():
        limit = limits.get(name, {})
        status, reason = _status(name, measure, limit, context or {})
        metrics[name] = _entry(measure, limit, status)
        if reason:
            reasons.append({"name": name, "level": status, "text": reason})
    reasons.sort(key=lambda reason: -_ORDER[str(reason["level"])])
    return Judged(worst([str(r["level"]) for r in reasons]), reasons, metrics)


def telling(reasons: list[dict[str, Any]], measures: Mapping[str, Measure]) -> list[dict[str, Any]]:
    """The reasons that help: a few slices of a series look wrong in every way there is.

    Where they are held for being few, that is the reason, and what else the header says.

    Args:
        reasons: of scan and result.
        measures: of the scan.
    """
    count = measures["slices"].value
    few = count is not None and count < fitness.MIN_SLICES
    if few and any((r["name"], r["level"]) == ("slices", "hold") for r in reasons):
        return [reason for reason in reasons if reason["name"] in _OF_THE_HEADER]
    return reasons


def worst(levels: list[str]) -> Verdict:
    """The gravest of some verdicts; pass of none."""
    rank = max((_ORDER[level] for level in levels), default=0)
    found: Verdict = ("pass", "warn", "hold")[rank]
    return found


def _status(
    name: str, measure: Measure, limit: Mapping[str, Any], context: dict[str, str]
) -> tuple[str, str | None]:
    if measure.failed:
        return "warn", f"{name}: {measure.note}"
    if measure.value is None:
        return "not applicable", None
    found = breach(measure.value, limit)
    if found is None:
        return "pass", None
    level, low, bound = found
    return level, sentence(name, low, measure.value, bound, context)


def breach(value: float, limit: Mapping[str, Any]) -> tuple[str, bool, float] | None:
    """The gravest limit that a figure lies beyond: (level, whether it is too low, the limit)."""
    for level in ("hold", "warn"):
        low, high = limit.get(level, (None, None))
        if low is not None and value < low:
            return level, True, low
        if high is not None and value > high:
            return level, False, high
    return None


def _entry(measure: Measure, limit: Mapping[str, Any], status: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "value": None if measure.value is None else float(f"{measure.value:.6g}"),
        "unit": measure.unit,
        "better": measure.better,
        "status": status,
    }
    if limit:
        entry["limits"] = {level: list(pair) for level, pair in limit.items()}
    if measure.note:
        entry["note"] = measure.note
    if measure.cause:
        entry["cause"] = measure.cause
    return entry


def _refuse_unknown(where: str, found: dict[str, Any]) -> None:
    """Raises UsageError where a name says nothing: a limit that is misspelt would never hold."""
    for part in found:
        refuse_unknown(where, "part", part, ("schema", "source", "base", "reference", *PARTS))
    metrics = {"scan": [*fitness.METRICS], "result": ["finite", *plausibility.METRICS]}
    for part, known in metrics.items():
        for contrast, limits in found.get(part, {}).items():
            refuse_unknown(where, "contrast", contrast, CONTRASTS)
            for name in limits:
                refuse_unknown(where, f"metric of the {part}", name, known)


def _checked(found: Any, error: type[UsageError] | type[BundleError], where: str) -> dict[str, Any]:
    """Raises `error` unless `found` has the form of limits.json."""

    def number(v: Any) -> bool:
        return v is None or type(v) is int or (type(v) is float and math.isfinite(v))

    def pair(v: Any) -> bool:
        return isinstance(v, list) and len(v) == 2 and all(map(number, v))

    def metric(v: Any) -> bool:
        return isinstance(v, dict) and v.keys() <= {"warn", "hold"} and all(map(pair, v.values()))

    good = isinstance(found, dict) and all(
        isinstance(part, dict)
        and all(isinstance(c, dict) and all(map(metric, c.values())) for c in part.values())
        for name, part in found.items()
        if name in PARTS
    )
    good = good and isinstance(found.get("reference", {}), dict)
    good = good and all(
        isinstance(deciles, list)
        and len(deciles) == 10
        and all(d is not None and number(d) for d in deciles)
        for deciles in found.get("reference", {}).values()
    )
    if not good:
        raise error(
            f'{where}: expected {{"scan": {{"T1w": {{"noise": {{"warn": [null, 0.05], '
            '"hold": [null, 0.1]}}}}, as in docs/reference/quality.md'
        )
    known: dict[str, Any] = found
    return known
