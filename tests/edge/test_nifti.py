"""NIfTI in and out: exact geometry for honest files, one clear refusal for the others."""

from __future__ import annotations

import gzip
import os
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from helpers import grids, world
from lohi_edge import nifti, nifti_write
from lohi_edge.errors import BadInput, DiskError
from lohi_edge.volume import Volume

DATA = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
GEOMETRY = [
    *("dim", "pixdim", "xyzt_units", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
]
EYE2 = np.diag([2.0, 2.0, 2.0, 1.0])


def saved(path, data=DATA, affine=EYE2, kind=nib.Nifti1Image, **header):
    image = kind(data, affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def patched(path, offset, fmt, *values):
    """Overwrite bytes of an uncompressed file's header."""
    raw = bytearray(path.read_bytes())
    struct.pack_into(fmt, raw, offset, *values)
    path.write_bytes(raw)
    return path


# ---- geometry ----------------------------------------------------------------------------------


@given(grids, st.sampled_from(["scan.nii", "scan.nii.gz"]), st.booleans())
def test_native_round_trip_is_exact(tmp_path_factory, grid, name, qform):
    affine, _ = grid
    folder = tmp_path_factory.mktemp("nii")
    image = nib.Nifti1Image(DATA, affine)
    image.set_sform(affine, 4)
    if qform:
        image.set_qform(affine, 1)
    nib.save(image, folder / name)
    volume = nifti.read(folder / name)
    nifti_write.write(folder / ("out" + name), volume, "SYNTHETIC")
    before, after = nib.load(folder / name), nib.load(folder / ("out" + name))
    for field in GEOMETRY:
        assert np.array_equal(before.header[field], after.header[field]), field
    assert np.array_equal(before.affine, after.affine)
    step = after.header.get_slope_inter()[0] or np.abs(DATA).max() / 32767
    assert np.abs(after.get_fdata() - DATA).max() <= step / 2 + 1e-4


@given(grids)
def test_one_millimetre_output_shows_each_position_of_the_input(tmp_path_factory, grid):
    """A file whose voxels hold their own world x, y or z shows the same after isotropic + write."""
    affine, _ = grid
    folder = tmp_path_factory.mktemp("iso")
    index = np.stack(np.meshgrid(*map(np.arange, (9, 8, 7)), indexing="ij"), -1)
    where = world(affine, index)
    for axis in range(3):
        path = folder / "in.nii"
        image = nib.Nifti1Image(where[..., axis].astype("f4"), affine)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        nib.save(image, path)
        nifti_write.write(folder / "out.nii", nifti.read(path).isotropic(), "SYNTHETIC")
        out = nib.load(folder / "out.nii")
        assert nib.aff2axcodes(out.affine) == nib.aff2axcodes(affine)
        assert np.allclose(out.header.get_zooms(), 1, atol=1e-6)
        for form in (out.get_sform(), out.get_qform()):
            at = np.stack(np.meshgrid(*map(np.arange, out.shape), indexing="ij"), -1)
            there = world(form, at)
            inner = world(np.linalg.inv(affine), there)
            inside = ((inner > 0.5) & (inner < np.array([9, 8, 7]) - 1.5)).all(-1)
            quantum = np.abs(where).max() / 32767
            error = np.abs(out.get_fdata() - there[..., axis])[inside]
            assert error.max() < 1e-3 + quantum


@pytest.mark.parametrize("degrees", [180, 179.99, 90])
def test_qform_alone_near_a_half_turn_keeps_its_positions(tmp_path, degrees):
    """There the quaternion's scalar part is rounding noise; it must not be derived again."""
    turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    affine = nib.affines.from_matvec(turn * (1.6, 1.6, 5.0), (20, 30, 40))
    image = nib.Nifti1Image(DATA, affine)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "q.nii")
    volume = nifti.read(tmp_path / "q.nii").isotropic()
    nifti_write.write(tmp_path / "o.nii", volume, "SYNTHETIC")
    out = nib.load(tmp_path / "o.nii")
    source = nib.load(tmp_path / "q.nii")
    size = np.array(out.shape)
    corners = np.array([(0, 0, 0), size - 1])
    moved = world(np.linalg.inv(source.affine), world(out.affine, corners))
    wanted = (corners - (size - 1) / 2) / (1.6, 1.6, 5.0) + (np.array(DATA.shape) - 1) / 2
    assert np.abs((moved - wanted) * (1.6, 1.6, 5.0)).max() < 1e-3


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("meter", 1000), ("micron", 1e-3)])
def test_units_are_read_as_millimetres_and_written_back(tmp_path, unit, mm):
    image = nib.Nifti1Image(DATA, np.diag([2 / mm, 2 / mm, 4 / mm, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "u.nii")
    volume = nifti.read(tmp_path / "u.nii")
    assert np.allclose(volume.zooms, [2, 2, 4])
    nifti_write.write(tmp_path / "o.nii", volume.isotropic(), "SYNTHETIC")
    out = nib.load(tmp_path / "o.nii")
    assert out.header.get_xyzt_units()[0] == unit
    assert np.allclose(np.array(out.header.get_zooms()) * mm, 1, rtol=1e-6)


def test_contradictory_forms_are_refused_until_one_is_preferred(tmp_path):
    image = nib.Nifti1Image(DATA, EYE2)
    image.set_sform(EYE2, 1)
    moved = EYE2.copy()
    moved[0, 3] = 1.5
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "c.nii")
    with pytest.raises(BadInput, match=r"disagree by 1\.5 mm.*--prefer"):
        nifti.read(tmp_path / "c.nii")
    assert nifti.read(tmp_path / "c.nii", prefer="qform").affine[0, 3] == 1.5
    chosen = nifti.read(tmp_path / "c.nii", prefer="sform")
    assert chosen.affine[0, 3] == 0
    assert "preferred" in chosen.origin.notes[0]


def test_forms_within_a_millimetre_are_both_kept(tmp_path):
    image = nib.Nifti1Image(DATA, EYE2)
    image.set_sform(EYE2, 2)
    near = EYE2.copy()
    near[:3, 3] = 0.5
    image.set_qform(near, 1)
    nib.save(image, tmp_path / "n.nii")
    nifti_write.write(tmp_path / "o.nii", nifti.read(tmp_path / "n.nii").isotropic(), "SYNTHETIC")
    out = nib.load(tmp_path / "o.nii")
    gap = out.get_qform()[:3, 3] - out.get_sform()[:3, 3]
    assert np.allclose(gap, 0.5, atol=1e-5)
    assert (int(out.header["sform_code"]), int(out.header["qform_code"])) == (2, 1)


def test_uncoded_orientation_is_read_radiologically_and_said(tmp_path):
    image = nib.Nifti1Image(DATA, None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, tmp_path / "a.nii")
    volume = nifti.read(tmp_path / "a.nii")
    assert volume.origin.axcodes == "LAS"
    assert "neither sform nor qform" in volume.origin.notes[0]
    nifti_write.write(tmp_path / "o.nii", volume, "SYNTHETIC")
    assert np.array_equal(nib.load(tmp_path / "o.nii").affine, nib.load(tmp_path / "a.nii").affine)


def test_trailing_singleton_scaling_and_nifti2_are_understood(tmp_path):
    image = nib.Nifti2Image(DATA[..., None].astype(">i2"), EYE2)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "s.nii.gz")
    volume = nifti.read(tmp_path / "s.nii.gz")
    assert volume.shape == DATA.shape
    assert np.array_equal(volume.data, nib.load(tmp_path / "s.nii.gz").get_fdata()[..., 0])
    nifti_write.write(tmp_path / "o.nii.gz", volume, "SYNTHETIC")
    out = nib.load(tmp_path / "o.nii.gz")
    assert out.shape == (6, 5, 4, 1)
    assert isinstance(out, nib.Nifti2Image)


