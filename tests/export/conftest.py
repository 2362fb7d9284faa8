"""A toy paired data set: heads of smooth blobs, seen sharply at 3 T and through thick slices."""

from __future__ import annotations

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
