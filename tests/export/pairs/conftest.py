"""A small head of concentric ellipsoids, enough for every step of the simulator."""

from __future__ import annotations

import numpy as np
import pytest

from lohi_export.pairs import simulate

SHAPE = (72, 80, 72)
# (label, half-axis along the second dimension in mm), from the scalp inwards
SHELLS = ((511, 34), (507, 31), (515, 26), (24, 23), (3, 21), (2, 17), (4, 5))


def ellipsoid_head() -> np.ndarray:
    """Labels (72, 80, 72) int16: skin, soft tissue, bone, CSF, cortex, white matter, ventricle."""
    axes = [(np.arange(n) - (n - 1) / 2) for n in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((x / 0.9) ** 2 + y**2 + (z / 0.9) ** 2)
    labels = np.zeros(SHAPE, np.int16)
    for label, half in SHELLS:
        labels[radius < half] = label
    return labels


@pytest.fixture
def small_field_of_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans of 64 x 72 x 60 mm, which the ellipsoids fill."""
    monkeypatch.setattr(simulate.simulate_pair, "__defaults__", ("T1w", (64, 72, 60), None, None))
    monkeypatch.setattr(simulate.pose, "__defaults__", ((64, 72, 60), None))


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    return ellipsoid_head()


@pytest.fixture(scope="session")
def label_folder(tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray):
    import nibabel as nib

    folder = tmp_path_factory.mktemp("labels")
    for head in (1, 2):
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / f"head_{head:02d}_labels.nii.gz")
    return folder
