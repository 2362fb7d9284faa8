"""Data consistency: does the result, made low-field again, reproduce the scan?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.quality import robust
from lohi_edge.quality.scan import Mask, block_mean
from lohi_edge.volume import Float32, Float64

CELL_MM = 4
KNOTS = 7  # of the brightness curve that turns one contrast into the other
_SMOOTH = (0.55, 0.55, 0.9)  # cells; outweighs what the two point spreads differ in
_ROUNDS = 3  # of the fit, each with the worst misfits weighed down


@dataclass(frozen=True, eq=False)
class Consistency:
    """How the scan and the remade scan agree on the grid of 4 mm cells.

    Attributes:
        explained: share of the scan's variance inside the head that the remade one explains.
        residual: (x, y, z) scan minus remade scan, relative to the local brightness; 0 outside.
    """

    explained: float
    residual: Float32


def compare(scan: Float32, result: Float32, inside: Mask, field: Float32) -> Consistency:
    """Fit a forward model from the result to the scan and look at what it leaves.

    The model: each brightness of the result becomes some brightness of the scan (a piecewise linear
    curve), which varies smoothly over the head (coil shading, a second-order polynomial), blurred
    to what a 64 mT scan resolves. All of it is linear in its coefficients, so least squares,
    reweighted against outliers (Huber), finds them.

    Args:
        scan, result: (x, y, z) on the 2 mm grid.
        inside: the same; where the two are compared.
        field: the scan's shading field, same grid.

    Raises:
        ValueError: too little of a head to fit.
    """
    mask = block_mean(inside.astype(np.float32), 2) > 0.9
    if int(mask.sum()) < 2000:
        raise ValueError("too little of a head to compare")
    even = seen((scan / np.maximum(field, 1e-6)).astype(np.float32))
    basis = _curve_basis(result, inside)
    target = even[mask].astype(np.float64)
    design = _design(basis, mask)
    weight = np.ones(len(target))
    fitted = target
    for _ in range(_ROUNDS):
        rows = design * weight[:, None]
        normal = rows.T @ design
        normal[np.diag_indices_from(normal)] += 1e-6 * np.trace(normal) / len(normal)
        fitted = design @ np.linalg.solve(normal, rows.T @ target)
        misfit = np.abs(target - fitted)
        weight = np.minimum(1.0, 1.5 * robust.deviation(misfit, 0) / np.maximum(misfit, 1e-9))
    residual = np.zeros(mask.shape, np.float32)
    residual[mask] = target - fitted
    explained = 1 - float(np.sum((target - fitted) ** 2) / np.sum((target - target.mean()) ** 2))
    return Consistency(explained, residual)


def seen(data: Float32 | Mask) -> Float32:
    """(x, y, z) on the 2 mm grid -> on cells of CELL_MM, as blurred as a 64 mT scan."""
    blurred: Float32 = ndi.gaussian_filter(block_mean(data.astype(np.float32), 2), _SMOOTH)
    return blurred


def _curve_basis(result: Float32, inside: Mask) -> list[Float32]:
    """Hat functions of the result's brightness, blurred to the grid of cells."""
    knots = np.unique(np.percentile(result[inside][::4], np.linspace(1, 99, KNOTS)))
    if len(knots) < 3:
        raise ValueError("the result has one brightness")
    basis = []
    for i in range(len(knots)):
        heights = np.zeros(len(knots))
        heights[i] = 1
        hat = np.interp(result, knots, heights).astype(np.float32)
        basis.append(seen(hat))
    return basis


def _design(basis: list[Float32], mask: Mask) -> Float64:
    """(cells, knots * 10): every basis function times every monomial up to second order."""
    at = [(i - i.mean()) / max(float(np.ptp(i)) / 2, 1.0) for i in np.nonzero(mask)]
    x, y, z = at
    monomials = [np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z]
    columns = [hat[mask] * m for hat in basis for m in monomials]
    return np.stack(columns, axis=1)
