"""Several scans in one model load: one bad file does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lohi_edge import delivery, dicom, nifti
from lohi_edge.dicom import Series
from lohi_edge.errors import BadInput, Held, LohiError, UsageError
from lohi_edge.files import is_directory
from lohi_edge.pipeline import Result, enhance
from lohi_edge.source import Format, label

_FIRST = (6, 5, 3, 4, 2)  # which exit code wins when several files fail differently


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one scan: a result or an error."""

    scan: Path | Series
    result: Result | None
    error: LohiError | None

    def to_dict(self) -> dict[str, Any]:
        """The receipt, or for a failed scan its source and error."""
        if self.result:
            return self.result.receipt
        assert self.error
        error = {"exit_code": self.error.exit_code, "message": str(self.error)}
        if isinstance(self.error, Held) and self.error.receipt:
            return {**self.error.receipt, "error": error}
        return {"source": {"path": self.scan.name}, "error": error}


def expand(
    inputs: Iterable[Path],
    skipped: Callable[[str], Any] = lambda line: None,
    wanted: Callable[[Path], bool] = lambda file: not nifti.names_result(file.name),
) -> list[Path | Series]:
    """The scans in files and folders.

    A folder stands for the NIfTI files directly in it that are wanted, or where there are none for
    the DICOM series in it and below; a zip archive or DICOMDIR for the series in it.

    Args:
        skipped: told of each series that is passed over, and of DICOM files and archives beside
            NIfTI files, in a line that names no patient.
        wanted: whether a NIfTI file of a folder is one of its scans; by default no result is.

    Raises:
        UsageError: one scan named twice.
        BadInput: a folder cannot be listed.
    """
    scans: list[Path | Series] = []
    for path in inputs:
        folder = is_directory(path)
        if not folder and (nifti.is_nifti_name(path) or not dicom.is_dicom(path)):
            scans.append(path)
        elif folder and (files := _nifti_files(path, wanted)):
            scans.extend(files)
            if count := sum(_is_dicom_beside(file) for file in path.iterdir()):
                skipped(
                    f"{path}: skipped {count} DICOM or zip files beside NIfTI files; put them "
                    "into a folder of their own and name that"
                )
        else:
            try:
                found = dicom.find(path)
            except BadInput:
                scans.append(path)  # the others go on; enhancing it will say what is wrong
                continue
            scans.extend(found.series)
            for line in found.skipped:
                skipped(f"{path}: skipped {line}")
    seen: dict[Any, Path | Series] = {}
    for scan in scans:
        real = scan.uid if isinstance(scan, Series) else os.path.realpath(scan)
        if real in seen:
            raise UsageError(f"{label(scan)}: named twice; name every scan once")
        seen[real] = scan
    return scans


def _is_dicom_beside(file: Path) -> bool:
    return not nifti.names_result(file.name) and dicom.is_dicom(file)


def _nifti_files(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    try:
        names = sorted(p for p in folder.iterdir() if nifti.is_nifti_name(p))
    except OSError as error:
        raise BadInput(f"{folder}: cannot be listed: {(error.strerror or '').lower()}") from None
    return [p for p in names if not p.name.startswith(".") and wanted(p)]


def run(
    scans: list[Path | Series],
    out: Path | None,
    begin: Callable[[Path | Series], Any],
    format: Format = "auto",
    **options: Any,
) -> Iterator[Outcome]:
    """Enhance each scan into `out` (None: beside the scan); options are those of `enhance`.

    Args:
        begin: called before each scan; what it returns is handed to `enhance` as `progress`.

    Raises:
        UsageError: before any work, where two results would bear the same name.
    """
    _refuse_collisions(scans, out, format)
    for scan in scans:
        progress = begin(scan)
        try:
            folder = out or _beside(scan)
            result = enhance(scan, out=folder, format=format, progress=progress, **options)
            yield Outcome(scan, result, None)
        except BadInput as error:
            yield Outcome(scan, None, _named(scan, error))
        except LohiError as error:
            yield Outcome(scan, None, error)


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0 when every scan was enhanced, else the first of 6, 5, 3, 4, 2 that occurred."""
    return worst(outcome.error for outcome in outcomes if outcome.error)


def worst(errors: Iterable[LohiError]) -> int:
    """The exit code of a command in which these errors occurred; 0 where none did."""
    codes = {error.exit_code for error in errors}
    return next((code for code in _FIRST if code in codes), 0)


def _named(scan: Path | Series, error: BadInput) -> BadInput:
    """An error that names its scan: what is wrong with a head is found where no file is known."""
    path = scan.path if isinstance(scan, Series) else scan
    known = str(error).startswith((str(path), path.name))
    return error if known else BadInput(f"{label(scan)}: {error}")


def _beside(scan: Path | Series) -> Path:
    """The folder a scan lies in, that of its series' folder, archive or DICOMDIR."""
    return scan.path.parent if isinstance(scan, Series) else scan.parent


def _refuse_collisions(scans: list[Path | Series], out: Path | None, format: Format) -> None:
    taken: dict[Path, Path | Series] = {}
    for scan in scans:
        target = delivery.target(scan, out or _beside(scan), format)
        assert target
        other = taken.setdefault(target, scan)
        if other is not scan:
            raise UsageError(
                f"{label(other)} and {label(scan)} would both become {target}; "
                "enhance them into two folders"
            )
