"""`lohi-export quality`: what its commands refuse, and the recogniser that one of them writes."""

from __future__ import annotations

import itertools
from importlib import resources

import nibabel as nib
import numpy as np
import pytest

from lohi_edge import demo
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput, LohiError
from lohi_edge.quality.forward import Cells
from lohi_export import recogniser
from lohi_export.forward import detector, samples, training
from lohi_export.forward.network import ForwardModel


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("recogniser", 2),
        ("recogniser nowhere", 2),
        ("recogniser nowhere out.npz", 3),
        ("recogniser nowhere no/such/folder/out.npz", 6),
        ("recogniser nowhere .", 6),
        ("forward", 2),
        ("forward nowhere T1w out.onnx", 3),
        ("forward nowhere T1w no/such/folder/out.onnx", 6),
        ("forward nowhere T9w out.onnx", 2),
        ("forward nowhere T1w out.onnx --steps many", 2),
        ("forward nowhere T1w out.onnx --steps 0", 2),
    ],
)
def test_what_it_cannot_do_is_said_and_nothing_written(words, code, tmp_path, monkeypatch, invoke):
    monkeypatch.chdir(tmp_path)
    done = invoke("quality", *words.split())
    found = done.exception.exit_code if isinstance(done.exception, LohiError) else done.exit_code
    assert found == code, done.output
    assert not list(tmp_path.iterdir())


@pytest.fixture
def pairs(tmp_path):
    """One head for two; how bright its tissues are differs a little, by contrast more."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    scan = nib.load(demo.SCAN)
    for (contrast, power), head in itertools.product(
        zip(CONTRASTS, (1, 2, 0.5), strict=True), (1, 2)
    ):
        data = (scan.get_fdata() ** (power + 0.1 * head)).astype(np.float32)
        path = folder / f"sub-{head:02d}_ses-64mT_run-01_{contrast}.nii.gz"
        nib.save(nib.Nifti1Image(data, scan.affine), path)
    return folder


def test_the_recogniser_is_written_as_the_device_reads_it(pairs, tmp_path, monkeypatch, invoke):
    monkeypatch.setattr(recogniser, "PHANTOMS", 2)
    assert invoke("quality", "recogniser", pairs, tmp_path / "out.npz").exit_code == 0
    shipped = resources.files("lohi_edge.quality").joinpath("recogniser.npz")
    with np.load(tmp_path / "out.npz") as made, shipped.open("rb") as file, np.load(file) as known:
        assert set(made) == set(known)
        assert {k: made[k].dtype for k in made} == {k: known[k].dtype for k in known}
        assert made["upright"].shape == known["upright"].shape
        assert made["inside"].shape == known["inside"].shape


def test_a_recogniser_of_fewer_contrasts_is_refused(pairs, tmp_path, invoke):
    for path in pairs.glob("*_T2w.nii.gz"):
        path.unlink()
    done = invoke("quality", "recogniser", pairs, tmp_path / "out.npz")
    assert "T2w scans of heads 01-12" in str(done.exception)
    assert not (tmp_path / "out.npz").exists()


def test_a_forward_model_that_hardly_finds_brain_is_refused_before_painting(
    tmp_path, monkeypatch, invoke
):
    whole = np.ones((8, 8, 8), np.float32)
    cells = Cells(whole, np.ones((16, 16, 16), np.float32), np.stack([whole] * 3), whole, (0, 0, 0))
    monkeypatch.setattr(samples, "read", lambda *_: [samples.Sample(cells, whole)])
    monkeypatch.setattr(training, "train", lambda *_: ForwardModel())
    monkeypatch.setattr(training, "spot_filter", lambda *_: np.ones((9, 9, 9), np.float32))
    monkeypatch.setattr(detector, "gather", lambda *_: pytest.fail("painted for nothing"))
    done = invoke("quality", "forward", "d", "T1w", tmp_path / "out.onnx")
    assert isinstance(done.exception, BadInput)
    assert "in 0 of 1; give more --steps" in str(done.exception)
    assert not (tmp_path / "out.onnx").exists()


def test_a_forward_model_that_finds_brain_is_taken(monkeypatch):
    whole = np.ones((20, 20, 20), np.float32)
    cells = Cells(whole, whole, whole, whole, (0, 0, 0))
    monkeypatch.setattr(detector, "look", lambda *_: (None, whole))
    detector.require_brain(ForwardModel(), whole, [samples.Sample(cells, whole)])
