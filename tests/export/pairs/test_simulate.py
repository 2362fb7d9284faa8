"""Whole pairs: reproducible, co-registered, and of the asked contrast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.volume import isotropic_grid
from lohi_export.pairs.anatomy import groom_sulci, narrow, truth
from lohi_export.pairs.ranges import CONTRASTS, Ranges, ranges_for
from lohi_export.pairs.simulate import simulate_pair
from lohi_export.pairs.tissues import SULCUS

FIELD = (64, 72, 60)
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "label_maps"


@pytest.fixture(scope="module")
def pair(labels):
    return simulate_pair(labels, np.eye(4), (1, 2, 3), Ranges(), field_of_view=FIELD)


def test_same_seed_same_voxels_other_seed_other_voxels(labels, pair):
    again = simulate_pair(labels, np.eye(4), (1, 2, 3), Ranges(), field_of_view=FIELD)
    other = simulate_pair(labels, np.eye(4), (1, 2, 4), Ranges(), field_of_view=FIELD)
    assert np.array_equal(pair.low.data, again.low.data)
    assert np.array_equal(pair.high.data, again.high.data)
    assert pair.params == again.params
    assert pair.params != other.params
    assert pair.high.shape == other.high.shape
    assert not np.allclose(pair.high.data, other.high.data, atol=5)


@pytest.mark.parametrize("seed", range(4))
def test_pair_shares_the_isotropic_grid_of_the_low_field_volume(labels, seed):
    pair = simulate_pair(labels, np.eye(4), seed, Ranges(), field_of_view=FIELD)
    shape, affine = isotropic_grid(pair.low.shape, pair.low.affine)
    low = pair.low.isotropic()
    assert pair.high.shape == shape == low.shape == FIELD
    assert np.array_equal(pair.high.affine, affine)
    assert np.array_equal(low.affine, affine)
    assert np.allclose(pair.high.zooms, 1)
    assert 1.4 < pair.low.zooms[0] < 1.8
    assert 4.5 < pair.low.zooms[2] < 5.6


def test_low_field_volume_shows_the_head_where_the_3t_volume_does(labels):
    # Without shading, distortion or noise to speak of, the two heads lie on each other.
    quiet = Ranges(
        distortion=(0, 0), motion=(0, 0), low_snr=(200, 200), masked=(0, 0), coil_radius=(1e4, 1e4)
    )
    pair = simulate_pair(labels, np.eye(4), 5, quiet, field_of_view=FIELD)
    low, high = pair.low.isotropic().data > 40, pair.high.data > 40
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        for first, second in zip(_ends(low, others), _ends(high, others), strict=True):
            assert abs(first - second) <= 4


def _ends(mask, others):
    where = np.flatnonzero(mask.any(axis=others))
    return where[0], where[-1]


def test_white_matter_is_brighter_than_cortex_and_csf_dark(labels):
    still = Ranges(tilt=(0, 0), offset=(0, 0), rise=(0, 0), warp=(0, 0), scale=(1, 1))
    still = replace(still, narrow_ventricles=(0, 0))
    pair = simulate_pair(labels, np.eye(4), 6, still, field_of_view=labels.shape)
    high = pair.high.data
    white, cortex, csf = (np.median(high[labels == k]) for k in (2, 3, 4))
    assert white == pytest.approx(100, rel=0.25)
    assert cortex < 0.8 * white
    assert csf < 0.5 * white


def test_fluid_spaces_narrow_from_their_walls():
    labels = np.full((30, 24, 24), 2, np.int16)
    labels[:, :12] = 41
    labels[12:18, 4:20, 4:20] = 43  # a ventricle 6 mm wide, right wall 41, left wall 2
    labels[:4] = 3
    labels[4:9] = 24  # a fissure 5 mm wide with cortex on one side alone
    still = narrow(labels, {"narrow_sulci": 0.9, "narrow_ventricles": 0.0})
    assert np.array_equal(still, labels)
    narrowed = narrow(labels, {"narrow_sulci": 2.0, "narrow_ventricles": 2.2})
    assert narrowed[:12, 12, 12].tolist() == [3] * 6 + [24] * 3 + [2] * 3
    # 6 mm between two walls: the middle is 3 mm from them, so 1 mm of each side goes.
    assert narrowed[12:18, 15, 12].tolist() == [2, 43, 43, 43, 43, 2]
    assert narrowed[14, 4:8, 12].tolist() == [41, 43, 43, 43]
    assert (labels[12:18, 15, 12] == 43).all()  # the map itself is left alone


def test_sulci_are_filled_and_opened():
    labels = np.zeros((24, 24, 24), np.int16)
    labels[2:22, 2:22, 2:5] = 2
    labels[2:22, 2:22, 5:16] = 3  # a bank of 11 mm: no cortex is that thick
    labels[12, 12, 10] = 24  # a hole in it, one voxel of CSF
    groomed = groom_sulci(labels, 0.5)
    assert (groomed[4:20, 4:20, 5:7] == 3).all()  # within 2 mm of white matter
    assert (groomed[4:20, 4:20, 9:16] == SULCUS).all()
    assert np.array_equal(groomed == 2, labels == 2)
    assert groom_sulci(labels, 1.0)[12, 12, 10] == 24
    assert labels[12, 12, 10] == 24  # the map itself is left alone


def test_truth_tells_sulci_by_their_larger_share():
    labels = np.array([3, 42, 24, 2, 507], np.int16)
    dressed = np.array([SULCUS, SULCUS, 3, 2, 600], np.int16)
    assert truth(labels, dressed, {"sulcus": 0.4}).tolist() == [3, 42, 3, 2, 600]
    assert truth(labels, dressed, {"sulcus": 0.6}).tolist() == [24, 24, 3, 2, 600]


def test_t2_weighted_csf_is_brightest_and_flair_dark_in_brain(labels):
    still = {"tilt": (0, 0), "offset": (0, 0), "rise": (0, 0), "warp": (0, 0), "scale": (1, 1)}
    shown = {}
    for contrast in CONTRASTS[1:]:
        ranges = Ranges(**{**vars(ranges_for(contrast)), **still})
        pair = simulate_pair(labels, np.eye(4), 7, ranges, contrast, field_of_view=labels.shape)
        for name, data in (("low", pair.low.isotropic().data), ("high", pair.high.data)):
            middle = data[34:38, 38:42, 33:39].mean()  # the ventricle
            shown[contrast, name] = middle / np.median(data[labels == 2])
    assert shown["T2w", "high"] > 2
    assert shown["T2w", "low"] > 1.5
    assert shown["FLAIR", "high"] < 0.5
    assert shown["FLAIR", "low"] < 0.8


def test_refuses_a_label_map_of_another_grid_or_without_a_brain(labels):
    with pytest.raises(BadInput, match="1 mm"):
        simulate_pair(labels, np.diag([2.0, 2, 2, 1]), 0, Ranges())
    with pytest.raises(BadInput, match="white matter"):
        simulate_pair(np.where(labels == 2, 0, labels), np.eye(4), 0, Ranges())
    with pytest.raises(UsageError, match="T1w, T2w, FLAIR"):
        ranges_for("PDw")


@pytest.mark.skipif(not REAL.is_dir(), reason="shared label maps are not here")
def test_a_real_head_looks_as_the_published_facts_say():
    image = nib.load(REAL / "head_03_labels.nii.gz")
    labels = np.asarray(image.dataobj, dtype=np.int16)
    pair = simulate_pair(labels, image.affine, (0, 3, 0), Ranges())
    assert pair.high.shape == (224, 224, 160)
    high = pair.high.data
    scaled = (high - high.min()) / np.ptp(high) * 2 - 1
    middle = scaled[:, :, 90]
    # 80th and 95th percentile of a real 3 T slice: -0.11 and 0.14 (data README); half of the
    # brightness range either way would be another kind of image.
    assert -0.5 < np.percentile(middle, 80) < 0.2
    assert -0.2 < np.percentile(middle, 95) < 0.6
    low = pair.low.isotropic().data
    brain = low[80:144, 80:144, 70:120]
    head = low[low > 0.3 * np.median(brain)]
    assert np.percentile(head, 99) > 1.5 * np.median(brain)  # the bright scalp
