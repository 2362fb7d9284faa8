"""Illness put into a healthy head: what a generator that saw only healthy heads makes of it.

Relaxation times of lesions at 64 mT have hardly been published. The factors below, on those of
white matter or cortex, are chosen so that every lesion has the sign that textbooks give it in
every contrast (Bottomley et al., Med Phys 14:1, 1987, for T1 and T2 of tumours, oedema and infarcts
being longer than those of the tissue around; methaemoglobin shortens T1). They serve to ask what
happens to a lesion that is plain in the scan, not how lesions look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.errors import BadInput, UsageError
from lohi_export.pairs.anatomy import Labels, Signals, high_signal, low_signal
from lohi_export.pairs.fields import Float32, random_field
from lohi_export.pairs.tissues import TISSUES, Tissue

WHITE, CORTEX, VENTRICLES = (2, 41), (3, 42), (4, 43, 14)
DEEP = (10, 49, 11, 50, 12, 51, 13, 52)


def _times(t1: float, t2: float, pd: float, of: str = "white matter") -> Tissue:
    """A healthy tissue with T1 and T2 times these factors, and a proton density."""
    w = TISSUES[of]
    return Tissue(t1 * w.t1_low, t2 * w.t2_low, t1 * w.t1_high, t2 * w.t2_high, t2 * w.t2s_high, pd)


INFARCT = _times(1.5, 1.8, 0.88)
# Of the cortex, whose T1 at 3 T is longer than that of the infarct in white matter.
CORTICAL_INFARCT = _times(1.3, 1.5, 0.90, "cortex")
TUMOUR = _times(1.6, 1.6, 0.86)
OEDEMA = _times(1.4, 1.6, 0.84)
HAEMORRHAGE = _times(0.55, 1.2, 0.85)  # late subacute: methaemoglobin outside of cells
# Of an ill head to learn from: share with wide ventricles, most lesions beside, and factors of
# white matter's T1 and T2, and proton densities, of their tissues.
SWOLLEN, MOST, T1, T2, DENSITY = 0.25, 3, (0.45, 2.2), (0.7, 2.2), (0.78, 0.95)


@dataclass(frozen=True, eq=False)
class Spot:
    """Tissue in place of another: `share` (X, Y, Z) of each voxel of the label map, 0 to 1."""

    share: Float32
    tissue: Tissue


@dataclass(frozen=True, eq=False)
class Pathology:
    """An ill head: its labels, and the spots that no label stands for, inner ones last."""

    labels: Labels
    spots: list[Spot] = field(default_factory=list)

    def within(self, box: tuple[slice, slice, slice]) -> Pathology:
        """The part of the head in a box of the label map."""
        spots = [replace(spot, share=spot.share[box]) for spot in self.spots]
        return replace(self, labels=np.ascontiguousarray(self.labels[box]), spots=spots)

    def paint(self, signals: Signals, params: dict[str, float], contrast: str) -> Signals:
        """Signals of the healthy tissue, with the spots in their place."""
        low, high = signals.low, signals.high
        for spot in self.spots:
            low_level, high_level = levels(spot.tissue, params, contrast)
            low = low + spot.share * (low_level - low)
            high = high + spot.share * (high_level - high)
        return replace(signals, low=low, high=high)


def levels(
    tissue: Tissue, params: dict[str, float], contrast: str
) -> tuple[np.float32, np.float32]:
    """Signal of a tissue at 64 mT and at 3 T relative to white matter's magnitude."""
    found = []
    for t in (tissue, TISSUES["white matter"]):
        low = low_signal(contrast, np.array(t.t1_low), np.array(t.t2_low), np.array(t.pd), params)
        high = high_signal(
            contrast, np.array(t.t1_high), np.array(t.t2_high), np.array(t.t2s_high),
            np.array(t.pd), params,
        )  # fmt: skip
        found.append((float(low), float(high)))
    (low_ill, high_ill), (low_well, high_well) = found
    return np.float32(low_ill / abs(low_well)), np.float32(high_ill / abs(high_well))


def infarct(labels: Labels, size: float, rng: np.random.Generator) -> Pathology:
    """A territory of cortex and the white matter below, about `size` mm across."""
    where = _ball(labels.shape, _pick(labels, CORTEX, rng), size, rng)
    within = ((WHITE, INFARCT), (CORTEX, CORTICAL_INFARCT))
    return Pathology(labels, [Spot(where * np.isin(labels, of), tissue) for of, tissue in within])


def tumour(labels: Labels, size: float, rng: np.random.Generator) -> Pathology:
    """A core `size` mm across in white matter, oedema in the white matter for as much around."""
    centre = _pick(labels, WHITE, rng)
    wide = _ball(labels.shape, centre, 2 * size, rng) * np.isin(labels, WHITE)
    return Pathology(
        labels, [Spot(wide, OEDEMA), Spot(_ball(labels.shape, centre, size, rng), TUMOUR)]
    )


