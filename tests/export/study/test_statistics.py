"""Statistics against published worked examples and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lohi_export.study.statistics import agreement, holm, icc, signed_rank, summarize

# Bland & Altman, Lancet 327:307, 1986, table 1: peak expiratory flow (l/min) of 17 people, first
# readings by the Wright and by the mini flow meter.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# Shrout & Fleiss, Psychol Bull 86:420, 1979, table 2: six targets, four judges.
JUDGED = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_bland_and_altmans_own_example() -> None:
    """They report -2.1 l/min (large minus mini), sd 38.8, and limits from -79.7 to 75.5 (2 sd)."""
    found = agreement(MINI, WRIGHT)
    assert found.n == 17
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(38.8, abs=0.05)
    assert found.bias - 2 * 38.8 == pytest.approx(-79.7, abs=0.05)
    assert found.low == pytest.approx(found.bias - 1.96 * 38.77, abs=0.05)


def test_shrout_and_fleiss_own_example() -> None:
    """Their table 4: ICC(2,1) = 0.29."""
    assert icc(np.array(JUDGED, float)) == pytest.approx(0.2898, abs=5e-5)


def test_a_constant_bias_lowers_agreement() -> None:
    """x against x + c. With var the sample variance: BMS = 2 var, EMS = 0, JMS = n c^2 / 2, so
    ICC(2,1) = 2 var / (2 var + c^2)."""
    x = np.array([3.0, 5.0, 8.0, 13.0, 21.0])
    c = 4.0
    expected = 2 * x.var(ddof=1) / (2 * x.var(ddof=1) + c**2)
    assert agreement(x, x + c).icc == pytest.approx(expected)
    assert agreement(x, x).icc == pytest.approx(1)
    assert agreement(x, x + c).bias == pytest.approx(c)


def test_what_cannot_be_said_is_none() -> None:
    assert agreement([2.0, 0.0, 1.0], [2.0, 1.0, 1.0]).mape is None
    one = agreement([4.0], [5.0])
    assert (one.mape, one.bias, one.low, one.high, one.icc) == (25.0, 1.0, None, None, None)
    assert icc(np.ones((4, 2))) is None


def test_percentage_errors_do_not_cancel() -> None:
    assert agreement([10.0, 20.0, 40.0], [11.0, 18.0, 40.0]).mape == pytest.approx(20 / 3)


def test_holms_steps() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2 and 0.04 x 1, none below the one before it."""
    assert holm([0.02, 0.01, 0.04, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


def test_exact_signed_rank_of_eight_heads() -> None:
    """All eight on one side: 2 of 2^8 sign patterns are as extreme. With the smallest on the other
    side: rank sum 1, reached by 2 patterns in each tail."""
    base = np.zeros(8)
    better = np.arange(1.0, 9)
    assert signed_rank(base, better) == pytest.approx(2 / 2**8)
    better[0] = -1
    assert signed_rank(base, better) == pytest.approx(4 / 2**8)
    assert signed_rank(base, base) == 1
    with pytest.raises(ValueError, match="at least 8 pairs, got 7"):
        signed_rank(base[:7], better[:7])


def test_bootstrap_agrees_with_scipy() -> None:
    x = np.random.default_rng(2).lognormal(size=14)
    found = summarize(list(x), 20_000, 0)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=20_000, method="percentile")
    assert found.low == pytest.approx(theirs.confidence_interval.low, rel=0.02)
    assert found.high == pytest.approx(theirs.confidence_interval.high, rel=0.02)
    assert (found.n, found.mean) == (14, pytest.approx(x.mean()))
    assert found.sd == pytest.approx(x.std(ddof=1))
    assert summarize(list(x), 500, 7) == summarize(list(x), 500, 7)


def test_one_head_has_no_spread() -> None:
    found = summarize([3.5], 100, 0)
    assert (found.n, found.mean) == (1, 3.5)
    assert (found.sd, found.low, found.high) == (None, None, None)
