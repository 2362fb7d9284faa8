"""Which pairs to simulate: one job for every head and draw, and where its files go."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lohi_edge.errors import UsageError
from lohi_export.pairs.ranges import Ranges, of_scanner, ranges_for

ILL = 100  # draws from here on are of ill heads: run-101 and so on


@dataclass(frozen=True)
class Job:
    """One pair to write.

    Attributes:
        source: a label map, or a real high-field volume.
        subject: BIDS label of what is in it: the head's number, or a word.
        draw: counts from 0 and becomes run-(draw + 1).
        scans: at 64 mT of the same head; the others are acq-02 and so on, for a label map only.
        made_of: contrast of a volume, where `contrast` is to be made of another.
        scanner: number of the one that scans every head, for label maps only; None for another
            scanner in every scan.
    """

    source: Path
    out: Path
    subject: str
    draw: int
    seed: int
    contrast: str
    scans: int = 1
    made_of: str = ""
    scanner: int | None = None

    @property
    def ranges(self) -> Ranges:
        """What is drawn from where."""
        ranges = ranges_for(self.contrast)
        return ranges if self.scanner is None else of_scanner(ranges, self.scanner)

    @property
    def ill(self) -> bool:
        """Whether lesions are put into the head."""
        return self.draw >= ILL

    @property
    def from_labels(self) -> bool:
        """Whether the source is a label map."""
        return self.subject.isdecimal()

    def image(self, session: str, scan: int = 1) -> Path:
        """Path of one session's NIfTI file in the data set; `scan` counts from 1."""
        again = f"_acq-{scan:02d}" if scan > 1 else ""
        name = (
            f"sub-{self.subject}_ses-{session}{again}_run-{self.draw + 1:02d}_"
            f"{self.contrast}.nii.gz"
        )
        return self.out / f"sub-{self.subject}" / f"ses-{session}" / "anat" / name

    def segmentation(self) -> Path:
        """Path of the labels the 3 T image was made from, the same for every contrast."""
        image = self.image("3T")
        return image.with_name(image.name.replace(f"_{self.contrast}.", "_dseg."))

    def any_contrast(self, session: str) -> str:
        """Pattern of the names of sidecars beside it, of this head and draw in any contrast."""
        return f"sub-{self.subject}_ses-{session}_run-{self.draw + 1:02d}_*.json"

    def sidecar(self, session: str, scan: int = 1) -> Path:
        """Path of the JSON file beside that image."""
        image = self.image(session, scan)
        return image.with_name(image.name.replace(".nii.gz", ".json"))


def plan(
    labels: Path,
    out: Path,
    heads: Iterable[int],
    draws: int,
    seed: int,
    contrast: str,
    scans: int = 1,
    ill: int = 0,
    scanner: int | None = None,
) -> list[Job]:
    """One job for every head and draw, `ill` more a head with lesions in it, scanned once.

    Raises:
        UsageError: a head without a label map in `labels`.
    """
    ranges_for(contrast)
    jobs = []
    for head in heads:
        path = labels / f"head_{head:02d}_labels.nii.gz"
        if not path.is_file():
            raise UsageError(f"expected a label map for head {head}, got no file {path}")
        jobs += [
            Job(path, out, f"{head:02d}", draw, seed, contrast, scans, scanner=scanner)
            for draw in range(draws)
        ]
        jobs += [
            Job(path, out, f"{head:02d}", ILL + n, seed, contrast, scanner=scanner)
            for n in range(ill)
        ]
    return jobs


def plan_volumes(
    volumes: Path,
    out: Path,
    draws: int,
    seed: int,
    contrast: str,
    made_of: str = "",
    ill: int = 0,
) -> list[Job]:
    """One job for every draw of a real high-field NIfTI file, or of every one in a folder.

    `ill` more of each have lesions in them.

    Args:
        made_of: contrast of the volumes, which is `contrast` or T1w; "" is the former.

    Raises:
        UsageError: no such file, two of one subject, or volumes that cannot show this contrast.
    """
    ranges_for(contrast)
    if made_of not in ("", contrast, "T1w"):
        raise UsageError(
            f"expected volumes of {contrast} or T1w to make {contrast} pairs of, got {made_of}"
        )
    made_of = "" if made_of == contrast else made_of
    files = sorted(volumes.glob("*.nii*")) if volumes.is_dir() else [volumes]
    if not files or not files[0].is_file():
        raise UsageError(f"expected NIfTI files (.nii, .nii.gz) in {volumes}, got none")
    subjects = {file: _subject(file) for file in files}
    twice = [name for name, times in Counter(subjects.values()).items() if times > 1]
    if twice:
        raise UsageError(f"expected one volume a subject, got several of {', '.join(twice)}")
    return [
        Job(file, out, name, draw, seed, contrast, made_of=made_of)
        for file, name in subjects.items()
        for draw in (*range(draws), *range(ILL, ILL + ill))
    ]


def _subject(file: Path) -> str:
    """A BIDS label from a file's name, never a number: those are the label maps' heads."""
    name = re.sub(r"[^0-9A-Za-z]", "", file.name.split(".nii")[0])
    return f"vol{name}" if not name or name.isdecimal() else name
