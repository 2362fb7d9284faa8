"""`lohi-edge volumes`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lohi_edge.commands.options import PreferOption, ScanJson

if TYPE_CHECKING:
    from lohi_edge.nifti_header import Prefer


def volumes(
    scans: Annotated[
        list[Path],
        typer.Argument(metavar="SCAN...", help="Scans or results: NIfTI files, DICOM series."),
    ],
    csv: Annotated[Path | None, typer.Option(help="Write a line a scan and region here.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Folder for NAME_dseg.nii.gz, the regions at 1 mm.")
    ] = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="ONNX file.  [default: the one that ships]")
    ] = None,
    prefer: PreferOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    as_json: ScanJson = False,
) -> None:
    """Measure the volumes of 33 regions of the head. Research use only.

    Regions that are measured too badly to be relied on are marked as not usable.

    Exit codes: 0 done, 2 usage, 3 a scan that cannot be measured, 6 disk.

    Examples:

      lohi-edge volumes scan.nii.gz

      lohi-edge volumes scan.nii.gz results/scan_desc-synthetic.nii.gz --csv volumes.csv
    """
    from lohi_edge.files import atomic_write, require_place
    from lohi_edge.quality.morphometry import Segmenter
    from lohi_edge.quality.volumes import check, exit_code, lines, refuse_same_names, to_csv

    if labels:
        refuse_same_names(scans)
    if csv:
        require_place(csv)  # before minutes of measuring
    loaded = Segmenter(segmenter, threads)
    records = []
    for scan in scans:
        records.append(check(scan, loaded, labels, cast("Prefer | None", prefer and prefer.value)))
        if not as_json:
            sys.stdout.write(lines(records[-1]))
    if csv:
        with atomic_write(csv) as file:
            file.write(to_csv(records).encode(errors="backslashreplace"))
    if as_json:
        sys.stdout.write(json.dumps(records, indent=2, allow_nan=False) + "\n")
    raise typer.Exit(exit_code(records))
