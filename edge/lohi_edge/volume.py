"""Volume: a scan in memory, and the only owner of geometry.

Axes are always RAS+ ordered (first axis towards the patient's right, second towards anterior,
third towards superior, each within 45 degrees of it); an oblique grid stays oblique. Positions
are millimetres in the source file's own world frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lohi_edge.errors import BadInput

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MAX_VOXELS = 256 << 20  # 1 GiB as float32
MIN_ZOOM_MM, MAX_ZOOM_MM = 0.2, 20
MAX_VIEW_MM = 1024
# Largest |cosine| between two axes of a grid that still counts as orthogonal. Rounding in float32
# headers stays below 1e-5; an affine registration written into the header does not.
MAX_SHEAR = 5e-3
# Smallest cosine between an axis and the direction it is named after: 45 degrees about one axis is
# 0.71, about two is 0.5; beyond that no axis deserves its name.
MIN_COSINE = 0.4
# Zooms this close to the wanted spacing (relative) are the wanted spacing, rounded by a header.
SAME_ZOOM = 1e-5


@dataclass(frozen=True)
class Origin:
    """Where a volume came from, and what is needed to write a volume back into that frame.

    Attributes:
        name: file name without its folder (a folder may name a patient).
        sha256: of the file's bytes as stored; None once the voxels are others than the file's.
        axcodes: orientation of the stored array, e.g. "LIA".
        shape: stored array shape, trailing singleton included.
        affine: float64 (4, 4), stored voxel index -> mm, by the transform that was believed.
        header: the source's header object (NIfTI-1 or -2, or dicom.read.Acquired), read-only by
            convention.
        notes: what the reader had to decide, in words for the receipt.
        sidecar: BIDS JSON found beside the file, or empty.
        kind: what the source is, and thereby what `header` is.
        synthetic: the voxels were computed by a generator.
    """

    name: str
    sha256: str | None
    axcodes: str
    shape: tuple[int, ...]
    affine: Float64
    header: Any
    notes: tuple[str, ...] = ()
    sidecar: dict[str, Any] | None = None
    kind: Literal["nifti", "dicom"] = "nifti"
    synthetic: bool = False


@dataclass(frozen=True, eq=False)
class Volume:
    """An immutable scan.

    Attributes:
        data: float32 (X, Y, Z), RAS+ order, read-only.
        affine: float64 (4, 4), voxel index -> mm, read-only.
        origin: where it came from; None for a volume made in memory.

    Raises:
        BadInput: data or affine that no scanner produces; the message says which and why.
    """

    data: Float32
    affine: Float64
    origin: Origin | None = None

    def __post_init__(self) -> None:
        data = np.asarray(self.data, dtype=np.float32)
        affine = np.array(self.affine, dtype=np.float64)
        if data.ndim != 3 or min(data.shape) < 1:
            raise BadInput(f"expected a 3-D volume, got shape {data.shape}")
        check_affine(affine)
        towards = np.diag(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
        if towards.min() < MIN_COSINE:
            raise BadInput(
                "expected axes towards right, anterior and superior, got "
                f"{axcodes(affine)} with cosines "
                f"{towards.round(2).tolist()}; a grid this oblique has no axial slices"
            )
        data = data.view()
        data.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def canonical(cls, data: NDArray[Any], affine: Float64, origin: Origin | None = None) -> Volume:
        """A Volume from an array (X, Y, Z) in any axis order and direction."""
        affine = np.asarray(affine, dtype=np.float64)
        check_affine(affine)
        ornt = _orientation(affine)
        moved = nib.apply_orientation(data, ornt)
        return cls(moved, affine @ nib.orientations.inv_ornt_aff(ornt, data.shape), origin)

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.data.shape
        return x, y, z

    @property
    def zooms(self) -> Float64:
        """Voxel sizes (3,), mm."""
        zooms: Float64 = np.linalg.norm(self.affine[:3, :3], axis=0)
        return zooms

    def with_data(self, data: NDArray[Any]) -> Volume:
        """The same grid with other voxel values (X, Y, Z), no longer those of the origin's file."""
        if data.shape != self.shape:
            raise ValueError(f"expected data of shape {self.shape}, got {data.shape}")
        origin = self.origin and replace(self.origin, sha256=None)
        return replace(self, data=np.asarray(data, dtype=np.float32), origin=origin)

    def as_synthetic(self) -> Volume:
        """This volume, marked as computed by a generator."""
        return replace(self, origin=self.origin and replace(self.origin, synthetic=True))

    def resampled(self, shape: tuple[int, int, int], affine: Float64) -> Volume:
        """This volume on another grid whose axes run along the same directions.

        Linear interpolation; where the new grid is coarser, averaged so that nothing aliases.
        Beyond the outermost voxel centres the nearest voxel counts. An axis whose samples
        coincide is left bit-exact.

        Args:
            shape: of the new grid.
            affine: float64 (4, 4), new voxel index -> mm.
        """
        to_source = np.linalg.inv(self.affine) @ affine
        scale = np.diag(to_source)[:3]
        if np.abs(to_source[:3, :3] - np.diag(scale)).max() > 1e-3 or scale.min() <= 0:
            raise ValueError("the new grid's axes must run along the volume's own axes")
        data = self.data
        for axis in range(3):
            matrix = _linear_weights(data.shape[axis], shape[axis], scale[axis], to_source[axis, 3])
            if matrix is not None:
                data = np.moveaxis(np.tensordot(matrix, data, axes=(1, axis)), 0, axis)
        return Volume(np.ascontiguousarray(data), affine, self.origin)

    def isotropic(self, mm: float = 1.0) -> Volume:
        """This volume at `mm` spacing, same axes and field of view (to the nearest voxel).

        Raises:
            BadInput: that grid has more than MAX_VOXELS, or the volume is longer than MAX_VIEW_MM.
        """
        shape, affine = isotropic_grid(self.shape, self.affine, mm)
        count = math.prod(shape)
        if count > MAX_VOXELS:
            raise BadInput(
                f"expected at most {MAX_VOXELS:,} voxels at {mm:g} mm, got {count:,} {shape}; "
                "check the voxel sizes"
            )
        # Along a very long axis the weights of the interpolation alone would fill the memory.
        if max(longest := self.shape * self.zooms) > MAX_VIEW_MM:
            raise BadInput(
                f"expected a field of view of at most {MAX_VIEW_MM} mm, got "
                f"{max(longest):.0f} mm; check the voxel sizes"
            )
        return self.resampled(shape, affine)


