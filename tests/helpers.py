"""What several test modules share."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

ORIENTATIONS = [
    "".join(pair[sign] for pair, sign in zip(axes, signs, strict=True))
    for axes in permutations(["LR", "PA", "IS"])
    for signs in product((0, 1), repeat=3)
]


def affine_of(codes, zooms, degrees, shift):
    """Affine of a grid stored as `codes`, turned by `degrees` about x, y and z."""
    ornt = nib.orientations.axcodes2ornt(codes)
    permuted = np.zeros((3, 3))
    for column, (axis, flip) in enumerate(ornt):
        permuted[int(axis), column] = flip
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ permuted
    affine[:3, :3] *= zooms
    affine[:3, 3] = shift
    return affine


# Any orientation and flip, oblique by up to about 25 degrees, as (affine, zooms in mm).
grids = st.builds(
    lambda codes, zooms, degrees, shift: (affine_of(codes, zooms, degrees, shift), zooms),
    st.sampled_from(ORIENTATIONS),
    st.sampled_from([(1.6, 1.6, 5.0), (1.0, 1.0, 1.0), (0.9, 1.1, 6.5), (5.0, 1.6, 1.6)]),
    st.tuples(*[st.floats(-14, 14)] * 3),
    st.tuples(*[st.floats(-200, 200)] * 3),
)


def world(affine, indices):
    """Positions in mm of voxel indices (..., 3)."""
    return indices @ affine[:3, :3].T + affine[:3, 3]


# The voxels and the affine of a small NIfTI file.
DATA = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
EYE2 = np.diag([2.0, 2.0, 2.0, 1.0])


def move_qform(path):
    """Make a scan's qform contradict its sform, by 5 mm."""
    image = nib.load(path)
    moved = image.affine.copy()
    moved[0, 3] += 5
    image.set_qform(moved, 1)
    nib.save(image, path)


def saved(path, data=DATA, affine=EYE2, kind=nib.Nifti1Image, **header):
    """Save a NIfTI file with these fields of its header; returns the path."""
    image = kind(data, affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def head_phantom(shape=(60, 70, 16), zooms=(2.8, 2.8, 9.0), seed=0):
    """An ellipsoid head with a ramp and two blobs inside, noise around it; float32 (X, Y, Z)."""
    rng = np.random.default_rng(seed)
    mm = [(np.arange(n) - (n - 1) / 2) * z for n, z in zip(shape, zooms, strict=True)]
    x, y, z = np.meshgrid(*mm, indexing="ij", sparse=True)
    head = (x / 70) ** 2 + (y / 88) ** 2 + (z / 66) ** 2 < 1
    image = np.where(head, 120 + x / 2 + y / 3, 0)
    for centre, level in (((20, 25, 0), 220), ((-22, -20, 10), 40)):
        blob = sum((a - c) ** 2 for a, c in zip((x, y, z), centre, strict=True)) < 15**2
        image = np.where(blob, level, image)
    return np.abs(image + rng.normal(0, 2, image.shape)).astype(np.float32)


def small_head(seed: int = 0, edge: int = 24) -> np.ndarray:
    """A 48 mm ball with a ramp inside, int16; every seed gives other bytes."""
    axis = (np.arange(edge) - (edge - 1) / 2) / (edge * 0.37)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    noise = np.abs(np.random.default_rng(seed).normal(0, 2, (edge,) * 3))
    return (np.where(x * x + y * y + z * z < 1, 120 + 40 * x + 30 * y, 0) + noise).astype(np.int16)
