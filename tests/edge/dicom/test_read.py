"""Series -> Volume: the geometry that dcm2niix finds, and the voxels, however they are stored."""

from __future__ import annotations

import shutil
import subprocess
import zipfile

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid as uids

import dicom_series
from dicom_series import PHANTOM, SMALL, TEST_FILES, enhanced, papaya, save, slices
from helpers import affine_of
from lohi_edge import dicom
from lohi_edge.dicom import instance
from lohi_edge.dicom.pixels import decode


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


@pytest.mark.parametrize("there", ["", "notes.txt", None])
def test_a_folder_without_the_real_series_skips_its_tests(tmp_path, monkeypatch, there):
    folder = tmp_path / "dicom"
    monkeypatch.setattr(dicom_series, "PAPAYA", folder)
    if there is not None:
        folder.mkdir()
    if there:
        (folder / there).write_text("no series")
    with pytest.raises(pytest.skip.Exception, match="set LOHI_PAPAYA_DICOM"):
        papaya()


def test_a_real_series_has_the_geometry_of_dcm2niix(tmp_path):
    series = papaya()
    volume = dicom.read(series)
    assert volume.shape == (256, 256, 20)
    assert_same(volume, by_dcm2niix(series, tmp_path / "nii"))
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
