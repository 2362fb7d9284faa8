"""What the forward model learns from: which scans are read, and where their brain is."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.models import Models
from lohi_export.forward.samples import read

SHAPE = (100, 112, 88)  # mm
FIELD = (98, 112, 88)  # of the scan, which sees less than was labelled


def write(root, head, contrast):
    """A round head with its brain to one side, 2 x 2 x 4 mm: brain bright, the rest half so."""
    x, y, z = np.ogrid[tuple(slice(n) for n in SHAPE)]
    labels = np.zeros(SHAPE, np.int16)
    labels[np.hypot(np.hypot(x - 49, y - 56), z - 44) < 40] = 507
    labels[np.hypot(np.hypot(x - 44, y - 62), z - 48) < 16] = 2
    bright = np.choose((labels > 0) + (labels == 2).astype(int), [0.02, 0.5, 1.0])
    thick = bright[: FIELD[0]].reshape(49, 2, 56, 2, 22, 4).mean(axis=(1, 3, 5))
    thick += np.random.default_rng(head).uniform(0, 0.01, thick.shape)
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = 0.5, 0.5, 1.5
    name = f"sub-{head:02d}_ses-{{}}_run-01_{{}}.nii.gz"
    for session, suffix, data, grid in (
        ("64mT", contrast, thick.astype(np.float32), affine), ("3T", "dseg", labels, np.eye(4)),
    ):  # fmt: skip
        folder = root / f"sub-{head:02d}/ses-{session}/anat"
        folder.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, grid), folder / name.format(session, suffix))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for head, contrast in ((3, "T1w"), (3, "T2w"), (11, "T1w"), (13, "T1w"), (13, "FLAIR")):
        write(root, head, contrast)
    return root


def test_of_a_contrast_only_the_training_heads_are_read_with_their_brain(data):
    sample, unseen = read(data, "T1w", Models())  # of heads 03 and 11
    assert (sample.unseen, unseen.unseen) == (False, True)
    cells = sample.cells
    assert sample.brain.shape == cells.scan.shape == cells.inside.shape == cells.place.shape[1:]
    assert cells.result.shape == tuple(2 * n for n in cells.scan.shape)
    assert cells.result.max() > 0.5
    brain, other = sample.brain > 0.95, (sample.brain < 0.05) & (cells.inside > 0)
    assert brain.sum() > 100
    assert other.sum() > 100
    assert cells.scan[brain].min() > 1.3 * cells.scan[other].max()


def test_what_has_no_such_scans_is_refused(data):
    for contrast in ("FLAIR", "T2w"):  # of head 13 alone, and of head 03 alone
        with pytest.raises(BadInput, match=f"{contrast} scans of heads 01-10 and of heads 11-12"):
            read(data, contrast, Models())
    with pytest.raises(UsageError, match="T1w, T2w, FLAIR, got T9w"):
        read(data, "T9w", Models())
