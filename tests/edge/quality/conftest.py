"""Results of a phantom, for what is made of a receipt."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import head_phantom
from lohi_edge import delivery
from lohi_edge.pipeline import enhance
from lohi_edge.volume import Volume


@pytest.fixture
def done(write_scan, identity_bundle, tmp_path):
    return enhance(write_scan("scan_T1w.nii.gz"), out=tmp_path / "out", bundle=identity_bundle)


@pytest.fixture(scope="module")
def edited(identity_bundle, tmp_path_factory):
    """A receipt without its images: its path, what it says, and the bundle."""
    folder = tmp_path_factory.mktemp("edited")
    scan = Volume(head_phantom(), np.diag([2.8, 2.8, 9.0, 1.0]))
    made = enhance(scan, out=folder, bundle=identity_bundle, contrast="T1w")
    made.path.unlink()
    beside = delivery.receipt_path(made.path)
    return beside, beside.read_text(), identity_bundle
