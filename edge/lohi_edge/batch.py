"""Several scans in one model load: one bad file does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lohi_edge import delivery, nifti
from lohi_edge.errors import BadInput, LohiError, UsageError
from lohi_edge.pipeline import Result, enhance

_FIRST = (6, 5, 3, 4, 2)  # which exit code wins when several files fail differently


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one scan: a result or an error."""

    scan: Path
    result: Result | None
    error: LohiError | None

    def to_dict(self) -> dict[str, Any]:
        """The receipt, or for a failed scan its source and error."""
        if self.result:
            return self.result.receipt
        assert self.error
        return {
            "source": {"path": self.scan.name},
            "error": {"exit_code": self.error.exit_code, "message": str(self.error)},
        }


def expand(inputs: Iterable[Path]) -> list[Path]:
    """Files as given; a folder stands for the NIfTI files directly in it, synthetic ones left out.

    Raises:
        UsageError: one scan named twice, or two scans whose results would bear one name.
    """
    scans: list[Path] = []
    for path in inputs:
        scans.extend(_in_folder(path) if path.is_dir() else [path])
    seen: dict[Path, Path] = {}
    for scan in scans:
        real = scan.resolve()
        if real in seen:
            raise UsageError(f"{scan}: named twice; name every scan once")
        seen[real] = scan
    return scans


def _in_folder(folder: Path) -> list[Path]:
    try:
        names = sorted(p for p in folder.iterdir() if nifti.is_nifti_name(p))
    except OSError as error:
        raise BadInput(f"{folder}: cannot be listed: {(error.strerror or '').lower()}") from None
    scans = [p for p in names if not p.name.startswith(".") and "_desc-synthetic" not in p.name]
    if not scans:
        raise BadInput(f"{folder}: expected NIfTI scans (.nii, .nii.gz) in this folder, found none")
    return scans


def run(
    scans: list[Path], out: Path | None, begin: Callable[[Path], Any], **options: Any
) -> Iterator[Outcome]:
    """Enhance each scan into `out` (None: beside the scan); options are those of `enhance`.

    Args:
        begin: called before each scan; what it returns is handed to `enhance` as `progress`.

    Raises:
        UsageError: before any work, where two results would bear the same name.
    """
    _refuse_collisions(scans, out)
    for scan in scans:
        progress = begin(scan)
        try:
            result = enhance(scan, out=out or scan.parent, progress=progress, **options)
            yield Outcome(scan, result, None)
        except LohiError as error:
            yield Outcome(scan, None, error)


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0 when every scan was enhanced, else the first of 6, 5, 3, 4, 2 that occurred."""
    codes = {outcome.error.exit_code for outcome in outcomes if outcome.error}
    return next((code for code in _FIRST if code in codes), 0)


def _refuse_collisions(scans: list[Path], out: Path | None) -> None:
    taken: dict[Path, Path] = {}
    for scan in scans:
        target = delivery.target(scan, out or scan.parent)
        assert target
        other = taken.setdefault(target, scan)
        if other is not scan:
            raise UsageError(
                f"{other} and {scan} would both become {target}; enhance them into two folders"
            )
