"""What is there already: done before, another's and in the way, or a result itself."""

from __future__ import annotations

import json

import nibabel as nib
import pytest

import lohi_edge
from helpers import head_phantom
from lohi_edge import nifti
from lohi_edge.errors import BadInput, UsageError


def test_repeating_does_no_work_twice_and_never_overwrites_another_result(
    scan, identity_bundle, tmp_path, write_scan
):
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    first = lohi_edge.enhance(scan, **options)
    stamp = first.path.stat().st_mtime_ns
    again = lohi_edge.enhance(scan, **options)
    assert again.done_before
    assert first.path.stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(scan, grid="native", **options)
    write_scan("sub-01_T1w.nii.gz", head_phantom(seed=5).astype("i2"))
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(scan, **options)
    other = lohi_edge.enhance(scan, overwrite=True, **options)
    assert other.receipt["source"]["sha256"] != first.receipt["source"]["sha256"]


@pytest.mark.parametrize("damage", ["no receipt", "image altered"])
def test_an_unfinished_or_altered_result_is_not_taken_for_done(
    scan, identity_bundle, tmp_path, damage
):
    options = {"out": tmp_path / "o", "bundle": identity_bundle}
    first = lohi_edge.enhance(scan, **options)
    if damage == "no receipt":
        first.path.with_name("sub-01_desc-synthetic_T1w.json").unlink()
        assert not lohi_edge.enhance(scan, **options).done_before
    else:
        first.path.write_bytes(first.path.read_bytes() + b"x")
        with pytest.raises(UsageError):
            lohi_edge.enhance(scan, **options)


def test_own_results_are_never_enhanced_again(scan, identity_bundle, tmp_path):
    first = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle)
    disguised = first.path.rename(tmp_path / "innocent_T1w.nii.gz")
    with pytest.raises(BadInput, match="synthetic already"):
        lohi_edge.enhance(disguised, bundle=identity_bundle)


@pytest.mark.parametrize("trace", ["name", "sidecar", "memory"])
def test_a_result_is_known_by_its_name_its_receipt_and_its_origin(
    scan, identity_bundle, tmp_path, trace
):
    """Other tools rewrite the header's description."""
    first = lohi_edge.enhance(scan, out=tmp_path / "o", bundle=identity_bundle)
    image = nib.load(first.path)
    image.header["descrip"] = b"FSL6"
    again = first.path
    if trace == "sidecar":
        again = tmp_path / "plain_T1w.nii.gz"
        beside = first.path.with_name("sub-01_desc-synthetic_T1w.json")
        beside.rename(tmp_path / "plain_T1w.json")
    nib.save(image, again)
    with pytest.raises(BadInput, match="synthetic already"):
        lohi_edge.enhance(first.volume if trace == "memory" else again, bundle=identity_bundle)


def test_an_uncertainty_map_is_no_scan(write_scan, identity_bundle):
    with pytest.raises(BadInput, match="synthetic already"):
        lohi_edge.enhance(write_scan("x_desc-uncertainty_T1w.nii.gz"), bundle=identity_bundle)


def test_a_scan_is_never_replaced_by_its_own_result(write_scan, identity_bundle, tmp_path):
    other = write_scan("sub-01_desc-synthetic_T1w.nii.gz")
    before = other.read_bytes()
    with pytest.raises((BadInput, UsageError)):
        lohi_edge.enhance(other, out=tmp_path, bundle=identity_bundle)
    scan = write_scan("sub-01_T1w.nii.gz", head_phantom(seed=3).astype("i2"))
    with pytest.raises(UsageError, match="another result is there"):
        lohi_edge.enhance(scan, out=tmp_path, bundle=identity_bundle)
    assert other.read_bytes() == before


def test_changed_voxels_are_another_scan(scan, identity_bundle, tmp_path):
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    volume = nifti.read(scan)
    lohi_edge.enhance(volume, **options)
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(volume.with_data(volume.data[::-1]), **options)


def test_another_transform_is_another_result(write_scan, identity_bundle, tmp_path):
    scan = write_scan("two.nii")
    image = nib.load(scan)
    moved = image.affine.copy()
    moved[0, 3] += 30
    image.set_sform(image.affine, 1)
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "both.nii")
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    lohi_edge.enhance(tmp_path / "both.nii", prefer="sform", **options)
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(tmp_path / "both.nii", prefer="qform", **options)


def test_the_rule_that_named_the_contrast_does_not_make_another_result(
    scan, identity_bundle, tmp_path
):
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    lohi_edge.enhance(scan, **options)
    assert lohi_edge.enhance(scan, contrast="T1w", **options).done_before


@pytest.mark.parametrize("source", ["null", "{}", '{"sha256": 1}', "[]"])
def test_a_damaged_receipt_is_in_the_way_and_no_crash(scan, identity_bundle, tmp_path, source):
    options = {"out": tmp_path / "o", "bundle": lohi_edge.Models(identity_bundle)}
    first = lohi_edge.enhance(scan, **options)
    beside = first.path.with_name("sub-01_desc-synthetic_T1w.json")
    record = json.loads(beside.read_text())
    record["LohiEdge"]["source"] = json.loads(source)
    beside.write_text(json.dumps(record))
    with pytest.raises(UsageError, match="--overwrite"):
        lohi_edge.enhance(scan, **options)
