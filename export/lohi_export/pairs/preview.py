"""A picture of one pair: low field above, 3 T below, three planes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lohi_edge.files import atomic_write
from lohi_export.pairs.fields import Float32
from lohi_export.pairs.simulate import Pair


def save_preview(pair: Pair, path: Path) -> None:
    """Write a PNG of axial, coronal and sagittal planes of both volumes, each window its own.

    Raises:
        DiskError: it cannot be written.
    """
    rows = [_planes(pair.low.isotropic().data), _planes(pair.high.data)]
    with atomic_write(path) as file:
        Image.fromarray(np.vstack(rows)).save(file, format="PNG", optimize=True)


def _planes(data: Float32) -> np.ndarray:
    """Middle planes of (X, Y, Z) side by side, uint8, superior and anterior upwards."""
    top = np.percentile(data, 98)
    shown = (np.clip(data / top, 0, 1) * 255).astype(np.uint8)
    x, y, z = data.shape
    planes = [shown[:, :, z // 2], shown[:, y // 2 - 10], shown[x // 2 + 8]]
    height = max(p.shape[1] for p in planes)
    return np.hstack([np.pad(p.T[::-1], ((0, height - p.shape[1]), (0, 0))) for p in planes])
