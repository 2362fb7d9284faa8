"""A small study: the toy heads with a truth segmentation, tiny networks, a few steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from studies import run

STEPS = 4
TEXT = """
data = "pairs"
out = "study"
models = ["lohiresgan", "lohiresgan-plain"]
resamples = 100
morphometry = false
{more}
[training]
width = 4
depth = 2
discriminator_width = 4
height = 64
width_px = 72
batch = 2
crop = 32
interval = 2
steps = 4
"""
SPLIT = '[split]\ntrain = ["01", "02"]\nvalidation = ["03"]\ntest = ["04"]'


@pytest.fixture(scope="session")
def make_study(toy: Path) -> Callable[[Path, str], Path]:
    """Write a configuration and its data set into a folder; returns the configuration's path."""

    def make(folder: Path, more: str = SPLIT) -> Path:
        shutil.copytree(toy, folder / "pairs", ignore=shutil.ignore_patterns(".slices"))
        for high in (folder / "pairs").glob("sub-*/ses-3T/anat/*_T1w.nii.gz"):
            image = nib.load(high)
            inside = (np.asarray(image.dataobj) > 500).astype(np.int16) * 3
            labels = high.with_name(high.name.replace("_T1w", "_dseg"))
            nib.save(nib.Nifti1Image(inside, image.affine), labels)
        path = folder / "study.toml"
        path.write_text(TEXT.format(more=more))
        return path

    return make


@pytest.fixture(scope="module")
def finished(make_study: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study."""
    config = make_study(tmp_path_factory.mktemp("small"))
    run(config)
    return config.parent / "study"
