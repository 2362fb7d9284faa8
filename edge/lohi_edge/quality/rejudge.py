"""Whether the verdict in a receipt follows from the figures and limits that stand beside it."""

from __future__ import annotations

from typing import Any

from lohi_edge.quality.fitness import MIN_SLICES
from lohi_edge.quality.measure import FAILED
from lohi_edge.quality.verdict import PARTS, breach, worst

FEW = ("slices", "hold")  # beside which `verdict.telling` may name no other reason
# Figures are judged as measured and recorded to six digits: as much may lie between the two.
_ROUNDED = 5e-6


def check(record: dict[str, Any]) -> str:
    """ "ok", "changed", or "missing" where the quality was not assessed.

    Finds the verdict, a status, a figure, a limit or a reason (not its words) that was edited
    alone. Who edits all of them in keeping is not found out: a receipt is not signed.

    Args:
        record: a receipt; anything may stand in its metrics.
    """
    metrics, verdict = record["metrics"], record.get("verdict")
    entries = [entry for part in PARTS for entry in metrics.get(part, {}).values()]
    if not entries:
        return "missing" if verdict is None else "changed"
    try:
        if any(entry["status"] not in _statuses(entry) for entry in entries):
            return "changed"
    except (TypeError, ValueError, KeyError, AttributeError):  # no version writes such an entry
        return "changed"
    levels = [entry["status"] for entry in entries if entry["status"] != "not applicable"]
    return "ok" if worst(levels) == verdict and _reasons_fit(record) else "changed"


def _reasons_fit(record: dict[str, Any]) -> bool:
    """Whether what is warned of or held is what the reasons name: none added, none taken out."""
    due = {
        (name, entry["status"])
        for part in PARTS
        for name, entry in record["metrics"].get(part, {}).items()
        if entry["status"] in ("warn", "hold")
    }
    try:
        said = {(r["name"], r["level"]) for r in record["reasons"] if r["level"] != "note"}
    except (TypeError, KeyError):
        return False
    return said == due or (FEW in said and said <= due and _is_few(record["metrics"]["scan"]))


def _is_few(scan: dict[str, Any]) -> bool:
    return bool(scan["slices"]["value"] < MIN_SLICES)  # a figure, for it is held


def _statuses(entry: dict[str, Any]) -> set[str]:
    """What the status of a metric may be, by its value and limits; two of them at a very limit."""
    value = entry["value"]
    if value is None:
        return {"warn" if entry["note"].startswith(FAILED) else "not applicable"}
    if isinstance(value, bool):
        raise TypeError("no figure")
    around = (value, value * (1 - _ROUNDED), value * (1 + _ROUNDED))
    found = (breach(figure, entry.get("limits", {})) for figure in around)
    return {one[0] if one else "pass" for one in found}
