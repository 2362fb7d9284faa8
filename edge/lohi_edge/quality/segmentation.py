"""Which region each voxel of a head belongs to, and what of it is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lohi_edge.quality.regions import CEREBELLUM, CSF, REGIONS, TOTAL
from lohi_edge.volume import Float64

CEREBELLUM_MM2 = 40  # area of cerebellum in the lowest slice that counts as inside the skull


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Which region each voxel belongs to.

    Attributes:
        labels: int16 (X, Y, Z), keys of REGIONS, 0 elsewhere.
        affine: float64 (4, 4), voxel index -> mm, RAS+.
        shares: region -> mm3, sums of each voxel's shares, which are less biased than counts of
            winners; None counts voxels.
    """

    labels: NDArray[np.int16]
    affine: Float64
    shares: Mapping[int, float] | None = None

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Mask (X, Y, Z) of brain and ventricles, without the CSF about them."""
        mask: NDArray[np.bool_] = (self.labels > 0) & (self.labels != CSF)
        return mask


def region_volumes(segmentation: Segmentation) -> dict[str, float]:
    """Millilitres of every region by its name, and of all together ("total intracranial")."""
    if segmentation.shares is not None:
        found = dict(segmentation.shares)
    else:
        voxel = abs(float(np.linalg.det(segmentation.affine[:3, :3])))
        counts = np.bincount(segmentation.labels.ravel(), minlength=max(REGIONS) + 1)
        found = {label: voxel * float(counts[label]) for label in REGIONS}
    volumes = {name: found[label] / 1000 for label, name in REGIONS.items()}
    return {**volumes, TOTAL: sum(volumes.values())}


def intracranial(labels: NDArray[np.int16], slice_mm2: float = 1.0) -> NDArray[np.int16]:
    """A copy (X, Y, Z) without what lies below the cerebellum: the skull ends there.

    `slice_mm2` is the area of one voxel's axial face.
    """
    area = np.isin(labels, CEREBELLUM).sum(axis=(0, 1)) * slice_mm2
    result: NDArray[np.int16] = labels.copy()
    result[:, :, : cerebellum_bottom(area)] = 0
    return result


def cerebellum_bottom(area: NDArray[np.generic]) -> int:
    """First slice with CEREBELLUM_MM2 of cerebellum; 0 where there is none."""
    return int(np.argmax(np.asarray(area) >= CEREBELLUM_MM2))
