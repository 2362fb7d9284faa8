"""Scans of a simulated data set, as the device sees them: what the segmenter is proved on, and
what its second stage learns from beside painted heads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.models import Models
from lohi_edge.pipeline import enhance
from lohi_edge.quality import frame
from lohi_edge.volume import Volume
from lohi_export.morphometry.bank import JITTER_MM
from lohi_export.morphometry.painting import Painted, paired
from lohi_export.morphometry.targets import encode, regions_of
from lohi_export.pairs.anatomy import Labels
from lohi_export.pairs.files import read_labels

KINDS = ("64mT", "3T", "synthetic")
NAME = re.compile(r"sub-(\w+?)_ses-64mT_(run-\w+)_(T1w|T2w|FLAIR)\.nii\.gz")


@dataclass(frozen=True)
class Scan:
    """One simulated scan, its 3 T partner, and the segmentation that both were made from."""

    head: str
    contrast: str
    low: Path
    high: Path
    dseg: Path

    @property
    def run(self) -> str:
        """Which of the head's pairs it is of, such as run-01."""
        return self.low.name.split("_")[2]

    def image(self, kind: str, models: Models | None) -> Volume:
        """The scan as one of KINDS; `models` make what is synthetic."""
        if kind == "synthetic":
            result = enhance(
                self.low, bundle=models, contrast=self.contrast, deliver_held=True
            ).volume
            assert result
            return result
        return nifti.read(self.low if kind == "64mT" else self.high)


def find(data: Path, heads: Sequence[str], contrasts: Sequence[str]) -> list[Scan]:
    """Every scan of some heads and contrasts in a data set of `lohi-export simulate`.

    Raises:
        BadInput: there is none of one of the heads.
    """
    found = []
    for low in sorted(data.glob("sub-*/ses-64mT/anat/*.nii.gz")):
        match = NAME.fullmatch(low.name)
        if match and match[1] in heads and match[3] in contrasts:
            head, run, contrast = match.groups()
            high = low.parents[2] / "ses-3T" / "anat" / f"sub-{head}_ses-3T_{run}_"
            names = (high.with_name(f"{high.name}{end}.nii.gz") for end in (contrast, "dseg"))
            found.append(Scan(head, contrast, low, *names))
    if missing := sorted(set(heads) - {scan.head for scan in found}):
        raise BadInput(
            f"{data}: expected {' or '.join(contrasts)} scans of heads {', '.join(heads)} with "
            f"segmentations, found none of {', '.join(missing)}; name others with --heads"
        )
    return found


def draw(scans: Sequence[Scan], models: Models, rng: np.random.Generator) -> Painted:
    """One scan of some, as any of KINDS, in the window that the device would see, about.

    The window misses the brain's centre by as much as in the bank; half of the time it is mirrored.
    """
    scan = scans[int(rng.integers(len(scans)))]
    fine = scan.image(str(rng.choice(KINDS)), models).isotropic()
    labels = regions_of(read_labels(scan.dseg)[0])
    if labels.shape != fine.shape:
        raise BadInput(f"{scan.dseg}: expected the grid {fine.shape}, got {labels.shape}")
    shift = np.clip(rng.normal(0, JITTER_MM, 3), -14, 14)
    start = frame.start_voxel(frame.centre_of_brain(labels) + shift)
    image, codes = frame.window(fine, start), encode(_cut(labels, start))
    gamma = np.float32(np.exp(rng.uniform(-0.2, 0.2)))
    image = np.maximum(image, 0) ** gamma
    if rng.random() < 0.5:
        image, codes = image[::-1], codes[::-1]
        return paired(np.ascontiguousarray(image), codes, 0, mirrored=True)
    return paired(image, codes, 0, mirrored=False)


def _cut(labels: Labels, start: np.ndarray) -> Labels:
    """The window (*CROP_MM) of a map that begins at voxel `start`; outside of it is 0."""
    whole = np.zeros(frame.CROP_MM, labels.dtype)
    low, high = np.clip(start, 0, labels.shape), np.clip(start + whole.shape, 0, labels.shape)
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    into = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    whole[into] = labels[source]
    return whole