def isotropic_grid(
    shape: tuple[int, int, int], affine: Float64, mm: float = 1.0
) -> tuple[tuple[int, int, int], Float64]:
    """Grid of spacing `mm` about the same centre, along the same axes, as (shape, affine)."""
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    same = np.abs(zooms / mm - 1) < SAME_ZOOM
    step = np.where(same, 1.0, mm / zooms)
    size = np.where(same, shape, np.maximum(1, np.rint(np.array(shape) * zooms / mm))).astype(int)
    start = (np.array(shape) - 1) / 2 - step * (size - 1) / 2
    new = affine.astype(np.float64).copy()
    new[:3, :3] = affine[:3, :3] * step
    new[:3, 3] = affine[:3, :3] @ start + affine[:3, 3]
    return (int(size[0]), int(size[1]), int(size[2])), new


def axcodes(affine: Float64) -> str:
    """Where the axes of a grid run, e.g. "LIA", as `Volume.canonical` takes them.

    nibabel's own answer differs where a grid is so oblique that no axis is nearest to one alone.
    """
    return "".join(nib.orientations.ornt2axcodes(_orientation(affine)))


def _orientation(affine: Float64) -> Float64:
    """For every stored axis the world axis it runs along and its sign, (3, 2), as nibabel's.

    The assignment with the largest sum of cosines: unlike nibabel's it has no trouble with ties.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best = max(permutations(range(3)), key=lambda p: sum(abs(cosines[p[i], i]) for i in range(3)))
    return np.array([[world, -1 if cosines[world, i] < 0 else 1] for i, world in enumerate(best)])


def check_affine(affine: Float64) -> None:
    """Refuse an affine that is not finite, not invertible, sheared or of absurd voxel size.

    Raises:
        BadInput: says which, with the figures.
    """
    if affine.shape != (4, 4):
        raise BadInput(f"expected a 4x4 affine, got shape {affine.shape}")
    if not np.isfinite(affine).all():
        raise BadInput("expected a finite affine, got NaN or infinity; re-export the scan")
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    if not ((zooms >= MIN_ZOOM_MM) & (zooms <= MAX_ZOOM_MM)).all():
        sizes = " x ".join(f"{z:.4g}" for z in zooms)
        raise BadInput(
            f"expected voxel sizes within {MIN_ZOOM_MM}-{MAX_ZOOM_MM} mm, got {sizes} mm; "
            "check the header's units and pixdim"
        )
    axes = affine[:3, :3] / zooms
    shear = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if shear > MAX_SHEAR:
        raise BadInput(
            f"expected orthogonal axes, got a sheared or singular affine (cosine {shear:.3f} "
            f"between two axes, at most {MAX_SHEAR}); resample the scan without shear"
        )


def _linear_weights(n_in: int, n_out: int, scale: float, offset: float) -> Float32 | None:
    """Weights (n_out, n_in): sample i of the new axis sits at source index scale * i + offset.

    None when the samples coincide and nothing needs computing.
    """
    if n_in == n_out and abs(scale - 1) * n_in < 1e-4 and abs(offset) < 1e-4:
        return None
    # A coarser grid averages the linear interpolant over a window about each sample, which removes
    # what the grid cannot show; a symmetric window leaves every position where it was.
    width = math.sqrt(max(0.0, scale**2 - 1))
    window = (np.arange(16) - 7.5) / 16 * width if width else np.zeros(1)
    at = scale * np.arange(n_out)[:, None] + offset + window[None, :]
    at = np.clip(at, 0, n_in - 1)[:, :, None]
    result: Float32 = (
        np.maximum(0.0, 1 - np.abs(at - np.arange(n_in))).mean(axis=1).astype(np.float32)
    )
    return result