def haemorrhage(labels: Labels, size: float, rng: np.random.Generator) -> Pathology:
    """A bleeding `size` mm across from the deep grey nuclei, a rim of oedema of 4 mm about it."""
    centre = _pick(labels, DEEP, rng)
    rim = _ball(labels.shape, centre, size + 8, rng)
    return Pathology(
        labels, [Spot(rim, OEDEMA), Spot(_ball(labels.shape, centre, size, rng), HAEMORRHAGE)]
    )


def hydrocephalus(labels: Labels, size: float, rng: np.random.Generator) -> Pathology:
    """Lateral and third ventricles that reach `size` mm further into white and deep grey matter."""
    ill = labels.copy()
    distance, nearest = ndi.distance_transform_edt(
        ~np.isin(labels, VENTRICLES), return_indices=True
    )
    grown = (distance <= size) & np.isin(labels, WHITE + DEEP)
    ill[grown] = labels[tuple(axis[grown] for axis in nearest)]
    return Pathology(ill)


# name -> maker, sizes in mm (weak, middle, strong)
PATHOLOGIES: dict[
    str, tuple[Callable[[Labels, float, np.random.Generator], Pathology], tuple[float, ...]]
] = {
    "infarct": (infarct, (12, 25, 45)),
    "tumour": (tumour, (8, 15, 30)),
    "haemorrhage": (haemorrhage, (8, 15, 30)),
    "hydrocephalus": (hydrocephalus, (2, 5, 9)),
}


def make(name: str, labels: Labels, size: float, rng: np.random.Generator) -> Pathology:
    """A pathology by name.

    Raises:
        UsageError: an unknown name.
        BadInput: the head lacks the tissue that the pathology begins in.
    """
    if name not in PATHOLOGIES:
        raise UsageError(f"expected a pathology of {', '.join(PATHOLOGIES)}, got {name!r}")
    return PATHOLOGIES[name][0](labels, size, rng)


def draw(labels: Labels, rng: np.random.Generator) -> Pathology:
    """A head that is ill at random, to learn from: some of the pathologies in one head.

    Sizes and relaxation times are drawn from far wider ranges than those of any one illness, so
    that a generator learns to show what is there, and not what lesions look like.

    Raises:
        BadInput: as `make`.
    """
    ill = Pathology(labels)
    if rng.random() < SWOLLEN:
        ill = make("hydrocephalus", labels, float(rng.uniform(*_between("hydrocephalus"))), rng)
    spots: list[Spot] = []
    for name in rng.choice(["infarct", "tumour", "haemorrhage"], int(rng.integers(1, MOST + 1))):
        size = float(np.exp(rng.uniform(*np.log(_between(name)))))
        spots += make(name, ill.labels, size, rng).spots
    return replace(ill, spots=[replace(spot, tissue=_times(*_drawn(rng))) for spot in spots])


def _between(name: str) -> tuple[float, float]:
    """Smallest and largest size that a pathology is asked for, and a fifth beyond."""
    sizes = PATHOLOGIES[name][1]
    return sizes[0] / 1.2, sizes[-1] * 1.2


def _drawn(rng: np.random.Generator) -> tuple[float, float, float]:
    """Factors of T1 and T2, and a proton density, of some tissue."""
    t1, t2 = (float(np.exp(rng.uniform(*np.log(ends)))) for ends in (T1, T2))
    return t1, t2, float(rng.uniform(*DENSITY))


def _pick(labels: Labels, among: tuple[int, ...], rng: np.random.Generator) -> Float32:
    """A voxel (3,) of some labels, deep inside them where they are wide enough.

    Raises:
        BadInput: the labels are not in the map.
    """
    mask = np.isin(labels, among)
    if not mask.any():
        raise BadInput(f"expected a label map with one of the labels {among}, found none of them")
    inner = ndi.binary_erosion(mask, iterations=3)
    where = np.argwhere(inner if inner.any() else mask)
    return np.asarray(where[int(rng.integers(len(where)))], dtype=np.float32)


def _ball(
    shape: tuple[int, ...], centre: Float32, size: float, rng: np.random.Generator
) -> Float32:
    """A ball (X, Y, Z) with a wavy, soft edge, `size` mm across on average."""
    x, y, z = (
        (np.arange(n, dtype=np.float32) - c).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, c) in enumerate(zip(shape, centre, strict=True))
    )
    distance = np.sqrt(x * x + y * y + z * z)
    wave = np.float32(0.15 * size / 2) * random_field(rng, (shape[0], shape[1], shape[2]), 8)
    inside: Float32 = np.clip(np.float32(size / 2) + wave + np.float32(0.5) - distance, 0, 1)
    return inside
