"""Regions, their volumes, and the shipped segmenter on the demo scan."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from importlib import resources

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_series import save, slices
from helpers import small_head
from lohi_edge import demo, nifti
from lohi_edge.cli import app
from lohi_edge.errors import BadInput, BundleError, DiskError, UsageError
from lohi_edge.onnx_check import check_onnx
from lohi_edge.quality import features, recognise, segmenter_file
from lohi_edge.quality.morphometry import (
    REGIONS,
    Segmenter,
    region_volumes,
)
from lohi_edge.quality.regions import STRUCTURES, TOTAL
from lohi_edge.volume import Volume

MEMORY_MB = 1200


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter()


@pytest.fixture(scope="module")
def scan():
    return nifti.read(demo.SCAN)


@pytest.fixture(scope="module")
def found(segmenter, scan):
    return segmenter.segment(scan)


def test_the_demo_scan_has_a_brain_of_human_proportions(found, scan):
    fine = scan.isotropic()
    assert found.labels.shape == fine.shape
    assert found.labels.dtype == np.int16
    assert np.array_equal(found.affine, fine.affine)
    assert set(np.unique(found.labels)) <= {0, *REGIONS}
    volumes = region_volumes(found)
    # Head 13 holds 1.41 l, of which 1.14 l are brain.
    assert 1250 < volumes[TOTAL] < 1550
    assert 950 < found.brain.sum() / 1000 < 1300
    assert volumes["left cerebral cortex"] > 20 * volumes["left thalamus"]
    for name, left, right in STRUCTURES:
        if right and name.startswith("cerebral"):
            assert 0.7 < volumes[REGIONS[left]] / volumes[REGIONS[right]] < 1.4, name
    left = np.argwhere(found.labels == 2)[:, 0].mean()
    assert left < np.argwhere(found.labels == 41)[:, 0].mean()  # x runs towards the right


@pytest.mark.slow
def test_a_mirrored_head_in_another_orientation_has_its_sides_exchanged(
    segmenter, scan, found, tmp_path
):
    codes = nib.orientations.axcodes2ornt("LIA")
    move = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), codes)
    mirrored = nib.Nifti1Image(scan.data[::-1], scan.affine).as_reoriented(move)
    nib.save(mirrored, tmp_path / "mirrored.nii")
    other = segmenter.segment(nifti.read(tmp_path / "mirrored.nii"))
    ours, theirs = region_volumes(found), region_volumes(other)
    for name, ml in ours.items():
        side, _, rest = name.partition(" ")
        opposite = {"left": f"right {rest}", "right": f"left {rest}"}.get(side, name)
        # The brain is found to a voxel or two, and not on the same voxels in both.
        assert theirs[opposite] == pytest.approx(ml, rel=0.15, abs=0.4), name


@pytest.mark.parametrize("kind", ["one brightness", "noise"])
def test_a_scan_with_no_head_is_refused(segmenter, kind):
    data = np.full((80, 80, 40), 7.0, np.float32)
    if kind == "noise":
        data += np.random.default_rng(0).normal(0, 1, data.shape).astype(np.float32)
    with pytest.raises(BadInput, match=r"expected an? (upright )?head"):
        segmenter.segment(Volume(data, np.diag([1.6, 1.6, 5.0, 1.0])))


@pytest.mark.slow
def test_a_head_that_lies_partly_outside_the_scan_is_refused(segmenter, scan):
    cut = round(60 / scan.zooms[2])  # slices, from below
    affine = scan.affine.copy()
    affine[:3, 3] += cut * affine[:3, 2]
    with pytest.raises(BadInput, match=r"expected at most 5% .* found \d+\.\d%; measure a scan"):
        segmenter.segment(Volume(np.ascontiguousarray(scan.data[..., cut:]), affine))


def test_a_head_that_a_scan_s_check_would_not_hold_is_not_refused(segmenter, scan, monkeypatch):
    # A T2w result of head 16 scores -0.06, and its scan 0.70: the score was fitted on scans.
    monkeypatch.setattr(recognise, "upright_score", lambda pattern: -0.1)
    assert segmenter.segment(scan).labels.any()
    upside_down = scan.with_data(np.ascontiguousarray(scan.data[..., ::-1]))
    monkeypatch.undo()
    with pytest.raises(BadInput, match="expected an upright head"):
        segmenter.segment(upside_down)


def test_the_shipped_file_is_small_allowed_and_states_its_errors():
    data = resources.files("lohi_edge.quality").joinpath("segmenter.onnx").read_bytes()
    assert len(data) < 4 << 20
    check_onnx(data, "segmenter.onnx")
    network = segmenter_file.load(None, 1)
    assert network.atlas.sum(axis=0) == pytest.approx(np.ones(features.ATLAS_SHAPE), abs=0.05)
    for kind in ("64mT", "3T", "synthetic"):
        assert set(network.errors[kind]) == {*REGIONS.values(), TOTAL}
        assert all(percent >= 0 for percent in network.errors[kind].values())


def test_the_usual_error_is_that_of_images_alike(segmenter, scan):
    errors = segmenter_file.load(None, 1).errors
    assert segmenter.errors(scan) == errors["64mT"]
    # Thin voxels alone make no 3 T scan of it.
    assert segmenter.errors(scan.isotropic()) == errors["64mT"]
    assert segmenter.errors(nifti.read(demo.TRUTH)) == errors["3T"]
    assert errors["64mT"] != errors["3T"]


def test_a_model_that_is_no_segmenter_is_refused(tmp_path, identity_bundle):
    with pytest.raises(BundleError, match="expected a segmenter"):
        Segmenter(identity_bundle / "fp32.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(BundleError, match=r"junk\.onnx"):
        Segmenter(tmp_path / "junk.onnx")
    with pytest.raises(BadInput, match="expected a file"):
        Segmenter(tmp_path / "none.onnx")


def test_volumes_command_prints_flags_and_writes_csv_and_labels(tmp_path):
    empty = tmp_path / "empty.nii"
    nib.save(nib.Nifti1Image(np.zeros((30, 30, 30), np.int16), np.eye(4)), empty)
    out = tmp_path / "volumes.csv"
    scan = tmp_path / os.fsdecode(b"kr\xe4nk.nii.gz")  # bytes that are no UTF-8
    shutil.copy(demo.SCAN, scan)
    arguments = ["volumes", str(scan), str(empty), "--json", "--csv", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--labels", str(tmp_path / "labels")])
    assert result.exit_code == 3, result.output
    measured, failed = json.loads(result.stdout)
    assert failed["error"]["exit_code"] == 3
    volumes = measured["volumes"]
    assert set(volumes["ml"]) == {*REGIONS.values(), TOTAL}
    assert set(volumes["unusable"]) == {
        name for name, percent in volumes["error_percent"].items() if percent > 20
    }
    assert [*volumes["error_percent"]] == [*volumes["ml"]]
    assert "not for diagnosis" in volumes["note"]
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 33
    assert {row["scan"] for row in rows} == {r"kr\udce4nk.nii.gz"}
    total = next(row for row in rows if row["region"] == TOTAL)
    assert float(total["ml"]) == volumes["ml"][TOTAL]
    (written,) = (tmp_path / "labels").iterdir()
    labels = nib.load(written)
    assert labels.get_data_dtype() == np.int16
    assert {2, 41, 3, 42} <= set(np.unique(np.asarray(labels.dataobj)))


def test_volumes_takes_the_scans_and_results_of_a_folder(tmp_path):
    """But no map of ours, in which no head can be seen."""
    for name in ("a", "a_desc-synthetic", "a_desc-uncertainty", "a_dseg", ".b"):
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros((30, 30, 30), np.int16), np.eye(4)), path)
    (tmp_path / "a.json").write_text("{}")
    series = save(tmp_path / "series", slices(small_head(), (2.0, 2.0), 2.0))
    words = ["volumes", str(tmp_path), str(series), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3
    measured = [record["source"]["path"] for record in json.loads(done.stdout)]
    assert measured[:2] == ["a.nii.gz", "a_desc-synthetic.nii.gz"]
    assert len(measured) == 3


def test_volumes_that_could_not_be_written_are_not_measured(tmp_path):
    words = ["volumes", str(demo.SCAN), "--csv", str(tmp_path / "gone" / "volumes.csv")]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, DiskError)
    assert not done.stdout


@pytest.mark.slow
def test_memory_is_bounded():
    # Not ru_maxrss, which a process inherits from the one that started it.
    code = (
        "from pathlib import Path; from lohi_edge import demo, nifti;"
        "from lohi_edge.quality.morphometry import Segmenter;"
        "Segmenter().segment(nifti.read(demo.SCAN));"
        "status = Path('/proc/self/status').read_text();"
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert int(done.stdout) < MEMORY_MB


@pytest.mark.slow
def test_enhance_measures_before_and_after_into_the_receipt(tmp_path):
    from lohi_edge import enhance

    result = enhance(demo.SCAN, out=tmp_path, volumes=True)
    volumes = result.receipt["metrics"]["volumes"]
    assert set(volumes) == {"input", "result"}
    for part in volumes.values():
        assert 1000 < part["ml"][TOTAL] < 1800
    assert result.receipt["timings"]["volumes"] > 0
    assert enhance(demo.SCAN, out=tmp_path, volumes=True).done_before


def test_regions_of_two_scans_do_not_overwrite_each_other(tmp_path):
    scans = [str(tmp_path / name) for name in ("a/scan.nii", "b/scan.nii.gz")]
    done = CliRunner().invoke(app, ["volumes", *scans, "--labels", str(tmp_path / "labels")])
    assert isinstance(done.exception, UsageError)
    assert "would both become scan_dseg.nii.gz" in str(done.exception)
