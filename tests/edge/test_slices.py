"""The slice contract. Its golden vectors must never change: every trained model depends on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import head_phantom
from lohi_edge.errors import BadInput, BundleError
from lohi_edge.head import find_head
from lohi_edge.slices import (
    Placement,
    SliceContract,
    from_stack,
    intensity_range,
    place,
    to_stack,
)
from lohi_edge.volume import Volume

SMALL = SliceContract(height=16, width=24)


def volume(data):
    return Volume(data, np.eye(4))


def test_golden_vector_of_cutting_and_scaling():
    """By hand: window of 8 x 8 from corner (-1, 2) of a 6 x 12 x 2 volume, 10 -> -1, 30 -> 1.

    Voxel (x, y, z) holds 10 x + y + 100 z, so stack[0, 0, 1 + x, y - 2] is (v - 20) / 10 clipped.
    """
    x, y, z = np.indices((6, 12, 2))
    data = (10 * x + y + 100 * z).astype(np.float32)
    placement = Placement((6, 12, 2), (-1, 2), 10.0, 30.0)
    stack = to_stack(data, placement, SliceContract(height=8, width=8))
    assert stack.shape == (2, 1, 8, 8)
    wanted = np.full((8, 8), -1.0)
    wanted[1:7] = np.clip((data[:, 2:10, 0] - 20) / 10, -1, 1)
    assert np.allclose(stack[0, 0], wanted)
    assert stack[0, 0, 2, 0] == pytest.approx(-0.8)  # x = 1, y = 2: 12
    assert (stack[0, 0, 0] == -1).all()  # x = -1 lies outside the volume
    assert (stack[0, 0, 7] == -1).all()  # and so does x = 6
    assert (stack[1, 0, 1:7] == 1).all()  # 100 and more is clipped


def test_golden_placement_of_a_phantom():
    """Recorded from this phantom (an ellipsoid of 140 x 176 mm); drift breaks every model."""
    data = volume_of_phantom().data
    placement = place(volume(data), SliceContract())
    assert placement.shape == (168, 196, 144)
    assert placement.corner == (-12, -20)
    assert placement.low == pytest.approx(24.216, abs=0.01)
    assert placement.high == pytest.approx(203.453, abs=0.01)


def volume_of_phantom():
    affine = np.diag([2.8, 2.8, 9.0, 1.0])
    return Volume(head_phantom(), affine).isotropic()


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5)),
    st.tuples(st.integers(-20, 30), st.integers(-20, 30)),
    st.integers(0, 2**32 - 1),
)
def test_there_and_back_is_exact_inside_the_window(shape, corner, seed):
    data = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
    placement = Placement(shape, corner, -1.0, 1.0)
    back = from_stack(to_stack(data, placement, SMALL), placement, SMALL)
    x, y = (np.arange(n) for n in shape[:2])
    inside = ((x >= corner[0]) & (x < corner[0] + 16))[:, None] & (
        (y >= corner[1]) & (y < corner[1] + 24)
    )[None, :]
    assert np.abs(back[inside] - data[inside]).max(initial=0) < 1e-6
    assert (back[~inside] == -1).all()


def test_neighbouring_slices_become_channels_with_the_wanted_one_in_the_middle():
    data = np.zeros((16, 24, 4), np.float32) + np.arange(4, dtype=np.float32) / 4
    placement = Placement(data.shape, (0, 0), -1.0, 1.0)
    stack = to_stack(data, placement, replace(SMALL, channels=3))
    levels = stack[:, :, 5, 5] * 4
    # The first and last slice stand in for neighbours that do not exist.
    assert levels.tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_intensity_range_ignores_how_much_air_surrounds_the_head():
    data = volume_of_phantom().data
    padded = np.pad(data, 60)
    contract = SliceContract()
    tight = intensity_range(data, find_head(data), contract)
    loose = intensity_range(padded, find_head(padded), contract)
    assert np.allclose(tight, loose, atol=0.05 * (tight[1] - tight[0]))


def test_window_follows_the_head():
    data = np.pad(volume_of_phantom().data, 40)
    there = place(volume(data), SliceContract())
    moved = place(volume(np.roll(data, (12, -20, 0), (0, 1, 2))), SliceContract())
    assert np.subtract(moved.corner, there.corner).tolist() == [12, -20]


def test_head_larger_than_the_window_is_refused():
    data = np.zeros((260, 200, 8), np.float32)
    data[20:240, 20:180, 1:7] = 100
    with pytest.raises(BadInput, match=r"at most 192 x 240 mm.*got 220 x 160 mm"):
        place(volume(data), SliceContract())


def test_flat_volumes_are_refused():
    with pytest.raises(BadInput, match="one brightness"):
        find_head(np.full((20, 20, 20), 3, np.float32))
    data = np.zeros((60, 60, 20), np.float32)
    data[20:40, 20:40, 4:16] = 5
    head = find_head(data)
    with pytest.raises(BadInput, match="one brightness"):
        intensity_range(np.where(data > 0, data, 5), head, SliceContract())


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 241},
        {"channels": 2},
        {"spacing_mm": 2.0},
        {"low_percentile": 99.9},
        {"height": 4096},
    ],
)
def test_unusable_contract_is_refused(change):
    with pytest.raises(BundleError, match="slice contract"):
        SliceContract.from_dict(SliceContract().to_dict() | change)


def test_contract_with_unknown_or_missing_fields_is_refused():
    whole = SliceContract().to_dict()
    with pytest.raises(BundleError, match="another version"):
        SliceContract.from_dict({**whole, "depth": 3})
    with pytest.raises(BundleError, match="another version"):
        SliceContract.from_dict({k: v for k, v in whole.items() if k != "channels"})
