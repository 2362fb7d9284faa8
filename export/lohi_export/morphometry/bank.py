"""Deformed label maps, made once: the anatomy that a segmenter is trained on.

A file NN-VV.npz holds several deformations of one dressed head, as positions in `targets.CODES` on
the segmenter's crop at 1 mm. Every second variant of a head has its ventricles dilated.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial.transform import Rotation

from lohi_edge.files import atomic_write
from lohi_edge.quality.frame import CROP_MM, centre_of_brain, crop_start
from lohi_export.morphometry.targets import encode, regions_of
from lohi_export.pairs import anatomy, placing
from lohi_export.pairs.anatomy import Labels
from lohi_export.pairs.fields import Float32, random_field
from lohi_export.pairs.files import read_labels
from lohi_export.pairs.ranges import Ranges

Codes = NDArray[np.uint8]
MARGIN = 24  # mm about the crop that a deformation may reach into
VENTRICLE_LABELS = (4, 43, 5, 44, 14, 136, 163)
STEP_MM = 1.5  # growth of one dilation step
REACH_MM = 20  # over which tissue is compressed about a dilated ventricle
JITTER_MM = 4  # sd of the crop's misplacement along each axis


def build(
    labels: Path, out: Path, heads: list[int], variants: int, draws: int, seed: int = 0
) -> Iterator[Path]:
    """Write what is missing of a bank, variant by variant; yields each file's path when there."""
    out.mkdir(parents=True, exist_ok=True)
    for variant in range(variants):
        for head in heads:
            path = out / f"{head:02d}-{variant:02d}.npz"
            if not path.is_file():
                source, _ = read_labels(labels / f"head_{head:02d}_labels.nii.gz")
                rng = np.random.default_rng((seed, head, variant))
                codes = np.stack(list(deformations(source, variant, draws, rng)))
                with atomic_write(path) as file:
                    np.savez_compressed(file, codes=codes)
            yield path


def deformations(
    labels: Labels, variant: int, draws: int, rng: np.random.Generator
) -> Iterator[Codes]:
    """`draws` deformations of one head dressed and, for odd variants, hydrocephalic once."""
    centre = centre_of_brain(regions_of(labels))
    start = crop_start(centre).astype(int) - MARGIN
    part = _cut(labels, start, np.array(CROP_MM) + 2 * MARGIN)
    if variant % 2:
        part = dilate_ventricles(part, int(rng.integers(1, 8)))
    codes = encode(anatomy.dress(part, Ranges().draw(rng), rng)).astype(np.int16)
    for _ in range(draws):
        yield placing.sample_labels(codes, _coordinates(centre - start, rng)).astype(np.uint8)


def write_dilated(source: Path, target: Path, steps: int) -> None:
    """A label map with dilated ventricles, as a file.

    Raises:
        BadInput: an unreadable label map.
    """
    labels, affine = read_labels(source)
    image = nib.Nifti1Image(dilate_ventricles(labels, steps), affine)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as file:
        file.write(gzip.compress(image.to_bytes(), mtime=0))


def dilate_ventricles(labels: Labels, steps: int) -> Labels:
    """A copy (X, Y, Z) whose ventricles have grown by `steps` times 1.5 mm on every side.

    What lies about them is pushed outwards, less with distance, as in hydrocephalus: the inverse
    map goes against the gradient of the distance to the ventricles, in small steps at 2 mm.
    """
    ventricles = np.isin(labels, VENTRICLE_LABELS).astype(np.float32)
    grid = np.indices([-(-n // 2) for n in labels.shape], dtype=np.float32) * 2
    at = grid.copy()
    for _ in range(steps):
        inside = ndi.map_coordinates(ventricles, at, order=1) > 0.5
        distance = ndi.distance_transform_edt(~inside) - ndi.distance_transform_edt(inside)
        distance = 2 * ndi.gaussian_filter(distance.astype(np.float32), 1)
        normal = np.stack(np.gradient(distance))
        normal /= np.maximum(np.linalg.norm(normal, axis=0), 0.5)
        push = STEP_MM * np.exp(-np.maximum(distance, 0) / REACH_MM)
        back = (grid - normal * push) / 2
        at = np.stack([ndi.map_coordinates(a, back, order=1, mode="nearest") for a in at])
    full = np.indices(labels.shape, dtype=np.float32)
    moved = [ndi.map_coordinates(a, full / 2, order=1, mode="nearest") for a in at - grid]
    return placing.sample_labels(labels, full + np.stack(moved))


def _coordinates(centre: NDArray[np.float64], rng: np.random.Generator) -> Float32:
    """Where the crop's voxels lie in the margined part: (3, *CROP_MM).

    Turned by up to some 15 degrees, scaled, sheared by none, bent at two scales, and misplaced.
    """
    angles = np.clip(rng.normal(0, 6, 3), -15, 15)
    scale = rng.uniform(0.9, 1.12) * rng.uniform(0.95, 1.05, 3)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * scale
    coarse, fine = rng.uniform(0.5, 3.5), rng.uniform(0, 1.5)
    shift = np.clip(rng.normal(0, JITTER_MM, 3), -14, 14)
    relative = crop_start(np.zeros(3))
    axes = [np.arange(n) + s for n, s in zip(CROP_MM, relative, strict=True)]
    out = np.empty((3, *CROP_MM), np.float32)
    for i in range(3):
        x, y, z = (np.float32(turn[i, k]) * axes[k].astype(np.float32) for k in range(3))
        out[i] = x[:, None, None] + y[None, :, None] + z[None, None, :]
        out[i] += np.float32(centre[i] + shift[i])
        out[i] += np.float32(coarse) * random_field(rng, CROP_MM, 40)
        out[i] += np.float32(fine) * random_field(rng, CROP_MM, 15)
    return out


def _cut(labels: Labels, start: NDArray[np.int_], size: NDArray[np.int_]) -> Labels:
    """A window of the map; air beyond its sides, its lowest slice below it: a neck goes on."""
    before = np.maximum(-start, 0)
    after = np.maximum(start + size - labels.shape, 0)
    sides = [(int(b), int(a)) for b, a in zip(before, after, strict=True)]
    padded = np.pad(np.pad(labels, [*sides[:2], (0, 0)]), [(0, 0), (0, 0), sides[2]], mode="edge")
    first = start + before
    return padded[tuple(slice(f, f + s) for f, s in zip(first, size, strict=True))]
