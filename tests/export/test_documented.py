"""Commands for a workstation that the docs show, run as they stand; see tests/documented.py."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from documented import ROOT, STATION, exit_code, for_place, shorter
from lohi_edge import demo
from lohi_edge.errors import LohiError
from lohi_edge.quality.morphometry import Segmentation, Segmenter
from lohi_edge.quality.regions import REGIONS
from lohi_edge.volume import Volume
from lohi_export import pathologies
from lohi_export.cli import app
from lohi_export.morphometry import patches, train, voxels
from lohi_export.pairs import recontrast
from lohi_export.pairs.files import nifti_bytes
from lohi_export.pairs.pathology import PATHOLOGIES
from lohi_export.pairs.ranges import ranges_for
from lohi_export.pairs.simulate import simulate_pair

PAGES = for_place(STATION)
SMALL = {
    "width": 4, "depth": 2, "discriminator_width": 4, "height": 144, "width_px": 160, "batch": 2,
    "crop": 32, "split": {"train": ["09", "10"], "validation": ["11", "12"], "test": ["13"]},
}  # fmt: skip
# What `study.toml` becomes: the user is told to edit it. Two models, and little of each.
STUDY = """
data = "pairs"
out = "study"
models = ["lohiresgan", "unet"]
resamples = 100
[split]
train = ["09", "10"]
validation = ["11", "12"]
test = ["13"]
[training]
width = 4
depth = 2
discriminator_width = 4
height = 144
width_px = 160
crop = 32
batch = 2
steps = 2
interval = 2
"""
# (label left, label right, half-axis along the second dimension in mm), from the scalp inwards.
SHELLS = ((511, 511, 68), (507, 507, 62), (515, 515, 56), (24, 24, 50), (3, 42, 46), (2, 41, 34))
SHAPE = (144, 160, 56)


def head() -> np.ndarray:
    """Labels (144, 160, 56) int16 of a slab of a head with a left and a right, at 1 mm."""
    x, y, z = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij")
    radius = np.sqrt((x / 0.9) ** 2 + y**2 + (z / 0.9) ** 2)
    labels = np.zeros(SHAPE, np.int16)
    for left, right, half in (*SHELLS, (10, 49, 18), (4, 43, 10)):
        labels[radius < half] = np.where(x < 0, left, right)[radius < half]
    inside = labels[60:84, 84:100, 28:32]  # a speck of every region
    names = np.resize([*REGIONS], inside.size // 4)
    inside[:] = np.repeat(names, 4).reshape(inside.shape)
    return labels


class Whole(Segmenter):
    """The real one, for the whole head that is made T2w."""

    segment = Segmenter.segment


def halves(self: Segmenter, volume: Volume) -> Segmentation:
    """In the place of `Segmenter.segment`, for which a slab is no head: all that is bright."""
    fine = volume.isotropic()
    labels = np.where(fine.data > np.median(fine.data), 2, 0).astype(np.uint8)
    labels[: len(labels) // 2][labels[: len(labels) // 2] > 0] = 41
    return Segmentation(labels, fine.affine)


def in_process(script: Path, *words: str) -> tuple[int, str]:
    """(exit code, what it said) of a script."""
    paths = [p for p in sys.path if p.endswith(("/edge", "/calibration", "/export"))]
    done = subprocess.run(
        [sys.executable, script, *words], env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def invoke(line: str, folder: Path) -> tuple[int, str]:
    """(exit code, what it said); `| tee FILE` writes the file."""
    command, _, file = line.partition(" | tee ")
    words = shlex.split(command)
    if words[0] == "python":
        return in_process(ROOT / words[1], *words[2:])
    done = CliRunner().invoke(app, words[1:])
    if isinstance(done.exception, LohiError):
        return done.exception.exit_code, f"{done.output}{done.exception}"
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    if file:
        (folder / file).write_text(done.stdout)
    return done.exit_code, done.output


def clear(line: str, folder: Path) -> None:
    """Away with what an earlier command, given other options, made under the same name."""
    words = shlex.split(line)
    if "train" in words or "register" in words:
        shutil.rmtree(folder / words[words.index("--out") + 1], ignore_errors=True)
    elif words[1] == "bundle":
        shutil.rmtree(folder / words[3], ignore_errors=True)
    elif words[1] == "split":
        (folder / words[words.index("--out") + 1]).unlink()
    elif words[1] == "study" and "--write-example" not in words:
        (folder / words[2]).write_text(STUDY)
    elif words[1] == "keygen":
        for key in folder.glob(f"{words[2]}.*"):
            key.unlink()


def make(folder: Path, *lines: str) -> None:
    """Run commands that must succeed, with less work."""
    for line in lines:
        code, said = invoke(shorter(line), folder)
        assert code == 0, f"{line}\n{said[-2000:]}"


def write_raw(folder: Path, labels: np.ndarray) -> None:
    """Raw pairs of three people as docs/how-to/own-pairs.md lays them out."""
    pair = simulate_pair(
        labels, np.eye(4), 3, ranges_for("T1w"), "T1w", field_of_view=(132, 156, 130)
    )
    for number in (1, 2, 3):
        person = f"sub-P0{number}"
        for volume, field in ((pair.low, "HFC_acq-axi"), (pair.high, "GE_acq-MPRAGE")):
            place = folder / "raw" / person / f"ses-{field.partition('_')[0]}" / "anat"
            place.mkdir(parents=True)
            data = volume.with_data(volume.data * number)  # no two files of the same bytes
            (place / f"{person}_ses-{field}_T1w.nii.gz").write_bytes(nifti_bytes(data, str(number)))
    (folder / "raw/dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.8.0"}')


def write_pairs(folder: Path) -> None:
    """Pairs as `simulate` makes them; of T2w as well, which to a trainer is a name."""
    make(folder, "lohi-export simulate --labels label_maps --out pairs")
    for path in list((folder / "pairs").rglob("*_T1w.*")):
        other = path.with_name(path.name.replace("_T1w", "_T2w"))
        if path.suffix == ".json":
            shutil.copy(path, other)
        else:  # no two files of the same bytes
            image = nib.load(path)
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), other)
    (folder / "t1w").mkdir()
    shutil.copy(demo.TRUTH, folder / "t1w/someone.nii.gz")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, lopsided: np.ndarray) -> Iterator[Path]:
    """Label maps, pairs, a run, its bundle, keys, a segmenter: what an earlier page made."""
    folder = tmp_path_factory.mktemp("station")
    (folder / "label_maps").mkdir()
    for number in range(9, 14):
        path = folder / f"label_maps/head_{number:02d}_labels.nii.gz"
        nib.save(nib.Nifti1Image(head(), np.eye(4)), path)
    (folder / "small.json").write_text(json.dumps(SMALL))
    (folder / "split.json").write_text(json.dumps(SMALL["split"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_pairs(folder)
        write_raw(folder, lopsided)
        make(
            folder,
            "lohi-export train --data pairs --out runs/t1w",
            "lohi-export train --data pairs --out runs/shipped --channels 5",
            "lohi-export bundle runs/shipped t1w-edge",
            "lohi-export keygen maker",
            "lohi-export morphometry bank --labels label_maps --out bank",
        )
        yield folder


@pytest.fixture
def station(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "station"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(Segmenter, "segment", halves)
    monkeypatch.setattr(recontrast, "Segmenter", Whole)
    smallest = {name: (make, sizes[:1]) for name, (make, sizes) in PATHOLOGIES.items()}
    monkeypatch.setattr(pathologies, "PATHOLOGIES", smallest)
    monkeypatch.setattr(pathologies, "PICTURED", 0)
    monkeypatch.setattr(voxels, "VOXELS", 2000)
    monkeypatch.setattr(patches, "PATCH", (32, 40, 32))
    monkeypatch.setattr(train, "UPDATES", (3, 1))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_as_they_stand(page: str, station: Path) -> None:
    for line in PAGES[page]:
        clear(line, station)
        code, said = invoke(shorter(line), station)
        assert code == exit_code(line), f"{line}\n{said[-2000:]}"