def test_written_file_says_synthetic_and_carries_no_text_of_the_source(tmp_path):
    saved(tmp_path / "p.nii", aux_file=b"DOE^JOHN", db_name=b"DOE", descrip=b"DOE^JOHN")
    nifti_write.write(tmp_path / "o.nii", nifti.read(tmp_path / "p.nii"), "SYNTHETIC 3T-like")
    raw = (tmp_path / "o.nii").read_bytes()
    assert b"DOE" not in raw
    assert raw[148:165] == b"SYNTHETIC 3T-like"
    assert nifti.is_synthetic(nib.load(tmp_path / "o.nii").header)


def test_gzip_is_bit_exact_and_repeatable(tmp_path):
    volume = Volume(np.random.default_rng(0).random((40, 40, 40), "f4"), np.eye(4))
    for name in ("a.nii", "b.nii.gz", "c.nii.gz"):
        nifti_write.write(tmp_path / name, volume, "SYNTHETIC")
    plain = (tmp_path / "a.nii").read_bytes()
    assert gzip.decompress((tmp_path / "b.nii.gz").read_bytes()) == plain  # zlib, not isal
    assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()


# ---- refusals ----------------------------------------------------------------------------------

DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET, SLOPE, SROW = 40, 70, 72, 76, 108, 112, 280

