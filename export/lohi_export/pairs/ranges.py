"""Everything the simulator draws at random, and from which range."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from lohi_edge.errors import UsageError

Range = tuple[float, float]
CONTRASTS = ("T1w", "T2w", "FLAIR")


@dataclass(frozen=True)
class Ranges:
    """Ranges (low, high) that a volume's parameters are drawn from, uniformly.

    mm, ms and degrees; what a parameter means stands beside it. The middle of each range matches
    real 64 mT and 3 T head scans; the width is there so that a network carries over to others.
    """

    # Grid and pose
    zoom_in_plane: Range = (1.5, 1.7)  # 64 mT voxel size in plane, mm
    zoom_through: Range = (4.7, 5.3)  # 64 mT voxel size between slices, mm
    tilt: Range = (1, 6)  # largest head rotation about each axis, degrees
    offset: Range = (1, 5)  # largest head offset along each axis, mm
    rise: Range = (-4, 8)  # how far the field of view's centre lies below the brain's, mm
    obliquity: Range = (0, 4)  # largest slope of the grid in the world about each axis, degrees
    scale: Range = (0.92, 1.04)  # size of the head, relative to the label map
    warp: Range = (0.5, 3.0)  # standard deviation of the anatomical deformation, mm
    # Tissue
    # share of cortex about a CSF voxel above which it becomes cortex: young brains fill their sulci
    fill: Range = (0.4, 0.8)
    sulcus: Range = (0.0, 0.8)  # share of CSF where cortex is too far from white matter
    relaxation_jitter: Range = (0.015, 0.05)  # relative sd of T1, T2 and PD per label
    texture: Range = (0.01, 0.05)  # relative sd of T1 within a tissue
    density_texture: Range = (0.005, 0.03)  # relative sd of PD within a tissue
    skin: Range = (1.5, 2.5)  # thickness of skin, mm
    fat: Range = (2.5, 6.0)  # mean thickness of subcutaneous fat, mm
    # 64 mT sequence; ms. T1w: inversion-recovery fast spin echo
    low_tr: Range = (780, 1250)  # repetition time
    low_te: Range = (5, 12)  # effective echo time
    low_ti: Range = (285, 390)  # inversion time
    low_train: Range = (60, 180)  # length of the echo train
    low_cortex_gain: Range = (0.75, 1.0)  # grey matter brightness that the equations miss
    # 3 T sequence; T1w: MPRAGE
    high_tr: Range = (1750, 2300)  # repetition time
    high_te: Range = (2.2, 3.5)  # echo time
    high_ti: Range = (880, 1050)  # inversion time
    high_flip: Range = (8, 10)  # flip angle, degrees
    high_spacing: Range = (7, 8.5)  # time between excitations; length of an echo train in FSE
    # 3 T acquisition
    high_blur: Range = (0.35, 0.6)  # standard deviation of the point spread, mm
    high_bias: Range = (0.02, 0.10)  # relative sd of the shading left
    high_snr: Range = (25, 70)  # white matter signal over noise sd
    # 64 mT acquisition
    low_snr: Range = (10, 30)  # white matter signal at the brain's centre over noise sd
    low_channels: Range = (1, 2.99)  # receiver channels in the sum of squares (whole part)
    low_noise_spread: Range = (0, 0.9)  # sd of an extra smoothing of the noise, voxels
    low_edge_x: Range = (0.03, 0.45)  # gain of the reconstruction filter at the edge of k-space
    low_edge_y: Range = (0.06, 0.8)  # the same along the second axis
    low_edge_z: Range = (0.15, 0.9)  # the same between slices
    low_box: Range = (0, 1)  # share of a box slice profile in the through-plane point spread
    coil_radius: Range = (55, 110)  # radius of a coil element, mm
    coil_gap: Range = (5, 35)  # mean distance of the elements from the scalp, mm
    coil_gain: Range = (0.0, 0.3)  # relative sd of gain between elements
    shading_power: Range = (0.5, 1.1)  # exponent of the shading; below 1 it is part corrected
    distortion: Range = (0, 1.5)  # sd of the B0 displacement along the readout, mm
    motion: Range = (0, 0.5)  # sd of rigid steps between groups of k-space lines, mm
    ghost: Range = (0, 0.02)  # relative sd of gain between groups of k-space lines
    masked: Range = (0, 1)  # the corners are masked to exact zero where this exceeds 0.3
    mask_width: Range = (0.78, 0.95)  # half-width of the unmasked field left-right, relative
    mask_length: Range = (0.92, 1.0)  # half-width of the unmasked field front-back, relative
    clip: Range = (98.5, 100.0)  # percentile of the head at which the brightest saturate

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """One value for every range, in the order of the fields."""
        return {f.name: float(rng.uniform(*getattr(self, f.name))) for f in fields(self)}


def ranges_for(contrast: str) -> Ranges:
    """The ranges of a contrast: T1w, T2w or FLAIR.

    Raises:
        UsageError: another contrast.
    """
    if contrast == "T1w":
        return Ranges()
    if contrast == "T2w":
        return Ranges(
            low_tr=(1800, 2400), low_te=(140, 220), low_train=(250, 400),
            high_tr=(3000, 6000), high_te=(80, 110), high_spacing=(120, 250),
        )  # fmt: skip
    if contrast == "FLAIR":
        return Ranges(
            low_tr=(3500, 4300), low_te=(140, 220), low_ti=(1250, 1450), low_train=(250, 400),
            high_tr=(8000, 10000), high_te=(80, 120), high_ti=(2300, 2600), high_spacing=(120, 250),
        )  # fmt: skip
    raise UsageError(f"expected a contrast of {', '.join(CONTRASTS)}; got {contrast}")
