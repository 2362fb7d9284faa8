"""Geometry: where a voxel lies in the patient survives every step, to a micrometre."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from helpers import affine_of, grids, world
from lohi_edge.errors import BadInput
from lohi_edge.volume import Volume, isotropic_grid


@given(grids)
def test_canonical_keeps_every_voxel_where_it_was(grid):
    affine, _ = grid
    stored = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    volume = Volume.canonical(stored, affine)
    indices = np.stack(np.meshgrid(*map(np.arange, (5, 6, 7)), indexing="ij"), -1).reshape(-1, 3)
    before = {stored[tuple(i)]: p for i, p in zip(indices, world(affine, indices), strict=True)}
    for index in np.ndindex(volume.shape):
        there = world(volume.affine, np.array(index))
        assert np.abs(there - before[volume.data[index]]).max() < 1e-6


@given(grids, st.tuples(*[st.floats(-1, 1)] * 3))
def test_isotropic_shows_a_linear_ramp_at_the_same_positions(grid, slope):
    """Linear interpolation reproduces a function linear in world mm exactly."""
    affine, _ = grid
    shape = (9, 8, 7)
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    volume = Volume.canonical((world(affine, indices) @ np.array(slope)).astype("f4"), affine)
    fine = volume.isotropic(1.0)
    index = np.stack(np.meshgrid(*map(np.arange, fine.shape), indexing="ij"), -1)
    at = world(np.linalg.inv(volume.affine), world(fine.affine, index))
    # A coarser axis averages over up to 0.5 voxels to either side.
    inside = ((at >= 0.5) & (at <= np.array(volume.shape) - 1.5)).all(-1)
    wanted = world(fine.affine, index) @ np.array(slope)
    assert inside.any()
    assert np.abs(fine.data - wanted)[inside].max() < 1e-3


@given(grids)
def test_isotropic_grid_keeps_axes_centre_and_field_of_view(grid):
    affine, _ = grid
    shape = (30, 40, 12)
    canonical = Volume.canonical(np.zeros(shape, "f4"), affine)
    size, fine = isotropic_grid(canonical.shape, canonical.affine)
    assert np.allclose(np.linalg.norm(fine[:3, :3], axis=0), 1)
    centre = world(canonical.affine, (np.array(canonical.shape) - 1) / 2)
    assert np.abs(world(fine, (np.array(size) - 1) / 2) - centre).max() < 1e-6
    assert np.abs(np.array(size) - canonical.shape * canonical.zooms).max() <= 0.5


def test_one_millimetre_grid_is_left_bit_exact():
    data = np.random.default_rng(0).random((6, 5, 4), dtype=np.float32)
    zoom = np.float32(1.0000001)  # what rounding in a header makes of 1
    volume = Volume(data, np.diag([zoom, 1, 1, 1]))
    assert np.array_equal(volume.isotropic().data, data)


def test_coarser_grid_averages_instead_of_aliasing():
    """A one-voxel checkerboard cannot be shown at 4 mm: it becomes flat grey."""
    board = np.indices((32, 4, 4))[0] % 2
    volume = Volume(board.astype("f4"), np.eye(4))
    coarse = volume.isotropic(4.0)
    assert np.abs(coarse.data[1:-1] - 0.5).max() < 0.03


def test_there_and_back_to_the_native_grid():
    rng = np.random.default_rng(1)
    smooth = rng.random((8, 8, 6)).astype("f4").cumsum(0).cumsum(1).cumsum(2)
    volume = Volume(smooth, np.diag([1.6, 1.6, 5, 1]))
    back = volume.isotropic().resampled(volume.shape, volume.affine)
    assert np.array_equal(back.affine, volume.affine)
    assert np.abs(back.data - smooth)[1:-1, 1:-1, 1:-1].max() < 0.1 * np.ptp(smooth)


@pytest.mark.parametrize("codes", ["RAS", "LIA", "PSR"])
@pytest.mark.parametrize(
    "degrees", [(45, 45, 0), (0, 45, 45), (45, 0, 0), (0, 0, -45), (44.9, 45.1, 0)]
)
def test_a_grid_between_two_orientations_is_still_a_grid(codes, degrees):
    affine = affine_of(codes, (1.6, 1.6, 5.0), degrees, (1, 2, 3))
    stored = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    volume = Volume.canonical(stored, affine)
    corner = np.linalg.inv(affine) @ volume.affine @ [0, 0, 0, 1]
    assert volume.data[0, 0, 0] == stored[tuple(np.rint(corner[:3]).astype(int))]


def test_volume_cannot_be_changed():
    volume = Volume(np.zeros((2, 2, 2), "f4"), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        volume.data[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 2


def test_grid_turned_against_the_volume_is_a_bug_not_a_resample():
    volume = Volume(np.zeros((4, 4, 4), "f4"), np.eye(4))
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 5, degrees=True).as_matrix()
    with pytest.raises(ValueError, match="along the volume's own axes"):
        volume.resampled((4, 4, 4), turned)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([0.1, 1, 1, 1]), r"0\.2-20 mm"),
        (np.diag([1, 21, 1, 1]), r"0\.2-20 mm"),
        (np.diag([1, 1, 0, 1]), r"0\.2-20 mm"),
        (np.diag([1, 1, np.nan, 1]), "finite"),
        (np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "sheared"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
    ],
)
def test_absurd_affine_is_refused(affine, words):
    with pytest.raises(BadInput, match=words):
        Volume.canonical(np.zeros((3, 3, 3), "f4"), affine)


def test_a_grid_too_large_at_one_millimetre_is_refused():
    volume = Volume(np.zeros((8, 2048, 16), "f4"), np.diag([20, 20, 20, 1.0]))
    with pytest.raises(BadInput, match="voxels at 1 mm"):
        volume.isotropic()


def test_an_axis_longer_than_any_field_of_view_is_refused():
    """A file of 64 kB, whose interpolation would ask for 61 GB."""
    volume = Volume(np.zeros((32000, 2, 1), "f4"), np.diag([0.5, 0.5, 0.5, 1.0]))
    with pytest.raises(BadInput, match="at most 1024 mm, got 16000 mm"):
        volume.isotropic()
