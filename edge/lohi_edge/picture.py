"""A picture for people: three planes before and after, marked as synthetic in the pixels."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lohi_edge.files import atomic_write
from lohi_edge.volume import Float32, Volume

TILE = 256
STRIP = 24
RING = 12  # voxels about a spot, of 8 mm or so, which it must not hide
Voxel = tuple[int, int, int]
MARK = "SYNTHETIC - research use only"
LEFT = ("R", "R", "A")  # what the left edge of axial, coronal and sagittal planes is
_WIDTH, _MOST = 100, 16  # characters in a line of remarks, and lines


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a sheet: axial, coronal and sagittal planes of a volume.

    Attributes:
        volume: on a 1 mm grid; scaled by its own 99.5th percentile.
        at: the voxel that the planes go through, with a ring about it; None is the middle.
    """

    title: str
    volume: Volume
    at: Voxel | None = None


def before_after(path: Path, rows: Sequence[Row], remarks: Sequence[str] = ()) -> None:
    """Write `sheet` as a PNG, atomically.

    Raises:
        DiskError: it cannot be written.
    """
    with atomic_write(path) as file:
        sheet(rows, remarks).save(file, format="PNG")


def sheet(rows: Sequence[Row], remarks: Sequence[str] = ()) -> Image.Image:
    """A grey picture: the rows, a title above each, and below them the remarks."""
    lines = [line for text in remarks for line in textwrap.wrap(_plain(text), _WIDTH)]
    if len(lines) > _MOST:
        lines = [*lines[: _MOST - 1], "and more: see the report"]
    high = len(rows) * (TILE + STRIP)
    picture = Image.new("L", (3 * TILE, high + len(lines) * STRIP))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    for number, line in enumerate(lines):
        draw.text((6, high + number * STRIP + 3), line, fill=255, font=font)
    for number, row in enumerate(rows):
        top = number * (TILE + STRIP)
        draw.text((6, top + 3), row.title, fill=255, font=font)
        for column, plane in enumerate(views(row.volume.data, row.at)):
            tile = Image.fromarray(plane)
            tile.thumbnail((TILE, TILE))
            x = column * TILE + (TILE - tile.width) // 2
            picture.paste(tile, (x, top + STRIP + (TILE - tile.height) // 2))
            at = (column * TILE + 4, top + STRIP + TILE // 2)
            draw.text(at, LEFT[column], fill=255, font=font, stroke_width=1, stroke_fill=0)
    return picture


def marked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey picture (rows, columns) that says in its lower right corner what it is.

    A picture of a page can be saved or copied alone.
    """
    picture = Image.fromarray(pixels)
    at = (picture.width - 3, picture.height - 2)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    draw.text(at, "SYNTHETIC", fill=255, font=font, anchor="rd", stroke_width=1, stroke_fill=0)
    return np.asarray(picture)


def views(data: Float32, at: Voxel | None = None) -> list[NDArray[np.uint8]]:
    """`planes` through the middle; through a voxel, with a ring about it."""
    found = planes(data, at)
    return ringed(found, at) if at else found


def planes(data: Float32, at: Voxel | None = None) -> list[NDArray[np.uint8]]:
    """`cuts` in grey, from the 1st to the 99.5th percentile of the volume."""
    low, high = (float(v) for v in np.percentile(data[::2, ::2, ::2], [1, 99.5]))
    scale = 255 / (high - low) if high > low else 0.0
    return [np.clip((cut - low) * scale, 0, 255).astype(np.uint8) for cut in cuts(data, at)]


def cuts(data: Float32, at: Voxel | None = None) -> list[Float32]:
    """Axial, coronal, sagittal planes (rows, columns) of a volume (X, Y, Z) in RAS+ order.

    Superior or anterior is up, the patient's right on the left.

    Args:
        at: the voxel they go through; None is the middle.
    """
    x, y, z = at or (n // 2 for n in data.shape)
    return [cut.T[::-1] for cut in (data[::-1, :, z], data[::-1, y, :], data[x, ::-1, :])]


def ringed(pictures: list[NDArray[np.uint8]], at: Voxel) -> list[NDArray[np.uint8]]:
    """`planes` through a voxel, each with a ring about it."""
    marked = []
    for pixels, (across, up) in zip(pictures, ((0, 1), (0, 2), (1, 2)), strict=True):
        rows, columns = pixels.shape
        middle = (columns - 1 - at[across], rows - 1 - at[up])
        picture = Image.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        for radius, grey in ((RING + 1, 0), (RING, 255)):  # seen on bright and on dark
            draw.circle(middle, radius, outline=grey)
        marked.append(np.asarray(picture))
    return marked


def _plain(text: str) -> str:
    """A text in letters that the font has."""
    return text.encode("ascii", "replace").decode()


def png(pixels: NDArray[np.uint8]) -> str:
    """A data URI of a picture, grey (rows, columns) or colour (rows, columns, 3)."""
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, format="PNG")
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()
