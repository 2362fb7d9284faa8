"""What becomes of illness in the enhancement: the same head well and ill, enhanced and compared."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lohi_edge.files import atomic_write
from lohi_edge.head import find_head
from lohi_edge.models import Models
from lohi_edge.picture import MARK
from lohi_edge.pipeline import Result, enhance
from lohi_edge.slices import INTENSITY_MAX, SliceContract, intensity_range
from lohi_edge.volume import Float32, Volume
from lohi_export.pairs.files import read_labels
from lohi_export.pairs.pathology import PATHOLOGIES, make
from lohi_export.pairs.ranges import ranges_for
from lohi_export.pairs.simulate import Pair, simulate_pair

STRENGTHS = ("small", "middle", "large")
PICTURED = 1  # strength that pictures show
VISIBLE = 0.02 * INTENSITY_MAX  # a smaller change of the truth is no lesion


@dataclass(frozen=True)
class Row:
    """One ill head.

    Attributes:
        carried: share of the lesion that the result shows: the result's change from the healthy
            head, projected on the truth's; 1 is all of it, 0 none, below 0 the wrong way round.
        likeness: correlation of the two changes where the truth changes.
        elsewhere: mean absolute change of the result away from the lesion, in units of 0 to 1000.
        verdict: of the quality check on the ill scan and its result.
    """

    head: int
    contrast: str
    pathology: str
    strength: str
    size_mm: float
    carried: float
    likeness: float
    elsewhere: float
    verdict: str


def rows(
    folder: Path,
    heads: list[int],
    contrast: str,
    models: Models,
    seed: int,
    pictures: Path,
    begin: Callable[[str], Any],
) -> Iterator[Row]:
    """Every pathology at every size in every head.

    Args:
        folder: with head_NN_labels.nii.gz.
        models: what enhances.
        pictures: folder for one PNG a pathology, of the first head.
        begin: told what is next.

    Raises:
        BadInput: a label map that cannot be read.
        BundleError: no model for the contrast.
        DiskError: a picture cannot be written.
    """
    contract = models.get(contrast).bundle.manifest.slice_contract
    for head in heads:
        labels, affine = read_labels(folder / f"head_{head:02d}_labels.nii.gz")
        draw = (seed, head)
        ranges = ranges_for(contrast)
        well = simulate_pair(labels, affine, draw, ranges, contrast)
        before = _enhanced(well, models, contrast)
        for name, (_, sizes) in PATHOLOGIES.items():
            for strength, size in enumerate(sizes):
                begin(f"head {head}: {name}, {STRENGTHS[strength]}")
                rng = np.random.default_rng([*draw, zlib.crc32(name.encode())])
                pathology = make(name, labels, size, rng)
                ill = simulate_pair(labels, affine, draw, ranges, contrast, pathology=pathology)
                after = _enhanced(ill, models, contrast)
                figures, centre = compare(well, ill, before, after, contract)
                yield Row(
                    head, contrast, name, STRENGTHS[strength], size, **figures,
                    verdict=after.receipt["verdict"],
                )  # fmt: skip
                if head == heads[0] and strength == PICTURED:
                    truth = scaled(ill.high, well.high, contract)
                    _picture(
                        pictures / f"{name}-{contrast}.png",
                        [("64 mT scan (simulated)", ill.low.isotropic().data),
                         (f"result: {MARK}", _data(after)), ("3 T truth (simulated)", truth)],
                        centre,
                    )  # fmt: skip


def compare(
    well: Pair, ill: Pair, before: Result, after: Result, contract: SliceContract
) -> tuple[dict[str, float], tuple[int, int, int]]:
    """Figures of a Row, and the voxel at the middle of the lesion (1 mm grid)."""
    truth = scaled(ill.high, well.high, contract) - scaled(well.high, well.high, contract)
    change = _data(after) - _data(before)
    there = np.abs(truth) > VISIBLE
    a, b = change[there].astype(np.float64), truth[there].astype(np.float64)
    spread = float(np.std(a) * np.std(b))
    weight = np.abs(truth).astype(np.float64)
    centre = [
        round(float((weight.sum(axis=tuple({0, 1, 2} - {k})) @ np.arange(n)) / weight.sum()))
        for k, n in enumerate(truth.shape)
    ]
    figures = {
        "carried": float(a @ b) / float(b @ b),
        "likeness": float(np.mean((a - a.mean()) * (b - b.mean()))) / spread if spread else 0.0,
        "elsewhere": float(np.abs(change[~there]).mean()),
    }
    return figures, (centre[0], centre[1], centre[2])


def scaled(volume: Volume, like: Volume, contract: SliceContract) -> Float32:
    """A 3 T volume in the units of a result, by the intensity range of another."""
    low, high = intensity_range(like.data, find_head(like.data), contract)
    units: Float32 = np.clip((volume.data - low) / (high - low), 0, 1) * np.float32(INTENSITY_MAX)
    return units


def table(found: list[Row]) -> str:
    """Means over heads as Markdown."""
    lines = [
        "| pathology | size, mm | n | carried over (range) | likeness | change elsewhere | held or "
        "warned |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (_, sizes) in PATHOLOGIES.items():
        for size in sizes:
            some = [r for r in found if (r.pathology, r.size_mm) == (name, size)]
            if not some:
                continue
            carried = [r.carried for r in some]
            lines.append(
                f"| {name} | {size} | {len(some)} | {np.mean(carried):.2f} ({min(carried):.2f} to "
                f"{max(carried):.2f}) | {np.mean([r.likeness for r in some]):.2f} | "
                f"{np.mean([r.elsewhere for r in some]):.1f} | "
                f"{sum(r.verdict != 'pass' for r in some)} |"
            )
    return "\n".join(lines) + "\n"


def write_table(path: Path, found: list[Row]) -> str:
    """Write `table` to a file, whole or not at all; returns it.

    Raises:
        DiskError: the disk would not take it.
    """
    text = table(found)
    with atomic_write(path) as file:
        file.write(text.encode())
    return text


def _enhanced(pair: Pair, models: Models, contrast: str) -> Result:
    return enhance(pair.low, bundle=models, contrast=contrast, deliver_held=True)


def _data(result: Result) -> Float32:
    assert result.volume is not None
    return result.volume.data


def _picture(path: Path, columns: list[tuple[str, Float32]], at: tuple[int, int, int]) -> None:
    """Axial slices through a lesion side by side, each title above its own."""
    x, y, strip = columns[0][1].shape[0], columns[0][1].shape[1], 20
    sheet = Image.new("L", (x * len(columns), y + strip))
    draw = ImageDraw.Draw(sheet)
    for number, (title, data) in enumerate(columns):
        top = float(np.percentile(data[::2, ::2, ::2], 99.5))
        grey = np.clip(data[::-1, ::-1, at[2]].T * (255 / max(top, 1e-6)), 0, 255)
        sheet.paste(Image.fromarray(grey.astype(np.uint8)), (number * x, strip))
        draw.text((number * x + 4, 4), title, fill=255)
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")
