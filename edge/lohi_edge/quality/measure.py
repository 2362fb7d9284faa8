"""A measure: one figure with its unit and direction, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Better = Literal["high", "low", "range"]
FAILED = "could not be computed"  # how the note of a metric begins that failed


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
    """

    value: float | None
    unit: str
    better: Better
    note: str = ""
    failed: bool = False


def take(unit: str, better: Better, compute: Callable[[], float | None]) -> Measure:
    """Run one metric; it may not apply or fail, but never ends the enhancement."""
    try:
        with np.errstate(all="ignore"):
            value = compute()
    except NotApplicable as reason:
        return Measure(None, unit, better, str(reason))
    except (ArithmeticError, ValueError, IndexError) as error:
        return Measure(None, unit, better, f"{FAILED}: {error}", failed=True)
    if value is None or not np.isfinite(value):
        return Measure(None, unit, better, f"{FAILED}: not a number", failed=True)
    return Measure(float(value), unit, better)
