"""How much closer to 3 T a generator brings slices, measured on whole slices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lohi_calibration.accuracy import MOST_DB
from lohi_edge.errors import BadInput
from lohi_edge.quality.reference import psnr, ssim
from lohi_edge.volume import Float32
from lohi_export.dataset import SlicePair

SLAB = 10  # slices on either side of the head's middle that make the middle slab
FIGURES = ("psnr_raw", "ssim_raw", "psnr", "ssim")


def spread(pair: SlicePair, count: int) -> NDArray[np.intp]:
    """Indices (count,) of slices evenly spread over the head, both ends left out."""
    first, last = pair.head
    return np.unique(np.linspace(first, last - 1, count + 2)[1:-1].round().astype(np.intp))


def middle(pair: SlicePair) -> tuple[int, int]:
    """(first, last), half-open, of the slab about the middle of the head."""
    centre = sum(pair.head) // 2
    return max(pair.head[0], centre - SLAB), min(pair.head[1], centre + SLAB + 1)


@torch.inference_mode()
def translate(generator: nn.Module, source: Float32, device: torch.device) -> Float32:
    """Slices (n, C, H, W) -> (n, 1, H, W), one at a time: on a CPU that is the fastest batch.

    Raises:
        BadInput: the generator answers with NaN or infinity, of which no figure can be made.
    """
    generator.eval()
    outputs = [generator(torch.from_numpy(s[None]).to(device)).cpu().numpy() for s in source]
    images: Float32 = np.concatenate(outputs)
    if not np.isfinite(images).all():
        raise BadInput(
            "expected images of finite numbers from the generator, got NaN or infinity; "
            "train it again with a lower --lr"
        )
    return images


def figures(
    generator: nn.Module,
    pair: SlicePair,
    indices: NDArray[np.intp],
    channels: int,
    device: torch.device,
) -> list[dict[str, float]]:
    """PSNR (dB, at most MOST_DB) and SSIM of each slice, raw and output against the truth.

    Raises:
        BadInput: see `translate`.
    """
    rows = []
    for z in indices:
        source, target = pair.batch(np.array([z]), channels)
        output = translate(generator, source, device)[0, 0]
        raw, truth = source[0, channels // 2], target[0, 0]
        rows.append(
            {
                "psnr_raw": min(psnr(raw, truth), MOST_DB),
                "ssim_raw": ssim(raw, truth),
                "psnr": min(psnr(output, truth), MOST_DB),
                "ssim": ssim(output, truth),
            }
        )
    return rows


def mean(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Each figure's mean."""
    rows = list(rows)
    return {name: float(np.mean([row[name] for row in rows])) for name in FIGURES}


def evaluate(
    generator: nn.Module, pairs: Iterable[SlicePair], channels: int, device: torch.device
) -> dict[str, Any]:
    """Means over slices, then over a subject's runs, then over subjects.

    Returns:
        {"subjects": {subject: {"slices": figures, "slab": figures}}, "mean": {...}}: over all
        slices that show a head, and over the middle slab.

    Raises:
        BadInput: see `translate`.
    """
    scans: dict[str, list[dict[str, dict[str, float]]]] = {}
    for pair in pairs:
        every = np.arange(*pair.head)
        rows = figures(generator, pair, every, channels, device)
        first, last = (z - pair.head[0] for z in middle(pair))
        scans.setdefault(pair.pair.subject, []).append(
            {"slices": mean(rows), "slab": mean(rows[first:last])}
        )
    regions = ("slices", "slab")
    subjects = {
        subject: {region: mean(scan[region] for scan in of_subject) for region in regions}
        for subject, of_subject in scans.items()
    }
    overall = {region: mean(s[region] for s in subjects.values()) for region in regions}
    return {"subjects": subjects, "mean": overall}
