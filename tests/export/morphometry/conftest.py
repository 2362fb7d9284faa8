"""A small head for the segmenter, as label map and as codes."""

from __future__ import annotations

import numpy as np
import pytest

from lohi_edge.quality.frame import CROP_MM
from lohi_export.morphometry import (
    targets,
)


@pytest.fixture(scope="module")
def head():
    """Two half-balls of brain about two ventricles and a cerebellum, in a skull: labels."""
    x, y, z = (np.arange(n) - (n - 1) / 2 for n in CROP_MM)
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    radius = np.sqrt((x / 0.8) ** 2 + y**2 + z**2)
    labels = np.zeros(CROP_MM, np.int16)
    for left, right, edge in ((515, 515, 78), (24, 24, 74), (3, 42, 71), (2, 41, 60), (4, 43, 15)):
        inside = radius < edge
        labels[inside & (x < 0)] = left
        labels[inside & (x >= 0)] = right
    low = (radius < 71) & (z < -45)
    labels[low & (x < 0)], labels[low & (x >= 0)] = 8, 47
    return labels


@pytest.fixture(scope="module")
def codes(head):
    return targets.encode(head)
