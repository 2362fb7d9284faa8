"""Simulated scans as the segmenter is fed them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from lohi_edge.errors import BadInput
from lohi_edge.quality.regions import STRUCTURES
from lohi_export.morphometry import scans

VENTRICLE = 1 + [name for name, _, _ in STRUCTURES].index("lateral ventricle")


@pytest.fixture(scope="module")
def data(head, tmp_path_factory):
    """A data set of one head whose only ventricle is the right one, in a grid of its own.

    The scan shows the inside of the skull at 500 and the ventricle at 1000.
    """
    labels = np.pad(np.where(head == 4, 2, head), ((20, 9), (4, 8), (12, 6)))
    image = np.where(labels == 43, 1000, np.where(labels > 0, 500, 0)).astype(np.float32)
    path = tmp_path_factory.mktemp("pairs")
    for session, name, values in (
        ("64mT", "T1w", image), ("3T", "T1w", image), ("3T", "dseg", labels),
    ):  # fmt: skip
        place = path / f"sub-01/ses-{session}/anat"
        place.mkdir(parents=True, exist_ok=True)
        nib.save(
            nib.Nifti1Image(values, np.eye(4)), place / f"sub-01_ses-{session}_run-01_{name}.nii.gz"
        )
    return path


@pytest.mark.parametrize("seed", range(6))
def test_truth_lies_where_the_image_shows_it_mirrored_or_not(data, seed, monkeypatch):
    monkeypatch.setattr(scans, "KINDS", ("64mT", "3T"))
    found = scans.find(data, ["01"], ("T1w",))
    painted = scans.draw(found, None, np.random.default_rng(seed))
    fluid = painted.counts[VENTRICLE] == 8
    tissue = (painted.counts[2] == 8) | (painted.counts[1] == 8)
    assert fluid.sum() > 500
    assert painted.image[fluid].min() > painted.image[tissue].max()
    # In an upright head the right side has the higher index, in a mirrored one too.
    middle = np.argwhere(painted.counts[1:-1].sum(axis=0) > 0)[:, 0].mean()
    assert np.argwhere(painted.right == 8)[:, 0].mean() > middle
    assert np.argwhere(painted.left == 8)[:, 0].mean() < middle
    mirrored = np.argwhere(fluid)[:, 0].mean() < middle
    assert (painted.left[fluid] == 8).all() if mirrored else (painted.right[fluid] == 8).all()


def test_a_truth_on_another_grid_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(scans, "KINDS", ("64mT",))
    (found,) = scans.find(data, ["01"], ("T1w", "FLAIR"))
    cut = nib.load(found.dseg).slicer[1:]
    nib.save(cut, tmp_path / "dseg.nii.gz")
    wrong = scans.Scan(found.head, found.contrast, found.low, found.high, tmp_path / "dseg.nii.gz")
    with pytest.raises(BadInput, match=r"dseg.nii.gz: expected the grid"):
        scans.draw([wrong], None, np.random.default_rng(0))


def test_heads_that_are_not_there_are_named(data):
    with pytest.raises(BadInput, match=r"T1w scans of heads 01, 02, 03 .*, found none of 02, 03"):
        scans.find(data, ["01", "02", "03"], ("T1w",))
