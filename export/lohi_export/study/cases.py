"""A held-out pair as a study looks at it: slices, masks, truth labels, the way back to a volume."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.files import read_bytes, sha256
from lohi_edge.head import find_head
from lohi_edge.quality.reference import Mask
from lohi_edge.slices import SliceContract, place, to_intensity
from lohi_edge.volume import Float32, Float64, Volume
from lohi_export.dataset import SlicePair, decode
from lohi_export.pairs.matching import Pair

# FreeSurfer's labels of what lies inside the skull; the label maps' own others begin at 500.
INSIDE_SKULL = range(1, 500)


@dataclass(frozen=True, eq=False)
class Case:
    """One held-out pair, all arrays (N, H, W): the slice contract's window, every axial slice.

    Attributes:
        slices: source and target in [-1, 1] as the generators see them.
        truth: the 3 T image in [-1, 1].
        head: mask found in the 3 T image.
        labels: int16 truth segmentation, None where the data set has none.
        affine: float64 (4, 4) of the window as a volume (H, W, N), mm.
    """

    slices: SlicePair
    truth: Float32
    head: Mask
    labels: NDArray[np.int16] | None
    affine: Float64

    def volume(self, stack: Float32) -> Volume:
        """A stack in [-1, 1] as a volume on the 1 mm grid, in the device's intensities."""
        return Volume(to_intensity(stack.transpose(1, 2, 0)), self.affine)


def open_case(slices: SlicePair, contract: SliceContract) -> Case:
    """The case of a pair.

    Raises:
        BadInput: a segmentation that is not on the 3 T image's grid.
    """
    low = nifti.read(slices.pair.low).isotropic(contract.spacing_mm)
    high = nifti.read(slices.pair.high)
    corner = place(low, contract).corner
    size = (contract.height, contract.width)
    affine = high.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (*corner, 0)
    path = segmentation(slices.pair)
    labels = read_labels(path, high) if path else None
    return Case(
        slices,
        truth=decode(slices.target),
        head=window(find_head(high.data).mask(high.shape), corner, size),
        labels=None if labels is None else window(labels, corner, size),
        affine=affine,
    )


def segmentation(pair: Pair) -> Path | None:
    """The truth segmentation beside a pair's 3 T image: the same name, suffix dseg."""
    stem = pair.high.name.removesuffix(".gz").removesuffix(".nii").rpartition("_")[0]
    paths = [pair.high.with_name(f"{stem}_dseg{end}") for end in (".nii.gz", ".nii")]
    return next((path for path in paths if path.is_file()), None)


def segmentation_digest(pair: Pair) -> str | None:
    """sha256 of the truth segmentation's file."""
    path = segmentation(pair)
    return sha256(read_bytes(path, nifti.MAX_FILE_BYTES)) if path else None


def read_labels(path: Path, on: Volume) -> NDArray[np.int16]:
    """Labels (X, Y, Z) of a segmentation on the grid of `on`.

    Raises:
        BadInput: unreadable, or another grid.
    """
    volume = nifti.read(path)
    if volume.shape != on.shape or np.abs(volume.affine - on.affine).max() > 0.01:
        raise BadInput(
            f"{path}: expected the grid of the 3 T image, {on.shape}, got {volume.shape}"
            f"{' elsewhere' * (volume.shape == on.shape)}"
        )
    return np.rint(volume.data).astype(np.int16)


def window(data: NDArray[Any], corner: tuple[int, int], size: tuple[int, int]) -> NDArray[Any]:
    """(X, Y, Z) -> (N, H, W): the window whose first voxel is `corner`; 0 beyond the volume."""
    stack = np.zeros((data.shape[2], *size), data.dtype)
    x, y = (np.arange(n) + c for n, c in zip(size, corner, strict=True))
    in_x, in_y = ((v >= 0) & (v < n) for v, n in zip((x, y), data.shape[:2], strict=True))
    cut = data[np.ix_(x[in_x], y[in_y])].transpose(2, 0, 1)
    stack[np.ix_(np.arange(data.shape[2]), np.flatnonzero(in_x), np.flatnonzero(in_y))] = cut
    return stack


def brain(labels: NDArray[np.int16]) -> Mask:
    """Brain with its ventricles and the CSF about it."""
    return np.isin(labels, INSIDE_SKULL)


def planes(stack: Float32, head: tuple[int, int]) -> list[str]:
    """Axial, coronal and sagittal slice through the middle of the head, as base64 PNG.

    Superior or anterior up, patient's right on the left; [-1, 1] becomes 0 to 255.
    """
    n, h, w = (sum(head) // 2, stack.shape[1] // 2, stack.shape[2] // 2)
    cuts = (stack[n, ::-1].T, stack[:, ::-1, w], stack[:, h, ::-1])
    return [_png(cut[::-1]) for cut in cuts]


def _png(image: Float32) -> str:
    grey = np.rint((image + 1) * 127.5).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()
