"""T2w and FLAIR of a T1w head: every tissue as bright as that contrast's own tables say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage as ndi

from lohi_edge import nifti
from lohi_edge.errors import BadInput, UsageError
from lohi_export.pairs import anatomy, dataset, plan, recontrast, volumes
from lohi_export.pairs.ranges import ranges_for

CORTEX, WHITE, VENTRICLE, PALLIDUM = 3, 2, 4, 13
T1W = {VENTRICLE: 0.26, CORTEX: 0.67, WHITE: 1.0, PALLIDUM: 0.9}
REAL = Path(__file__).parents[4] / "shared/data/real/brainchop_t1_crop.nii.gz"


@pytest.fixture(scope="module")
def head() -> tuple[np.ndarray, np.ndarray]:
    """Brightness in T1w and regions: shells of cortex, white matter, ventricle, and a nucleus."""
    at = np.indices((60, 60, 60)) - 29.5
    radius = np.sqrt((at**2).sum(axis=0))
    regions = np.zeros(radius.shape, np.int16)
    for outer, label in ((24, CORTEX), (18, WHITE), (7, VENTRICLE)):
        regions[radius < outer] = label
    regions[20:26, 40:46, 27:33] = PALLIDUM
    source = np.full(radius.shape, recontrast.OUTSIDE[0], np.float32)  # bone
    source[radius > 27] = recontrast.OUTSIDE[2]  # fat
    source[radius > 29] = 0
    for label, level in T1W.items():
        source[regions == label] = level
    return source, regions


def changed(source, regions, params, contrast):
    inside, rng = recontrast.skull(regions), np.random.default_rng(2)
    return recontrast.signals(source, regions, inside, params, contrast, rng)


@pytest.mark.parametrize("contrast", ["T2w", "FLAIR"])
def test_each_tissue_is_as_bright_as_in_a_head_of_labels(head, contrast):
    source, regions = head
    params = ranges_for(contrast).draw(np.random.default_rng(1))
    made = changed(source, regions, params, contrast)
    level, _ = anatomy.tables(params, contrast, np.random.default_rng(2))
    low, high = level[0], np.maximum(level[1], 0)  # signed before it is acquired
    for row, signal in ((low, made.low), (high, made.high)):
        for label in T1W:
            deep = ndi.binary_erosion(regions == label, iterations=2)
            assert np.median(signal[deep]) == pytest.approx(row[label], abs=0.03)
    fat = np.median(made.high[source == recontrast.OUTSIDE[2]])
    assert fat == pytest.approx(level[1][anatomy.FAT], rel=0.05)
    assert made.high.min() >= 0


def test_a_voxel_of_two_tissues_lies_between_them(head):
    """Half fluid, half cortex is half of each in T2w too: sulci stay as wide as they are."""
    source, regions = (part.copy() for part in head)
    source[44:47, 29:31, 29:31] = (T1W[VENTRICLE] + T1W[CORTEX]) / 2
    regions[43:48, 28:32, 28:32] = CORTEX
    params = ranges_for("T2w").draw(np.random.default_rng(1))
    made = changed(source, regions, params, "T2w")
    level, _ = anatomy.tables(params, "T2w", np.random.default_rng(2))
    half = (level[1][VENTRICLE] + level[1][CORTEX]) / 2
    assert np.median(made.high[44:47, 29:31, 29:31]) == pytest.approx(half, rel=0.02)


def test_a_scan_of_another_contrast_is_refused(head):
    source, regions = head
    with pytest.raises(BadInput, match=r"expected a T1w scan, .* got 1.33 and 1.74 of white"):
        recontrast.brightness(2 - source, regions)
    with pytest.raises(BadInput, match="expected a head with cortex and ventricles"):
        recontrast.brightness(source, np.where(regions == VENTRICLE, WHITE, regions))


def test_only_t1w_volumes_make_other_contrasts(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(UsageError, match=r"expected volumes of FLAIR or T1w .* got T2w"):
        plan.plan_volumes(tmp_path, tmp_path, 1, 0, "FLAIR", "T2w")
    (job,) = plan.plan_volumes(tmp_path, tmp_path, 1, 0, "T1w", "T1w")
    assert not job.made_of  # the same contrast is no change


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_file(), reason="no shared/data/real beside the checkout")
def test_a_real_t1w_head_becomes_a_t2w_pair(tmp_path):
    (job,) = plan.plan_volumes(REAL, tmp_path, 1, 0, "T2w", "T1w")
    assert dataset.write_pair(job)
    regions = recontrast.regions_of(nifti.read(REAL))
    fluid, white = (np.isin(regions, k).sum() / 1000 for k in (recontrast.FLUID, (2, 41)))
    high = np.asarray(nib.load(job.image("3T")).dataobj, dtype=np.float32) / 100
    assert (high > 3).sum() / 1000 > fluid  # ml: ventricles and sulci are bright
    assert ((high > 0.8) & (high < 1.2)).sum() / 1000 > 0.6 * white
    stated = json.loads(job.sidecar("3T").read_text())["Simulation"]
    assert stated["MadeOf"] == "T1w"
    assert not dataset.write_pair(job)
    assert dataset.write_pair(replace(job, made_of=""))  # another pair of the same volume
    assert volumes.prepare(nifti.read(REAL)).regions is None
