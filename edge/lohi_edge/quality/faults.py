"""Faults that a scan can have, made on purpose: what the quality check must catch.

Every function takes an image array, a strength (0 weak, 1 middle, 2 strong) and a generator, and
returns the faulty array; nothing else is changed.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import fft
from scipy import ndimage as ndi

from lohi_edge.volume import Float32

Fault = Callable[[Float32, int, np.random.Generator], Float32]
_K_BLOCKS = 8  # groups of phase-encoding lines between which the head moves


def motion(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """The head moves by 2, 4 or 8 mm (standard deviation) between groups of k-space lines."""
    steps = rng.normal(0, (2, 4, 8)[strength], (_K_BLOCKS, 3)) / (1.6, 1.6, 5)
    steps[0] = 0
    spectrum = fft.fftn(image)
    k = [np.fft.fftfreq(n) for n in image.shape]
    group = np.minimum((np.abs(k[1]) * 2 * _K_BLOCKS).astype(int), _K_BLOCKS - 1)
    for axis in range(3):
        phase = np.multiply.outer(k[axis], steps[group, axis])  # (n_axis, y)
        if axis == 0:
            spectrum *= np.exp(-2j * np.pi * phase)[:, :, None]
        elif axis == 1:
            spectrum *= np.exp(-2j * np.pi * k[1] * steps[group, 1])[None, :, None]
        else:
            spectrum *= np.exp(-2j * np.pi * phase.T)[None]
    return np.abs(fft.ifftn(spectrum)).astype(np.float32)


def ghosting(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """A copy shifted by half the field of view, 6, 12 or 25 % as bright (N/2 ghost)."""
    level = (0.06, 0.12, 0.25)[strength]
    ghost = np.roll(image, image.shape[1] // 2, axis=1)
    return np.abs(image + level * ghost * np.exp(1j * rng.uniform(0, np.pi))).astype(np.float32)


def spikes(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """One k-space point of some slices (or of the volume) is off: stripes of 5, 10 or 20 %."""
    x, y, z = image.shape
    amplitude = (0.05, 0.1, 0.2)[strength] * tissue_level(image)
    angle, radius = rng.uniform(0, np.pi), rng.uniform(0.25, 0.45)
    kx, ky = radius * np.cos(angle), radius * np.sin(angle)
    kz = rng.uniform(-0.5, 0.5)
    phase = rng.uniform(0, 2 * np.pi)
    wave = np.cos(
        2
        * np.pi
        * (kx * np.arange(x)[:, None, None] + ky * np.arange(y)[:, None] + kz * np.arange(z))
        + phase
    )
    if rng.random() < 0.5:
        wave[:, :, rng.permutation(z)[: z // 2]] = 0
    return np.abs(image + amplitude * wave).astype(np.float32)


def zipper(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """A line of radio-frequency noise through all slices, 0.3, 0.6 or 1.2 as bright as tissue."""
    faulty = image.copy()
    at = int(rng.integers(image.shape[0] // 8, image.shape[0] * 7 // 8))
    shape = (2, *image.shape[1:])
    level = (0.3, 0.6, 1.2)[strength] * tissue_level(image)
    faulty[at : at + 2] += (level * np.abs(rng.normal(1, 0.5, shape))).astype(np.float32)
    return faulty


def noise(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """Noise of 2, 4 or 8 times the standard deviation, with a reconstruction filter's spectrum.

    The filter hides noise from a Laplacian: by a factor of about 2.5 in simulated scans.
    """
    factor = (2, 4, 8)[strength]
    sd = 2.5 * _noise_sd(image) * np.sqrt(factor**2 - 1)
    white = ndi.gaussian_filter(rng.standard_normal((2, *image.shape)), (0, 0.6, 0.6, 0))
    real, imaginary = sd * white / white.std()
    noisy = np.hypot(image + real, imaginary)
    return np.where(image > image.min(), noisy, image).astype(np.float32)


def missing(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """One slice half as bright, one empty, or three empty."""
    faulty = image.copy()
    at = _some_slices(image, (1, 1, 3)[strength], rng)
    faulty[:, :, at] *= np.float32((0.5, 0, 0)[strength])
    return faulty


def skipped(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """One, two or four neighbouring slices left out and the gap closed; the top is padded."""
    count = (1, 2, 4)[strength]
    at = int(_some_slices(image, 1, rng)[0])
    keep = np.delete(np.arange(image.shape[2]), np.arange(at, at + count) % image.shape[2])
    return np.concatenate([image[:, :, keep], image[:, :, -1:].repeat(count, axis=2)], axis=2)


def duplicated(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """One, two or four slices replaced by their neighbour."""
    faulty = image.copy()
    for at in _some_slices(image, (1, 2, 4)[strength], rng):
        faulty[:, :, at] = image[:, :, at - 1]
    return faulty


def swapped(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """Two neighbours exchanged, two slices three apart exchanged, or odd and even slices."""
    order = np.arange(image.shape[2])
    if strength == 2:
        even = len(order) // 2 * 2
        order[:even] = order[:even].reshape(-1, 2)[:, ::-1].ravel()
    else:
        at = int(_some_slices(image, 1, rng)[0])
        other = at - (1, 3)[strength]
        order[[at, other]] = order[[other, at]]
    return image[:, :, order]


def clipped(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """The brightest 3, 8 or 20 % of the head saturate."""
    head = image[image > 0.5 * tissue_level(image)]
    top = np.percentile(head, (97, 92, 80)[strength])
    return np.minimum(image, np.float32(top))


def cropped(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """The crown lies 15, 30 or 50 mm outside the field of view (5 mm slices)."""
    rows = np.flatnonzero((image > 0.4 * tissue_level(image)).mean(axis=(0, 1)) > 0.02)
    return image[:, :, : max(6, int(rows[-1]) + 1 - (3, 6, 10)[strength])]


def shading(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """Brightness changes by a factor of 4, 8 or 16 across the field of view."""
    direction = rng.normal(size=3)
    direction /= np.abs(direction).sum()
    ramp = sum(
        d * np.linspace(-1, 1, n).reshape([-1 if a == i else 1 for i in range(3)])
        for a, (d, n) in enumerate(zip(direction, image.shape, strict=True))
    )
    reach = np.ptp(ramp)
    return (image * np.exp(np.log((4, 8, 16)[strength]) * ramp / reach * 2 / 2)).astype(np.float32)


def lifted(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
    """0.15, 0.3 or 0.6 of tissue added everywhere: a file that lost its intercept on the way."""
    return image + np.float32((0.15, 0.3, 0.6)[strength] * tissue_level(image))


def flipped(axis: int) -> Fault:
    """The header says the opposite of what the patient did, along an axis."""

    def fault(image: Float32, strength: int, rng: np.random.Generator) -> Float32:
        return np.flip(image, axis)

    return fault


SCAN_FAULTS: dict[str, Fault] = {
    "motion": motion,
    "ghosting": ghosting,
    "spikes": spikes,
    "zipper": zipper,
    "noise": noise,
    "missing slice": missing,
    "skipped slices": skipped,
    "duplicated slice": duplicated,
    "swapped slices": swapped,
    "clipped": clipped,
    "cropped field of view": cropped,
    "strong shading": shading,
    "added offset": lifted,
    "upside down": flipped(2),
    "front to back": flipped(1),
    "mirrored left to right": flipped(0),
}

# Faults after which a voxel stands elsewhere, so that a mask of the clean scan does not fit, and
# those that come about after the scanner has masked.
UNMASKED = {
    "skipped slices", "duplicated slice", "swapped slices", "cropped field of view",
    "added offset", "upside down", "front to back", "mirrored left to right",
}  # fmt: skip


def tissue_level(image: Float32) -> float:
    """Typical brightness of the head."""
    bright = image[image > 0.25 * np.percentile(image, 98)]
    return float(np.median(bright)) if len(bright) else 1.0


def _noise_sd(image: Float32) -> float:
    """Noise of a scan's tissue (Immerkaer's mask with the median)."""
    a = image[:-2] - 2 * image[1:-1] + image[2:]
    b = a[:, :-2] - 2 * a[:, 1:-1] + a[:, 2:]
    inside = ndi.binary_erosion(image > 0.5 * tissue_level(image), iterations=3)[1:-1, 1:-1]
    return float(np.median(np.abs(b[inside]))) / 0.6745 / 6


def _some_slices(image: Float32, count: int, rng: np.random.Generator) -> Any:
    """Slices well inside the head, none beside another."""
    low, high = image.shape[2] // 4, image.shape[2] * 4 // 5
    return low + 2 * rng.permutation((high - low) // 2)[:count]
