from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lohi_calibration.choose import choose
from lohi_edge.errors import UsageError


def head(slices=40, seed=0):
    """A stack whose middle half shows a head, brighter towards the top."""
    rng = np.random.default_rng(seed)
    stack = np.full((slices, 1, 16, 16), -1, dtype=np.float32)
    for n in range(slices // 4, 3 * slices // 4):
        stack[n, 0, 4:12, 4:12] = rng.uniform(-0.5, 0) + n / slices + rng.normal(0, 0.05, (8, 8))
    return np.clip(stack, -1, 1)


def test_no_slice_without_a_head_is_chosen():
    found = choose({"a": head(), "b": head(seed=1)}, 20)

    assert all(10 <= one.index < 30 for one in found.chosen)


def test_subjects_give_equal_shares_and_a_poor_one_gives_all():
    found = choose({"a": head(), "b": head(), "poor": head(16)}, 32)

    counts = {s: sum(one.subject == s for one in found.chosen) for s in ("a", "b", "poor")}
    assert counts == {"a": 12, "b": 12, "poor": 8}


def test_positions_cover_the_head():
    positions = sorted(one.index for one in choose({"a": head(80)}, 20).chosen)

    assert max(np.diff(positions)) <= 4  # 40 slices in 20 runs of 2
    assert positions[0] <= 21
    assert positions[-1] >= 58


@settings(max_examples=20)
@given(st.integers(16, 40), st.integers(0, 5))
def test_count_uniqueness_and_repeatability(count, seed):
    stacks = {"a": head(), "b": head(seed=1)}
    one, two = choose(stacks, count, seed), choose(stacks, count, seed)

    assert len(set(one.chosen)) == len(one.chosen) == count == len(one.slices)
    assert one.chosen == two.chosen
    assert one.sha256 == two.sha256


def test_the_slices_are_the_real_ones():
    stacks = {"a": head()}
    found = choose(stacks, 16)

    for one, piece in zip(found.chosen, found.slices, strict=True):
        np.testing.assert_array_equal(piece, stacks[one.subject][one.index])


@pytest.mark.parametrize(("count", "words"), [(15, "at least 16"), (21, "found 20 in 1 subjects")])
def test_too_few_are_refused(count, words):
    with pytest.raises(UsageError, match=words):
        choose({"a": head()}, count)


def test_slices_that_are_not_numbers_are_refused():
    stack = head()
    stack[20, 0, 5, 5] = np.nan
    with pytest.raises(UsageError, match="finite"):
        choose({"a": stack}, 16)
