"""PIQE: how distorted an image looks, without a reference."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.volume import Float32, Float64

BLOCK = 16
SEGMENT = 6  # samples of a block's edge that are judged together
ACTIVE = 0.1  # variance above which a block draws the eye
FLAT = 0.1  # standard deviation below which a segment counts as an artefact
SIGMA, RADIUS = 7 / 6, 3
_CENTRE = (7, 8)
# The published code deletes one centre column, then the next but one: kept, so scores agree.
_SURROUND = [c for c in range(BLOCK) if c not in (7, 9)]


def piqe(image: Float32, low: float = 0.0, high: float | None = None) -> float:
    """Perception-based image quality evaluator of one slice; 0 is best, 100 worst.

    Venkatanath et al., "Blind image quality evaluation using perception based features", NCC 2015:
    16 x 16 blocks of locally normalised intensities; active blocks with flat edge segments
    (blocking, blur) or with noise count as distorted. A uniform image scores 100.

    Args:
        image: (H, W), finite.
        low, high: intensities that become 0 and 255; `high` None stands for the maximum.
    """
    high = float(image.max()) if high is None else high
    if not high > low:
        return 100.0
    scaled: Float64 = (image.astype(np.float64) - low) * (255 / (high - low))
    pad = [(0, -n % BLOCK) for n in scaled.shape]
    blocks = _blocks(
        _normalised(np.asarray(np.round(np.pad(scaled, pad, mode="symmetric")), np.float64))
    )
    variance = blocks.var(axis=(1, 2), ddof=1)
    active = variance > ACTIVE
    if not active.any():
        return 100.0
    blocks, variance = blocks[active], variance[active]
    scores = np.where(_flat_edged(blocks), 1 - variance, 0.0)
    scores += np.where(_noisy(blocks, variance), variance, 0.0)
    return float((scores.sum() + 1) / (1 + len(blocks)) * 100)


def _normalised(image: Float64) -> Float64:
    """Mean-subtracted, contrast-normalised intensities (H, W)."""

    def blur(x: Float64) -> Float64:
        blurred: Float64 = ndi.gaussian_filter(x, SIGMA, radius=RADIUS, mode="nearest")
        return blurred

    mean = blur(image)
    deviation = np.sqrt(np.abs(blur(image * image) - mean * mean))
    result: Float64 = (image - mean) / (deviation + 1)
    return result


def _blocks(image: Float64) -> Float64:
    """(H, W) -> (blocks, 16, 16)."""
    rows, columns = (n // BLOCK for n in image.shape)
    tiles = image.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
    blocks: Float64 = tiles.reshape(-1, BLOCK, BLOCK)
    return blocks


def _flat_edged(blocks: Float64) -> np.ndarray:
    """Which blocks have a segment of nearly one brightness on one of their four edges."""
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)
    segments = np.lib.stride_tricks.sliding_window_view(edges, SEGMENT, axis=2)
    flat: np.ndarray = (segments.std(axis=3, ddof=1) < FLAT).any(axis=(1, 2))
    return flat


def _noisy(blocks: Float64, variance: Float64) -> np.ndarray:
    """Which blocks vary as much in their surround as in their centre columns: noise."""
    sigma = np.sqrt(variance)
    centre = blocks[:, :, _CENTRE].std(axis=(1, 2), ddof=1)
    surround = blocks[:, :, _SURROUND].std(axis=(1, 2), ddof=1)
    ratio = np.divide(centre, surround, out=np.zeros_like(centre), where=surround > 0)
    beta = np.abs(sigma - ratio) / np.maximum(sigma, ratio)
    noisy: np.ndarray = sigma > 2 * beta
    return noisy