HEADERS = {
    "dim0": (DIM, "<h", [0], r"dim\[0\] from 1 to 7"),
    "dim8": (DIM, "<h", [8], r"dim\[0\] from 1 to 7"),
    "negative": (DIM + 2, "<h", [-6], "positive dimensions"),
    "zero": (DIM + 4, "<h", [0], "positive dimensions"),
    "huge": (DIM, "<4h", [3, 32767, 32767, 32767], "at most 268,435,456 voxels"),
    "frames": (DIM, "<5h", [4, 6, 5, 2, 2], "single frame"),
    "five axes": (DIM, "<6h", [5, 6, 5, 4, 1, 1], "single frame"),
    "flat": (DIM, "<3h", [2, 6, 20], "3-D"),
    "complex": (DATATYPE, "<2h", [32, 64], "magnitude"),
    "rgb": (DATATYPE, "<2h", [128, 24], "real voxels"),
    "long double": (DATATYPE, "<2h", [1536, 128], "real voxels"),
    "unknown type": (DATATYPE, "<2h", [999, 16], "unknown NIfTI data type"),
    "bitpix": (BITPIX, "<h", [32], "bits per"),
    "zoom 0": (PIXDIM + 4, "<f", [0.0], r"0\.2-20 mm"),
    "zoom negative": (PIXDIM + 4, "<f", [-2.0], r"0\.2-20 mm"),
    "zoom huge": (PIXDIM + 8, "<f", [500.0], r"0\.2-20 mm"),
    "zoom nan": (PIXDIM + 8, "<f", [np.nan], r"0\.2-20 mm"),
    "offset 0": (VOX_OFFSET, "<f", [0.0], "voxels at byte"),
    "offset nan": (VOX_OFFSET, "<f", [np.nan], "voxels at byte"),
    "offset inf": (VOX_OFFSET, "<f", [np.inf], "voxels at byte"),
    "offset far": (VOX_OFFSET, "<f", [1e9], "voxels at byte"),
    "slope nan": (SLOPE, "<f", [np.nan], "finite scaling"),
    "inter inf": (SLOPE + 4, "<f", [np.inf], "finite scaling"),
    "slope huge": (SLOPE, "<2f", [3e38, 0], "within float32"),
    "sform nan": (SROW, "<f", [np.nan], "finite sform"),
    "singular": (SROW, "<4f", [0, 0, 0, 0], r"0\.2-20"),
    "sheared": (SROW, "<4f", [2, 0.5, 0, 0], "sheared"),
    "units": (123, "<B", [5], "xyzt_units"),
    "pair": (344, "<4s", [b"ni1\0"], r"\.hdr/\.img"),
    "magic": (344, "<4s", [b"xxxx"], "NIfTI magic"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_header_is_refused(tmp_path, case):
    offset, fmt, values, words = HEADERS[case]
    path = patched(saved(tmp_path / "bad.nii"), offset, fmt, *values)
    with pytest.raises(BadInput, match=words) as caught:
        nifti.read(path)
    assert str(caught.value).startswith(str(path))


def test_a_slope_beyond_float32_is_refused(tmp_path):
    image = nib.Nifti2Image(DATA, EYE2)
    nib.save(image, tmp_path / "bad.nii")
    patched(tmp_path / "bad.nii", 176, "<2d", 1e300, 0)  # scl_slope of NIfTI-2 is a double
    with pytest.raises(BadInput, match="within float32"):
        nifti.read(tmp_path / "bad.nii")


def test_bad_quaternion_is_refused(tmp_path):
    image = nib.Nifti1Image(DATA, EYE2)
    image.set_qform(EYE2, 1)
    image.header["sform_code"] = 0
    nib.save(image, tmp_path / "q.nii")
    patched(tmp_path / "q.nii", 256, "<3f", 0.9, 0.9, 0.9)
    with pytest.raises(BadInput, match="not a rotation"):
        nifti.read(tmp_path / "q.nii")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((6, 5, 4), "i2"), "all zero"),
        (np.full((6, 5, 4), 7, "i2"), r"constant \(7\)"),
        (np.where(DATA == 3, np.nan, DATA).astype("f4"), "1 NaN or infinite"),
        (np.where(DATA < 2, np.inf, DATA).astype("f4"), "2 NaN or infinite"),
        (DATA.astype("f8") * 1e300, "within float32"),
        (DATA.astype("f4") * 1e35, "check the scaling"),
        (DATA.astype("f4") * 1e-38, "check the scaling"),
    ],
)
def test_unusable_voxels_are_refused(tmp_path, data, words):
    with pytest.raises(BadInput, match=words):
        nifti.read(saved(tmp_path / "v.nii", data))


