"""The segmenter's parts by themselves: regions, volumes, windows, tissue levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lohi_edge.quality import features, frame, tissue
from lohi_edge.quality.morphometry import (
    REGIONS,
    Segmentation,
    intracranial,
    region_volumes,
)
from lohi_edge.quality.regions import TOTAL, VENTRICLES
from lohi_edge.volume import Volume


def test_the_33_regions_are_those_that_synthseg_measures():
    assert len(REGIONS) == 32
    assert REGIONS[2] == "left cerebral white matter"
    assert REGIONS[41] == "right cerebral white matter"
    assert {REGIONS[k] for k in VENTRICLES} == {
        "left lateral ventricle", "right lateral ventricle", "left inferior lateral ventricle",
        "right inferior lateral ventricle", "third ventricle", "fourth ventricle",
    }  # fmt: skip


def test_volumes_are_counts_times_voxel_size_in_millilitres():
    labels = np.zeros((20, 20, 20), np.int16)
    labels[:10, :10, :10] = 2  # 1000 voxels of 2 x 1 x 1.5 mm: 3 ml
    labels[10:, :5, :2] = 4  # 100 voxels: 0.3 ml
    volumes = region_volumes(Segmentation(labels, np.diag([2.0, 1.0, 1.5, 1.0])))
    assert volumes["left cerebral white matter"] == pytest.approx(3.0)
    assert volumes["left lateral ventricle"] == pytest.approx(0.3)
    assert volumes["right lateral ventricle"] == 0
    assert volumes[TOTAL] == pytest.approx(3.3)
    assert set(volumes) == {*REGIONS.values(), TOTAL}


def test_shares_go_before_counts():
    labels = np.full((2, 2, 2), 10, np.int16)
    shares = dict.fromkeys(REGIONS, 0.0) | {10: 12_345.0}
    volumes = region_volumes(Segmentation(labels, np.eye(4), shares))
    assert volumes["left thalamus"] == pytest.approx(12.345)


def test_the_skull_ends_where_the_cerebellum_does():
    labels = np.full((10, 10, 10), 24, np.int16)
    labels[:, :, 4] = 8
    kept = intracranial(labels)
    assert (kept[:, :, :4] == 0).all()
    assert (kept[:, :, 4:] == labels[:, :, 4:]).all()
    # Four voxels of 1 mm2 are no cerebellum.
    labels[:, :, 4] = 24
    labels[:2, :2, 4] = 8
    assert np.array_equal(intracranial(labels), labels)


def test_the_place_of_a_box_is_its_middle_and_its_deviation():
    shares = np.zeros((features.CLASSES, *frame.CROP), np.float32)
    shares[0] = 1
    shares[1, 20:60, 30:70, 10:50] = 1  # 80 mm a side
    shares[features.CLASSES - 1, :, :10] = 1  # CSF does not count
    place = features.place_of(shares)
    assert place.centre == pytest.approx([80, 100, 60])
    assert place.size == pytest.approx(np.full(3, 80 / np.sqrt(12)), rel=0.001)


@given(start=st.tuples(*[st.integers(-400, 400)] * 3), shape=st.tuples(*[st.integers(1, 40)] * 3))
def test_a_window_is_pasted_where_it_was_cut(start, shape):
    rng = np.random.default_rng(0)
    part = rng.integers(1, 99, frame.CROP_MM, dtype=np.int16)
    whole = frame.paste(part, np.array(start), shape)
    assert whole.shape == shape
    for voxel in rng.integers(0, shape, (20, 3)):
        inside = voxel - start
        held = (inside >= 0).all() and (inside < frame.CROP_MM).all()
        assert whole[tuple(voxel)] == (part[tuple(inside)] if held else 0)


def test_a_window_is_the_same_in_any_unit_of_brightness():
    data = np.random.default_rng(0).random((60, 70, 50), dtype=np.float32)
    plain, tiny = (
        frame.window(Volume(data * np.float32(unit), np.eye(4)), np.zeros(3, int))
        for unit in (1, 2.0**-60)
    )
    np.testing.assert_allclose(tiny, plain, atol=1e-5)


def test_tissue_levels_are_found_whatever_the_contrast():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, (20, 26, 20))
    priors = np.stack([np.where(truth == k, 0.55, 0.15) for k in range(4)]).astype(np.float32)
    for levels in ([0.9, 0.6, 0.2, 0.4], [0.4, 0.55, 1.0, 0.1]):
        image = np.array(levels, np.float32)[truth] + rng.normal(0, 0.03, truth.shape)
        means, deviation = tissue.tissue_levels(image.astype(np.float32), priors)
        assert means == pytest.approx(levels[:3], abs=0.02)
        assert deviation == pytest.approx(0.03, abs=0.01)
        seen = tissue.channels(np.full((2, 2, 2), levels[tissue.FLUID]), means, deviation)
        assert seen[1] == pytest.approx(np.zeros((2, 2, 2)), abs=0.1)
