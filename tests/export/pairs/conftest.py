"""A small head of concentric ellipsoids, enough for every step of the simulator."""

from __future__ import annotations

import numpy as np
import pytest

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


@pytest.fixture(scope="session")
def lopsided() -> np.ndarray:
    """A head (132, 156, 128) int16 whose pose can be told: no plane or axis of symmetry."""
    size = (132, 156, 128)
    x, y, z = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in size], indexing="ij")
    labels = np.zeros(size, np.int16)
    for label, half in ((511, 62), (507, 58), (515, 52), (24, 47), (3, 44), (2, 37)):
        labels[np.sqrt((x / 0.78) ** 2 + y**2 + (z / 0.86) ** 2) < half] = label
    brain = labels == 2
    for k in range(7):  # sulci that run obliquely, each in its own direction, to its own depth
        turn = 2 * np.pi * k / 7 + 0.3
        across = x * np.cos(turn) + y * np.sin(turn) + z * np.sin(3 * k)
        along = y * np.cos(turn) - x * np.sin(turn)
        labels[brain & (np.abs(across) < 2) & (along > 14 + 3 * k)] = 24
    for label, centre, axes in (
        (4, (9, 6, 9), (6, 20, 7)),  # a ventricle, longer on one side
        (43, (-11, -4, 10), (6, 12, 9)),
        (10, (10, -9, -6), (9, 11, 7)),
        (51, (-18, 13, 0), (6, 11, 10)),
        (8, (13, -27, -19), (15, 11, 10)),
        (16, (0, -12, -26), (8, 8, 14)),
        (506, (22, 50, -10), (11, 11, 11)),  # eyes; a nose
        (506, (-24, 49, -8), (11, 11, 11)),
        (507, (2, 63, -20), (8, 9, 12)),
    ):
        offset = [(a - c) / h for a, c, h in zip((x, y, z), centre, axes, strict=True)]
        labels[sum(o**2 for o in offset) < 1] = label
    return labels