def test_truncated_files_are_refused_at_every_length(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("t.nii", "t.nii.gz"):
        whole = saved(tmp_path / name, rng.integers(0, 999, (6, 5, 4)).astype("i2")).read_bytes()
        for length in [*range(0, 60, 7), *range(60, len(whole), 41), len(whole) - 1]:
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(BadInput):
                nifti.read(tmp_path / name)


@given(st.data())
def test_any_flipped_bit_of_a_gzip_is_found_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip")
    path = saved(folder / "f.nii.gz", np.random.default_rng(1).integers(0, 99, (9, 8, 7), "i2"))
    honest = nifti.read(path)
    raw = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    try:
        volume = nifti.read(path)
    except BadInput:
        return
    # What is left are fields of the gzip header that carry no data (time, system, name).
    assert np.array_equal(volume.data, honest.data)
    assert np.array_equal(volume.affine, honest.affine)


def test_gzip_bomb_is_refused_before_it_is_inflated(tmp_path):
    """A header that declares little followed by 3 GB of zeros in 3 MB of gzip."""
    honest = saved(tmp_path / "h.nii").read_bytes()
    path = tmp_path / "bomb.nii.gz"
    block = bytes(64 << 20)
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(honest)
        file.write(block)
    path.write_bytes(path.read_bytes() + gzip.compress(block) * 47)
    with pytest.raises(BadInput, match="behind the voxels"):
        nifti.read(path)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(600)])
def test_what_is_not_nifti_is_refused(tmp_path, content):
    (tmp_path / "x.nii.gz").write_bytes(content)
    with pytest.raises(BadInput, match=r"NIfTI|gzip"):
        nifti.read(tmp_path / "x.nii.gz")


def test_what_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "dangling.nii").symlink_to("nowhere")
    (tmp_path / "folder.nii").mkdir()
    for path, words in (
        (tmp_path / "pipe.nii", "a pipe"),
        (tmp_path / "dangling.nii", "a link to nothing"),
        (tmp_path / "folder.nii", "a folder"),
        (tmp_path / "missing.nii", "found nothing"),
        ("/dev/zero", "a device"),
        (tmp_path / "nul\0byte.nii", "cannot be opened"),
    ):
        with pytest.raises(BadInput, match=words):
            nifti.read(path)


def test_forbidden_paths(unprivileged):
    path = saved(unprivileged / "secret.nii")
    volume = nifti.read(path)
    path.chmod(0)
    with pytest.raises(BadInput, match="permission denied"):
        nifti.read(path)
    unprivileged.chmod(0o500)
    with pytest.raises(DiskError, match="permission denied"):
        nifti_write.write(unprivileged / "out.nii", volume, "SYNTHETIC")


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    volume = nifti.read(saved(tmp_path / "a.nii"))

    def full(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="no space left on device; free some space"):
        nifti_write.write(tmp_path / "out.nii.gz", volume, "SYNTHETIC")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii"]


def test_broken_sidecar_is_refused(tmp_path):
    saved(tmp_path / "a.nii")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        nifti.read(tmp_path / "a.nii")
