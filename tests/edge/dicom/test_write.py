"""Volume -> derived series: what a PACS and a radiologist see of it."""

from __future__ import annotations

import json
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom import uid as uids

from dicom_series import RECORD, enhanced, instances, papaya, save, slices
from lohi_edge import dicom, nifti
from lohi_edge.errors import BadInput
from lohi_edge.source import refuse_synthetic


def test_says_synthetic_and_keeps_whose_it_is(derived):
    folder, _, written = derived()
    found = instances(folder)
    acquired = slices()
    assert len(found) == len(acquired) == written["files"]
    for n, (ds, source) in enumerate(zip(found, acquired, strict=True)):
        assert ds.ImageType == ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]
        assert ds.SeriesDescription == "SYN 3T-like T1w NOT FOR DIAGNOSTIC USE"
        assert (ds.ContentQualification, ds.BurnedInAnnotation) == ("RESEARCH", "NO")
        assert "NOT FOR DIAGNOSTIC USE" in ds.DerivationDescription
        assert [c.CodeValue for c in ds.DerivationCodeSequence] == ["SYN3T", "113085"]
        (item,) = ds.SourceImageSequence
        assert item.ReferencedSOPInstanceUID == source.SOPInstanceUID
        scanner, maker = ds.ContributingEquipmentSequence
        assert (scanner.Manufacturer, maker.ManufacturerModelName) == ("Maker", "lohi-edge")
        assert ds.DeviceUID == maker.DeviceUID
        for keyword in (
            *("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID", "StudyDate"),
            *("SeriesDate", "ContentTime", "AccessionNumber", "MagneticFieldStrength"),
            *("PatientPosition", "RepetitionTime", "EchoTime", "SOPClassUID"),
        ):
            assert ds[keyword].value == source[keyword].value, keyword
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            np.testing.assert_allclose(
                np.array(ds[keyword].value, float), np.array(source[keyword].value, float)
            )
        assert ds.preamble == bytes(128)
        assert ds.InstanceNumber == n + 1
        assert (ds.BitsAllocated, ds.SeriesNumber) == (16, source.SeriesNumber + 1000)
    assert len({ds.SOPInstanceUID for ds in found}) == len(found)
    assert {ds.SeriesInstanceUID for ds in found} == {written["series_uid"]}
    assert all(str(ds.SOPInstanceUID).startswith("2.25.") for ds in found)


def test_a_rerun_makes_no_twin_and_other_pixels_no_namesake(derived):
    def uids_of(out, **options):
        folder, _, written = derived(out=out, **options)
        return {str(ds.SOPInstanceUID) for ds in instances(folder)} | {written["series_uid"]}

    first = uids_of("a")
    assert uids_of("b") == first
    other = slices()
    other[0].PixelData = bytes(len(other[0].PixelData))
    for out, options in (
        ("c", {"source": other}),  # the same source UIDs, other pixels
        ("d", {"grid": "1mm"}),
        ("e", {"mark": True}),
        ("f", {"onnx": {"sha256": "c" * 64}}),
        ("g", {"precision": "int8"}),
        ("h", {"software": {"lohi-edge": "0.2.0"}}),
        ("i", {"verdict": "hold"}),  # its headers say so
    ):
        assert not first & uids_of(out, **options), out
    assert uids_of("j", verdict="warn") == first


def test_a_held_result_says_so_wherever_its_headers_speak_to_people(derived):
    said = {}
    for verdict in ("pass", "warn", "hold"):
        folder, _, _ = derived(out=verdict, verdict=verdict, contrast={"name": "FLAIR"})
        (said[verdict],) = {
            (ds.SeriesDescription, ds.ImageComments, ds.DerivationDescription)
            for ds in instances(folder)
        }
    assert said["pass"] == said["warn"]
    assert "HELD" not in " ".join(said["pass"])
    name, comment, derivation = said["hold"]
    assert name == "SYN 3T-like HELD FLAIR NOT FOR DIAGNOSTIC USE"
    for text in (comment, derivation):
        assert text.startswith("Synthetic 3 T-like image, HELD BY QUALITY CHECK, computed")


def test_planes_between_all_axes_stay_the_acquired_ones(derived):
    """So oblique that nibabel names the axes otherwise than the volume does."""
    along = (0.7059574, -0.1922101, 0.681674, 0.7024198, 0.3132939, -0.6391035)
    folder, volume, written = derived(slices(orientation=along))
    source = slices(orientation=along)
    assert (
        written["axcodes"] == volume.origin.axcodes != "".join(nib.aff2axcodes(written["affine"]))
    )
    for ds, acquired in zip(instances(folder), source, strict=True):
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
            got, want = (np.array(one[keyword].value, float) for one in (ds, acquired))
            np.testing.assert_allclose(got, want, atol=1e-5)
        shown = ds.pixel_array * float(ds.RescaleSlope)
        assert np.abs(shown - acquired.pixel_array).max() <= written["slope"]


def test_a_slab_thinner_than_a_millimetre_becomes_one_plane(derived):
    folder, volume, written = derived(slices(gap=0.25)[:4], grid="1mm")
    (ds,) = instances(folder)
    assert volume.shape[2] == written["shape"][2] == 1
    assert ds.ImagePositionPatient[2] == -60 + 1.5 * 0.25
    assert (ds.SpacingBetweenSlices, ds.SliceThickness) == (1, 1)


def test_a_mark_is_in_every_image(derived):
    plain, _, _ = derived(out="plain")
    marked, _, _ = derived(out="marked", mark=True)
    for a, b in zip(instances(plain), instances(marked), strict=True):
        changed = np.argwhere(a.pixel_array != b.pixel_array)
        assert len(changed) > 10
        assert changed.max() < 30  # in the corner


