"""An image's own white matter, grey matter and CSF as its yardstick, whatever the contrast.

A mixture of Gaussians with an atlas as prior, fitted by expectation-maximisation (Van Leemput et
al., IEEE Trans Med Imaging 18:897, 1999), without its shading model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lohi_edge.quality.regions import STRUCTURES
from lohi_edge.volume import Float32

WHITE, GREY, FLUID, OTHER = range(4)
_OF = {
    "cerebral white matter": WHITE,
    "cerebellar white matter": WHITE,
    "brain-stem": WHITE,
    "ventral diencephalon": WHITE,
    "cerebral cortex": GREY,
    "cerebellar cortex": GREY,
    "hippocampus": GREY,
    "amygdala": GREY,
    "lateral ventricle": FLUID,
    "inferior lateral ventricle": FLUID,
    "third ventricle": FLUID,
    "fourth ventricle": FLUID,
    "CSF": FLUID,
}
TISSUE_OF_CLASS = np.array([OTHER, *(_OF.get(name, OTHER) for name, _, _ in STRUCTURES)])
THIN = 4  # of the window's voxels at 2 mm, one in 4 along each axis is looked at
ITERATIONS = 12
INNER = 0.4  # share of other tissue below which a cell tells of brain and CSF
OTHER_DENSITY = np.sqrt(2 * np.pi) / 1.2  # of brightness from 0 to 1.2, all alike
FLOOR = 0.02  # smallest standard deviation of a tissue
CHANNELS = 3
LIMIT = 3  # of a channel's size


def thin(image: Float32) -> Float32:
    """The voxels of a window (x, y, z) that give the tissue levels, one near each cell's centre."""
    half = THIN // 2
    return np.ascontiguousarray(image[half::THIN, half::THIN, half::THIN])


def tissue_priors(shares: Float32) -> Float32:
    """Shares of classes (classes, ...) -> of white, grey, fluid and other (4, ...)."""
    tissues = [shares[tissue == TISSUE_OF_CLASS].sum(axis=0) for tissue in range(4)]
    return np.stack(tissues).astype(np.float32)


def tissue_levels(sample: Float32, priors: Float32) -> tuple[NDArray[np.float64], float]:
    """Mean brightness of white matter, grey matter and CSF (3,), and their common deviation.

    Args:
        sample: `thin` of a scaled window.
        priors: (4, *sample.shape).
    """
    inner = priors[OTHER] < INNER
    values = sample[inner].astype(np.float64)
    prior = priors[:, inner].astype(np.float64) + 1e-3
    weights = prior[:OTHER] ** 2
    for _ in range(ITERATIONS):
        mass = weights.sum(axis=1)
        means = weights @ values / mass
        spread = (weights * (values - means[:, None]) ** 2).sum(axis=1) / mass
        spread = np.maximum(spread, FLOOR**2)[:, None]
        height = np.exp(-((values - means[:, None]) ** 2) / (2 * spread)) / np.sqrt(spread)
        likely = prior[:OTHER] * height
        # What is no brain may be of any brightness: bone and fat lie close beside each other.
        weights = likely / (likely.sum(axis=0) + prior[OTHER] * OTHER_DENSITY)
    return means, float(np.sqrt(spread.mean()))


def channels(image: Float32, means: NDArray[np.float64], deviation: float) -> Float32:
    """The network's input (3, x, y, z) from a scaled window.

    The image; the image from CSF at 0 to white matter at 1; and from grey matter at 0 to white
    matter at 1, both within +-3.
    """
    result = np.empty((CHANNELS, *image.shape), np.float32)
    result[0] = image
    for row, low in ((1, FLUID), (2, GREY)):
        step = means[WHITE] - means[low]
        step = np.copysign(max(abs(step), deviation / 2), step)
        result[row] = np.clip((image - means[low]) / step, -LIMIT, LIMIT)
    return result
