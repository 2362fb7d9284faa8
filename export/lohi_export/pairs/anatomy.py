"""From a label map to tissue signal on its grid: grooming, fat, relaxation, texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from lohi_export.pairs import sequences
from lohi_export.pairs.fields import Float32, random_field
from lohi_export.pairs.tissues import (
    FAT,
    FLOW_VOID,
    FLOWING,
    LABEL_TISSUE,
    SULCUS,
    TABLE_SIZE,
    TISSUES,
)

Labels = NDArray[np.int16]
SKIN, SOFT, OUTER_CSF, CORTEX, WHITE = 511, 507, 24, (3, 42), (2, 41)
CEREBELLAR_CORTEX, VENTRICLES = (8, 47), (4, 43, 14)
WALLS_MM = 4  # how far from its walls a fluid space's width is looked for
FAR_FROM_WHITE = 0.01  # share of white matter
BRAIN_LABELS = tuple(k for k in LABEL_TISSUE if k < 100 and k != 24)
# Relative step of the finite difference that turns texture in T1 into texture in signal.
STEP = 0.02
HEAD_MM = 110.0  # from the crown to where fat has its mean thickness
VAULT_FAT = (0.35, 1.3)  # its thickness there and at the neck, relative
OWN_JITTER = 0.3  # a label's jitter beside its tissue's, relative


@dataclass(frozen=True)
class Signals:
    """Signed signals (X, Y, Z) float32 on the label map's grid, white matter at 1 on average."""

    low: Float32
    high: Float32


def narrow(labels: Labels, params: dict[str, float]) -> Labels:
    """A copy with fluid spaces as narrow as younger brains have them; most maps are of older ones.

    Outer CSF within `narrow_sulci` mm of cortex becomes that cortex, ventricle within
    `narrow_ventricles` mm of tissue that tissue; below 1 mm nothing changes. A ventricle
    keeps at least half of its width; a sulcus, and CSF between cortex and skull, may be filled
    altogether, as they look in young brains.
    """
    inside = ndi.find_objects(np.isin(labels, CORTEX + WHITE).astype(np.int8))[0]
    result: Labels = labels.copy()
    part = result[inside]
    tissue = tuple(k for k in BRAIN_LABELS if LABEL_TISSUE[k] != "CSF")
    for fluid, wall, reach in (
        ((OUTER_CSF,), CORTEX + CEREBELLAR_CORTEX, params["narrow_sulci"]),
        (VENTRICLES, tissue, params["narrow_ventricles"]),
    ):
        if reach < 1:
            continue
        distance, nearest = ndi.distance_transform_edt(~np.isin(part, wall), return_indices=True)
        half_width = ndi.maximum_filter(distance, 2 * WALLS_MM + 1)
        taken = np.isin(part, fluid) & (distance <= np.minimum(reach, half_width / 2))
        part[taken] = part[tuple(axis[taken] for axis in nearest)]
    return result


def dress(labels: Labels, params: dict[str, float], rng: np.random.Generator) -> Labels:
    """A copy with groomed sulci and subcutaneous fat, which the maps keep under soft tissue.

    Below `skin` mm of the surface lies fat of a mean thickness of `fat` mm that varies smoothly
    over the head, thin on the vault and thicker towards the neck; deeper soft tissue is muscle
    with some fat between.
    """
    dressed: Labels = groom_sulci(labels, params["fill"])
    # Half resolution is enough for a depth, and eight times faster.
    depth = ndi.distance_transform_edt(ndi.binary_closing(labels[::2, ::2, ::2] > 0)) * 2
    shape = labels.shape
    where = np.nonzero((labels == SOFT) | (labels == SKIN))
    at = np.stack(where).astype(np.float32) / 2
    deep = ndi.map_coordinates(depth.astype(np.float32), at, order=1, mode="nearest")
    wave = random_field(rng, shape, 25)[where]
    patch = random_field(rng, shape, 5)[where]
    crown = np.flatnonzero(np.isin(labels[::4, ::4], CORTEX).any(axis=(0, 1)))[-1]
    lower = np.clip((crown - where[2]) / HEAD_MM, *VAULT_FAT).astype(np.float32)
    floor = params["skin"] + params["fat"] * lower * np.exp(0.35 * wave)
    fat = (deep > params["skin"]) & ((deep < floor) | ((patch > 1.0) & (deep > floor + 2)))
    dressed[tuple(w[fat] for w in where)] = FAT
    return dressed


def groom_sulci(labels: Labels, share: float) -> Labels:
    """A copy whose sulci are neither emptier nor tighter than those of most brains scanned.

    CSF with more than `share` cortex among its 27 neighbours becomes cortex: several of the maps
    come from older, emptier brains. Cortex with (almost) no white matter in the 5 mm about it
    becomes SULCUS: cortex is 2-3 mm thick (Fischl and Dale, PNAS 97:11050, 2000), so that lies
    between two banks which the map has closed, or at the pial surface.
    """
    inside = ndi.find_objects(np.isin(labels, CORTEX + WHITE).astype(np.int8))
    result: Labels = labels.copy()
    part, was = result[inside[0]], labels[inside[0]]
    for cortex, white in zip(CORTEX, WHITE, strict=True):
        near = ndi.uniform_filter((was == cortex).astype(np.float32), 3) > share
        part[near & (was == OUTER_CSF)] = cortex
        around = ndi.uniform_filter((was == white).astype(np.float32), 5)
        part[(part == cortex) & (around < FAR_FROM_WHITE)] = SULCUS
    return result


