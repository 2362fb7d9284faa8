"""What the segmenter knows of a voxel: its surroundings, its place in the brain, first guesses.

To the first stage a voxel of 2 mm is described by the image about it, near and far, by its place
relative to the brain's centre and size, and by the atlas there. The second stage sees the window
whole: the image, and the first stage's answer (auto-context: Tu and Bai, IEEE Trans Pattern Anal
32:1744, 2010).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_edge.quality import frame, tissue
from lohi_edge.quality.regions import STRUCTURES
from lohi_edge.volume import Float32, Float64

CANDIDATE = 0.998  # where the atlas has more of the outside than this, no region is looked for
CLASSES = 1 + len(STRUCTURES)  # 0 is everything outside the regions
ATLAS_SHAPE = (28, 36, 28)  # cells of ATLAS_STEP brain sizes about the centre
ATLAS_STEP = 0.17  # about 6 mm
USUAL_SIZE = np.array([33.0, 41.0, 31.0])  # mm, sd of an adult brain's voxels along each axis
HALF = (40, 52, 40)  # of the window's voxels at 4 mm
NEAR, FAR, FARTHEST = 2, 4, 5  # cells of 4 mm between a voxel and what it is compared with
_DIRECTIONS = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
FLOOR = 1e-3  # added to a share before its logarithm
CHUNK = 40_000  # voxels described at a time
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Place:
    """Where the brain lies in the window: centre (3,), and sd of its voxels (3,), in mm."""

    centre: Float64
    size: Float64


def place_of(shares: Float32) -> Place:
    """The place of a brain from shares of classes (CLASSES, *CROP)."""
    brain = shares[1 : CLASSES - 1].sum(axis=0)  # CSF, the last, is no part of it
    centre, size = [], []
    for axis in range(3):
        mass = brain.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
        at = np.arange(len(mass)) * frame.SPACING_MM + 1.0
        mean = mass @ at / max(mass.sum(), 1e-9)
        centre.append(mean)
        size.append(np.sqrt(mass @ (at - mean) ** 2 / max(mass.sum(), 1e-9)))
    return Place(np.array(centre), np.array(size))


def relative(place: Place) -> list[Float64]:
    """Position of the window's voxels along each axis, in sizes of the brain from its centre."""
    return [
        (np.arange(n) * frame.SPACING_MM + 1.0 - c) / s
        for n, c, s in zip(frame.CROP, place.centre, place.size, strict=True)
    ]


def atlas_in(place: Place, atlas: Float32) -> Float32:
    """The atlas (CLASSES, *ATLAS_SHAPE) on the window's voxels (CLASSES, *CROP), linearly."""
    result = atlas
    for axis, (at, n) in enumerate(zip(relative(place), ATLAS_SHAPE, strict=True)):
        cell = np.clip(at / ATLAS_STEP + (n - 1) / 2, 0, n - 1)
        weights = np.maximum(0, 1 - np.abs(cell[:, None] - np.arange(n))).astype(np.float32)
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis + 1)), 0, axis + 1)
    return np.ascontiguousarray(result)


def candidates(atlas: Float32) -> Index:
    """Voxels (n, 3) where the atlas, `atlas_in` the place, lets regions be."""
    return np.argwhere(atlas[0] < CANDIDATE)


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """Maps that image features are looked up in.

    Attributes:
        fine: (2 * CHANNELS, *CROP): the channels, and their means over 3 voxels.
        near, far: (2, *HALF): means of the two contrast-free channels over 12 and 28 mm.
    """

    fine: Float32
    near: Float32
    far: Float32

    @classmethod
    def of(cls, image: Float32, shares: Float32) -> ImageMaps:
        """From a scaled window (*CROP) and what is known of its classes (CLASSES, *CROP)."""
        channels = _channels(image, shares)
        smooth = np.stack([ndi.uniform_filter(c, 3) for c in channels])
        coarse = [_halved(c) for c in channels[1:]]
        return cls(
            np.concatenate([channels, smooth]),
            np.stack([ndi.uniform_filter(c, 3) for c in coarse]),
            np.stack([ndi.uniform_filter(c, 7) for c in coarse]),
        )

    def at(self, index: Index) -> Float32:
        """Image features of voxels (n, 3)."""
        own = _look(self.fine, index)
        beside = [_look(self.fine[1 : tissue.CHANNELS], index + step) for step in _DIRECTIONS]
        half = index // 2
        around = [_look(self.near, half), _look(self.far, half)]
        for step in _DIRECTIONS:
            around += [_look(self.near, half + NEAR * step), _look(self.near, half + FAR * step)]
            around.append(_look(self.far, half + FARTHEST * step))
        return np.concatenate([own, *beside, *around], axis=1)


