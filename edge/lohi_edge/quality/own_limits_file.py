"""A device's own limits as a file for --limits, from its receipts, and what to say of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput, OtherContrast
from lohi_edge.files import atomic_write
from lohi_edge.quality import own_limits, verdict
from lohi_edge.quality.drift import figures
from lohi_edge.quality.limits import SCHEMA
from lohi_edge.quality.own_limits import FEWEST, Learned
from lohi_edge.quality.qc import bundle_metrics


def learn(
    records: Iterable[dict[str, Any]],
    last: int,
    bundle: Path | None,
    tell: Callable[[str], None],
) -> dict[str, Learned]:
    """Limits of every contrast with enough scans.

    Args:
        records: receipts, oldest first.
        last: how many scans of a contrast to look at.
        bundle: whose limits are tightened; None for the one in use here.
        tell: is told of contrasts that are left out.

    Raises:
        BadInput: no contrast has enough.
        BundleError: that bundle cannot be used.
    """
    by_contrast: dict[str, list[dict[str, float]]] = {}
    for record in records:
        by_contrast.setdefault(record["contrast"]["name"], []).append(figures(record))
    learned, few = {}, []
    for other in sorted(by_contrast.keys() - set(CONTRASTS)):
        tell(f"{len(by_contrast[other])} of {other} left out: it is none of {', '.join(CONTRASTS)}")
    for contrast in CONTRASTS:
        scans = by_contrast.get(contrast, [])[-last:]
        try:
            metrics = bundle_metrics(contrast, bundle) if scans else {}
        except OtherContrast:
            tell(f"{len(scans)} of {contrast} left out: {bundle} is not made for it")
            continue
        found = own_limits.learn(scans, verdict.limits_for(contrast, metrics)["scan"])
        if found.limits:
            learned[contrast] = found
            _tell_missing(contrast, found, tell)
        elif scans:
            few.append(f"{found.scans} of {contrast}")
    if not learned:
        raise BadInput(
            f"expected receipts of at least {FEWEST} scans of one contrast that the quality check "
            f"does not hold, got {', '.join(few) or 'none'} (a scan that came again counts once)"
        )
    for words in few:
        tell(f"{words}: too few to learn from, at least {FEWEST} are needed")
    return learned


def _tell_missing(contrast: str, found: Learned, tell: Callable[[str], None]) -> None:
    for name in own_limits.METRICS.keys() - found.limits.keys():
        tell(
            f"no limits of {name} for {contrast}: known of {found.counts[name]} of {found.scans} "
            f"scans, at least {FEWEST} are needed"
        )


def write(path: Path, learned: dict[str, Learned]) -> None:
    """Write the limits, in the form of limits.json.

    Raises:
        DiskError: it cannot be written.
    """
    counts = ", ".join(f"{one.scans} {contrast}" for contrast, one in learned.items())
    document = {
        "schema": SCHEMA,
        "source": f"this scanner's own scans ({counts}): lohi-edge limits",
        "scan": {contrast: one.limits for contrast, one in learned.items()},
    }
    with atomic_write(path) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())


def summary(learned: dict[str, Learned]) -> dict[str, Any]:
    """For programs: of each contrast how many scans, limits, medians, and scans beyond."""
    return {
        contrast: {
            "scans": one.scans,
            "left_out": one.left_out,
            "beyond": one.beyond,
            "metrics": {
                name: {"scans": one.counts[name], "median": one.medians[name], **limits}
                for name, limits in one.limits.items()
            },
        }
        for contrast, one in learned.items()
    }


def show(learned: dict[str, Learned], path: Path) -> None:
    """The same as tables on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for contrast, one in learned.items():
        table = Table(title=f"{contrast}: {one.scans} scans")
        for column in ("metric", "scans", "median", "warns outside", "holds outside"):
            table.add_column(column, justify="left" if column == "metric" else "right")
        for name, limits in one.limits.items():
            spans = [_span(limits[level]) for level in ("warn", "hold")]
            table.add_row(name, f"{one.counts[name]}", f"{one.medians[name]:.3g}", *spans)
        console.print(table)
        if one.left_out:
            sys.stdout.write(f"{one.left_out} scans left out: held by the limits that ship\n")
        sys.stdout.write(
            f"each of them judged by the others: {one.beyond['warn']:.0%} warned of or held, "
            f"{one.beyond['hold']:.0%} held\n"
        )
    sys.stdout.write(f"{path}: for --limits, or enhance.limits of the daemon\n")


def _span(pair: list[float | None]) -> str:
    low, high = ("" if end is None else f"{end:.3g}" for end in pair)
    return f"{low} to {high}" if low else f"up to {high}"
