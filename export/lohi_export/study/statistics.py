"""What a few heads can tell: intervals, paired tests, agreement of two methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lohi_edge.volume import Float64

MIN_PAIRS = 8  # below, an exact two-sided Wilcoxon test has too few ranks to be worth reading
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Attributes:
    n: heads.
    mean, sd: over heads; sd (n - 1) is None for one head.
    low, high: bounds of the mean's confidence interval, None for one head.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def summarize(values: Sequence[float], resamples: int, seed: int) -> Summary:
    """Mean, sd and the percentile bootstrap's 95 % interval of the mean, resampling heads.

    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. With few heads such an
    interval is too narrow.
    """
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return Summary(len(x), float(x.mean()), None, None, None)
    drawn = np.random.default_rng(seed).integers(len(x), size=(resamples, len(x)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(x[drawn].mean(axis=1), [tail, 100 - tail])
    return Summary(len(x), float(x.mean()), float(x.std(ddof=1)), float(low), float(high))


def signed_rank(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of the Wilcoxon signed-rank test of pairs (Wilcoxon, Biometrics Bull 1:80, 1945).

    Raises:
        ValueError: fewer than MIN_PAIRS pairs.
    """
    from scipy.stats import wilcoxon  # a second to import

    if len(a) < MIN_PAIRS:
        raise ValueError(f"expected at least {MIN_PAIRS} pairs, got {len(a)}")
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(wilcoxon(difference).pvalue) if difference.any() else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm, Scand J Statist 6:65, 1979), in the order given."""
    order = np.argsort(p)
    factors = len(p) - np.arange(len(p))
    adjusted = np.minimum(1, np.maximum.accumulate(np.asarray(p, np.float64)[order] * factors))
    result = np.empty(len(p))
    result[order] = adjusted
    return [float(value) for value in result]


@dataclass(frozen=True)
class Agreement:
    """How one method's values agree with the reference's on the same heads.

    Attributes:
        n: heads.
        mape: mean absolute percentage error; None where a reference value is 0.
        bias: mean of method - reference.
        low, high: limits of agreement, bias -+ 1.96 sd of the differences; None for one head.
        icc: ICC(2,1), None for fewer than three heads or values that do not vary at all.
    """

    n: int
    mape: float | None
    bias: float
    low: float | None
    high: float | None
    icc: float | None


def agreement(reference: Sequence[float], method: Sequence[float]) -> Agreement:
    """Agreement of paired values (n,) with a reference.

    Limits of agreement: Bland & Altman, Lancet 327:307, 1986.
    """
    a, b = np.asarray(reference, np.float64), np.asarray(method, np.float64)
    difference = b - a
    bias, spread = float(difference.mean()), None
    if len(a) > 1:
        spread = 1.96 * float(difference.std(ddof=1))
    return Agreement(
        n=len(a),
        mape=float(100 * np.abs(difference / a).mean()) if (a > 0).all() else None,
        bias=bias,
        low=None if spread is None else bias - spread,
        high=None if spread is None else bias + spread,
        icc=icc(np.stack([a, b], axis=1)) if len(a) >= 3 else None,
    )


def icc(ratings: Float64) -> float | None:
    """ICC(2,1), two-way random effects, absolute agreement, single measurement.

    Shrout & Fleiss, Psychol Bull 86:420, 1979. Absolute agreement, so that a constant bias of
    a method counts against it; ICC(3,1) would forgive it.

    Args:
        ratings: (targets, raters).

    Returns:
        None where nothing varies.
    """
    n, k = ratings.shape
    total = ratings - ratings.mean()
    rows = ratings.mean(axis=1, keepdims=True) - ratings.mean()
    columns = ratings.mean(axis=0, keepdims=True) - ratings.mean()
    between = k * float((rows**2).sum()) / (n - 1)
    judges = n * float((columns**2).sum()) / (k - 1)
    error = float(((total - rows - columns) ** 2).sum()) / ((n - 1) * (k - 1))
    scale = between + (k - 1) * error + k * (judges - error) / n
    return (between - error) / scale if scale > 0 else None
