"""Random changes of a training sample, drawn first and applied afterwards.

Drawing costs next to nothing, so every process of a run draws the changes of the whole batch and
applies those of its share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_edge.volume import Float32
from lohi_export.config import TrainConfig

KNOT_SPACING = 32  # pixels between the independent displacements of a warp
# At `levels` 1: the highest black, and the range of the logarithm of the white, relative. White
# matter lies at 0.4 of the brightest in some real 64 mT scans and, with a wide band of scalp
# saturated, at 0.6 in others; in simulated ones at 0.3 to 0.5.
BLACK, WHITE = 0.08, (-0.5, 0.7)
SLICE_MM = 5  # between the acquired slices, whose noise is drawn alone
SPREAD = (0.5, 1.3)  # pixels; sd of the smoothing of added noise
# Of spots: half-axes, pixels; relative change at 3 T of brighter and of darker ones; that of the
# source over it; width of the edge across the shorter axis in source and target, pixels.
HALF_AXES, BRIGHTER, DARKER, SEEN, EDGES = (2.5, 18), (0.1, 1.2), (-0.7, -0.1), (0.7, 1.2), (4, 1.5)

Knots = NDArray[np.float64]


@dataclass(frozen=True)
class Spot:
    """A soft-edged ellipse, brighter or darker than it was by a factor, as a lesion may be.

    Attributes:
        centre, half_axes: pixels of the cut window.
        angle: of the first axis, radians.
        source, target: relative change of grey values in either image.
    """

    centre: tuple[float, float]
    half_axes: tuple[float, float]
    angle: float
    source: float
    target: float

    def factor(self, shape: tuple[int, ...], change: float, edge: float) -> Float32:
        """What grey values (..., h, w) are multiplied by."""
        y, x = np.ogrid[: shape[-2], : shape[-1]]
        y, x = y - self.centre[0], x - self.centre[1]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        a, b = self.half_axes
        inside = 1 - np.hypot((cos * y + sin * x) / a, (cos * x - sin * y) / b)
        share = np.clip(inside * min(a, b) / edge + 0.5, 0, 1)
        factor: Float32 = (1 + change * share).astype(np.float32)
        return factor


@dataclass(frozen=True)
class Noise:
    """Noise of planes 1 mm apart, alike in those between two acquired slices.

    Attributes:
        seed: of its values.
        sd: standard deviation of grey values in [0, 1]; 0 for none.
        spread: standard deviation of its smoothing, pixels.
        phase: the first plane's place between two acquired slices, 0 to 1.
    """

    seed: int
    sd: float
    spread: float
    phase: float

    def values(self, shape: tuple[int, int, int]) -> Float32:
        """(C, h, w), interpolated between slices SLICE_MM apart."""
        rng = np.random.default_rng(self.seed)
        at = self.phase + np.arange(shape[0]) / SLICE_MM
        slices = rng.standard_normal((int(at[-1]) + 2, *shape[1:]), dtype=np.float32)
        slices = ndi.gaussian_filter(slices, (0, self.spread, self.spread))
        slices *= np.float32(self.sd / slices.std())
        near = at.astype(int)
        far = (at - near).astype(np.float32)[:, None, None]
        planes: Float32 = (1 - far) * slices[near] + far * slices[near + 1]
        return planes


@dataclass(frozen=True, eq=False)
class Change:
    """What happens to one sample.

    Attributes:
        corner, size: of the window that is cut out.
        flip: left and right are swapped.
        power: the source's grey values in [0, 1] are raised to it.
        noise: added to the source.
        levels: where its black and white come to lie in [0, 1]; brighter than 1 is clipped.
        spot: put into both images; None for none.
        held: the source's neighbours repeat its middle slice, as they do where a scan is one
            slice, or thick ones.
        warp: displacements in pixels (2, m, n) on a coarse grid over the window; None for none.
        slip: the same, of the target alone and beside `warp`.
    """

    corner: tuple[int, int]
    size: tuple[int, int]
    flip: bool
    power: np.float32
    noise: Noise
    levels: tuple[np.float32, np.float32]
    spot: Spot | None
    held: bool
    warp: Knots | None
    slip: Knots | None

    def of_source(self, image: Float32) -> Float32:
        """(C, H, W) in [-1, 1] -> (C, h, w): contrast and range differ between scanners."""
        grey = (self._placed(image, self.warp) + 1) / 2
        if self.spot:
            grey = grey * self.spot.factor(grey.shape, self.spot.source, EDGES[0])
        if self.noise.sd:
            grey = np.abs(grey + self.noise.values(grey.shape))
        if self.held:
            grey = np.repeat(grey[len(grey) // 2][None], len(grey), axis=0)
        black, white = self.levels
        grey = grey**self.power
        grey = np.minimum(black + (white - black) * grey, np.float32(1))
        changed: Float32 = (2 * grey - 1).astype(np.float32, copy=False)
        return changed

    def of_target(self, image: Float32) -> Float32:
        """(C, H, W) -> (C, h, w), its grey values as wanted."""
        warps = [warp for warp in (self.warp, self.slip) if warp is not None]
        image = self._placed(image, np.sum(warps, axis=0) if warps else None)
        if self.spot:
            grey = (image + 1) / 2 * self.spot.factor(image.shape, self.spot.target, EDGES[1])
            image = 2 * np.minimum(grey, np.float32(1)) - 1
        return image

    def _placed(self, image: Float32, warp: Knots | None) -> Float32:
        (x, y), (height, width) = self.corner, self.size
        image = image[:, x : x + height, y : y + width]
        if warp is not None:
            image = _warped(image, warp)
        return image[:, ::-1] if self.flip else image


def draw(shape: tuple[int, int], config: TrainConfig, rng: np.random.Generator) -> Change:
    """A random change of slices (H, W), as `crop` and the configuration's augmentation have it.

    Warps are drawn at knots and smooth between them (Simard et al., ICDAR 2003; on a coarse grid
    as in Ronneberger et al., MICCAI 2015).
    """
    crop = config.crop
    size = (crop, crop) if crop else shape
    free = [full - part + 1 for full, part in zip(shape, size, strict=True)]
    x, y = (int(rng.integers(n)) if crop else 0 for n in free)
    flip = bool(rng.random() < 0.5)
    power = np.float32(np.exp(rng.uniform(-config.gamma, config.gamma)))
    held = bool(rng.random() < config.hold)
    warp = _knots(size, config.elastic, rng)
    slip = _knots(size, config.slip, rng)
    black = np.float32(config.levels * rng.uniform(0, BLACK))
    white = np.float32(np.exp(config.levels * rng.uniform(*WHITE)))
    noise = Noise(
        seed=int(rng.integers(2**32)),
        sd=config.noise * rng.random(),
        spread=float(rng.uniform(*SPREAD)),
        phase=float(rng.random()),
    )
    spot = _spot(size, rng) if rng.random() < config.spots else None
    return Change((x, y), size, flip, power, noise, (black, white), spot, held, warp, slip)


def _spot(size: tuple[int, int], rng: np.random.Generator) -> Spot:
    y, x = (float(rng.uniform(0.1, 0.9) * side) for side in size)
    a, b = (float(np.exp(rng.uniform(*np.log(HALF_AXES)))) for _ in range(2))
    target = float(rng.uniform(*(BRIGHTER if rng.random() < 0.5 else DARKER)))
    source = target * float(rng.uniform(*SEEN))
    return Spot((y, x), (a, b), float(rng.uniform(0, np.pi)), source, target)


def _knots(size: tuple[int, int], sd: float, rng: np.random.Generator) -> Knots | None:
    """Displacements (2, m, n) of standard deviation `sd` pixels."""
    knots = [side // KNOT_SPACING + 2 for side in size]
    return rng.normal(0, sd, (2, *knots)) if sd else None


def _warped(image: Float32, warp: Knots) -> Float32:
    """The image seen through cubic splines of the knots' displacements."""
    shape = image.shape[1:]
    grid = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in shape), indexing="ij")
    at = np.stack(
        [g / (n - 1) * (m - 1) for g, n, m in zip(grid, shape, warp.shape[1:], strict=True)]
    )
    moved = np.stack(grid) + [ndi.map_coordinates(d, at, order=3, mode="nearest") for d in warp]
    planes = [ndi.map_coordinates(plane, moved, order=1, mode="nearest") for plane in image]
    return np.stack(planes)
