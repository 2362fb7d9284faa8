"""From a label map's grid to a scanner's: pose, deformation, interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial.transform import Rotation

from lohi_export.pairs.anatomy import BRAIN_LABELS, Labels
from lohi_export.pairs.fields import Float32, Shape, random_field


def coordinates(
    labels: Labels, shape: Shape, params: dict[str, float], rng: np.random.Generator
) -> Float32:
    """Where each voxel of a 1 mm grid of `shape` lies in the label map: (3, *shape), in voxels.

    The grid's centre lies `rise` mm below the brain's centre; about it the head is turned, shifted,
    scaled and smoothly deformed (B-spline, 40 mm between control points).
    """
    span = [np.flatnonzero(np.isin(labels, BRAIN_LABELS).any(axis=a)) for a in ((1, 2), (0, 2))]
    centre = [(s[0] + s[-1]) / 2 for s in span]
    top = np.flatnonzero(np.isin(labels, (2, 3, 41, 42)).any(axis=(0, 1)))
    centre.append((top[0] + top[-1]) / 2)
    angles = rng.uniform(-1, 1, 3) * params["tilt"]
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() / params["scale"]
    shift = rng.uniform(-1, 1, 3) * params["offset"]
    origin = np.array(centre) + shift - np.array([0, 0, params["rise"]])
    axes = [np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape]
    out = np.empty((3, *shape), np.float32)
    for i in range(3):
        x, y, z = (np.float32(turn[i, k]) * axes[k] for k in range(3))
        bend = np.float32(params["warp"]) * random_field(rng, shape, 40)
        out[i] = x[:, None, None] + y[None, :, None] + z[None, None, :] + bend
        out[i] += np.float32(origin[i])
    return out


def sample(signal: Float32, at: Float32) -> Float32:
    """Linear interpolation of a signal (X, Y, Z) at coordinates (3, ...); air beyond its sides.

    Below its lowest slice the signal goes on as it is: a label map's neck is cut, a patient's not.
    """
    result: Float32 = _interpolate(signal, at, 1)
    return result


def sample_labels(labels: Labels, at: Float32) -> Labels:
    """The nearest label at coordinates (3, ...), beyond the map's sides as `sample` has it."""
    result: Labels = _interpolate(labels, at, 0)
    return result


def _interpolate(data: NDArray[Any], at: Float32, order: int) -> NDArray[Any]:
    at = at.copy()
    at[2] = np.maximum(at[2], 0)
    return np.asarray(ndi.map_coordinates(data, at, order=order, mode="constant", cval=0))
