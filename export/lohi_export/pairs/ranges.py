"""Everything the simulator draws at random, and from which range."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

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
    # mm by which outer CSF and ventricles are narrowed, in steps of a voxel; below 1 not at all
    narrow_sulci: Range = (0.0, 4.0)
    narrow_ventricles: Range = (0.0, 4.0)
    # share of cortex about a CSF voxel above which it becomes cortex: young brains fill their sulci
    fill: Range = (0.25, 0.75)
    sulcus: Range = (0.0, 0.8)  # share of CSF where cortex is too far from white matter
    relaxation_jitter: Range = (0.01, 0.03)  # relative sd of T1, T2 and PD per label
    low_jitter: Range = (
        0.02,
        0.07,
    )  # the same at 64 mT alone, which 3 T must not tell
    high_jitter: Range = (0.0, 0.015)  # the same at 3 T alone, which no 64 mT scan can tell
    texture: Range = (0.01, 0.035)  # relative sd of T1 within a tissue
    density_texture: Range = (0.005, 0.02)  # relative sd of PD within a tissue
    skin: Range = (1.5, 2.5)  # thickness of skin, mm
    fat: Range = (2.0, 4.5)  # mean thickness of subcutaneous fat, mm
    # 64 mT sequence; ms. T1w: inversion-recovery fast spin echo
    low_tr: Range = (780, 1250)  # repetition time
    low_te: Range = (5, 12)  # effective echo time
    low_ti: Range = (285, 390)  # inversion time
    low_train: Range = (60, 180)  # length of the echo train
    low_cortex_gain: Range = (0.75, 1.0)  # grey matter brightness that the equations miss
    # 3 T sequence; T1w: MPRAGE
    high_tr: Range = (1900, 2200)  # repetition time
    high_te: Range = (2.6, 3.2)  # echo time
    high_ti: Range = (900, 980)  # inversion time
    high_flip: Range = (8, 10)  # flip angle, degrees
    high_spacing: Range = (7, 8.5)  # time between excitations; length of an echo train in FSE
    # 3 T acquisition
    high_blur: Range = (0.4, 0.65)  # standard deviation of the point spread, mm
    high_bias: Range = (0.0, 0.03)  # relative sd of the shading left
    high_snr: Range = (50, 120)  # white matter signal over noise sd, after registration
    high_top: Range = (1.77, 1.87)  # brightness, relative to white matter, at which fat saturates
    # 64 mT acquisition
    low_snr: Range = (10, 30)  # white matter signal at the brain's centre over noise sd
    low_channels: Range = (1, 2.99)  # receiver channels in the sum of squares (whole part)
    low_noise_spread: Range = (0, 1.2)  # sd of an extra smoothing of the noise, voxels
    low_edge_x: Range = (0.004, 0.35)  # gain of the reconstruction filter at the edge of k-space
    low_edge_y: Range = (0.01, 0.6)  # the same along the second axis
    low_edge_z: Range = (0.1, 0.9)  # the same between slices
    low_box: Range = (0, 1)  # share of a box slice profile in the through-plane point spread
    coil_radius: Range = (55, 110)  # radius of a coil element, mm
    coil_gap: Range = (5, 35)  # mean distance of the elements from the scalp, mm
    coil_gain: Range = (0.0, 0.25)  # relative sd of gain between elements
    shading_power: Range = (0.5, 1.1)  # exponent of the shading; below 1 it is part corrected
    distortion: Range = (0, 0.8)  # sd of the B0 displacement along the readout, mm
    motion: Range = (0, 0.5)  # sd of rigid steps between groups of k-space lines, mm
    ghost: Range = (0, 0.02)  # relative sd of gain between groups of k-space lines
    masked: Range = (0, 1)  # the corners are masked to exact zero where this exceeds 0.3
    mask_width: Range = (0.78, 0.95)  # half-width of the unmasked field left-right, relative
    mask_length: Range = (0.92, 1.0)  # half-width of the unmasked field front-back, relative
    clip: Range = (97.5, 100.0)  # percentile of the head at which the brightest saturate

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """One value for every range, in the order of the fields."""
        return {f.name: float(rng.uniform(*getattr(self, f.name))) for f in fields(self)}


# What a scanner, its coil and its protocol keep from head to head.
_OF_A_SCANNER = (
    "zoom_in_plane", "zoom_through", "low_tr", "low_te", "low_ti", "low_train", "low_channels",
    "low_noise_spread", "low_edge_x", "low_edge_y", "low_edge_z", "low_box", "coil_radius",
    "coil_gap", "coil_gain", "shading_power", "ghost", "masked", "mask_width", "mask_length",
    "clip",
)  # fmt: skip
LOADING = 0.15  # share by which one head or another in a coil changes its signal over noise


def of_scanner(ranges: Ranges, number: int) -> Ranges:
    """The ranges of one scanner: what it keeps from head to head is drawn from its number."""
    drawn = ranges.draw(np.random.default_rng([number, *b"scanner"]))
    kept: dict[str, Range] = {name: (drawn[name], drawn[name]) for name in _OF_A_SCANNER}
    snr = drawn["low_snr"]
    return replace(ranges, **kept, low_snr=(snr * (1 - LOADING), snr * (1 + LOADING)))


def ranges_for(contrast: str) -> Ranges:
    """The ranges of a contrast: T1w, T2w or FLAIR.

    Raises:
        UsageError: another contrast.
    """
    if contrast == "T1w":
        return Ranges()
    if contrast == "T2w":
        return Ranges(
            low_tr=(1900, 2600), low_te=(175, 230), low_train=(250, 400), low_snr=(7, 24),
            low_cortex_gain=(0.85, 1.0), high_tr=(4500, 6000), high_te=(106, 116),
            high_spacing=(120, 200), high_top=(4.2, 4.5),
        )  # fmt: skip
    if contrast == "FLAIR":
        return Ranges(
            low_tr=(3500, 4300), low_te=(150, 220), low_ti=(1250, 1450), low_train=(250, 400),
            low_snr=(7, 24), low_cortex_gain=(0.85, 1.0), high_tr=(8500, 9500),
            high_te=(115, 135), high_ti=(2420, 2500), high_spacing=(120, 200), high_top=(2.0, 2.2),
        )  # fmt: skip
    raise UsageError(f"expected a contrast of {', '.join(CONTRASTS)}; got {contrast}")
