"""NIfTI in and out: exact geometry for honest files, and no text of the source."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from helpers import DATA, EYE2, grids, saved, world
from lohi_edge import nifti, nifti_write
from lohi_edge.errors import BadInput
from lohi_edge.volume import Volume

GEOMETRY = [
    *("dim", "pixdim", "xyzt_units", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
]


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


# So oblique that nibabel names its axes otherwise than by the largest sum of cosines.
BETWEEN = np.array([(-0.706, -0.702, -0.091), (0.192, -0.313, 0.93), (0.682, -0.639, -0.356)])


@pytest.mark.parametrize("grid", ["native", "1mm"])
def test_a_grid_between_all_axes_keeps_its_stored_order(tmp_path, grid):
    turn, _ = np.linalg.qr(BETWEEN)
    turn *= np.sign(np.diag(turn.T @ BETWEEN))
    affine = nib.affines.from_matvec(turn * (1.6, 1.6, 5.0), (20, 30, 40))
    image = nib.Nifti1Image(DATA, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "in.nii")
    volume = nifti.read(tmp_path / "in.nii")
    assert volume.origin.axcodes != "".join(nib.aff2axcodes(affine))
    written = volume if grid == "native" else volume.isotropic()
    nifti_write.write(tmp_path / "out.nii", written, "SYNTHETIC")
    out = nib.load(tmp_path / "out.nii")
    assert np.abs(out.get_sform() - out.get_qform()).max() < 1e-4
    assert np.allclose(out.affine[:3, :3] / out.header.get_zooms(), turn, atol=1e-5)
    if grid == "native":
        assert np.abs(out.get_fdata() - DATA).max() < 0.01


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
