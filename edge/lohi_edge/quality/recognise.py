"""What a volume shows: a head or not, which way up, and in which contrast.

Two linear classifiers on a coarse pattern of the volume (8 mm cells, shading and brightness taken
out). Their weights (`recogniser.npz`) come from simulated 64 mT scans of heads 01-12, from the
same scans turned the wrong way, and from phantoms; see `lohi_export.recogniser`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.bundle import CONTRASTS
from lohi_edge.quality.scan import Mask, block_mean
from lohi_edge.volume import Float32

BOX = (22, 28, 18)  # cells of 8 mm: 176 x 224 x 144 mm below the crown
SURE = 0.4  # a volume that looks this much like an upright head needs no other orientation tried
_SIGMA = 2.5  # cells of the shading that is taken out
_AXES = ("left and right", "front and back", "top and bottom")
Orientation = tuple[tuple[int, ...], tuple[int, ...]]
UPRIGHT: Orientation = ((0, 1, 2), (1, 1, 1))
MIRRORED: Orientation = ((0, 1, 2), (-1, 1, 1))


@dataclass(frozen=True)
class Recognition:
    """What the classifiers say.

    Attributes:
        head: +1 like an upright head, -1 like a phantom or a head turned the wrong way.
        turned: the best `head` in any other orientation; None where the first look was sure. Left
            and right exchanged cannot be told: a head is too nearly symmetrical.
        orientation: that orientation in words.
        contrast: the likeliest contrast.
        margins: contrast -> its score minus the best other's; the winner's is positive.
    """

    head: float
    turned: float | None
    orientation: str | None
    contrast: str
    margins: dict[str, float]


@lru_cache(maxsize=1)
def weights() -> dict[str, Float32]:
    """`upright` (11088,), `inside` bool (11088,), `contrast` (3, inside), `offset` (3,)."""
    with (
        resources.files("lohi_edge.quality").joinpath("recogniser.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        scale = arrays["scale"].astype(np.float32)
        return {
            "upright": arrays["upright"] * scale[0],
            "inside": np.unpackbits(arrays["inside"]).astype(bool)[: int(np.prod(BOX))],
            "contrast": arrays["contrast"] * scale[1],
            "offset": arrays["offset"].astype(np.float32),
        }


def recognise(work: Float32, head: Mask) -> Recognition:
    """Classify a scan (x, y, z) on the 2 mm grid with its head mask."""
    cells = block_mean(work, 2)
    mask = block_mean(head.astype(np.float32), 2) > 0.5
    pattern = canonical(cells, mask)
    score = upright_score(pattern)
    turned, words = None, None
    if score < SURE:
        others = {
            how: upright_score(canonical(turn(cells, how), turn(mask.astype(np.float32), how) > 0))
            for how in wrong_orientations()
        }
        best = max(others, key=lambda how: others[how])
        turned, words = others[best], in_words(best)
    margins = contrast_margins(pattern)
    return Recognition(score, turned, words, max(margins, key=lambda c: margins[c]), margins)


def upright_score(pattern: Float32) -> float:
    """Pattern (11088,) -> about +1 for an upright head, -1 for anything else."""
    return float(pattern @ weights()["upright"])


def contrast_margins(pattern: Float32) -> dict[str, float]:
    """Pattern (11088,) -> each contrast's lead over the best other."""
    w = weights()
    scores = w["contrast"] @ normalised(pattern[w["inside"] > 0]) + w["offset"]
    return {name: float(scores[i] - np.delete(scores, i).max()) for i, name in enumerate(CONTRASTS)}


def canonical(cells: Float32, mask: Mask) -> Float32:
    """4 mm cells (x, y, z) -> pattern (11088,) of mean 0 and variance 1.

    The head is centred left to right and front to back, its crown lies at the top; brightness is
    divided by its own mean over about 50 mm.
    """
    fine = [2 * n for n in BOX]
    box = np.zeros(fine, np.float32)
    source, target = [], []
    for axis in range(3):
        profile = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        rows = np.flatnonzero(profile > 0.05 * profile.max()) if profile.any() else np.array([0])
        if axis < 2:
            start = (int(rows[0]) + int(rows[-1]) + 1) // 2 - fine[axis] // 2
        else:
            start = int(rows[-1]) + 2 - fine[axis]
        low, high = max(start, 0), min(start + fine[axis], cells.shape[axis])
        source.append(slice(low, max(low, high)))
        target.append(slice(low - start, max(low, high) - start))
    box[tuple(target)] = cells[tuple(source)]
    coarse = block_mean(box, 2)
    smooth = ndi.gaussian_filter(coarse, _SIGMA, mode="constant")
    return normalised((coarse / (smooth + 0.2 * max(float(smooth.max()), 1e-6))).ravel())


def normalised(values: Float32) -> Float32:
    """(n,) -> mean 0, variance 1; zeros where all are alike."""
    centred = values - values.mean()
    deviation = float(centred.std())
    result: Float32 = (centred / max(deviation, 1e-9)).astype(np.float32)
    return result


def turn(array: Float32, how: Orientation) -> Float32:
    """The array with axes permuted, then some of them reversed."""
    order, signs = how
    return np.transpose(array, order)[tuple(slice(None, None, s) for s in signs)]


def wrong_orientations() -> list[Orientation]:
    """The 46 ways to hold a volume that are neither upright nor its mirror image."""
    every = itertools.product(
        itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
    )
    return [how for how in every if how not in (UPRIGHT, MIRRORED)]


def in_words(how: Orientation) -> str:
    order, signs = how
    if order != (0, 1, 2):
        return "axes interchanged"
    # A mirror image on top cannot be told, so of two explanations the one without it is named.
    reversed_axes = [_AXES[a] for a in (1, 2) if signs[a] < 0]
    return ", ".join(reversed_axes) + " exchanged"
