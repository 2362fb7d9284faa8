"""What the forward model learns from: scans, the results made of them, and where the brain is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lohi_edge import nifti
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.models import Models
from lohi_edge.pipeline import enhance
from lohi_edge.quality import forward
from lohi_edge.quality.consistency import CELL_MM
from lohi_edge.quality.faultbench import Case, cases
from lohi_edge.quality.forward import Cells
from lohi_edge.quality.scan import block_mean, lay_out
from lohi_edge.volume import Float32
from lohi_export.pairs.files import read_labels

HEADS = range(1, 13)
UNSEEN = (11, 12)  # heads that no generator learned from
BRAIN = range(1, 100)  # labels: FreeSurfer's structures


@dataclass(frozen=True, eq=False)
class Sample:
    """One scan.

    Attributes:
        cells: scan and result, as the device lays them out.
        brain: float32 (x, y, z), share of each of those cells that is brain.
        unseen: the generator did not learn from this head. Of such heads its results are worse, as
            of those that a device sees.
    """

    cells: Cells
    brain: Float32
    unseen: bool = False

    def mirrored(self) -> Sample:
        """Left and right exchanged."""
        c = self.cells
        place = c.place[:, ::-1].copy()
        place[0] *= -1
        parts = (a[::-1].copy() for a in (c.scan, c.result, c.inside, self.brain))
        scan, result, inside, brain = parts
        return Sample(Cells(scan, result, place, inside, c.corner), brain, self.unseen)


def choose(samples: Sequence[Sample], rng: np.random.Generator) -> Sample:
    """One of them or its mirror image; of heads seen and unseen each half of the time."""
    groups = [[s for s in samples if s.unseen == unseen] for unseen in (False, True)]
    group = groups[int(rng.integers(2))] or samples
    sample = group[int(rng.integers(len(group)))]
    return sample.mirrored() if rng.random() < 0.5 else sample


def read(data: Path, contrast: str, models: Models) -> list[Sample]:
    """Every scan of HEADS of one contrast in a data set of `lohi-export simulate`, enhanced.

    Raises:
        UsageError: an unknown contrast.
        BadInput: there is none of heads 01-10, or none of UNSEEN.
        BundleError: no model for the contrast.
    """
    if contrast not in CONTRASTS:
        raise UsageError(f"expected CONTRAST to be one of {', '.join(CONTRASTS)}, got {contrast}")
    found = [case for case in cases(data, HEADS) if case.contrast == contrast]
    if {case.head in UNSEEN for case in found} != {False, True}:
        raise BadInput(
            f"{data}: expected {contrast} scans of heads 01-10 and of heads 11-12, which no "
            "generator learned from, found none of one or both"
        )
    return [_sample(case, models) for case in found]


def _sample(case: Case, models: Models) -> Sample:
    volume = nifti.read(case.path)
    made = enhance(volume, bundle=models, contrast=case.contrast, deliver_held=True).volume
    assert made is not None
    laid = lay_out(volume, volume.isotropic())
    cells = forward.lay_cells(laid, block_mean(made.data, 2))
    labels, _ = read_labels(case.labels())
    share = block_mean(np.isin(labels, BRAIN).astype(np.float32), CELL_MM)
    box = tuple(slice(a, a + n) for a, n in zip(cells.corner, cells.scan.shape, strict=True))
    brain = share[box]
    short = [(0, n - m) for n, m in zip(cells.scan.shape, brain.shape, strict=True)]
    return Sample(cells, np.pad(brain, short), case.head in UNSEEN)
