"""The slice contract: Volume <-> the generator's input, the same in training and on the device.

A slice is axial: stack[n, c, x, y] with x towards the patient's right and y towards anterior,
centred on the head, at 1 mm, without aspect distortion.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from lohi_edge.errors import BadInput, BundleError
from lohi_edge.head import Head, find_head
from lohi_edge.volume import Float32, Volume

AIR = np.float32(-1)  # what lies outside the volume or the window
INTENSITY_MAX = 1000.0
INTENSITY_MEANING = "arbitrary 3 T-like units: 0 is air, 1000 the brightest tissue"


@dataclass(frozen=True)
class SliceContract:
    """What a generator was trained on and must be fed.

    Attributes:
        height: voxels along x (left to right); a multiple of 8.
        width: voxels along y (posterior to anterior); a multiple of 8.
        channels: 1, or an odd number of neighbouring slices with the wanted one in the middle.
        spacing_mm: isotropic grid of the volume that is sliced.
        low_percentile, high_percentile: of the head's voxels; mapped to -1 and 1, clipped beyond.
    """

    height: int = 192
    width: int = 240
    channels: int = 1
    spacing_mm: float = 1.0
    low_percentile: float = 1.0
    high_percentile: float = 99.5

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if type(value) is not int and (type(value) is not float or f.type == "int"):
                raise BundleError(f"unusable slice contract: {f.name} {value!r} is no {f.type}")
        problems = [
            f"{name} {value} is not a positive multiple of 8"
            for name, value in (("height", self.height), ("width", self.width))
            if not 0 < value <= 1024 or value % 8
        ]
        if self.channels not in range(1, 16, 2):
            problems.append(f"channels {self.channels} is not an odd number from 1 to 15")
        if self.spacing_mm != 1.0:
            problems.append(f"spacing_mm {self.spacing_mm} is not 1.0")
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            problems.append("percentiles are not 0 <= low < high <= 100")
        if problems:
            raise BundleError("unusable slice contract: " + "; ".join(problems))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SliceContract:
        """From a manifest; every field must be there and no other.

        Raises:
            BundleError: unknown or missing fields, or values out of range.
        """
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            raise BundleError(
                f"expected slice contract fields {sorted(names)}, got {sorted(values)}; "
                "this bundle needs another version of lohi-edge"
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Placement:
    """How one volume was cut and scaled; enough to undo it.

    Attributes:
        shape: of the sliced 1 mm volume (X, Y, Z).
        corner: index (x, y) in the volume of the window's first voxel; negative where padded.
        low, high: intensities mapped to -1 and 1.
    """

    shape: tuple[int, int, int]
    corner: tuple[int, int]
    low: float
    high: float


def place(volume: Volume, contract: SliceContract, head: Head | None = None) -> Placement:
    """Where the contract's window sits on a 1 mm volume, and its intensity range.

    Raises:
        BadInput: no head, a head larger than the window, or a head of one brightness.
    """
    head = head or find_head(volume.data)
    window = (contract.height, contract.width)
    if head.size[0] > window[0] or head.size[1] > window[1]:
        raise BadInput(
            f"expected a head of at most {window[0]} x {window[1]} mm (left-right x front-back), "
            f"got {head.size[0]} x {head.size[1]} mm; check voxel sizes and orientation"
        )
    corner = tuple((head.low[axis] + head.high[axis]) // 2 - window[axis] // 2 for axis in range(2))
    low, high = intensity_range(volume.data, head, contract)
    return Placement(volume.shape, (corner[0], corner[1]), low, high)


def intensity_range(data: Float32, head: Head, contract: SliceContract) -> tuple[float, float]:
    """Intensities of (X, Y, Z) data that become -1 and 1: percentiles of the head's voxels.

    Raises:
        BadInput: the head has one brightness.
    """
    low, high = np.percentile(
        head.samples(data), [contract.low_percentile, contract.high_percentile]
    )
    if not high > low:
        raise BadInput("expected contrast inside the head, got one brightness; check the scan")
    return float(low), float(high)


def to_stack(data: Float32, placement: Placement, contract: SliceContract) -> Float32:
    """Cut and scale: (X, Y, Z) intensities -> (N, C, H, W) in [-1, 1], one n per axial slice.

    Beyond the volume's edge in x and y lies air (-1); beyond its first and last slice, for C > 1,
    that slice again. The result is a read-only view.
    """
    source, target = _overlap(placement, contract)
    reach = contract.channels // 2
    count = data.shape[2]
    flat = np.full((count + 2 * reach, contract.height, contract.width), AIR, dtype=np.float32)
    inner = flat[reach : reach + count]
    window = inner[:, target[0], target[1]]
    np.subtract(data[source].transpose(2, 0, 1), np.float32(placement.low), out=window)
    window *= np.float32(2 / (placement.high - placement.low))
    window -= np.float32(1)
    np.clip(window, -1, 1, out=window)
    flat[:reach], flat[reach + count :] = inner[0], inner[-1]
    # A view: each slice is held once, however many neighbours see it as a channel.
    neighbours = np.lib.stride_tricks.sliding_window_view(flat, contract.channels, axis=0)
    stack: Float32 = neighbours.transpose(0, 3, 1, 2)
    return stack


def from_stack(stack: Float32, placement: Placement, contract: SliceContract) -> Float32:
    """Put slices back: (N, 1, H, W) in [-1, 1] -> (X, Y, Z) in [-1, 1], air outside the window."""
    expected = (placement.shape[2], 1, contract.height, contract.width)
    if stack.shape != expected:
        raise ValueError(f"expected a stack of shape {expected}, got {stack.shape}")
    source, target = _overlap(placement, contract)
    data = np.full(placement.shape, AIR, dtype=np.float32)
    data[source] = stack[:, 0, target[0], target[1]].transpose(1, 2, 0)
    return data


def to_intensity(data: Float32) -> Float32:
    """[-1, 1] -> [0, INTENSITY_MAX], what a synthetic image is saved as."""
    scaled: Float32 = (data + np.float32(1)) * np.float32(INTENSITY_MAX / 2)
    return scaled


def _overlap(
    placement: Placement, contract: SliceContract
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the volume inside the window, as slices of the volume and of the window."""
    source, target = [], []
    for corner, window, size in zip(
        placement.corner, (contract.height, contract.width), placement.shape[:2], strict=True
    ):
        start = max(corner, 0)
        stop = max(start, min(corner + window, size))
        source.append(slice(start, stop))
        target.append(slice(start - corner, stop - corner))
    return (source[0], source[1]), (target[0], target[1])