@pytest.mark.parametrize("grid", ["native", "1mm"])
@pytest.mark.parametrize("kind", ["classic", "enhanced", "backwards", "sagittal", "real"])
def test_dcm2niix_and_dciodvfy_accept_it(tmp_path, derived, grid, kind):
    for tool in ("dcm2niix", "dciodvfy"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    source = slices()
    if kind == "enhanced":
        source = [enhanced()]
    elif kind == "backwards":
        for n, ds in enumerate(source):
            ds.InstanceNumber = 100 - n
    elif kind == "sagittal":
        # A coronal-like stack of the phantom's planes: columns run towards posterior.
        source = slices(orientation=(0, 1, 0, 0, 0, -1), spacing=(4.0, 2.8), gap=6.0)
    elif kind == "real":
        series = papaya()
        if grid == "1mm":
            pytest.skip("its positions are rounded: planes at true places are not evenly spaced")
        source = [pydicom.dcmread(file) for file in sorted(series.iterdir())]
        for ds in source:  # its UIDs, below 0.0.0.0, are not valid
            for tag in [t for t in ds.keys() if t.group in (0, *range(0x7FE1, 0xFFFF))]:  # noqa: SIM118
                del ds[tag]  # what the junk behind its first file parses as
            ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
            ds.FrameOfReferenceUID = "1.2.3.5"
            ds.SOPInstanceUID = f"1.2.3.4.{ds.InstanceNumber}"
    folder, volume, written = derived(source, grid=grid)
    for file in sorted(folder.iterdir())[:: 1 if grid == "native" else 24]:
        checked = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True)
        assert "Error" not in checked.stderr, checked.stderr
    out = tmp_path / "nii"
    out.mkdir()
    command = ["dcm2niix", "-z", "n", "-b", "n", "-m", "n", "-f", "x", "-o", str(out)]
    subprocess.run([*command, str(folder)], check=True, capture_output=True)
    (file,) = out.glob("*.nii")
    image = nib.as_closest_canonical(nib.load(file))
    assert image.shape == volume.shape
    corners = np.array(np.meshgrid(*([0, n - 1] for n in image.shape))).reshape(3, -1)
    points = np.vstack([corners, np.ones(8)])
    assert np.abs((image.affine - volume.affine) @ points).max() < 1e-3
    assert np.abs(image.get_fdata() - volume.data).max() <= 0.51 * written["slope"]


@pytest.mark.parametrize("verdict", ["pass", "hold"])
@pytest.mark.parametrize("trace", ["header", "ImageType", "SeriesDescription"])
def test_a_derived_series_that_was_converted_is_no_scan(tmp_path, derived, trace, verdict):
    if not shutil.which("dcm2niix"):
        pytest.skip("dcm2niix is not installed")
    folder, _, _ = derived(slices(), verdict=verdict)
    command = ["dcm2niix", "-z", "n", "-f", "scan_T1w", "-o", str(tmp_path), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    file, sidecar = tmp_path / "scan_T1w.nii", tmp_path / "scan_T1w.json"
    said = json.loads(sidecar.read_text())
    if trace == "header":
        sidecar.unlink()
    else:
        sidecar.write_text(json.dumps({trace: said[trace]}))
        image = nib.load(file)
        nib.save(nib.Nifti1Image(image.get_fdata(dtype="f4"), image.affine), file)
    where = "header" if trace == "header" else "sidecar"
    with pytest.raises(BadInput, match=f"synthetic already \\(its {where} says so"):
        refuse_synthetic(nifti.read(file))


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg".encode("latin-1")),
        ("ISO_IR 192", "山田^太郎".encode()),
        ("GB18030", "王^小东".encode("gb18030")),
        (
            ["", "ISO 2022 IR 87"],
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        ),
        ("ISO_IR 100", b"\xff\xfebroken^\x81\x8d"),
    ],
)
def test_patient_text_comes_back_byte_for_byte(tmp_path, charset, name):
    folder = save(tmp_path / "in", slices(SpecificCharacterSet=charset))
    marker = b"PLANTED^NAME"
    padded = name.ljust(len(name) + len(name) % 2)
    for file in folder.iterdir():
        raw = file.read_bytes()
        at = raw.index(b"\x10\x00\x10\x00PN")
        length = int.from_bytes(raw[at + 6 : at + 8], "little")
        assert raw[at + 8 : at + 8 + len(marker)] == marker
        body = len(padded).to_bytes(2, "little") + padded
        file.write_bytes(raw[: at + 6] + body + raw[at + 8 + length :])
    volume = dicom.read(folder)
    dicom.write(tmp_path / "out", volume, RECORD, "native")
    for file in (tmp_path / "out").iterdir():
        raw = file.read_bytes()
        at = raw.index(b"\x10\x00\x10\x00PN")
        length = int.from_bytes(raw[at + 6 : at + 8], "little")
        assert raw[at + 8 : at + 8 + length] == padded
        assert pydicom.dcmread(file).SpecificCharacterSet == charset


def test_lossy_origin_and_big_endian_numbers_are_kept(derived):
    source = slices(LossyImageCompression="01", LossyImageCompressionRatio="10")
    for ds in source:
        ds.file_meta.TransferSyntaxUID = uids.ExplicitVRBigEndian
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    found = instances(derived(source)[0])
    assert {(ds.LossyImageCompression, ds.LossyImageCompressionRatio) for ds in found} == {
        ("01", 10)
    }
