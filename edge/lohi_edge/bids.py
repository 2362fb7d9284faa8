"""A BIDS data set in, a BIDS derivative data set out (BIDS 1.10, "Derivatives")."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from lohi_edge import batch, delivery, finished, nifti, receipt
from lohi_edge.errors import BadInput, Held, UsageError
from lohi_edge.files import atomic_write, is_file, make_directory, read_bytes

VERSION = "1.10.0"
MAX_DESCRIPTION = 1 << 20
_SCAN = re.compile(r"sub-[a-zA-Z0-9]+(_[a-z]+-[a-zA-Z0-9]+)*_(T1w|T2w|FLAIR)\.nii(\.gz)?")


def arguments(inputs: list[Path], out: Path | None) -> tuple[Path, Path]:
    """The raw and the derivative data set on the command line of a BIDS app.

    Raises:
        UsageError: they are not BIDS_DIR OUT participant.
    """
    if out is not None or len(inputs) != 3 or str(inputs[2]) != "participant":
        raise UsageError("expected --bids BIDS_DIR OUT participant, and no --out")
    return inputs[0], inputs[1]


def scans(root: Path) -> list[Path]:
    """The anatomical scans of a raw data set that a model may exist for, in order.

    Raises:
        BadInput: it is no BIDS data set, or holds no such scan.
    """
    if not is_file(root / "dataset_description.json"):
        raise BadInput(f"{root}: expected a BIDS data set, found no dataset_description.json")
    found = sorted(
        path
        for pattern in ("sub-*/anat/*", "sub-*/ses-*/anat/*")
        for path in root.glob(pattern)
        if _SCAN.fullmatch(path.name) and not nifti.names_result(path.name)
    )
    if not found:
        raise BadInput(
            f"{root}: expected sub-*/[ses-*/]anat/*_{{T1w,T2w,FLAIR}}.nii.gz, found none"
        )
    return found


def run(
    root: Path, out: Path, begin: Callable[[Any], Any], **options: Any
) -> Iterator[batch.Outcome]:
    """Enhance every scan of a raw data set into a derivative data set; options as of `enhance`.

    A result's sidecar names its source as a BIDS URI.

    Raises:
        UsageError: the results would lie among the raw data.
        BadInput: see `scans`.
        DiskError: the data set's description cannot be written.
    """
    _refuse_raw(root, out)
    wanted = scans(root)
    make_directory(out)
    describe(out, root)
    for scan in wanted:
        within = scan.relative_to(root)
        for outcome in batch.run([scan], out / within.parent, begin, **options):
            if outcome.result and outcome.result.path:
                _name_source(delivery.receipt_path(outcome.result.path), within)
            elif isinstance(outcome.error, Held) and outcome.error.path:
                _name_source(outcome.error.path, within)
            yield outcome


def _refuse_raw(root: Path, out: Path) -> None:
    """Raises UsageError where `out` is the raw data set, or in the folder of a subject of it."""
    raw, into = root.resolve(), out.resolve()
    if into == raw or (into.is_relative_to(raw) and into.relative_to(raw).parts[0][:4] == "sub-"):
        raise UsageError(
            f"{out}: expected OUT apart from the raw data of {root}; "
            f"name another folder, such as {root / 'derivatives' / 'lohi-edge'}"
        )


def describe(out: Path, root: Path) -> None:
    """Write the derivative data set's description, unless there is one.

    Raises:
        DiskError: it cannot be written.
    """
    target = out / "dataset_description.json"
    if target.exists():
        return
    content = {
        "Name": "Synthetic 3 T-like images (lohi-edge); not acquired, research use only",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "lohi-edge", "Version": metadata.version("lohi-edge")}],
        # A relative link, so that the two can be moved together.
        "DatasetLinks": {"raw": receipt.relative(root, out)},
    }
    source = _source_of(root)
    if source:
        content["SourceDatasets"] = [source]
    with atomic_write(target) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


def _source_of(root: Path) -> dict[str, str]:
    """What a raw data set's description says of its DOI."""
    try:
        found = json.loads(read_bytes(root / "dataset_description.json", MAX_DESCRIPTION))
        doi = found.get("DatasetDOI")
    except (ValueError, AttributeError, RecursionError):
        raise BadInput(f"{root}: its dataset_description.json is no JSON object") from None
    return {"DOI": doi} if isinstance(doi, str) else {}


def _name_source(beside: Path, within: Path) -> None:
    content = json.loads(read_bytes(beside, finished.MAX_RECEIPT))
    uri = f"bids:raw:{within.as_posix()}"
    if content.get("Sources") != [uri]:
        content["Sources"] = [uri]
        with atomic_write(beside) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")
