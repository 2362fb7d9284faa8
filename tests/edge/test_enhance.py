"""The whole path on an identity generator: what comes out is the input, moved and scaled."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import lohi_edge
from helpers import head_phantom
from lohi_edge import nifti
from lohi_edge.errors import BadInput, BundleError, DiskError
from lohi_edge.volume import Volume


def test_intensities_are_the_scans_own_through_an_identity_generator(scan, identity_bundle):
    """[low, high] -> [-1, 1] -> [0, 1000], nothing else."""
    result = lohi_edge.enhance(scan, bundle=identity_bundle)
    low, high = result.receipt["metrics"]["input_range"]
    fine = nifti.read(scan).isotropic()
    wanted = np.clip((fine.data - low) / (high - low), 0, 1) * 1000
    inside = result.volume.data > 0
    assert np.abs(result.volume.data - wanted)[inside].max() < 0.01
    assert np.array_equal(result.volume.affine, fine.affine)
    assert result.path is None


def test_native_grid_is_the_scans_own(scan, identity_bundle, tmp_path):
    result = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle, grid="native")
    source, out = nib.load(scan), nib.load(result.path)
    assert out.shape == source.shape
    assert np.array_equal(out.affine, source.affine)


def test_same_scan_from_file_and_from_memory(scan, identity_bundle):
    """The API takes what it gave."""
    models = lohi_edge.Models(identity_bundle)
    a = lohi_edge.enhance(scan, bundle=models)
    b = lohi_edge.enhance(nifti.read(scan), bundle=models)
    assert np.array_equal(a.volume.data, b.volume.data)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "finite voxels within float32, got 1 NaN or infinite"),
        (np.inf, "got 1 NaN or infinite"),
        (2e30, "at most 1e"),
    ],
)
def test_a_volume_from_memory_is_looked_at_as_a_file_is(scan, identity_bundle, value, words):
    volume = nifti.read(scan)
    data = volume.data.copy()
    data[3, 4, 5] = value
    with pytest.raises(BadInput, match=words):
        lohi_edge.enhance(Volume(data, volume.affine), bundle=identity_bundle)


@pytest.mark.parametrize("strength", ["NaN", "1e999", "true", '"3"'])
def test_a_field_strength_that_is_no_number_stays_behind(scan, identity_bundle, tmp_path, strength):
    scan.with_name("sub-01_T1w.json").write_text("{" + f'"MagneticFieldStrength": {strength}' + "}")
    result = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle)
    beside = json.loads(result.path.with_name("sub-01_desc-synthetic_T1w.json").read_text())
    assert "MagneticFieldStrength" not in beside


def test_receipts_name_no_folder_outside_their_own(write_scan, identity_bundle, tmp_path):
    scan = write_scan("DOE_JOHN_1970/scan.nii.gz")
    result = lohi_edge.enhance(scan, out=tmp_path / "out", bundle=identity_bundle)
    assert "DOE" not in result.path.with_name("scan_desc-synthetic.json").read_text()


def test_field_strength_stays_the_sources_and_patient_text_stays_behind(
    scan, identity_bundle, tmp_path
):
    scan.with_name("sub-01_T1w.json").write_text(
        json.dumps({"MagneticFieldStrength": 0.064, "PatientName": "DOE^JOHN"})
    )
    result = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle)
    text = result.path.with_name("sub-01_desc-synthetic_T1w.json").read_text()
    assert json.loads(text)["MagneticFieldStrength"] == 0.064
    assert "DOE" not in text


@pytest.mark.parametrize(
    ("name", "sidecar", "asked", "contrast", "rule"),
    [
        ("sub-1_T2w", {}, "T1w", "T1w", "--contrast"),
        ("sub-1_FLAIR", {"ProtocolName": "T1"}, None, "FLAIR", "suffix"),
        ("scan", {"SeriesDescription": "AX T2 FLAIR"}, None, "FLAIR", "SeriesDescription"),
        ("scan", {"ProtocolName": "t2_tse"}, None, "T2w", "ProtocolName"),
        ("scan", {"ProtocolName": "T2*_gre"}, None, "T1w", "assumed"),
        ("scan", {}, None, "T1w", "assumed"),
    ],
)
def test_contrast_rules(name, sidecar, asked, contrast, rule):
    from lohi_edge.contrast import decide

    found, why = decide(asked, name, sidecar)
    assert found == contrast
    assert rule in why


def test_bundle_of_another_contrast_is_refused(write_scan, identity_bundle):
    with pytest.raises(BundleError, match="enhances T1w, the scan is T2w"):
        lohi_edge.enhance(write_scan("sub-1_T2w.nii"), bundle=identity_bundle)


@pytest.fixture
def loaded(identity_bundle):
    models = lohi_edge.Models(identity_bundle)
    models.get("T1w")
    return models


def test_folder_without_permission(loaded, unprivileged):
    source = Volume(head_phantom(), np.diag([2.8, 2.8, 9, 1]))
    locked = unprivileged / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(DiskError, match="permission denied"):
        lohi_edge.enhance(source, out=locked, bundle=loaded)
    assert not list(locked.iterdir())


@pytest.mark.parametrize("calls", [0, 1])
def test_a_disk_that_turns_read_only_amid_the_writing_is_said(loaded, tmp_path, monkeypatch, calls):
    """Then what was begun cannot be removed either."""
    source = Volume(head_phantom(), np.diag([2.8, 2.8, 9, 1]))
    read_only = OSError(errno.EROFS, os.strerror(errno.EROFS))
    fsync, done = os.fsync, []

    def refuse(*_, **__):
        raise read_only

    def turn(descriptor):
        done.append(descriptor)
        if len(done) > 2 * calls:  # a file and its folder each
            monkeypatch.setattr(Path, "unlink", refuse)
            raise read_only
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", turn)
    with pytest.raises(DiskError, match="read-only file system"):
        lohi_edge.enhance(source, out=tmp_path, bundle=loaded)
