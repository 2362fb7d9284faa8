"""A picture by which a person can tell whether two scans lie on each other."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage as ndi

from lohi_edge.volume import Float32, Volume

SQUARE_MM = 20  # of the checkerboard
STRIP = 22  # pixels of the title
EDGES = 93  # percentile of the gradient that counts as an edge
COLOUR = (255, 120, 0)
Plane = NDArray[np.uint8]


def overlay(low: Volume, high: Volume, title: str) -> bytes:
    """PNG of a 64 mT and a 3 T scan (X, Y, Z) of one 1 mm grid, in three planes.

    Above: squares of one and the other by turns; edges of the head, the ventricles and the brain
    should run on from square to square. Below: the 3 T scan's edges in orange on the 64 mT scan.
    """
    planes = [(_cut(_scaled(low.data), axis), _cut(_scaled(high.data), axis)) for axis in (2, 1, 0)]
    rows = [
        _beside([np.repeat(_checkered(a, b)[..., None], 3, -1) for a, b in planes]),
        _beside([_edged(a, b) for a, b in planes]),
    ]
    sheet = Image.new("RGB", (rows[0].shape[1], STRIP + 2 * rows[0].shape[0]))
    ImageDraw.Draw(sheet).text((5, 3), title, fill=(255, 255, 255), font=ImageFont.load_default(13))
    sheet.paste(Image.fromarray(np.vstack(rows)), (0, STRIP))
    file = io.BytesIO()
    sheet.save(file, format="PNG")
    return file.getvalue()


def _scaled(data: Float32) -> Plane:
    low, high = np.percentile(data[::2, ::2, ::2], [1, 99])
    scale = 255 / max(float(high - low), 1e-6)
    shown: Plane = np.clip((data - low) * scale, 0, 255).astype(np.uint8)
    return shown


def _cut(data: Plane, axis: int) -> Plane:
    """The middle plane across an axis, superior or anterior upwards."""
    plane: Plane = np.take(data, data.shape[axis] // 2, axis=axis).T[::-1]
    return plane


def _checkered(a: Plane, b: Plane) -> Plane:
    rows, columns = (np.arange(n) // SQUARE_MM for n in a.shape)
    board: Plane = np.where((rows[:, None] + columns) % 2 == 0, a, b)
    return board


def _edged(a: Plane, b: Plane) -> Plane:
    slope = ndi.gaussian_gradient_magnitude(b.astype(np.float32), 1.2)
    shown = np.repeat(a[..., None], 3, -1)
    shown[slope > max(float(np.percentile(slope, EDGES)), 1e-6)] = COLOUR
    return shown


def _beside(planes: list[Plane]) -> Plane:
    height = max(plane.shape[0] for plane in planes)
    pads = [((0, height - plane.shape[0]), (0, 4), (0, 0)) for plane in planes]
    return np.hstack([np.pad(plane, pad) for plane, pad in zip(planes, pads, strict=True)])
