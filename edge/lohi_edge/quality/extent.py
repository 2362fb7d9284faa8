"""What of the head lies inside the field of view."""

from __future__ import annotations

import numpy as np

from lohi_edge.quality.scan import WORK_MM, Mask


def head_share(head: Mask) -> float:
    """Share of the field of view that is head, 0 to 1."""
    return float(head.mean())


def head_litres(head: Mask) -> float:
    """Volume of the head in the field of view, litres."""
    return float(head.sum()) * WORK_MM**3 / 1e6


def crown_cut(head: Mask) -> float:
    """Head area in the topmost layers over the largest below; 0 is a whole crown, 1 is none."""
    areas = head.sum(axis=(0, 1))
    return float(areas[-2:].max()) / max(float(areas.max()), 1.0)


def side_cut(head: Mask) -> float:
    """Largest share of a left, right, front or back face that is head; 0 is all inside."""
    faces = (head[0], head[-1], head[:, 0], head[:, -1])
    return max(float(face.mean()) for face in faces)


def head_height(head: Mask) -> float:
    """From the crown to the lowest slice with head, mm."""
    rows = np.flatnonzero(head.any(axis=(0, 1)))
    return float(rows[-1] - rows[0] + 1) * WORK_MM if len(rows) else 0.0


def head_width(head: Mask) -> float:
    """Left to right, mm, of the 90 % of columns with most head (cushions and ears aside)."""
    return _extent(head, 0)


def head_length(head: Mask) -> float:
    """Front to back, mm, measured like `head_width`."""
    return _extent(head, 1)


def _extent(head: Mask, axis: int) -> float:
    others = tuple(a for a in range(3) if a != axis)
    profile = head.sum(axis=others)
    return float(np.count_nonzero(profile > 0.05 * profile.max())) * WORK_MM
