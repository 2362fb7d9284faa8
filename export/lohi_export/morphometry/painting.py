"""From a deformed label map to an image of any contrast and resolution, and its targets.

In the manner of SynthSeg (Billot et al., Med Image Anal 86:102789, 2023): random brightness for
every tissue, texture, blur, shading and noise. Most images take their brightness from the tissues'
relaxation times instead, since what the device sees is not of any contrast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_edge.quality.features import CLASSES
from lohi_edge.quality.frame import CROP, PERCENTILES, SPACING_MM, scaled
from lohi_edge.volume import Float32
from lohi_export.morphometry.bank import Codes
from lohi_export.morphometry.targets import CODES, class_table, side_table
from lohi_export.pairs import anatomy
from lohi_export.pairs.fields import along, random_field
from lohi_export.pairs.ranges import CONTRASTS, ranges_for
from lohi_export.pairs.tissues import LABEL_TISSUE, SULCUS

REALISTIC = 0.8  # share of images whose contrast a scanner could have
THICK = 0.5  # share of images with thick slices


@dataclass(frozen=True, eq=False)
class Painted:
    """An image and its truth on the window's voxels of 2 mm.

    Attributes:
        image: float32 (*CROP), scaled as the device scales it.
        counts: uint8 (CLASSES, *CROP), how many of a voxel's eight 1 mm voxels are of a class.
        right, left: uint8 (*CROP), how many are sided, and on which side.
    """

    image: Float32
    counts: NDArray[np.uint8]
    right: NDArray[np.uint8]
    left: NDArray[np.uint8]


def paint(codes: Codes, rng: np.random.Generator) -> Painted:
    """Paint a crop of codes (CROP_MM) at 1 mm, mirrored half of the time."""
    mirrored = rng.random() < 0.5
    codes = np.ascontiguousarray(codes[::-1]) if mirrored else codes
    sulcus = float(rng.uniform(0, 0.8))
    level, spread = brightness(sulcus, rng)
    scanner = Scanner.draw(rng)
    image = scanner.acquire(_texture(codes, level, spread, rng), _shading(rng), rng)
    low, high = (float(v) for v in np.percentile(image[::2, ::2, ::2], PERCENTILES))
    gamma = np.float32(np.exp(rng.uniform(-0.4, 0.4)))
    image = np.maximum(scaled(image, low, max(high, low + 1e-3)), 0) ** gamma
    return paired(image, codes, sulcus, mirrored)


def paired(image: Float32, codes: Codes, sulcus: float, mirrored: bool) -> Painted:
    """A window (*CROP) and its truth from codes (CROP_MM) at 1 mm, both mirrored or neither."""
    counts, right, left = targets(codes, sulcus)
    if mirrored:
        right, left = left, right
    return Painted(image, counts, right, left)


def brightness(sulcus: float, rng: np.random.Generator) -> tuple[Float32, Float32]:
    """Mean and standard deviation of brightness for every position in CODES, about 0 to 1."""
    level = _realistic(rng) if rng.random() < REALISTIC else _random(rng)
    position = {int(code): n for n, code in enumerate(CODES)}
    level[position[SULCUS]] = (1 - sulcus) * level[position[3]] + sulcus * level[position[24]]
    spread = rng.uniform(0, 0.07) * rng.uniform(0.3, 1, len(CODES))
    return level.astype(np.float32), spread.astype(np.float32)


def _random(rng: np.random.Generator) -> NDArray[np.float64]:
    names = ["air", *dict.fromkeys(LABEL_TISSUE.values())]
    of = {name: rng.uniform(0, 1) for name in names}
    if rng.random() < 0.8:
        of["air"] = rng.uniform(0, 0.1)
    tissue = [LABEL_TISSUE.get(int(code), "air") for code in CODES]
    return np.array([of[name] for name in tissue]) + _side_free(0.03, rng)


def _realistic(rng: np.random.Generator) -> NDArray[np.float64]:
    contrast = str(rng.choice(CONTRASTS))
    params = ranges_for(contrast).draw(rng)
    params["relaxation_jitter"] = rng.uniform(0.02, 0.1)
    table = anatomy.tables(params, contrast, rng)[0][int(rng.integers(2))]
    level: NDArray[np.float64] = np.abs(table[CODES]) * (1 + _side_free(0.03, rng)) / 1.5
    return level


def _side_free(deviation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """One random number a tissue label, the same on the left and on the right."""
    classes = class_table(0.0)
    return np.asarray(rng.normal(0, deviation, CLASSES)[classes] * (classes > 0))


def _texture(codes: Codes, level: Float32, spread: Float32, rng: np.random.Generator) -> Float32:
    """Brightness of every voxel at 1 mm: its label's, with texture."""
    grain = rng.standard_normal([-(-n // 2) for n in codes.shape], dtype=np.float32)
    if rng.random() < 0.5:
        grain = 3 * ndi.uniform_filter(grain, 3)
    # Texture over 2 mm: what is finer, the noise covers.
    rough = grain.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return np.asarray(level[codes] + spread[codes] * rough)


def _shading(rng: np.random.Generator) -> Float32:
    """Shading of the crop (*CROP): smooth, and most often with coils' bright rim."""
    bend = np.float32(rng.uniform(0, 0.25)) * random_field(rng, CROP, 35)
    rim = rng.uniform(0, 0.8) if rng.random() < 0.6 else 0.0
    away = [((np.arange(n) - n / 2) * SPACING_MM / 90) ** 2 for n in CROP]
    squared = away[0][:, None, None] + away[1][None, :, None] + away[2][None, None, :]
    return np.asarray(np.exp(bend + np.float32(rim) * (squared - 0.5).astype(np.float32)))


@dataclass(frozen=True)
class Scanner:
    """Resolution and noise of one scan.

    Attributes:
        step, blur: mm between samples (1: no slices), and sd of the point spread, per axis.
        noise, grain: sd per voxel of the scan, and of the final 2 mm voxels.
    """

    step: tuple[int, int, int]
    blur: tuple[float, float, float]
    noise: float
    grain: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scanner:
        """Thick slices half of the time, most often axial."""
        thick = rng.random() < THICK
        axis = int(rng.choice(3, p=[0.1, 0.1, 0.8]))
        step, blur = [1, 1, 1], [float(rng.uniform(0.3, 1.3)) for _ in range(3)]
        if thick:
            step[axis] = int(rng.integers(4, 7))
            blur[axis] = step[axis] * float(rng.uniform(0.3, 0.6))
        noise, grain = float(rng.uniform(0, 0.1)), float(rng.uniform(0, 0.04))
        return cls((step[0], step[1], step[2]), (blur[0], blur[1], blur[2]), noise, grain)

    def acquire(self, image: Float32, shading: Float32, rng: np.random.Generator) -> Float32:
        """A 1 mm image (X, Y, Z) as the scan shows it on 2 mm voxels."""
        pairs = [
            _resolution(size, step, blur, rng)
            for size, step, blur in zip(image.shape, self.step, self.blur, strict=True)
        ]
        seen = along((pairs[0][0], pairs[1][0], pairs[2][0]), image)
        inner = [n // 2 for n in image.shape]
        if seen.shape == tuple(inner):
            seen = seen * shading
        seen += np.float32(self.noise) * rng.standard_normal(seen.shape, dtype=np.float32)
        shown = along((pairs[0][1], pairs[1][1], pairs[2][1]), seen)
        if seen.shape != tuple(inner):
            shown = shown * shading
        shown += np.float32(self.grain) * rng.standard_normal(shown.shape, dtype=np.float32)
        return shown


def _resolution(
    size: int, step: int, blur: float, rng: np.random.Generator
) -> tuple[Float32, Float32]:
    """Weights (samples, size) of a scan's samples and (size // 2, samples) of what 2 mm show."""
    at = np.arange(size) + 0.5
    wanted = np.arange(size // 2) * 2 + 1.0
    centres = np.arange(rng.uniform(-step, 0), size + step, step) if step > 1 else wanted
    spread = np.hypot(blur, 0.4 if step > 1 else 0.6)
    sampled = np.exp(-(((at[None, :] - centres[:, None]) / spread) ** 2) / 2) + 1e-12
    sampled /= sampled.sum(axis=1, keepdims=True)
    joined = np.maximum(0, 1 - np.abs(wanted[:, None] - centres[None, :]) / max(step, 2))
    joined /= joined.sum(axis=1, keepdims=True)
    return sampled.astype(np.float32), joined.astype(np.float32)


def targets(
    codes: Codes, sulcus: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """(counts, right, left) of `Painted` for codes (CROP_MM) at 1 mm."""
    x, y, z = CROP
    classes, sides = class_table(sulcus)[codes], side_table()[codes]
    counts = np.zeros((CLASSES, x, y, z), np.uint8)
    flat = counts.reshape(CLASSES, -1)
    index = np.arange(x * y * z).reshape(x, y, z)
    right, left = np.zeros((2, x, y, z), np.uint8)
    for corner in np.ndindex(2, 2, 2):
        part = tuple(slice(c, None, 2) for c in corner)
        flat[classes[part].ravel(), index.ravel()] += 1
        right += sides[part] > 0
        left += sides[part] < 0
    return counts, right, left
