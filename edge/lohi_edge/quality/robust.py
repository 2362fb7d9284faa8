"""Spread that a few odd values do not move."""

from __future__ import annotations

from typing import Any

import numpy as np

SD_OF_MAD = 1.4826  # standard deviation over median absolute deviation, of normal values


def deviation(values: Any, middle: float | None = None) -> float:
    """The standard deviation of normal values with the median absolute deviation of these.

    Args:
        values: (n,) numbers.
        middle: their median, where it is known.
    """
    about = np.median(values) if middle is None else middle
    return SD_OF_MAD * float(np.median(np.abs(values - about)))
