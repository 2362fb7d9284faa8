"""A picture for people: three planes before and after, marked as synthetic in the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lohi_edge.files import atomic_write
from lohi_edge.volume import Float32, Volume

TILE = 256
STRIP = 24
MARK = "SYNTHETIC - research use only"


def before_after(path: Path, rows: list[tuple[str, Volume]]) -> None:
    """Write a PNG: one row a volume (axial, coronal, sagittal mid-planes), a title above each.

    Args:
        path: of the PNG, written atomically.
        rows: title and volume on a 1 mm grid; each is scaled by its own 99.5th percentile.

    Raises:
        DiskError: it cannot be written.
    """
    sheet = Image.new("L", (3 * TILE, len(rows) * (TILE + STRIP)))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for row, (title, volume) in enumerate(rows):
        top = row * (TILE + STRIP)
        draw.text((6, top + 3), title, fill=255, font=font)
        for column, plane in enumerate(_planes(volume.data)):
            tile = Image.fromarray(plane)
            tile.thumbnail((TILE, TILE))
            x = column * TILE + (TILE - tile.width) // 2
            sheet.paste(tile, (x, top + STRIP + (TILE - tile.height) // 2))
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _planes(data: Float32) -> list[NDArray[np.uint8]]:
    """Axial, coronal, sagittal mid-planes; superior or anterior up, patient's right on the left."""
    low, high = np.percentile(data[::2, ::2, ::2], [1, 99.5])
    scale = 255 / max(float(high - low), 1e-6)
    x, y, z = (n // 2 for n in data.shape)
    cuts = (data[::-1, :, z], data[::-1, y, :], data[x, ::-1, :])
    return [np.clip((cut.T[::-1] - low) * scale, 0, 255).astype(np.uint8) for cut in cuts]
