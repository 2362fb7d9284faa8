"""A paired data set on disk, as the slices a generator is fed.

Layout: BIDS, see `pairs.scans` and `pairs.matching`; the 3 T scan lies on the 1 mm grid that the
low-field volume has after `Volume.isotropic`. Slices come from `lohi_edge.slices`, the code the
device runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lohi_edge import nifti
from lohi_edge.errors import BadInput, DiskError
from lohi_edge.files import atomic_write, read_bytes, sha256
from lohi_edge.head import find_head
from lohi_edge.slices import Placement, SliceContract, intensity_range, place, to_stack
from lohi_edge.source import refuse_synthetic
from lohi_edge.volume import Float32, Volume
from lohi_export.alone import together
from lohi_export.pairs.files import described
from lohi_export.pairs.matching import Pair, survey

LEVELS = 65535  # -1 to 1 as uint16; the ends are exact
CACHE_VERSION = 1
UNFINISHED = f".{'[0-9a-f]' * 16}-{'[0-9a-f]' * 16}-*.tmp"  # of `atomic_write`, in the cache
MAX_MISMATCH_MM = 0.01


def find_pairs(root: Path, contrast: str) -> list[Pair]:
    """Every pair of one contrast, sorted by subject and name; see `survey` for what is left out.

    Raises:
        BadInput: no pair, or findings that must be mended first: all of them, one a line.
    """
    found = survey(root, [contrast])
    if found.grave:
        raise BadInput(listed(f"{root} cannot be used", found.grave))
    if not found.pairs:
        wanted = f"expected pairs of sub-*/[ses-*/]anat/*_{contrast}.nii.gz in {root}, found none"
        raise BadInput(listed(wanted, found.findings))
    return found.pairs


def left_out(root: Path, contrast: str) -> list[str]:
    """Scans of one contrast that are in no pair, one a line, with the reason."""
    return [str(finding) for finding in survey(root, [contrast]).findings]


def listed(title: str, problems: Iterable[object]) -> str:
    """A title and its problems as one message: one a line."""
    lines = [f"\n  {problem}" for problem in problems]
    return title + (":" if lines else "") + "".join(lines)


def select(pairs: Sequence[Pair], subjects: list[str], part: str) -> list[Pair]:
    """The pairs of one part of a split.

    Raises:
        BadInput: none of the part's subjects is in the data set.
    """
    chosen = [pair for pair in pairs if pair.subject in subjects]
    if not chosen:
        there = ", ".join(sorted({pair.subject for pair in pairs})) or "none"
        raise BadInput(
            f"expected {part} subjects of {', '.join(subjects)} in the data set, whose subjects "
            f"with pairs are {there}; name others with --split (`lohi-export split` draws them)"
        )
    return chosen


def absent(subjects: Iterable[str], pairs: Iterable[Pair]) -> list[str]:
    """Which of these subjects are in no pair."""
    return sorted(set(subjects) - {pair.subject for pair in pairs})


def describe(root: Path) -> dict[str, Any]:
    """What dataset_description.json says of name, licence and credit; empty where absent.

    Raises:
        BadInput: it is no JSON object.
    """
    keys = ("Name", "License", "Authors", "Acknowledgements", "ReferencesAndLinks")
    found = described(root)
    return {key: found[key] for key in keys if key in found}


@dataclass(frozen=True, eq=False)
class SlicePair:
    """The slices of one pair.

    Attributes:
        source, target: uint16 (N, H, W), one plane a slice; 0 is -1 and 65535 is 1.
        head: (first, last), half-open: the slices that show a head in both scans.
        digest: of the two files.
    """

    pair: Pair
    source: NDArray[np.uint16]
    target: NDArray[np.uint16]
    head: tuple[int, int]
    digest: str

    def batch(self, indices: NDArray[np.intp], channels: int) -> tuple[Float32, Float32]:
        """Slices `indices` (n,) as source (n, channels, H, W) and target (n, 1, H, W)."""
        reach = channels // 2
        near = np.asarray(indices)[:, None] + np.arange(-reach, reach + 1)
        near = np.clip(near, 0, len(self.source) - 1)
        return decode(self.source[near]), decode(self.target[indices][:, None])


def encode(stack: Float32) -> NDArray[np.uint16]:
    """[-1, 1] -> uint16."""
    levels: NDArray[np.uint16] = np.rint((stack + 1) * np.float32(LEVELS / 2)).astype(np.uint16)
    return levels


def decode(levels: NDArray[np.uint16]) -> Float32:
    """uint16 -> [-1, 1], within 2e-5 of what was encoded."""
    stack: Float32 = levels.astype(np.float32) * np.float32(2 / LEVELS) - np.float32(1)
    return stack


def cut(
    low: Volume, high: Volume, contract: SliceContract
) -> tuple[Float32, Float32, tuple[int, int]]:
    """Slices of a pair: source and target (N, H, W) in [-1, 1], and (first, last) of the head.

    The low-field scan gives the window, as on the device; each scan has its own intensity range.

    Raises:
        BadInput: the grids differ, or a scan shows no head that fits the window.
    """
    low = low.isotropic(contract.spacing_mm)
    if low.shape != high.shape or np.abs(low.affine - high.affine).max() > MAX_MISMATCH_MM:
        raise BadInput(
            f"expected the 3 T scan on the grid {low.shape} of the resampled 64 mT scan, got "
            f"{high.shape}{' elsewhere' * (low.shape == high.shape)}; register the pair first"
        )
    flat = SliceContract(contract.height, contract.width, 1)
    low_head, high_head = find_head(low.data), find_head(high.data)
    placement = place(low, flat, low_head)
    target = Placement(
        placement.shape, placement.corner, *intensity_range(high.data, high_head, flat)
    )
    first = max(low_head.low[2], high_head.low[2])
    last = min(low_head.high[2], high_head.high[2])
    if not first < last:
        raise BadInput("expected the same head in both scans, got heads that share no slice")
    return (
        to_stack(low.data, placement, flat)[:, 0],
        to_stack(high.data, target, flat)[:, 0],
        (first, last),
    )


def load_slices(pair: Pair, contract: SliceContract, cache: Path) -> SlicePair:
    """The slices of a pair, memory-mapped from `cache`, where they are put first if need be.

    Raises:
        BadInput: names the pair and says what is wrong with it.
        DiskError: `cache` cannot be written.
    """
    digest = "-".join(
        sha256(read_bytes(p, nifti.MAX_FILE_BYTES))[:16] for p in (pair.low, pair.high)
    )
    key = f"{digest}-{contract.height}x{contract.width}-v{CACHE_VERSION}"
    path = next(iter(sorted(cache.glob(f"{key}-*.npy"))), None)
    if path is None:
        low, high = nifti.read(pair.low), nifti.read(pair.high)
        for scan in (low, high):
            refuse_synthetic(scan)
        try:
            source, target, head = cut(low, high, contract)
        except BadInput as error:
            raise BadInput(f"{pair.low}: {error}") from error
        path = cache / f"{key}-{head[0]}-{head[1]}.npy"
        try:
            with together(cache, UNFINISHED), atomic_write(path) as file:
                np.save(file, np.stack([encode(source), encode(target)]))
        except DiskError as error:
            raise DiskError(f"{error}, or keep slices elsewhere: --cache FOLDER") from error
    levels = np.load(path, mmap_mode="r")
    first, last = (int(part) for part in path.stem.split("-")[-2:])
    return SlicePair(pair, levels[0], levels[1], (first, last), digest)
