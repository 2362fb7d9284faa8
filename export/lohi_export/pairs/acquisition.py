"""What the scanners do to tissue signal: 3 T lightly, 64 mT thoroughly."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy import ndimage as ndi

from lohi_export.pairs.fields import Float32, Shape, along, random_field

HELMET_MM = (85.0, 105.0, 95.0)  # half-axes of a helmet close to the scalp
ELEMENTS = 8
GROUPS = 6  # of k-space lines between which the head moves


def acquire_high(signal: Float32, params: dict[str, float], rng: np.random.Generator) -> Float32:
    """3 T magnitude image of a signed signal (X, Y, Z) at 1 mm.

    Blur, the shading left, noise, and the brightest (fat, or CSF) saturated at `high_top` times
    white matter: then white matter lies at one level of every image's range, as in stored scans.
    """
    image = ndi.gaussian_filter(signal, params["high_blur"], truncate=3)
    image *= np.exp(params["high_bias"] * random_field(rng, signal.shape, 70))
    noisy = rician(image, 1 / params["high_snr"], rng)
    saturated: Float32 = np.minimum(noisy, np.float32(params["high_top"]))
    return saturated


def acquire_low(
    signal: Float32,
    shape: Shape,
    params: dict[str, float],
    rng: np.random.Generator,
    coil: np.random.Generator | None = None,
) -> Float32:
    """64 mT magnitude image of `shape` from a signed signal (X, Y, Z) at 1 mm.

    Partial volume and point spread; shading of the coil elements; motion; complex noise with the
    reconstruction filter's spectrum; sum of squares over channels; masked corners; saturation.
    The result is relative to white matter's signal at the brain's centre.

    Args:
        coil: where the elements are drawn from; None for `rng`, each scan having another coil.
    """
    zooms = [n / m for n, m in zip(signal.shape, shape, strict=True)]
    image = along(point_spreads(signal.shape, shape, params), signal)
    shading = coil_shading(shape, zooms, params, coil or rng)
    image = move(image * shading, zooms, params, rng)
    image = combine(image, shape, params, rng)
    image *= shading ** (params["shading_power"] - 1)
    head = image > 0.3
    if head.any():
        image = np.minimum(image, np.percentile(image[head], params["clip"]))
    if params["masked"] > 0.3:
        image[outside(shape, params, rng)] = 0
    return image.astype(np.float32)


def point_spreads(
    fine: Shape, coarse: Shape, params: dict[str, float]
) -> tuple[Float32, Float32, Float32]:
    """One matrix (coarse, fine) per axis: how each 64 mT voxel weights the 1 mm voxels."""
    x = k_space_spread(fine[0], coarse[0], params["low_edge_x"])
    y = k_space_spread(fine[1], coarse[1], params["low_edge_y"])
    box = params["low_box"]
    z = (1 - box) * k_space_spread(fine[2], coarse[2], params["low_edge_z"]) + box * box_spread(
        fine[2], coarse[2]
    )
    return x, y, z.astype(np.float32)


def k_space_spread(fine: int, coarse: int, edge_gain: float) -> Float32:
    """Point spread (coarse, fine) of k-space cut at the coarse grid's Nyquist frequency.

    Fourier encoding with voxels of `v` = fine / coarse keeps |k| < 1 / (2 v); the reconstruction
    filter falls as a Gaussian from 1 at the centre to `edge_gain` at that edge. Rows sum to 1, so a
    uniform object stays uniform to the rim of the field of view. Both grids share their centre.
    """
    zoom = fine / coarse
    k = (np.arange(64) + 0.5) / 64 / (2 * zoom)
    gain = edge_gain ** ((2 * zoom * k) ** 2)
    distance = _distance(fine, coarse)
    weights = np.tensordot(np.cos(2 * np.pi * distance[..., None] * k), gain, axes=(2, 0))
    # Beyond a few voxels the sidelobes of a real scan drown in noise; a finite reach also keeps the
    # rim of the field of view from seeing the other end.
    weights *= np.maximum(0, 1 - (distance / (8 * zoom)) ** 2)
    result: Float32 = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def box_spread(fine: int, coarse: int) -> Float32:
    """Point spread (coarse, fine) of a perfect slice: the mean over its thickness."""
    half = fine / coarse / 2
    distance = _distance(fine, coarse)
    overlap = np.clip(half + 0.5 - np.abs(distance), 0, min(1.0, 2 * half))
    result: Float32 = (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def _distance(fine: int, coarse: int) -> np.ndarray:
    """Distance (coarse, fine) between the voxel centres of two grids of one field of view."""
    zoom = fine / coarse
    return ((np.arange(coarse) + 0.5) * zoom - 0.5)[:, None] - np.arange(fine)[None, :]


def coil_shading(
    shape: Shape, zooms: list[float], params: dict[str, float], rng: np.random.Generator
) -> Float32:
    """Root sum of squares of the elements' sensitivities (X, Y, Z), 1 at the centre.

    Eight loops on a helmet; each falls off as a loop's field on its axis does,
    (1 + d^2 / a^2)^(-3/2) at distance d for radius a (Biot-Savart).
    """
    half = np.array(HELMET_MM) + params["coil_gap"]
    # Points spread evenly (golden angle) over the helmet, open below.
    up = np.linspace(-0.35, 1, ELEMENTS) + rng.uniform(-0.05, 0.05, ELEMENTS)
    up = np.clip(up, -1, 1)
    turn = rng.uniform(0, 2 * np.pi) + np.arange(ELEMENTS) * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - up**2)
    centres = np.stack([ring * np.cos(turn), ring * np.sin(turn), up], 1) * half
    centres += rng.normal(0, 8, centres.shape)
    gains = np.exp(params["coil_gain"] * rng.standard_normal(ELEMENTS))
    axes = [
        (np.arange(n) - (n - 1) / 2).astype(np.float32) * np.float32(v)
        for n, v in zip(shape, zooms, strict=True)
    ]
    total = np.zeros(shape, np.float32)
    radius2 = params["coil_radius"] ** 2
    for centre, gain in zip(centres.astype(np.float32), gains, strict=True):
        x, y, z = ((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
        d2 = (x[:, None, None] + y[None, :, None] + z[None, None, :]) / np.float32(radius2)
        total += np.float32(gain**2) / (1 + d2) ** 3
    shading = np.sqrt(total)
    middle = tuple(slice(n // 2 - n // 8, n // 2 + n // 8 + 1) for n in shape)
    result: Float32 = shading / shading[middle].mean()
    return result


def move(
    image: Float32, zooms: list[float], params: dict[str, float], rng: np.random.Generator
) -> Float32:
    """Shift the head a little, and change its gain, between groups of phase-encoding lines.

    Lines along the second axis are taken in GROUPS blocks from the centre outwards; each block sees
    the head translated by its own vector (a phase ramp in k-space).
    """
    steps = rng.normal(0, params["motion"], (GROUPS, 3)) / np.array(zooms)
    gains = 1 + rng.normal(0, params["ghost"], GROUPS)
    steps[0], gains[0] = 0, 1  # the centre of k-space says where the head is
    spectrum = fft.fftn(image)
    k = [np.fft.fftfreq(n) for n in image.shape]
    group = np.minimum((np.abs(k[1]) * 2 * GROUPS).astype(int), GROUPS - 1)
    ramps = [np.exp(-2j * np.pi * k[a][:, None] * steps[group, a][None, :]) for a in (0, 2)]
    ramp_y = gains[group] * np.exp(-2j * np.pi * k[1] * steps[group, 1])
    spectrum *= (ramps[0] * ramp_y)[:, :, None].astype(np.complex64)
    spectrum *= ramps[1].T[None].astype(np.complex64)
    result: Float32 = fft.ifftn(spectrum).real.astype(np.float32)
    return result


def combine(
    image: Float32, shape: Shape, params: dict[str, float], rng: np.random.Generator
) -> Float32:
    """Magnitude of the channels' root sum of squares, complex noise of sd 1/snr in each.

    A rotation of the channels puts all signal into the first and leaves the noise as it is, so n
    channels are one with signal and n - 1 with noise alone; one channel alone is Rician.
    """
    sd = np.float32(1 / params["low_snr"])
    power = np.zeros(shape, np.float32)
    for channel in range(int(params["low_channels"])):
        for part in range(2):
            noise = sd * filtered_noise(shape, params, rng)
            power += (noise + image if channel == part == 0 else noise) ** 2
    return np.sqrt(power)


def filtered_noise(shape: Shape, params: dict[str, float], rng: np.random.Generator) -> Float32:
    """Noise (X, Y, Z) of sd 1 with the spectrum that the reconstruction filter leaves."""
    edges = (params["low_edge_x"], params["low_edge_y"], params["low_edge_z"])
    spread = params["low_noise_spread"]
    gains = []
    for axis, (n, edge) in enumerate(zip(shape, edges, strict=True)):
        k = np.fft.rfftfreq(n) if axis == 2 else np.fft.fftfreq(n)
        gain = edge ** ((2 * k) ** 2) * np.exp(-2 * (np.pi * spread * k) ** 2)
        gains.append(gain / np.sqrt(np.mean(gain**2) if axis < 2 else _mean_square(gain, n)))
    spectrum = fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    spectrum *= (gains[0][:, None] * gains[1]).astype(np.float32)[..., None]
    spectrum *= gains[2].astype(np.float32)
    result: Float32 = fft.irfftn(spectrum, shape)
    return result


def _mean_square(gain: np.ndarray, n: int) -> float:
    """Mean of gain^2 over all n frequencies, from those of a real transform."""
    twice = np.full(len(gain), 2.0)
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    return float((twice * gain**2).sum() / n)


def outside(shape: Shape, params: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Where (X, Y, Z) the gradient unwarping found nothing to show: a box with wavy sides."""
    limits = (params["mask_width"], params["mask_length"], 1.02)
    coarse = [max(n / 6, 2) for n in shape]
    masked = np.zeros(shape, bool)
    for axis, (n, limit) in enumerate(zip(shape, limits, strict=True)):
        side = np.abs((np.arange(n) + 0.5) * 2 / n - 1).astype(np.float32)
        wave = 0.03 * random_field(rng, shape, float(np.mean(coarse)))
        masked |= np.moveaxis(
            np.broadcast_to(side, (*shape[:axis], *shape[axis + 1 :], n)), -1, axis
        ) > (limit + wave)
    return masked


def rician(image: Float32, sd: float, rng: np.random.Generator) -> Float32:
    """Magnitude of the image with complex white noise of `sd` in each part."""
    real = image + np.float32(sd) * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = np.float32(sd) * rng.standard_normal(image.shape, dtype=np.float32)
    magnitude: Float32 = np.hypot(real, imaginary)
    return magnitude
