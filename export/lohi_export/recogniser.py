"""Fit the device's recogniser of heads, orientations and contrasts on simulated scans."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lohi_edge import nifti
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput
from lohi_edge.quality import recognise
from lohi_edge.quality.phantom import phantom
from lohi_edge.quality.scan import block_mean, lay_out
from lohi_edge.volume import Volume

Float = NDArray[np.float32]
FIT_HEADS = range(1, 13)
RIDGE_UPRIGHT = 1e4
RIDGE_CONTRAST = 1.0
WRONG_PER_SCAN = 18
PHANTOMS = 60
INSIDE_SHARE = 0.8  # of scans in which a cell lies deep in the head


def fit(pairs: Path, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Arrays of recogniser.npz from every 64 mT scan of heads 01-12 in a data set.

    Raises:
        BadInput: there is none of one of the contrasts.
    """
    rng = np.random.default_rng(seed)
    upright, wrong, deep, kinds = [], [], [], []
    ways = recognise.wrong_orientations()
    for path in sorted(pairs.rglob("*_ses-64mT*.nii.gz")):
        found = re.search(r"sub-(\d+)_.*_(T1w|T2w|FLAIR)\.nii", path.name)
        if not found or int(found.group(1)) not in FIT_HEADS:
            continue
        cells, mask, inner = _coarse(nifti.read(path))
        upright.append(recognise.canonical(cells, mask))
        deep.append(recognise.canonical(inner, mask) > 0)
        kinds.append(CONTRASTS.index(found.group(2)))
        flips = [way for way in ways if way[0] == (0, 1, 2)]
        drawn = [ways[i] for i in rng.choice(len(ways), WRONG_PER_SCAN - len(flips), replace=False)]
        for way in flips + drawn:
            turned = recognise.turn(mask.astype(np.float32), way) > 0
            wrong.append(recognise.canonical(recognise.turn(cells, way), turned))
    missing = [name for i, name in enumerate(CONTRASTS) if i not in kinds]
    if missing:
        words = f"{' and '.join(missing)} scans of heads 01-12 of `lohi-export simulate`"
        raise BadInput(f"{pairs}: expected {words}, found none")
    for _ in range(PHANTOMS):
        cells, mask, _ = _coarse(phantom(rng))
        wrong.append(recognise.canonical(cells, mask))
    weights = _ridge(np.array(upright), np.array(wrong))
    inside = np.mean(deep, axis=0) > INSIDE_SHARE
    patterns = np.array([recognise.normalised(p[inside]) for p in upright])
    contrast, offset = _discriminant(patterns, np.array(kinds))
    scale = np.array([np.abs(weights).max() / 127, np.abs(contrast).max() / 127], np.float32)
    return {
        "upright": np.rint(weights / scale[0]).astype(np.int8),
        "contrast": np.rint(contrast / scale[1]).astype(np.int8),
        "inside": np.packbits(inside),
        "offset": offset.astype(np.float32),
        "scale": scale,
    }


def _coarse(volume: Volume) -> tuple[Float, NDArray[np.bool_], Float]:
    scan = lay_out(volume, volume.isotropic())
    head, inner = (block_mean(m.astype(np.float32), 2) for m in (scan.head, scan.inner))
    return block_mean(scan.work, 2), head > 0.5, inner


def _ridge(upright: Float, wrong: Float) -> Float:
    """Weights of a ridge regression to +1 and -1, both classes of equal weight (dual form)."""
    x = np.concatenate([upright, wrong])
    y = np.repeat([1.0, -1.0], [len(upright), len(wrong)])
    root = np.sqrt(np.where(y > 0, len(wrong) / len(upright), 1.0))
    rows = x * root[:, None]
    dual = np.linalg.solve(rows @ rows.T + RIDGE_UPRIGHT * np.eye(len(y)), root * y)
    return np.asarray(rows.T @ dual, dtype=np.float32)


def _discriminant(x: Float, kinds: NDArray[np.int_]) -> tuple[Float, Float]:
    """Linear discriminant (3, n) and (3,) with the pooled covariance shrunk towards a sphere."""
    means = np.array([x[kinds == k].mean(axis=0) for k in range(len(CONTRASTS))])
    rest = x - means[kinds]
    count, ridge = len(rest), RIDGE_CONTRAST * float(rest.var(axis=0).mean())
    gram = rest @ rest.T / count + ridge * np.eye(count)
    weights = np.array([(m - rest.T @ np.linalg.solve(gram, rest @ m) / count) for m in means])
    weights /= ridge
    return weights.astype(np.float32), -0.5 * np.sum(weights * means, axis=1)
