"""A toy paired data set: heads of smooth blobs, seen sharply at 3 T and through thick slices."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import Result
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from lohi_export.cli import app

SUBJECTS = ("01", "02", "03", "04")
SPLIT = {"train": ["01", "02"], "validation": ["03"], "test": ["04"]}
OPTIONS: dict[str, Any] = {
    "width": 4,
    "depth": 2,
    "discriminator_width": 4,
    "height": 64,
    "width_px": 72,
    "batch": 2,
    "crop": 32,
    "interval": 3,
    "split": SPLIT,
}


def write_pair(root: Path, subject: str, seed: int) -> None:
    """A head of 48 x 56 x 36 mm with air around it: 64 mT at 2 x 2 x 4 mm, and 3 T at 1 mm."""
    rng = np.random.default_rng(seed)
    shape = (56, 64, 52)
    axes = (np.linspace(-1, 1, n) * n / size for n, size in zip(shape, (48, 56, 36), strict=True))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    tissue = np.digitize(gaussian_filter(rng.normal(size=shape), 3) * 10, [-0.5, 0.5])
    high = ((grid**2).sum(0) < 1) * np.array([200.0, 600.0, 900.0])[tissue]
    low = high.reshape(28, 2, 32, 2, 13, 4).mean((1, 3, 5)) + rng.uniform(0, 20, (28, 32, 13))
    fine = np.diag([1.0, 1.0, 1.0, 1.0])
    coarse = np.diag([2.0, 2.0, 4.0, 1.0])
    coarse[:3, 3] = (0.5, 0.5, 1.5)
    for session, data, affine in (("64mT", low, coarse), ("3T", high, fine)):
        path = (
            root / f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_run-01_T1w.nii.gz"
        )
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(data.astype(np.float32), affine), path)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set's folder; its slice cache fills as tests use it."""
    root = tmp_path_factory.mktemp("toy")
    for seed, subject in enumerate(SUBJECTS):
        write_pair(root, subject, seed)
    return root


@pytest.fixture
def toy_options() -> dict[str, Any]:
    """Options of the tiny runs."""
    return dict(OPTIONS)


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Run a command of lohi-export: `invoke("split", folder, "--seed", 1)`."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return run


@pytest.fixture(scope="session")
def trained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a few uninterrupted steps on one thread."""
    from lohi_export import session

    session.set_up_cpu(1)
    run = session.prepare(
        toy, tmp_path_factory.mktemp("runs") / "toy", OPTIONS, 10, None, None, None
    )
    assert session.train(run, "cpu", None) == 0
    return run.folder


@pytest.fixture(scope="session")
def stopped(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 10 steps that was stopped after 4."""
    import torch

    from lohi_export import session, train
    from lohi_export.stopping import Stop

    session.set_up_cpu(1)
    folder = tmp_path_factory.mktemp("stopped") / "run"
    run = session.prepare(toy, folder, OPTIONS, 10, None, None, None)

    def terminate(step: int, row: object) -> None:
        if step == 4:
            signal.raise_signal(signal.SIGTERM)

    with Stop() as stop:
        train.Trainer(run, torch.device("cpu")).fit(stop, terminate)
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