def truth(labels: Labels, dressed: Labels, params: dict[str, float]) -> Labels:
    """The segmentation that a dressed map's signals are of, in the label maps' own numbers.

    A SULCUS is CSF where that is its larger share, else what the undressed map has there.
    """
    opened = np.int16(OUTER_CSF) if params["sulcus"] > 0.5 else labels
    result: Labels = np.where(dressed == SULCUS, opened, dressed).astype(np.int16)
    return result


def tables(
    params: dict[str, float], contrast: str, rng: np.random.Generator
) -> tuple[Float32, Float32]:
    """Signal and its change with T1 for every label: two (2, labels) arrays, [low, high].

    Every tissue's T1, T2 and PD is jittered, and every label's a little beside it (left and right
    are alike): by one factor shared by both fields (what the tissue is), by a large one at 64 mT
    (scanners differ, and a network must read them all) and by a small one at 3 T.
    """
    n = TABLE_SIZE
    keys = np.array(list(LABEL_TISSUE))
    tissue = [TISSUES[name] for name in LABEL_TISSUE.values()]
    names = list(TISSUES)
    of = [names.index(name) for name in LABEL_TISSUE.values()]
    spread = rng.standard_normal((8, len(names)))[:, of]
    spread += OWN_JITTER * rng.standard_normal((8, len(keys)))
    shared, low, high = (params[f"{k}_jitter"] for k in ("relaxation", "low", "high"))
    f = np.exp(np.array([shared, shared, low, high, shared, low, high, high])[:, None] * spread)
    pd = np.array([t.pd for t in tissue]) * f[0]
    t1_low = np.array([t.t1_low for t in tissue]) * f[1] * f[2]
    t1_high = np.array([t.t1_high for t in tissue]) * f[1] * f[3]
    t2_low = np.array([t.t2_low for t in tissue]) * f[4] * f[5]
    t2_high = np.array([t.t2_high for t in tissue]) * f[4] * f[6]
    t2s_high = np.array([t.t2s_high for t in tissue]) * f[7]
    grey = np.array([name in ("cortex", "hippocampus") for name in LABEL_TISSUE.values()])
    gain = np.where(grey, params["low_cortex_gain"], 1.0)
    void = np.where([name in FLOWING for name in LABEL_TISSUE.values()], FLOW_VOID, 1.0)

    def signal(scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low = gain * void * low_signal(contrast, t1_low * scale, t2_low, pd, params)
        high = high_signal(contrast, t1_high * scale, t2_high, t2s_high, pd, params)
        return low, high if contrast == "T1w" else void * high

    white = np.isin(keys, (2, 41))
    level, slope = np.zeros((2, n), np.float32), np.zeros((2, n), np.float32)
    for row, (at, up) in enumerate(zip(signal(1.0), signal(1 + STEP), strict=True)):
        reference = abs(at[white].mean())
        level[row, keys] = at / reference
        slope[row, keys] = (up - at) / STEP / reference
    fluid = np.float32(params["sulcus"])
    for table in (level, slope):
        table[:, SULCUS] = (1 - fluid) * table[:, CORTEX[0]] + fluid * table[:, OUTER_CSF]
    return level, slope


def low_signal(
    contrast: str,
    t1: NDArray[np.float64],
    t2: NDArray[np.float64],
    pd: NDArray[np.float64],
    p: dict[str, float],
) -> NDArray[np.float64]:
    """64 mT: inversion-recovery fast spin echo (T1w, FLAIR) or fast spin echo (T2w)."""
    if contrast == "T2w":
        return sequences.spin_echo_train(t1, t2, pd, p["low_tr"], p["low_te"], p["low_train"])
    return sequences.inversion_spin_echo_train(
        t1, t2, pd, p["low_tr"], p["low_te"], p["low_ti"], p["low_train"]
    )


def high_signal(
    contrast: str,
    t1: NDArray[np.float64],
    t2: NDArray[np.float64],
    t2s: NDArray[np.float64],
    pd: NDArray[np.float64],
    p: dict[str, float],
) -> NDArray[np.float64]:
    """3 T: MPRAGE (T1w), fast spin echo (T2w) or its inversion-recovery form (FLAIR)."""
    tr, te, spacing = p["high_tr"], p["high_te"], p["high_spacing"]
    if contrast == "T1w":
        return sequences.mprage(t1, t2s, pd, tr, te, p["high_ti"], p["high_flip"], spacing)
    if contrast == "T2w":
        return sequences.spin_echo_train(t1, t2, pd, tr, te, spacing)
    return sequences.inversion_spin_echo_train(t1, t2, pd, tr, te, p["high_ti"], spacing)


def tissue_signals(
    labels: Labels, params: dict[str, float], contrast: str, rng: np.random.Generator
) -> Signals:
    """Signals of a dressed label map: level of the label, texture in T1 and in PD.

    The texture is one field for both scanners: what 3 T shows of it, 64 mT saw dimly.
    """
    level, slope = tables(params, contrast, rng)
    shape = labels.shape
    fine, middle, broad = (random_field(rng, shape, s) for s in (2.0, 6.0, 25.0))
    t1 = params["texture"] * (0.6 * fine + 0.6 * middle + 0.6 * broad)
    density = 1 + params["density_texture"] * random_field(rng, shape, 3.0)
    low, high = ((level[i][labels] + slope[i][labels] * t1) * density for i in range(2))
    return Signals(low, high)
