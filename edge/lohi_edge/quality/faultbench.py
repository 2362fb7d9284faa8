"""The fault bench's scans: clean ones, and the same with every fault at every strength."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import nifti
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput
from lohi_edge.quality import fitness
from lohi_edge.quality.faults import SCAN_FAULTS, UNMASKED
from lohi_edge.quality.phantom import phantom
from lohi_edge.volume import Volume

STRENGTHS = ("weak", "middle", "strong")
_NAME = re.compile(r"sub-(\d+)_ses-64mT(?:_acq-(\d+))?_run-(\d+)_(T1w|T2w|FLAIR)\.nii\.gz")


@dataclass(frozen=True)
class Row:
    """One measured scan or result.

    Attributes:
        head, run, scan, contrast: which simulated scan.
        part: "scan" or "result".
        fault: what is wrong with it; "" for a clean one.
        strength: index into STRENGTHS.
        values: metric -> figure, or None where it does not apply.
    """

    head: int
    run: int
    scan: int
    contrast: str
    part: str
    fault: str
    strength: int
    values: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Case:
    """One simulated 64 mT scan of a data set.

    Attributes:
        run: of the head, posed anew.
        scan: of that pose, with other settings; counts from 1.
    """

    head: int
    run: int
    scan: int
    contrast: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.head:02d}-{self.run:02d}-{self.scan:02d}-{self.contrast}"

    def truth(self) -> Path:
        """The simulated 3 T scan beside it."""
        name = re.sub("ses-64mT(_acq-[0-9]+)?", "ses-3T", self.path.name)
        return self.path.parents[2] / "ses-3T" / "anat" / name

    def labels(self) -> Path:
        """The segmentation that scan was made from."""
        truth = self.truth()
        return truth.with_name(truth.name.replace(f"_{self.contrast}.", "_dseg."))

    def row(self, part: str, fault: str, strength: int, values: dict[str, float | None]) -> Row:
        return Row(self.head, self.run, self.scan, self.contrast, part, fault, strength, values)

    def rng(self, fault: str, strength: int) -> np.random.Generator:
        """Randomness of one fault on one scan, the same every time."""
        return np.random.default_rng(
            [self.head, self.run, self.scan, zlib.crc32(fault.encode()), strength]
        )


def cases(pairs: Path, heads: Iterable[int]) -> list[Case]:
    """The 64 mT scans of a data set written by `lohi-export simulate`, run by run.

    Raises:
        BadInput: none is there.
    """
    wanted = set(heads)
    found = []
    for path in pairs.rglob("*_ses-64mT_*.nii.gz"):
        match = _NAME.fullmatch(path.name)
        if match and int(match[1]) in wanted:
            found.append(Case(int(match[1]), int(match[3]), int(match[2] or 1), match[4], path))
    if not found:
        raise BadInput(
            f"{pairs}: expected sub-NN_ses-64mT_run-NN_T1w.nii.gz of `lohi-export simulate`, "
            "found none of the heads asked for"
        )
    return sorted(found, key=lambda c: (c.run, c.scan, c.contrast != "T1w", c.head))


def measure(volume: Volume, contrast: str) -> dict[str, float | None]:
    """Fitness of one volume, figures alone."""
    measures = fitness.assess(volume, volume.isotropic(), contrast).measures
    return {name: m.value for name, m in measures.items()}


def damaged_rows(case: Case, volume: Volume, faults: Iterable[str]) -> Iterator[Row]:
    """A scan with some of SCAN_FAULTS, by name, at every strength."""
    for name in faults:
        once = name.startswith(("upside", "front", "mirrored"))
        for strength in (1,) if once else range(3):
            damaged = SCAN_FAULTS[name](volume.data, strength, case.rng(name, strength))
            if damaged.shape == volume.shape and name not in UNMASKED:
                # What the scanner masks it masks after the fault.
                damaged = np.where(volume.data > 0, damaged, 0)
            grid = Volume(np.ascontiguousarray(damaged), volume.affine)
            yield case.row("scan", name, strength, measure(grid, case.contrast))


def scan_rows(case: Case, faulty: bool) -> Iterator[Row]:
    """A clean scan, and where `faulty` every fault at every strength."""
    volume = nifti.read(case.path)
    yield case.row("scan", "", 0, measure(volume, case.contrast))
    if not faulty:
        return
    yield from damaged_rows(case, volume, SCAN_FAULTS)
    for other in CONTRASTS:
        if other != case.contrast:
            name = f"wrong contrast ({case.contrast} as {other})"
            yield case.row("scan", name, 1, measure(volume, other))
    yield case.row("scan", "phantom", 1, measure(phantom(case.rng("phantom", 1)), case.contrast))
    if case.truth().is_file():
        truth = nifti.read(case.truth())
        high = Volume(truth.data, truth.affine)  # without the header that tells it
        yield case.row("scan", "already 3 T", 1, measure(high, case.contrast))
