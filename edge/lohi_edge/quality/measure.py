"""A measure: one figure with its unit and direction, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Better = Literal["high", "low", "range"]
FAILED = "could not be computed"  # how the note of a metric begins that failed
_ADVICE = (
    f"{FAILED}, as where a scan shows too little of a head or has too few slices: check what was "
    "scanned, and send the whole series"
)


class NotApplicable(Exception):
    """A metric has no meaning for this scan; the message says why, for the receipt."""


@dataclass(frozen=True)
class Measure:
    """Attributes:
    value: None where the metric is not applicable or failed.
    unit: "mm", "%", "ratio", ...
    better: which direction is better; "range" where both ends are bad.
    note: why there is no value.
    failed: the metric could not be computed though it should have been.
    cause: of a failure, in the software's own words.
    """

    value: float | None
    unit: str
    better: Better
    note: str = ""
    failed: bool = False
    cause: str = ""


def take(unit: str, better: Better, compute: Callable[[], float | None]) -> Measure:
    """Run one metric; it may not apply or fail, but never ends the enhancement."""
    try:
        with np.errstate(all="ignore"):
            value = compute()
    except NotApplicable as reason:
        return Measure(None, unit, better, str(reason))
    except (ArithmeticError, ValueError, IndexError) as error:
        return _failed(unit, better, str(error))
    if value is None or not np.isfinite(value):
        return _failed(unit, better, "not a number")
    return Measure(float(value), unit, better)


def _failed(unit: str, better: Better, cause: str) -> Measure:
    return Measure(None, unit, better, _ADVICE, failed=True, cause=cause)
