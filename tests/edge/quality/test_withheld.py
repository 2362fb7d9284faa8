"""The receipt of a result that the quality check held back, and what is made of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dicom_series import save, slices
from helpers import small_head
from lohi_edge import finished, nifti, provenance, report
from lohi_edge.cli import app
from lohi_edge.errors import BadInput, Held, UsageError
from lohi_edge.files import sha256
from lohi_edge.picture import STRIP, TILE
from lohi_edge.pipeline import enhance

HOLDS = {"base": "none", "scan": {"T1w": {"slices": {"hold": [1000, None]}}}}


@pytest.fixture
def hold(write_scan, identity_bundle, tmp_path):
    """Factory: have a scan held; returns its receipt's path."""

    def run(scan=None, **options):
        scan = scan or write_scan("scan.nii.gz")
        options = {"bundle": identity_bundle, "contrast": "T1w", "limits": HOLDS, **options}
        with pytest.raises(Held) as error:
            enhance(scan, out=tmp_path / "out", **options)
        assert str(error.value.path) in str(error.value)
        return error.value.path

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_command_leaves_the_receipt_and_nothing_else(write_scan, identity_bundle, tmp_path):
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps(HOLDS))
    scan, out = write_scan("sub-01_T1w.nii.gz"), tmp_path / "out"
    words = ["enhance", scan, "-o", out, "--bundle", identity_bundle, "--limits", limits]
    run = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert run.exit_code == 4
    assert names(out) == ["sub-01_desc-withheld_T1w.json"]
    whole = json.loads((out / "sub-01_desc-withheld_T1w.json").read_text())
    record = whole["LohiEdge"]
    (printed,) = json.loads(run.stdout)
    assert {k: v for k, v in printed.items() if k != "error"} == record
    assert (record["result"], record["verdict"]) == (None, "hold")
    assert record["metrics"]["scan"]["slices"]["limits"] == {"hold": [1000, None]}
    assert record["timings"]["total"] > 0
    assert whole["Description"].startswith("No image")
    assert whole["Sources"] == ["../sub-01_T1w.nii.gz"]


def test_a_derived_series_that_is_held_leaves_a_receipt_beside_where_it_would_be(hold, tmp_path):
    scan = save(tmp_path / "scan", slices(small_head(), (2.0, 2.0), 2.0))
    beside = hold(scan)
    assert beside.parent == tmp_path / "out"
    assert names(tmp_path / "out") == [beside.name]
    record = finished.read_receipt(beside)
    assert record["source"]["kind"] == "dicom"
    assert json.loads(beside.read_text())["Sources"] == []


def test_the_page_shows_the_scan_alone_and_says_that_there_is_no_image(hold):
    beside = hold()
    whole = json.loads(beside.read_text())
    whole["LohiEdge"]["model_limits"] = "Blurs sulci."  # which are those of results
    beside.write_text(json.dumps(whole))
    page, sheet = report.write(beside)
    text = page.read_text()
    assert "Blurs sulci" not in text
    assert "No enhanced image was delivered" in text
    assert text.index("No enhanced image") < text.index("<svg")
    assert "SYNTHETIC" not in text
    assert "research use only. Never use it for diagnosis" in text
    assert text.count("slice of the 64 mT scan") == 3
    assert "<input" not in text
    assert "synthetic result" not in text
    assert "class='missing'" not in text
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[1] == 3 * TILE
    assert pixels.shape[0] < 2 * (TILE + STRIP)  # one row, and the words below it


def test_the_commands_take_it(hold, identity_bundle, tmp_path):
    beside = hold()
    for what in (beside, beside.parent):
        assert CliRunner().invoke(app, ["report", str(what)]).exit_code == 0
    run = CliRunner().invoke(app, ["explain", str(beside), "--bundle", str(identity_bundle)])
    assert run.exit_code == 0
    assert "note: No enhanced image was delivered" in run.stdout
    assert "verdict: hold" in run.stdout
    checks = provenance.explain(beside, identity_bundle)["checks"]
    assert checks.items() >= {"source": "ok", "bundle": "ok", "onnx": "ok"}.items()
    assert "result" not in checks
    with pytest.raises(BadInput, match=r"result was held back.*--deliver-held"):
        provenance.reproduce(beside, identity_bundle)


def test_uncertainty_that_was_asked_for_is_not_missed(hold, identity_bundle):
    beside = hold(uncertainty=True)
    assert "uncertainty" not in provenance.explain(beside, identity_bundle)["checks"]
    assert "class='missing'" not in report.write(beside)[0].read_text()


def test_a_scan_judged_again_has_one_receipt(hold, write_scan, identity_bundle, tmp_path):
    scan, out = write_scan("scan.nii.gz"), tmp_path / "out"
    report.write(hold(scan))
    first = hold(scan)
    assert len(list(out.glob("*.json"))) == 1
    assert first.exists()
    options = {"bundle": identity_bundle, "contrast": "T1w", "out": out}
    enhance(scan, limits=HOLDS, deliver_held=True, **options)
    assert names(out) == ["scan_desc-syntheticHELD.json", "scan_desc-syntheticHELD.nii.gz"]
    hold(scan)
    enhance(scan, **options)
    assert not first.exists()
    assert len(list(out.glob("*.json"))) == 2


def test_the_receipt_of_a_delivered_held_result_stays_its_own(
    hold, write_scan, identity_bundle, tmp_path
):
    scan = write_scan("scan.nii.gz")
    options = {"bundle": identity_bundle, "contrast": "T1w", "limits": HOLDS}
    made = enhance(scan, out=tmp_path / "out", deliver_held=True, **options)
    hold(scan)
    record = finished.read_receipt(made.path.with_name("scan_desc-syntheticHELD.json"))
    assert record["result"]["sha256"] == sha256(made.path.read_bytes())


def test_that_of_another_scan_is_replaced_only_where_asked(
    hold, write_scan, identity_bundle, tmp_path
):
    scan = write_scan("scan.nii.gz")
    first = hold(scan)
    before = first.read_bytes()
    write_scan("scan.nii.gz", nifti.read(scan).data[::-1].astype(np.int16))
    for limits in (HOLDS, None):
        with pytest.raises(UsageError, match=r"receipt of another scan.*--overwrite"):
            enhance(
                scan, out=tmp_path / "out", bundle=identity_bundle, contrast="T1w", limits=limits
            )
    assert first.read_bytes() == before
    assert hold(scan, overwrite=True) == first
    assert first.read_bytes() != before


@pytest.mark.parametrize("lost", ["hold", "result"])
def test_a_receipt_that_lost_what_it_says_of_its_result_is_none(hold, lost):
    beside = hold()
    whole = json.loads(beside.read_text())
    if lost == "hold":
        whole["LohiEdge"]["verdict"] = "pass"
    else:
        del whole["LohiEdge"]["result"]
    beside.write_text(json.dumps(whole))
    assert finished.read_receipt(beside) is None
