"""What augmentation does to the two images of a pair, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lohi_export.augment import draw
from lohi_export.config import TrainConfig


@settings(deadline=None)  # no timed tests
@given(st.integers(0, 2**32 - 1))
def test_source_and_target_are_cut_and_flipped_alike(seed: int) -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (1, 24, 16)).astype(np.float32)
    config = TrainConfig(crop=8, gamma=0.3, adversarial=0)
    change = draw((24, 16), config, np.random.default_rng(seed))
    source, target = change.of_source(image), change.of_target(image)
    assert source.shape == target.shape == (1, 8, 8)
    # A power keeps the order of grey values, so like places stay like.
    assert np.array_equal(np.argsort(source.ravel()), np.argsort(target.ravel()))
    assert (np.abs(source) <= 1).all()
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (8, 8))
    flipped = windows[:, :, ::-1]
    assert any((w == target[0]).all((-2, -1)).any() for w in (windows, flipped))


def test_flips_swap_left_and_right_not_front_and_back() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 4, 3) / 12
    seen = {
        draw((4, 3), TrainConfig(crop=0), np.random.default_rng(seed)).of_target(image).tobytes()
        for seed in range(20)
    }
    assert seen == {image.tobytes(), np.ascontiguousarray(image[:, ::-1]).tobytes()}


@settings(deadline=None)  # no timed tests
@given(st.integers(0, 2**32 - 1))
def test_levels_lift_black_and_scale_white_of_the_source_alone(seed: int) -> None:
    image = np.array([[[-1.0, 0.0, 1.0]]], np.float32)
    config = TrainConfig(crop=0, gamma=0.0, levels=0.5)
    change = draw((1, 3), config, np.random.default_rng(seed))
    black, middle, white = np.sort(change.of_source(image).ravel())
    assert -1 <= black <= -1 + 2 * 0.04 + 1e-6
    # Half of the range of the logarithm, -0.25 to 0.35; what exceeds 1 is clipped.
    assert 2 * np.exp(-0.25) - 1 - 1e-6 <= white <= 1
    if white < 1:
        assert middle == pytest.approx((black + white) / 2, abs=1e-6)
    assert sorted(change.of_target(image).ravel()) == [-1, 0, 1]


@settings(deadline=None)  # no timed tests
@given(st.integers(0, 2**32 - 1))
def test_noise_is_the_source_s_alone_and_alike_in_neighbours(seed: int) -> None:
    image = np.zeros((5, 64, 64), np.float32)
    config = TrainConfig(crop=0, gamma=0.0, noise=0.1)
    change = draw((64, 64), config, np.random.default_rng(seed))
    noise = change.of_source(image) / 2  # grey values are half of the range
    assert np.array_equal(change.of_target(image), image)
    sd = change.noise.sd
    assert 0 <= sd <= 0.1
    # Between two slices the mean of independent noise is smaller, by the root of 2 at most; a
    # plane of this size holds some 200 independent values, so its own deviation is 5 % unsure.
    assert all(0.55 * sd - 1e-6 <= plane.std() <= 1.25 * sd + 1e-6 for plane in noise)
    assume(sd > 1e-3)  # less drowns in rounding
    # Planes 1 mm apart show the same two slices 5 mm apart, or a third as well.
    assert np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1] > 0.8
    assert np.array_equal(noise, change.of_source(image) / 2)


def test_added_noise_leaves_a_magnitude_and_is_repeated_where_planes_are() -> None:
    image = np.full((5, 32, 32), -1, np.float32)
    change = draw((32, 32), TrainConfig(crop=0, noise=0.2, hold=1.0), np.random.default_rng(0))
    air = change.of_source(image)
    assert air.min() >= -1
    assert air.max() > -1
    assert all(np.array_equal(plane, air[0]) for plane in air)


@settings(deadline=None)  # no timed tests
@given(st.integers(0, 2**32 - 1))
def test_a_spot_lies_in_the_same_place_of_both_images_and_nowhere_else(seed: int) -> None:
    image = np.full((3, 64, 64), -0.2, np.float32)  # grey value 0.4
    config = TrainConfig(crop=0, gamma=0.0, spots=1.0)
    change = draw((64, 64), config, np.random.default_rng(seed))
    source = (change.of_source(image) + 1) / 2 / 0.4 - 1
    target = (change.of_target(image[:1]) + 1) / 2 / 0.4 - 1
    assert all(np.array_equal(plane, source[0]) for plane in source)
    y, x = (int(c) for c in change.spot.centre)
    assert target[0, y, x] == pytest.approx(change.spot.target, rel=0.3)
    assert 0.1 <= change.spot.target <= 1.2 or -0.7 <= change.spot.target <= -0.1
    assert np.sign(source[0, y, x]) == np.sign(target[0, y, x])
    # The edge of the longest and narrowest spot ends at 18 * (1 + 4 / 2.5 / 2), about 32 pixels.
    far = np.hypot(*np.ogrid[-y : 64 - y, -x : 64 - x]) > 18 * 2
    assert np.abs(source[0][far]).max(initial=0) < 1e-6
    assert np.abs(target[0][far]).max(initial=0) < 1e-6


def test_a_spot_leaves_air_dark() -> None:
    image = np.full((1, 32, 32), -1, np.float32)
    change = draw((32, 32), TrainConfig(crop=0, spots=1.0), np.random.default_rng(0))
    assert np.array_equal(change.of_source(image), image)
    assert np.array_equal(change.of_target(image), image)


@settings(deadline=None)  # no timed tests
@given(st.integers(0, 2**32 - 1))
def test_a_slip_moves_the_target_alone(seed: int) -> None:
    y, x = np.mgrid[:64, :80].astype(np.float32)
    image = np.stack([y / 40 - 1, x / 40 - 1])
    config = TrainConfig(crop=0, gamma=0.0, slip=1.0)
    change = draw((64, 80), config, np.random.default_rng(seed))
    still, moved = change.of_source(image), change.of_target(image)
    assert np.array_equal(still[:, ::-1] if change.flip else still, image)
    assert 0.05 < 40 * np.abs(moved - still)[:, 12:-12, 12:-12].max() < 6


@settings(deadline=None)  # no timed tests
@given(st.integers(0, 2**32 - 1))
def test_a_warp_moves_source_and_target_alike_smoothly_and_a_little(seed: int) -> None:
    y, x = np.mgrid[:64, :80].astype(np.float32)
    image = np.stack([y / 40 - 1, x / 40 - 1])  # every pixel says where it was
    config = TrainConfig(crop=0, gamma=0.0, elastic=2.0)
    change = draw((64, 80), config, np.random.default_rng(seed))
    moved = change.of_target(image)
    np.testing.assert_allclose(change.of_source(image), moved, atol=1e-6)
    back = moved[:, ::-1] if change.flip else moved
    shift = (40 * (back - image))[:, 12:-12, 12:-12]  # away from where the image ends
    assert 0.05 < np.abs(shift).max() < 12
    assert np.abs(np.diff(shift, axis=2)).max() < 1
