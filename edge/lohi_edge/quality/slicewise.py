"""Slices that are missing, repeated, out of order, moved or of another brightness."""

from __future__ import annotations

import numpy as np

from lohi_edge.volume import Float32, Float64

_CELL_MM = 4.0  # in-plane averaging, so that anatomy outweighs noise
_HEAD_SHARE = 0.35  # of the largest slice's head; slices with less say little


def slice_table(native: Float32, zooms: tuple[float, float, float], level: float) -> Float32:
    """(S, n): slices averaged over about 4 x 4 mm, relative to tissue; head slices only.

    Slices at the two ends with little head in them are left out; those between are kept whatever
    they hold.
    """
    table = coarse_slices(native, zooms, level)
    filled = (table > 0.3).mean(axis=1)
    keep = np.flatnonzero(filled > _HEAD_SHARE * filled.max())
    return table[keep[0] : keep[-1] + 1] if len(keep) else table


def coarse_slices(native: Float32, zooms: tuple[float, float, float], level: float) -> Float32:
    """(S, n): every slice averaged over about 4 x 4 mm, relative to `level`."""
    part = native
    for axis in range(2):
        size = max(1, min(round(_CELL_MM / zooms[axis]), part.shape[axis]))
        edges = np.arange(0, part.shape[axis] - size + 1, size)
        part = np.add.reduceat(
            part[(slice(None),) * axis + (slice(0, edges[-1] + size),)], edges, axis
        )
        part = part / np.float32(size)
    table: Float32 = np.moveaxis(part, 2, 0).reshape(native.shape[2], -1) / np.float32(level)
    return table


def steps(table: Float32, lag: int) -> Float64:
    """Root mean squared difference between slices `lag` apart (S - lag,)."""
    result: Float64 = np.sqrt(np.mean(np.square(table[lag:] - table[:-lag]), axis=1, dtype=float))
    return result


def blank(table: Float32) -> float:
    """Darkest slice relative to its two neighbours, mean over mean; 1 is even, 0 is empty."""
    means = table.mean(axis=1)
    around = (means[:-2] + means[2:]) / 2
    return float(np.min(means[1:-1] / np.maximum(around, 1e-6)))


def repeated(table: Float32) -> float:
    """Smallest step from slice to slice relative to the median step; 0 is a repeated slice."""
    one = steps(table, 1)
    return float(one.min()) / max(float(np.median(one)), 1e-9)


def gap(table: Float32) -> float:
    """Largest step from slice to slice over the RMS of the two on each side of it; lower is better.

    Anatomy and noise change from slice to slice by about as much as they did one slice before;
    where slices are left out it moves on by several slices at once. About 1.2 is even.
    """
    squares = np.square(steps(table, 1))
    ratios = []
    for i in range(1, len(squares) - 1):
        around = np.delete(squares[max(i - 2, 0) : i + 3], min(i, 2))
        ratios.append(squares[i] / max(float(np.mean(around)), 1e-12))
    return float(np.sqrt(max(ratios)))


def swapped(table: Float32) -> float:
    """How much shorter the way through the slices gets when two neighbours change places.

    Largest of (d(a,b) + d(c,d)) / (d(a,c) + d(b,d)) over four consecutive slices a b c d; below 1
    in order, above 1 where b and c were swapped.
    """
    one, two = steps(table, 1), steps(table, 2)
    return float(np.max((one[:-2] + one[2:]) / np.maximum(two[:-1] + two[1:], 1e-9)))


def displaced(table: Float32) -> float:
    """How much a slice differs from neighbours that resemble each other.

    Largest of min(d(a,b), d(b,c)) / d(a,c) over three consecutive slices; about 0.7 where the
    anatomy passes evenly, above 1 where b was moved.
    """
    one, two = steps(table, 1), steps(table, 2)
    return float(np.max(np.minimum(one[:-1], one[1:]) / np.maximum(two, 1e-9)))


def jump(table: Float32) -> float:
    """Largest change of brightness of one slice against the mean of its neighbours, as a log."""
    inside = [row[row > 0.3] for row in table]
    means = np.log([max(float(np.median(row)), 1e-3) if len(row) else 1e-3 for row in inside])
    return float(np.max(np.abs(means[1:-1] - (means[:-2] + means[2:]) / 2)))
