"""explain, reproduce and qc where paths, transforms and files beside a result are not as usual."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from dicom_series import save, slices
from helpers import move_qform, small_head
from lohi_edge import delivery, report
from lohi_edge.cli import app
from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_edge.pipeline import enhance


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def apart(write_scan, identity_bundle, tmp_path):
    """A scan and its result in folders beside each other; the receipt names neither folder."""
    scan = write_scan("scans/scan_T1w.nii.gz")
    return scan, enhance(scan, out=tmp_path / "results", bundle=identity_bundle).path


def test_a_scan_in_another_folder_is_explained_where_it_is_named(
    apart, identity_bundle, write_scan
):
    scan, result = apart
    asked = ("explain", result, "--bundle", identity_bundle, "--json")
    assert json.loads(call(*asked).stdout)["checks"]["source"] == "missing"
    named = call(*asked, "--scan", scan)
    assert named.exit_code == 0
    assert json.loads(named.stdout)["checks"]["source"] == "ok"
    other = write_scan("other.nii.gz", slice_start=1)
    wrong = call(*asked, "--scan", other)
    assert wrong.exit_code == 3
    assert json.loads(wrong.stdout)["checks"]["source"] == "changed"


def test_the_folder_of_one_result_is_enough(apart, identity_bundle, write_scan):
    _, result = apart
    folder = result.parent
    (folder / "other.json").write_text('{"a": 1}')
    words = ("explain", folder, "--bundle", identity_bundle, "--json")
    assert json.loads(call(*words).stdout)["result"] == result.name
    page = result.name.replace(".nii.gz", "_report.html")
    for named in (folder, result):
        assert call("report", named).stdout.splitlines()[0] == str(folder / page)
        (folder / page).unlink()
    enhance(write_scan("scans/b_T1w.nii.gz"), out=folder, bundle=identity_bundle)
    receipts = sorted(path.name for path in folder.glob("*desc-synthetic*.json"))
    for at, why in (
        (folder, f"found {', '.join(receipts)}: name one"),
        (folder.parent, "found none: name its receipt"),
    ):
        with pytest.raises(BadInput, match=why):
            raise call("explain", at).exception
    assert "name one" in call("report", folder).stderr


def test_a_scan_elsewhere_is_reproduced_where_it_is_named(apart, identity_bundle):
    scan, result = apart
    asked = ("reproduce", result, "--bundle", identity_bundle, "--json")
    with pytest.raises(BadInput, match="say where it lies with --scan"):
        raise call(*asked).exception
    named = call(*asked, "--scan", scan)
    assert named.exit_code == 0, named.stderr
    assert json.loads(named.stdout)["identical"] is True


def test_a_series_is_explained_where_its_receipt_says(identity_bundle, tmp_path):
    """As where the daemon moves the originals."""
    scan = save(tmp_path / "scan", slices(small_head(), (2.0, 2.0), 2.0))
    made = enhance(scan, out=tmp_path / "out", bundle=identity_bundle, contrast="T1w")
    asked = ("explain", made.path, "--bundle", identity_bundle, "--json")
    assert json.loads(call(*asked).stdout)["checks"]["source"] == "missing"
    receipt = delivery.receipt_path(made.path)
    record = json.loads(receipt.read_text())
    record["LohiEdge"]["source"]["path"] = "../scan"
    receipt.write_text(json.dumps(record))
    assert json.loads(call(*asked).stdout)["checks"]["source"] == "ok"
    save(scan, slices(small_head(1), (2.0, 2.0), 2.0))
    assert json.loads(call(*asked).stdout)["checks"]["source"] == "changed"


def test_qc_and_volumes_take_the_transform_that_is_named(write_scan):
    scan = write_scan("scan_T1w.nii.gz")
    move_qform(scan)
    for command in ("qc", "volumes"):
        refused = json.loads(call(command, scan, "--json").stdout)[0]["error"]["message"]
        assert "--prefer" in refused
        found = json.loads(call(command, scan, "--prefer", "sform", "--json").stdout)[0]
        assert "sform and qform" not in json.dumps(found)


def test_a_folder_of_nifti_files_is_not_called_one_without_dicom(write_scan):
    folder = write_scan("scans/scan_T1w.nii.gz").parent
    with pytest.raises(BadInput, match="of NIfTI files name each"):
        enhance(folder)


def test_a_report_of_no_receipt_at_all_says_so(tmp_path):
    with pytest.raises(BadInput, match="none there"):
        report.write(tmp_path / "none.json")


def test_a_result_whose_uncertainty_is_gone_is_not_one_with_it(
    write_scan, identity_bundle, tmp_path
):
    scan, out = write_scan("scan_T1w.nii.gz"), tmp_path / "out"
    made = enhance(scan, out=out, bundle=identity_bundle, uncertainty=True)
    again = enhance(scan, out=out, bundle=identity_bundle, uncertainty=True)
    assert again.done_before
    delivery.uncertainty_path(made.path).unlink()
    with pytest.raises(UsageError, match="--overwrite"):
        enhance(scan, out=out, bundle=identity_bundle, uncertainty=True)
    assert enhance(scan, out=out, bundle=identity_bundle).done_before


def test_something_in_the_way_of_an_uncertainty_is_the_disk_s_fault(
    write_scan, identity_bundle, tmp_path
):
    scan, out = write_scan("scan_T1w.nii.gz"), tmp_path / "out"
    (out / "scan_T1w_desc-uncertainty.nii.gz").mkdir(parents=True)
    with pytest.raises(DiskError, match="uncertainty"):
        enhance(scan, out=out, bundle=identity_bundle)
