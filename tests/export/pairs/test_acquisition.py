"""The 64 mT chain: resolution, noise and shading measured on its output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lohi_export.pairs import acquisition
from lohi_export.pairs.fields import random_field
from lohi_export.pairs.ranges import Ranges

MILD = {
    "low_snr": 20.0,
    "low_channels": 1.0,
    "low_noise_spread": 0.5,
    "low_edge_x": 0.2,
    "low_edge_y": 0.4,
    "low_edge_z": 0.6,
    "low_box": 0.0,
    "coil_radius": 90.0,
    "coil_gap": 25.0,
    "coil_gain": 0.1,
    "shading_power": 1.0,
    "motion": 0.0,
    "ghost": 0.0,
    "masked": 0.0,
    "mask_width": 0.8,
    "mask_length": 0.9,
    "clip": 100.0,
}


@pytest.mark.parametrize(("fine", "coarse"), [(160, 100), (160, 32), (90, 60)])
def test_edge_width_of_unfiltered_k_space_is_that_of_the_voxel(fine: int, coarse: int):
    # A step blurred by a cut at 1 / (2 v) rises from 10 % to 90 % over 0.87 v: the integral of
    # sin(pi x) / (pi x) from -0.435 to 0.435 is 0.80.
    zoom = fine / coarse
    rise = _rise(lambda shift: _edge(fine, coarse, 1.0, shift), zoom)
    assert rise == pytest.approx(0.87 * zoom, rel=0.12)


def test_a_stronger_filter_broadens_the_edge():
    zoom = 5.0
    widths = [_rise(lambda s, g=g: _edge(160, 32, g, s), zoom) for g in (1.0, 0.5, 0.1)]
    assert widths[0] < widths[1] < widths[2]
    assert widths[2] > 1.2 * zoom


def _edge(fine: int, coarse: int, gain: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Response to an edge `shift` mm from the centre: (distance of samples, values)."""
    position = np.arange(fine) - (fine - 1) / 2 - shift
    step = np.clip(position + 0.5, 0, 1)  # partial volume of the 1 mm grid
    values = acquisition.k_space_spread(fine, coarse, gain) @ step.astype(np.float32)
    at = (np.arange(coarse) - (coarse - 1) / 2) * fine / coarse
    return at - shift, values


def _rise(respond, zoom: float) -> float:
    """10-90 % width in mm, the edge sampled finely by moving it through a voxel."""
    pairs = [respond(s) for s in np.linspace(0, zoom, 21, endpoint=False)]
    at, values = np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
    order = np.argsort(at)
    at, values = at[order], values[order]
    near = np.abs(at) < 2 * zoom
    at, values = at[near], values[near]
    return float(at[values > 0.9].min() - at[values < 0.1].max())


@settings(deadline=None, max_examples=25)
@given(
    fine=st.integers(40, 200),
    ratio=st.floats(1.2, 6),
    gain=st.floats(0.02, 1),
)
def test_a_uniform_object_stays_uniform_and_centred(fine: int, ratio: float, gain: float):
    coarse = max(4, round(fine / ratio))
    for matrix in (
        acquisition.k_space_spread(fine, coarse, gain),
        acquisition.box_spread(fine, coarse),
    ):
        assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)
        assert np.allclose(matrix, matrix[::-1, ::-1], atol=1e-5)


def test_box_slice_is_the_mean_over_its_thickness():
    assert np.allclose(acquisition.box_spread(20, 4)[1], np.repeat([0, 0.2, 0, 0], 5))


def test_noise_has_the_asked_level_at_the_centre():
    signal = np.ones((80, 80, 60), np.float32)
    shape = (50, 50, 12)
    rng = np.random.default_rng(0)
    params = dict(MILD, coil_gain=0.0, coil_radius=1e4)  # even coil: no shading to measure around
    first, second = (acquisition.acquire_low(signal, shape, params, rng) for _ in range(2))
    inner = (slice(10, 40), slice(10, 40), slice(2, 10))
    sd = (first - second)[inner].std() / np.sqrt(2)
    assert first[inner].mean() / sd == pytest.approx(MILD["low_snr"], rel=0.05)


def test_background_of_one_channel_is_rayleigh_and_of_several_higher():
    empty, shape = np.zeros((80, 80, 60), np.float32), (50, 50, 12)
    means = []
    for channels in (1.0, 3.0):
        rng = np.random.default_rng(1)
        params = dict(MILD, low_channels=channels, coil_gain=0.0, coil_radius=1e4)
        means.append(float(acquisition.acquire_low(empty, shape, params, rng).mean()))
    sd = 1 / MILD["low_snr"]
    assert means[0] == pytest.approx(sd * np.sqrt(np.pi / 2), rel=0.03)  # Rayleigh's mean
    assert means[1] == pytest.approx(sd * 2.35, rel=0.03)  # chi, 6 degrees of freedom: 2.350


@pytest.mark.parametrize("shape", [(40, 40, 12), (41, 39, 11)])
def test_filtered_noise_has_unit_variance_and_is_correlated(shape: tuple[int, int, int]):
    noise = acquisition.filtered_noise(shape, MILD, np.random.default_rng(2))
    assert noise.shape == shape
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert (noise[1:] * noise[:-1]).mean() > 0.3


def test_shading_brightens_the_rim_and_is_one_at_the_centre():
    shape, zooms = (56, 56, 32), [4.0, 4.0, 5.0]
    shading = acquisition.coil_shading(shape, zooms, MILD, np.random.default_rng(3))
    assert shading[26:30, 26:30, 15:17].mean() == pytest.approx(1, abs=0.1)
    assert shading[:, 28, 16].max() > 1.1
    assert shading.min() > 0


def test_no_motion_moves_nothing_and_motion_moves_something():
    image = np.random.default_rng(4).random((20, 22, 8)).astype(np.float32)
    still = acquisition.move(image, [1.6, 1.6, 5.0], MILD, np.random.default_rng(0))
    assert np.allclose(still, image, atol=1e-5)
    moving = dict(MILD, motion=1.0)
    moved = acquisition.move(image, [1.6, 1.6, 5.0], moving, np.random.default_rng(0))
    assert np.abs(moved - image).max() > 0.05
    assert moved.mean() == pytest.approx(image.mean(), rel=1e-4)  # the centre of k-space stays


def test_masked_corners_are_exactly_zero():
    signal = np.ones((80, 80, 60), np.float32)
    params = dict(MILD, masked=1.0)
    image = acquisition.acquire_low(signal, (50, 50, 12), params, np.random.default_rng(5))
    assert (image[0, 0] == 0).all()
    assert (image[25, 25] > 0.5).all()
    assert 0.1 < (image == 0).mean() < 0.6


def test_random_field_has_unit_variance_and_its_scale():
    field = random_field(np.random.default_rng(6), (90, 90, 90), 6)
    assert field.std() == pytest.approx(1, abs=0.1)
    neighbours = (field[1:] * field[:-1]).mean()
    apart = (field[24:] * field[:-24]).mean()
    assert neighbours > 0.9
    assert abs(apart) < 0.1


def test_every_range_is_drawn_within_its_limits():
    ranges = Ranges()
    drawn = ranges.draw(np.random.default_rng(7))
    assert all(
        getattr(ranges, name)[0] <= value <= getattr(ranges, name)[1]
        for name, value in drawn.items()
    )
    assert set(drawn) == set(vars(ranges))
