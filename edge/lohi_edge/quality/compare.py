"""Every reference metric of a volume, on the whole grid and inside head and brain."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lohi_edge.quality.reference import Mask, mean_inside, nrmse, psnr, ssim_map, unit_range
from lohi_edge.volume import Float32

# name -> (unit, which direction is better)
METRICS = {
    "psnr": ("dB", "high"),
    "ssim_2d": ("", "high"),
    "ssim_3d": ("", "high"),
    "nrmse": ("", "low"),
    "ulf_enc_psnr": ("dB", "high"),
    "ulf_enc_ssim": ("", "high"),
}


def compare(
    truth: Float32, image: Float32, regions: Mapping[str, Mask | None]
) -> dict[str, dict[str, float]]:
    """Figures of METRICS by region. A background that is black in both flatters the whole grid.

    PSNR and NRMSE pool the errors of a region's voxels; the SSIM maps, 2-D (slice by slice) and
    3-D, are averaged over them. ulf_enc_*: PSNR and 3-D SSIM after each volume's own minimum and
    maximum became 0 and 1, data range 1, in the manner of the ULF-EnC challenge; an image of one
    brightness, as a generator that collapsed makes it, becomes 0.

    Args:
        truth, image: (N, H, W) in [-1, 1], axial slices along the first axis.
        regions: masks (N, H, W) by name; None is the whole grid.

    Raises:
        ValueError: an empty mask, a truth of one brightness, volumes of fewer than 11 voxels along
            an axis, or an image that holds what is no number.
    """
    if not np.isfinite(image).all():
        raise ValueError("expected an image of numbers, got NaN or infinity")
    unit_truth = unit_range(truth)
    unit_image = unit_range(image) if np.ptp(image) > 0 else np.zeros_like(image)
    maps = {
        "ssim_2d": ssim_map(truth, image, axes=(1, 2)),
        "ssim_3d": ssim_map(truth, image),
        "ulf_enc_ssim": ssim_map(unit_truth, unit_image, 1.0),
    }
    return {
        region: {
            "psnr": psnr(truth, image, 2.0, inside),
            "nrmse": nrmse(truth, image, inside),
            "ulf_enc_psnr": psnr(unit_truth, unit_image, 1.0, inside),
            **{name: mean_inside(similarity, inside) for name, similarity in maps.items()},
        }
        for region, inside in regions.items()
    }
