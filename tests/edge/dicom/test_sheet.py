"""The contact sheet: a secondary capture in the same study that says what it shows."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom import uid as uids

from dicom_series import enhanced, save, slices
from lohi_edge import delivery, dicom, enhance, picture
from lohi_edge.errors import BadInput
from lohi_edge.files import sha256

HOLDS = {"base": "none", "scan": {"T1w": {"slices": {"hold": [1000, None]}}}}


@pytest.fixture
def made(tmp_path, identity_bundle):
    """Factory: a result of given instances, as (result, its sheet)."""

    def make(source=None, out="out", **options):
        folder = save(tmp_path / f"in-{out}", slices() if source is None else source)
        result = enhance(folder, out=tmp_path / out, bundle=identity_bundle, **options)
        return result, delivery.sheet_path(result.path)

    return make


def test_it_belongs_to_the_study_and_says_synthetic(made):
    result, path = made()
    sheet, image = pydicom.dcmread(path), pydicom.dcmread(next(result.path.iterdir()))
    assert sheet.SOPClassUID == uids.SecondaryCaptureImageStorage
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "DeviceUID"):
        assert sheet[keyword].value == image[keyword].value, keyword
    assert sheet.SeriesInstanceUID not in (image.SeriesInstanceUID, slices()[0].SeriesInstanceUID)
    assert sheet.SeriesDescription == "SYN 3T-like T1w sheet NOT FOR DIAGNOSTIC USE"
    assert (sheet.BurnedInAnnotation, sheet.ConversionType) == ("YES", "WSD")
    assert sheet.ImageType == ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]
    assert len(sheet.SourceImageSequence) == 16
    assert "FrameOfReferenceUID" not in sheet
    pixels = sheet.pixel_array
    assert pixels.dtype == np.uint8
    assert pixels.std() > 10  # a picture, before above after, and what the quality check says
    assert len(pixels) >= 2 * (picture.TILE + picture.STRIP) + picture.STRIP
    assert result.receipt["result"]["sheet"] == {
        "path": path.name,
        "sha256": sha256(path.read_bytes()),
        "series_uid": sheet.SeriesInstanceUID,
    }


def test_a_rerun_makes_no_twin(made):
    first, second, marked = (
        pydicom.dcmread(made(out=out, **options)[1])
        for out, options in (("a", {}), ("b", {}), ("c", {"grid": "1mm"}))
    )
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != marked.SOPInstanceUID


def test_that_of_a_held_result_says_so_and_is_no_twin_of_another(made):
    passed = made(out="a", limits={"base": "none"})[1]
    result, path = made(out="b", limits=HOLDS, deliver_held=True)
    sheet, image = pydicom.dcmread(path), pydicom.dcmread(next(result.path.iterdir()))
    assert sheet.SeriesDescription == "SYN 3T-like HELD T1w sheet NOT FOR DIAGNOSTIC USE"
    assert image.SeriesDescription == "SYN 3T-like HELD T1w NOT FOR DIAGNOSTIC USE"
    assert "HELD" in sheet.ImageComments
    assert "HELD" in image.ImageComments
    assert sheet.SeriesInstanceUID != pydicom.dcmread(passed).SeriesInstanceUID


def test_it_never_comes_back_in(made):
    _, path = made()
    with pytest.raises(BadInput, match="computed by lohi-edge already"):
        dicom.find(path.parent)


@pytest.mark.parametrize("kind", ["classic", "enhanced", "bare"])
def test_dciodvfy_accepts_it(made, kind):
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed")
    source = [enhanced()] if kind == "enhanced" else slices()
    for ds in source if kind == "bare" else ():
        del ds.SeriesNumber, ds.StudyID, ds.PatientPosition
    _, path = made(source)
    checked = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
    assert "Error" not in checked.stderr, checked.stderr
