"""Limits that a device learns from the receipts of its own scanner's scans.

The limits that ship hold for any scanner: a quiet one may grow four times as noisy, or lose an
element of its coil, and still look like another. Among its own scans that stands out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from lohi_edge.quality import robust
from lohi_edge.quality.verdict import Verdict, breach, worst

FEWEST = 15  # scans
# Shares of a scanner's own scans that may lie beyond its limits, all of its metrics together.
BEYOND = {"warn": 0.03, "hold": 0.003}
# metric -> (whether its logarithm is what is normally distributed, least standard deviation of
# that): fifteen scans of one volunteer differ less than patients do.
METRICS: dict[str, tuple[bool, float]] = {
    "noise": (True, 0.1),
    "shading_right": (False, 0.05),
    "shading_front": (False, 0.05),
    "shading_up": (False, 0.05),
}
_ONE_SIDED = {"noise"}
TINIEST = 1e-4  # noise that no scan has
ODD = 5  # robust standard deviations off the median: one such figure would widen every limit

Limit = dict[str, list[float | None]]
Limits = Mapping[str, Limit]


@dataclass(frozen=True)
class Learned:
    """What the scans of one contrast taught.

    Attributes:
        scans: that counted.
        left_out: because the limits that ship would hold them.
        limits: metric -> limits, as in limits.json; empty where the scans are too few.
        medians: metric -> median of these scans.
        counts: metric -> of how many of them the figure counts; fewer than FEWEST give no limit.
        beyond: share of these scans that limits learned from the others would warn of, or hold.
    """

    scans: int
    left_out: int
    limits: dict[str, Limit]
    medians: dict[str, float]
    counts: dict[str, int]
    beyond: dict[str, float]


def learn(scans: Iterable[Mapping[str, float | None]], base: Limits) -> Learned:
    """Limits of one scanner and contrast from what was measured of its scans.

    A limit bounds where the next scan of the same scanner will lie (prediction interval of a
    normal variable from n samples; Hahn and Meeker, Statistical Intervals, 1991, ch. 4), and is
    never wider than that of `base`. Figures far off all others do not count.

    Args:
        scans: of each scan metric -> value.
        base: metric -> limits for any scanner; what they hold teaches nothing, nor does a figure
            that they warn of.
    """
    given = list(scans)
    usable = [scan for scan in given if not any(_held(v, base.get(m)) for m, v in scan.items())]
    columns = {name: _values(usable, name, base) for name in METRICS}
    limits = _limits(columns, base)
    return Learned(
        len(usable),
        len(given) - len(usable),
        limits,
        {name: _figure(float(np.nanmedian(columns[name])), name) for name in limits},
        {name: int(np.isfinite(values).sum()) for name, values in columns.items()},
        _left_out_in_turn(usable, {n: columns[n] for n in limits}, base) if limits else {},
    )


def _held(value: float | None, limit: Limit | None) -> bool:
    found = breach(value, limit) if value is not None and limit else None
    return found is not None and found[0] == "hold"


def _values(scans: list[Mapping[str, float | None]], name: str, base: Limits) -> Any:
    """A metric of every scan (n,), or its logarithm; NaN where it does not count."""
    log, least = METRICS[name]
    limit = base.get(name, {})
    found = (scan.get(name) for scan in scans)
    values = np.array([math.nan if v is None or breach(v, limit) else v for v in found], float)
    if log:
        values = np.log(np.where(values > TINIEST, values, math.nan))
    known = values[np.isfinite(values)]
    if len(known):
        middle = float(np.median(known))
        odd = np.abs(values - middle) > ODD * max(robust.deviation(known, middle), least)
        values[odd] = math.nan
    return values


def _limits(columns: Mapping[str, Any], base: Limits, fewest: int = FEWEST) -> dict[str, Limit]:
    known = {name: values[np.isfinite(values)] for name, values in columns.items()}
    return {
        name: {
            level: _no_wider(
                _interval(values, name, share / len(METRICS)),
                base.get(name, {}).get(level, [None, None]),
            )
            for level, share in BEYOND.items()
        }
        for name, values in known.items()
        if len(values) >= fewest
    }


def _interval(values: Any, name: str, share: float) -> tuple[float | None, float]:
    """Beyond which one more figure lies with the chance `share`, to four digits."""
    _, least = METRICS[name]
    one_sided = name in _ONE_SIDED
    count = len(values)
    quantile = stats.t.ppf(1 - (share if one_sided else share / 2), count - 1)
    reach = quantile * max(float(values.std(ddof=1)), least) * math.sqrt(1 + 1 / count)
    ends = float(values.mean()) - reach, float(values.mean()) + reach
    low, high = (float(f"{_figure(end, name):.4g}") for end in ends)
    return None if one_sided else low, high


def _figure(value: float, name: str) -> float:
    """A metric's figure from what is normally distributed of it."""
    return math.exp(value) if METRICS[name][0] else value


def _no_wider(own: tuple[float | None, float], base: list[float | None]) -> list[float | None]:
    low = max((v for v in (own[0], base[0]) if v is not None), default=None)
    high = min((v for v in (own[1], base[1]) if v is not None), default=None)
    return [low, high]


def _left_out_in_turn(
    scans: list[Mapping[str, float | None]], columns: Mapping[str, Any], base: Limits
) -> dict[str, float]:
    """Shares of scans warned of (or held), and held, by limits learned from all others."""
    levels = []
    for one, scan in enumerate(scans):
        rest = {name: np.delete(values, one) for name, values in columns.items()}
        levels.append(worst_of(scan, _limits(rest, base, 2)))
    return {
        "warn": sum(level != "pass" for level in levels) / len(scans),
        "hold": levels.count("hold") / len(scans),
    }


def worst_of(scan: Mapping[str, float | None], limits: Limits) -> Verdict:
    """pass, warn or hold of a scan's figures under some limits."""
    found = [
        breach(value, limits[name])
        for name, value in scan.items()
        if name in limits and value is not None
    ]
    return worst([one[0] for one in found if one])