def place_features(index: Index, place: Place, atlas: Float32) -> Float32:
    """Features of voxels (n, 3): position, its squares, log of the atlas there.

    `atlas` is `atlas_in` the place.
    """
    at = relative(place)
    u = np.stack([at[axis][index[:, axis]] for axis in range(3)], axis=1).astype(np.float32)
    likely = np.log(_look(atlas, index) + np.float32(FLOOR)) / 3
    return np.concatenate([u, u**2, likely], axis=1)


def context(image: Float32, answer: Float32) -> Float32:
    """What the second stage sees, (SECOND, *CROP): the image's channels, and the first's answer.

    `image` is a scaled window (*CROP), `answer` shares and right side (CLASSES + 1, *CROP).
    """
    return np.concatenate([_channels(image, answer[:-1]), answer])


FIRST = 2 * tissue.CHANNELS + 6 * 2 + 2 * (2 + 3 * 6) + 6 + CLASSES  # features of a voxel
SECOND = tissue.CHANNELS + CLASSES + 1  # channels of the window


def _channels(image: Float32, shares: Float32) -> Float32:
    """The image as `tissue.channels` gives it, by what is known of its classes (CLASSES, *CROP)."""
    priors = tissue.tissue_priors(np.stack([tissue.thin(share) for share in shares]))
    means, deviation = tissue.tissue_levels(tissue.thin(image), priors)
    return tissue.channels(image, means, deviation)


def _look(maps: Float32, index: Index) -> Float32:
    """Values (n, maps) at voxels (n, 3) of maps (maps, x, y, z), the nearest inside."""
    x, y, z = (np.clip(index[:, a], 0, maps.shape[a + 1] - 1) for a in range(3))
    return np.asarray(maps[:, x, y, z].T, dtype=np.float32)


def _halved(field: Float32) -> Float32:
    x, y, z = (n // 2 for n in field.shape)
    return np.asarray(field.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5)), dtype=np.float32)


def chances(logits: Float32, before: Float32) -> Float32:
    """Shares and right side (CLASSES + 1, ...) from a stage's logits, added to those before it.

    `before` is the atlas (CLASSES, ...) or the first stage's answer (CLASSES + 1, ...).
    """
    result = np.empty_like(logits)
    classes = logits[:CLASSES] + np.log(before[:CLASSES] + np.float32(FLOOR))
    classes = np.exp(classes - classes.max(axis=0))
    result[:CLASSES] = classes / classes.sum(axis=0)
    result[CLASSES] = 1 / (1 + np.exp(-logits[CLASSES]))
    return result


def first_answer(
    first: Callable[[Float32], Float32], index: Index, maps: ImageMaps, place: Place, atlas: Float32
) -> Float32:
    """The first stage's answer (CLASSES + 1, *CROP); what is not in the index (n, 3) is outside.

    `first` gives (CLASSES + 1, n), what is added to the logits of the atlas, of features
    (n, FIRST); `atlas` is `atlas_in` the place.
    """
    answer = np.zeros((CLASSES + 1, *frame.CROP), np.float32)
    answer[0], answer[-1] = 1, 0.5
    for part in np.array_split(index, max(1, len(index) // CHUNK)):
        described = np.concatenate([maps.at(part), place_features(part, place, atlas)], axis=1)
        x, y, z = part.T
        answer[:, x, y, z] = chances(first(described), atlas[:, x, y, z])
    return answer
