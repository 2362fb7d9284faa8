"""Maps of a report: where a result differs from its scan, contradicts it, or rests on luck."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lohi_edge.errors import BadInput
from lohi_edge.picture import cuts, planes, png
from lohi_edge.quality import consistency, signal
from lohi_edge.quality.scan import block_mean, lay_out
from lohi_edge.volume import Float32, Volume

PLANES = ("axial", "coronal", "sagittal")
RESIDUAL_MAX = 0.3  # of the local brightness: the ends of the colours
UNCERTAINTY_MAX = 150.0  # units of 0 to 1000: white


@dataclass(frozen=True)
class Map:
    """Three pictures, one a plane, as data URIs; `title` for people, `alt` for screen readers."""

    title: str
    alt: str
    pictures: list[str]


def maps(scan: Volume, fine: Volume, result: Volume, uncertainty: Volume | None) -> list[Map]:
    """The maps of a result.

    Args:
        scan: on its own grid; `fine` the same at 1 mm.
        result: on the grid of `fine`.
        uncertainty: the same, where one was asked for.
    """
    before, after = planes(fine.data), planes(result.data)
    found = [
        Map(
            "difference in grey",
            "where before and after differ",
            [
                png(np.abs(b.astype(np.int16) - a).astype(np.uint8))
                for b, a in zip(before, after, strict=True)
            ],
        )
    ]
    residual = _residual(scan, fine, result)
    if residual is not None:
        found.append(
            Map(
                f"scan minus remade scan: orange brighter, blue darker, full at {RESIDUAL_MAX:.0%}",
                "where the result, made low-field again, does not explain the scan",
                [png(_coloured(cut)) for cut in cuts(residual)],
            )
        )
    if uncertainty is not None:
        grey = np.clip(uncertainty.data * np.float32(255 / UNCERTAINTY_MAX), 0, 255)
        found.append(
            Map(
                f"uncertainty: white is {UNCERTAINTY_MAX:.0f} of 1000 units",
                "where the result depends on accidents of its making",
                [png(cut.astype(np.uint8)) for cut in cuts(grey)],
            )
        )
    return found


def _residual(scan: Volume, fine: Volume, result: Volume) -> Float32 | None:
    """What the result leaves unexplained of the scan, at 2 mm; None where it cannot be told."""
    try:
        laid = lay_out(scan, fine)
        shading = signal.shading_field(laid.work, laid.inner)
        left = consistency.compare(laid.work, block_mean(result.data, 2), laid.inner, shading)
    except (BadInput, ValueError):
        return None  # too little head, or one brightness: the metrics say so by name
    return left.residual.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def _coloured(values: Float32) -> NDArray[np.uint8]:
    """(rows, columns) -> (rows, columns, 3): blue below zero, black at it, orange above."""
    share = np.clip(values / np.float32(RESIDUAL_MAX), -1, 1)[..., None]
    warm, cold = (np.array(rgb, np.float32) for rgb in ((255, 160, 40), (60, 150, 255)))
    colour = np.maximum(share, 0) * warm + np.maximum(-share, 0) * cold
    return np.asarray(colour.astype(np.uint8))
