from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lohi_calibration import graph, qdq, ranges
from lohi_calibration.ranges import Histogram
from lohi_edge.errors import UsageError


def test_minmax_is_the_mean_of_each_slices_largest_value():
    histogram = Histogram()
    for top in (1.0, 3.0, 5.0):
        histogram.add(np.array([0.0, -top], dtype=np.float32))

    assert histogram.reach("minmax") == 3.0


def test_percentile_passes_over_one_wild_value_in_a_million():
    histogram = Histogram()
    values = np.linspace(-1, 1, 1_000_000, dtype=np.float32)
    values[7] = 50
    histogram.add(values)

    assert histogram.reach("percentile") == pytest.approx(1, abs=0.03)
    assert histogram.reach("minmax") == 50


def test_mse_clips_a_long_tail_and_keeps_a_uniform_range():
    rng = np.random.default_rng(0)
    uniform, tailed = Histogram(), Histogram()
    uniform.add(rng.uniform(-1, 1, 100_000).astype(np.float32))
    tailed.add(np.append(rng.normal(0, 0.1, 100_000), 10).astype(np.float32))

    assert uniform.reach("mse") > 0.95
    # 100,000 values cost about 6^2 / 12 / 127^2 times the clip squared each; one value 4 away
    # from 10 costs 16: the best clip lies between the bulk and the outlier.
    assert 0.3 < tailed.reach("mse") < 9.9


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=20))
@example([1.401298464324817e-45])
def test_no_value_is_lost_however_the_range_grows(tops):
    histogram = Histogram()
    for top in tops:
        histogram.add(np.array([top, top / 3], dtype=np.float32))

    assert histogram.top >= max(tops)
    started = next((n for n, top in enumerate(tops) if top > 0), len(tops))
    assert histogram.counts.sum() == 2 * (len(tops) - started)


def test_an_unknown_method_is_refused():
    with pytest.raises(UsageError, match="minmax, percentile, mse"):
        Histogram().reach("entropy")


def test_ranges_are_those_of_the_tensors_themselves(small_net, slices):
    model = graph.load(small_net)
    found = ranges.collect(model, ["input", "skip"], slices[:3])

    assert found["input"].reach("minmax") == pytest.approx(
        np.abs(slices[:3]).max(axis=(1, 2, 3)).mean()
    )
    assert found["skip"].top > 0
    assert found["skip"].counts.sum() == 3 * 8 * 32 * 40


def test_every_quantizable_input_has_a_range(small_net, slices):
    model = graph.load(small_net)

    assert {"input", "skip", "up", "joined", "reduce.r"} <= set(qdq.tensors(model))
